"""A flow on real HTTP without Airflow: both simulators, a journal, and the run's tasks in their order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import make_url

from include.order_cancel import flow as flow_module
from include.order_cancel.alerts import Happening
from include.order_cancel.errors import RowBusy, SettingsError
from include.order_cancel.flow import GateClosed, Surroundings
from include.order_cancel.http import Endpoint
from include.order_cancel.journal import Journal
from include.order_cancel.params import Params, read
from include.order_cancel.rows import Row
from include.order_cancel.settings import Alert, FlowSettings, load
from include.order_cancel.steps import STEPS

MAPPING = [
    {
        "operation": "shift",
        "spec": {"pk": "plan", "order": {"number": "orderNumber"}, "refund_amount": "amount"},
    }
]


class Crash(Exception):
    """Raised between two tasks where a test lets the worker die."""


def settings(**changes: Any) -> dict[str, Any]:
    """Settings of a waiting > approved flow; a dotted name changes one field: `settings(erp__http_method="PUT")`."""
    raw: dict[str, Any] = {
        "omnitron": {"channel_type": "sales_channel", "cancel_status": "waiting", "next_state": "approved"},
        "erp": {
            "cancellation_api_url": "/cancellations",
            "reference_path": "documentNumber",
            "timeout_seconds": 5,
        },
        "mapping": MAPPING,
    }
    raw = json.loads(json.dumps(raw))
    for name, value in changes.items():
        *sections, last = name.split("__")
        place = raw
        for section in sections:
            place = place.setdefault(section, {})
        if value is None and last in place:
            del place[last]
        else:
            place[last] = value
    return raw


def journal_connection(url: str) -> dict[str, Any]:
    """A journal's URL as the Airflow Connection `order_cancel_journal`."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return {"conn_type": "sqlite", "host": parsed.database}
    return {
        "conn_type": "postgres",
        "host": parsed.host,
        "port": parsed.port,
        "login": parsed.username,
        "password": parsed.password,
        "schema": parsed.database,
    }


@dataclass
class Flow:
    """One flow of a test: its settings may be changed between and during runs.

    `between` is told each task's name once it has ended; what it raises ends the run, as a dead worker would.
    """

    omnitron: Any
    erp: Any
    journal_url: str
    raw: dict[str, Any]
    name: str = "cancels"
    home: str = "home"
    password: str = "secret"
    erp_login: str | None = "erp"
    erp_password: str = "secret"
    last_query: datetime | None = None
    last_begun: datetime | None = None
    between: Callable[[str], None] = field(default=lambda task: None)
    http: dict[str, Any] = field(default_factory=dict)
    runs: int = 0
    run_id: int | None = None
    told: list[tuple[str, str]] = field(default_factory=list)
    measured: list[tuple[str, str, float]] = field(default_factory=list)
    _journal: Journal | None = None

    @property
    def around(self) -> Surroundings:
        return Surroundings(
            flow=self.name,
            home=self.home,
            settings=self.settings,
            endpoint=self.endpoint,
            journal=self.journal,
            last_query=lambda: self.last_query,
            set_last_query=self._set_last_query,
            last_begun=lambda: self.last_begun,
            set_last_begun=self._set_last_begun,
            notify=self.notify,
            measure=lambda *metric: self.measured.append(metric),
            http=self.http,
        )

    def in_run(self, key: str) -> Surroundings:
        """What the tasks of the run of this name are given."""
        return replace(self.around, run_key=key)

    def settings(self) -> FlowSettings:
        return load(json.loads(json.dumps(self.raw)), flow=self.name)

    def shape(self) -> tuple[str, ...]:
        """The tasks of the group `plan`; a flow whose settings are invalid keeps the usual shape."""
        try:
            return self.settings().steps
        except SettingsError:
            return STEPS

    def endpoint(self, conn_id: str) -> Endpoint:
        if conn_id == "omnitron":
            return Endpoint("omnitron", self.omnitron.url, "omnitron", self.password)
        return Endpoint("erp", self.erp.url, self.erp_login, self.erp_password)

    @contextmanager
    def journal(self) -> Iterator[Journal]:
        """The journal, opened once: Airflow's tasks would each open it, which costs more than what they do here."""
        if self._journal is None:
            self._journal = Journal.open(self.journal_url)
        yield self._journal

    def close(self) -> None:
        """Give the journal's connections back."""
        if self._journal is not None:
            self._journal.close()

    def run(self, **params: Any) -> Outcome:
        """One whole run, as Airflow would do it. The gate's word is in the outcome."""
        self.runs += 1
        return self.run_again(**params)

    def run_again(self, **params: Any) -> Outcome:
        """The tasks of the last run once more, those before the group `plan` repeated as retries are."""
        given = read(params)
        key = f"run {self.runs}"
        self.run_id = flow_module.login(self.around, key, given)
        self.between("login")
        lots = flow_module.get_data(self.in_run(key), self.run_id, given)
        self.between("get_data")
        for lot in lots:
            assert self.run_id is not None
            flow_module.bulk(self.in_run(key), self.run_id, lot, False)
            self.between("bulk")
        members = flow_module.open_plans(self.in_run(key), self.run_id)
        self.between("open_plans")
        outcome = Outcome(self, self.run_id, members, lots, given, key)
        for member in members:
            outcome.endings[outcome.pk(member)] = outcome.carry(member)
        outcome.report = flow_module.report(outcome.around, self.run_id)
        self.between("report")
        outcome.gate = outcome.judge()
        return outcome

    def notify(self, alert: Alert, happening: Happening) -> None:
        """A notifier that remembers the event and its message."""
        self.told.append((happening.event, happening.message))

    def rows(self) -> dict[str, Row]:
        """The newest generation of every plan, by number."""
        with self.journal() as journal:
            return {row.pk: row for row in journal.find(self.name)}

    def row(self, pk: int) -> Row:
        return self.rows()[str(pk)]

    def state(self, pk: int) -> str:
        return str(self.row(pk).state)

    def states(self) -> dict[str, str]:
        return {pk: str(row.state) for pk, row in self.rows().items()}

    def sent(self, pk: int | None = None) -> list[Any]:
        """The requests that the ERP got, of one plan or of all."""
        paths = ("/cancellations", "/refunds")
        return [call for call in self.erp.simulator.calls(pk=pk) if call.path in paths]

    def keys(self, pk: int) -> list[str | None]:
        """The idempotency keys under which the plan was sent, in order."""
        return [call.headers.get("Idempotency-Key") for call in self.sent(pk)]

    def written(self, pk: int | None = None) -> list[Any]:
        """The write-backs that Omnitron was asked for, of one plan or of all."""
        return list(self.omnitron.simulator.calls("PATCH", pk=pk))

    def listings(self) -> list[Any]:
        """The lists of plans that Omnitron was asked for."""
        return [
            call
            for call in self.omnitron.simulator.calls("GET")
            if call.path.endswith("/cancellation_plans/")
        ]

    def happened(self, pk: int) -> list[str]:
        """What the journal tells of a plan, in order."""
        with self.journal() as journal:
            return [event.what for event in journal.journey(self.row(pk).id)[0]]

    def _set_last_query(self, moment: datetime) -> None:
        self.last_query = moment

    def _set_last_begun(self, moment: datetime) -> None:
        self.last_begun = moment


@dataclass
class Outcome:
    """What one run left: the endings of the plans' tasks by plan number, the report, the gate's word."""

    flow: Flow
    run_id: int | None
    members: list[int]
    lots: list[int]
    params: Params
    key: str
    endings: dict[str, str] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    gate: str = ""

    @property
    def around(self) -> Surroundings:
        return self.flow.in_run(self.key)

    def pk(self, member: int) -> str:
        """The number of a member's plan."""
        with self.flow.journal() as journal:
            return journal.row(journal.member(member).plan_id).pk

    def carry(self, member: int, again: bool = False) -> str:
        """All tasks of one plan's index; the first that is not green ends it, as in Airflow."""
        ending = "green"
        for step in self.flow.shape():
            try:
                ending, _ = flow_module.carry_one(self.around, member, step, again, lambda name: None)
            except RowBusy:
                ending = "busy"
            self.flow.between(step)
            if ending != "green":
                break
        return ending

    def clear(self, pk: int) -> str:
        """A person clears the plan's index with downstream: its tasks once more, and the gate."""
        member = next(member for member in self.members if self.pk(member) == str(pk))
        ending = self.endings[str(pk)] = self.carry(member, again=True)
        flow_module.report(self.around, self.run_id)
        self.gate = self.judge()
        return ending

    def judge(self) -> str:
        try:
            flow_module.gate(self.around, self.run_id, [])
        except GateClosed as closed:
            return str(closed)
        return "open"
