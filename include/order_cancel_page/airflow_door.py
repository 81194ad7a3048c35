"""The only module of the page that knows Airflow: users and rights, Variables, DAGs, the journal's place."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import (
    DagAccessEntity,
    DagDetails,
    VariableDetails,
)
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
from airflow.configuration import conf
from airflow.models.dag import DagModel
from airflow.utils.session import create_session
from fastapi import HTTPException
from sqlalchemy import make_url, select
from starlette.requests import Request

from include.order_cancel import airflow_bridge as bridge
from include.order_cancel.errors import Problem
from include.order_cancel.http import Endpoint
from include.order_cancel.journal import Journal
from include.order_cancel.settings import DAG_PREFIX, FlowSettings, loads
from include.order_cancel_page.door import Dag, NoJournal, NotSignedIn, Person, Right


class AirflowDoor:
    """Airflow as the API server sees it. Permissions are Airflow's own, asked for each request."""

    def __init__(self) -> None:
        self._journals: dict[str, Journal] = {}
        self._opening = Lock()

    async def person(self, request: Request) -> Person:
        """The user of Airflow's cookie or token. Raises NotSignedIn."""
        try:
            user = await get_user(request, None, await bearer_scheme(request))
        except HTTPException as error:
            raise NotSignedIn(str(error.detail)) from None
        return Person(str(user.get_name()), lambda right, flow: _may(user, right, flow))

    def origins(self) -> frozenset[str]:
        """The host of Airflow's configured address: behind a proxy the request itself may name another."""
        return frozenset({urlsplit(conf.get("api", "base_url", fallback="")).netloc} - {""})

    def flows(self) -> list[str]:
        """The flows of the index Variable."""
        return bridge.index()

    def index_problems(self) -> list[Problem]:
        """What is wrong with the index Variable."""
        return bridge.read_index()[1]

    def settings_text(self, flow: str) -> str | None:
        """The flow's Variable, or None."""
        return bridge.stored_settings(flow)

    def settings(self, flow: str) -> FlowSettings:
        """The flow's settings. Raises SettingsError with every problem."""
        return bridge.parsed_settings(flow)

    def checked(self, flow: str, text: str) -> FlowSettings:
        """The settings in `text`, with script files of the flows folder. Raises SettingsError."""
        return loads(text, flow=flow, files=bridge.FLOWS_FOLDER)

    def endpoint(self, conn_id: str) -> Endpoint:
        """A Connection. Raises SettingsError where there is none."""
        return bridge.model_endpoint(conn_id)

    def dags(self, flows: Iterable[str]) -> dict[str, Dag]:
        """The DAGs of these flows that are not stale, by flow."""
        names = {DAG_PREFIX + flow: flow for flow in flows}
        question = select(DagModel.dag_id, DagModel.is_paused, DagModel.timetable_summary).where(
            DagModel.dag_id.in_(names), DagModel.is_stale.is_(False)
        )
        with create_session() as session:
            return {
                names[dag_id]: Dag(bool(paused), None if summary in (None, "None") else str(summary))
                for dag_id, paused, summary in session.execute(question)
            }

    def journal(self) -> Journal:
        """The journal, opened once for all requests. Raises NoJournal where no flow has run yet."""
        address = bridge.model_journal_url()
        with self._opening:
            if address not in self._journals:
                _check_there(address)
                self._journals[address] = Journal.open(address)
            return self._journals[address]


def _may(user: object, right: Right, flow: str) -> bool:
    manager = get_auth_manager()
    if right is Right.CONFIGURE:
        details = VariableDetails(key=bridge.settings_variable(flow))
        return bool(manager.is_authorized_variable(method="PUT", details=details, user=user))
    dag_id = DAG_PREFIX + flow
    dag = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    if right is Right.ACT:
        entity = DagAccessEntity.RUN
        return bool(manager.is_authorized_dag(method="POST", access_entity=entity, details=dag, user=user))
    return right in (Right.READ, Right.SIGNED_IN) and bool(
        manager.is_authorized_dag(method="GET", details=dag, user=user)
    )


def _check_there(address: str) -> None:
    url = make_url(address)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise NoJournal("there is no journal yet: a flow's first run creates it")
