"""What the page wants to know of Airflow, as plain values. `airflow_door` answers; tests have a door of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from starlette.requests import Request

from include.order_cancel.errors import OrderCancelError, Problem
from include.order_cancel.http import Endpoint
from include.order_cancel.journal import Journal
from include.order_cancel.settings import FlowSettings


class Right(StrEnum):
    """What a person must be allowed to do. All but the first are held for one flow."""

    SIGNED_IN = "sign in"
    READ = "see this flow's plans"
    ACT = "start runs of this flow"
    CONFIGURE = "change this flow's settings"


@dataclass(frozen=True)
class Person:
    """Who asks, and what this person may do with which flow."""

    name: str
    may: Callable[[Right, str], bool]

    def allowed(self, right: Right, flows: Iterable[str]) -> list[str]:
        """Those of `flows` for which the person holds the right."""
        return [flow for flow in flows if self.may(right, flow)]


@dataclass(frozen=True)
class Dag:
    """A flow's DAG as Airflow has it."""

    paused: bool
    schedule: str | None


class NotSignedIn(OrderCancelError):
    """The request names no user that Airflow knows."""


class NoJournal(OrderCancelError):
    """There is no journal yet: no flow has run."""


class Door(Protocol):
    """Airflow, as far as the page needs it. All methods but `person` may block."""

    async def person(self, request: Request) -> Person:
        """Who asks. Raises NotSignedIn."""

    def origins(self) -> frozenset[str]:
        """Hosts, with port, under which browsers know this Airflow, besides the one they asked."""

    def flows(self) -> list[str]:
        """The names of all flows."""

    def index_problems(self) -> list[Problem]:
        """What is wrong with the list of the flows; its other entries are in `flows`."""

    def settings_text(self, flow: str) -> str | None:
        """The flow's settings as they are stored, or None."""

    def settings(self, flow: str) -> FlowSettings:
        """The flow's settings. Raises SettingsError with every problem."""

    def checked(self, flow: str, text: str) -> FlowSettings:
        """The settings in `text`, as this flow's would be read. Raises SettingsError with every problem."""

    def endpoint(self, conn_id: str) -> Endpoint:
        """A Connection. Raises SettingsError where there is none."""

    def dags(self, flows: Iterable[str]) -> dict[str, Dag]:
        """The DAGs of these flows, by flow; none for a flow that the dag-processor has not brought."""

    def journal(self) -> Journal:
        """The journal, open; it stays open for other requests. Raises NoJournal, JournalDown, SettingsError."""
