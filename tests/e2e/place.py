"""A flow in a running Airflow with its two systems, and the flows that the end-to-end tests know."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.demo.airflow_server import AirflowServer
from include.order_cancel.journal import Journal
from include.order_cancel.rows import Row, State
from tests.harness import settings

PATIENCE = 300.0
DOUBT = {"erp__timeout_seconds": 4, "erp__in_doubt": "hold"}
FLOWS: dict[str, dict[str, Any]] = {
    "sizes": {"fan_out": 6},
    "refused": {},
    "bad_mapping": {},
    "made_invalid": {},
    "step_added": {},
    "step_removed": {},
    "killed_after": {"fan_out": 0, "lots": 1},
    "killed_hold": DOUBT,
    "killed_resend": {**DOUBT, "erp__in_doubt": "resend"},
    "expiry": {},
    "bad_login": {},
    "large": {"fan_out": 4, "lots": 2},
    "thousands": {},
    "seven_refused": {"fan_out": 10},
    "many_refused": {"fan_out": 6},
    "bulk_killed": {"lots": 2},
    "cancels": {},  # those of the page's own tests
    "standing": {},
}
FRESH = "fresh"  # a flow that only the page makes
BROKEN = "broken"
USERS = {"editor": "op", "operator": "user", "viewer": "viewer", "admin": "admin"}


@dataclass
class Place:
    """One flow in the running Airflow, with its two systems."""

    server: AirflowServer
    flow: str
    omnitron: Any
    erp: Any
    journal_url: str

    @property
    def dag_id(self) -> str:
        return f"order_cancel__{self.flow}"

    def start(self, **conf: Any) -> str:
        self.server.wait_for_dag(self.dag_id)
        return self.server.trigger(self.dag_id, conf)

    def run(self, **conf: Any) -> tuple[str, str]:
        """A whole run: its id and how it ended."""
        run = self.start(**conf)
        return run, self.ended(run)

    def ended(self, run: str) -> str:
        return self.server.wait(self.dag_id, run, PATIENCE)

    def states(self, run: str) -> dict[str, str | None]:
        return self.server.states(self.dag_id, run)

    def instance(self, run: str, task: str, name: str | None = None) -> dict[str, Any]:
        """A task instance, of a mapped task the one with this name."""
        found = self.server.task_instances(self.dag_id, run)
        return next(ti for ti in found if ti["task_id"] == task and name in (None, ti["rendered_map_index"]))

    def log(self, run: str, task: str, name: str | None = None) -> str:
        return self.server.log(self.instance(run, task, name))

    def clear(self, run: str, task: str, name: str) -> None:
        self.server.clear(self.dag_id, run, [(task, self.instance(run, task, name)["map_index"])])

    def change_settings(self, **changes: Any) -> None:
        self.server.set_variable(f"order_cancel_flow__{self.flow}", json.dumps(of_flow(self.flow, **changes)))

    def rows(self) -> dict[str, Row]:
        journal = Journal.open(self.journal_url)
        try:
            return {row.pk: row for row in journal.find(self.flow)}
        finally:
            journal.close()

    def pid_working_on(self, pk: str) -> int:
        """The process that holds the lease of a plan: the lease's owner ends with it."""
        return int(self.rows()[pk].owner.rpartition(":")[2])

    def await_(self, happened: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, f"{what} did not come within {PATIENCE:g} s"
            time.sleep(0.05)

    def await_state(self, pk: str, state: State) -> None:
        self.await_(lambda: pk in self.rows() and self.rows()[pk].state is state, f"plan {pk} {state}")


def connection(url: str, login: str) -> dict[str, Any]:
    return {"conn_type": "http", "host": url, "login": login, "password": "secret"}


def with_users(folder: Path) -> dict[str, str]:
    """Airflow's environment with USERS, each with its name for a password; `folder` keeps the passwords."""
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps({name: name for name in USERS}))
    return {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{n}:{r}" for n, r in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }


def of_flow(flow: str, **changes: Any) -> dict[str, Any]:
    """The settings of a flow of these tests, changed."""
    connections = {"omnitron__conn_id": f"omnitron_{flow}", "erp__conn_id": f"erp_{flow}"}
    return settings(**{**connections, **FLOWS[flow], **changes})
