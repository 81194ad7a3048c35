"""Everything that may be killed, as processes: an Airflow, both systems, the journal's PostgreSQL, tasks, scripts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from include.demo import keeper
from include.demo.airflow_server import ROOT, AirflowError, AirflowServer
from include.demo.processes import LOOPBACK, Kept, free_port
from include.order_cancel.errors import JournalDown
from include.order_cancel.journal import Journal
from include.order_cancel.rows import Row, State
from tests.chaos.own_postgres import OwnPostgres
from tests.harness import journal_connection, settings

BULK, SINGLE = "bulk_lane", "plan_lane"
STATUSES = {BULK: "waiting", SINGLE: "confirmed"}
SCRIPT = """
def transform(plan, attributes):
    attributes["seen"] = "yes"
    return plan
"""
# How soon a lost worker or scheduler is noticed; Airflow's own values are meant for weeks, not for minutes.
HEARTBEATS = {
    "task_instance_heartbeat_sec": (4, 0),
    "task_instance_heartbeat_timeout": (20, 300),
    "task_instance_heartbeat_timeout_detection_interval": (5, 10),
    "scheduler_health_check_threshold": (15, 30),
    "orphaned_tasks_check_interval": (10, 300),
}
_PATIENCE_SECONDS = 60.0


class SimulatorProcess:
    """A simulator as a process of its own, which finds its data and bookings again when it is started again."""

    def __init__(self, system: str, folder: Path, *words: str) -> None:
        self.system, self.port, self._folder, self._words = system, free_port(), folder, words
        self._process: Kept | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "include.simulator", self.system, "--port", str(self.port)]
        command += ["--state", str(self._folder / f"{self.system}.state"), *self._words]
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            self._process = Kept(
                command, env=os.environ, log=self._folder / f"{self.system}.log", cwd=ROOT, patience=1
            )
            while self._process.exit_code is None:
                with contextlib.suppress(requests.RequestException):
                    self.ask("GET", "state")
                    return
                time.sleep(0.05)
            if time.monotonic() > deadline:
                raise TimeoutError(f"the {self.system} simulator does not start:\n{self._process.tail()}")
            time.sleep(0.2)  # its port is taken by a connection that goes elsewhere

    def kill(self) -> None:
        if self._process is not None:
            self._process.crash()

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def ask(self, method: str, command: str, content: Any = None) -> Any:
        """Steer the simulator, or see what it holds. Raises requests.RequestException."""
        answer = requests.request(method, f"{self.url}/_control/{command}", json=content, timeout=30)
        answer.raise_for_status()
        return answer.json()


@dataclass(frozen=True)
class Task:
    """A running task: its process, the process that watches over it, and what it is called."""

    pid: int
    supervisor: int
    task_id: str


@dataclass
class Stage:
    """The whole play. The flow `bulk_lane` carries its plans in lots, `plan_lane` in tasks of their own."""

    airflow: AirflowServer
    omnitron: SimulatorProcess
    erp: SimulatorProcess
    postgres: OwnPostgres

    def dag_id(self, flow: str) -> str:
        return f"order_cancel__{flow}"

    def rows(self) -> list[Row]:
        """All plans that the journal knows."""
        journal = Journal.open(self.postgres.url)
        try:
            return [row for flow in STATUSES for row in journal.find(flow)]
        finally:
            journal.close()

    def sending(self) -> bool:
        """Whether a request to the ERP is under way, by the journal."""
        try:
            now = time.time()
            return any(row.state is State.SENDING and row.request_deadline > now for row in self.rows())
        except JournalDown:
            return False

    def tasks(self) -> list[Task]:
        """The tasks that run now. Empty where Airflow does not tell."""
        try:
            top = self.airflow.process("scheduler").pid
            found = self.airflow.api(
                "GET",
                "/dags/~/dagRuns/~/taskInstances",
                params={"state": "running", "limit": 100},
            )["task_instances"]
        except (KeyError, AirflowError, requests.RequestException):
            return []
        names = {instance["id"]: instance["task_id"] for instance in found}
        tree = keeper.parents()
        below = [top]
        tasks = []
        for parent in below:
            for pid in tree.get(parent, []):
                below.append(pid)
                name = names.get(_title(pid).removeprefix("airflow worker -- "))
                if name is not None:
                    tasks.append(Task(pid, parent, name))
        return tasks

    def script_processes(self) -> list[int]:
        """The processes that run scripts for tasks."""
        try:
            below = self.airflow.process("scheduler").descendants()
        except KeyError:
            return []
        return [pid for pid in below if "scripts/child.py" in _title(pid)]


def kill(*pids: int) -> None:
    """SIGKILL; what has ended by itself meanwhile is well."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


@contextmanager
def set_up(home: Path, say: Callable[[str], None], latency_ms: float) -> Iterator[Stage]:
    """The stage with nothing on it yet: no plan, no run."""
    with ExitStack() as stack:
        postgres = stack.enter_context(OwnPostgres())
        Journal.open(postgres.url).close()
        systems = []
        for system, auth in (("omnitron", []), ("erp", ["--auth", "basic"])):
            simulator = SimulatorProcess(system, home, "--latency-ms", str(latency_ms), *auth)
            simulator.start()
            stack.callback(simulator.stop)
            systems.append(simulator)
        omnitron, erp = systems
        airflow = AirflowServer(
            home / "airflow",
            patience=0,
            connections={
                "omnitron": _connection(omnitron.url, "omnitron"),
                "erp": _connection(erp.url, "erp"),
                "order_cancel_journal": journal_connection(postgres.url),
            },
            variables=_variables(),
            env={
                f"AIRFLOW__SCHEDULER__{name.upper()}": str(value) for name, (value, _) in HEARTBEATS.items()
            },
            say=say,
        )
        stack.enter_context(airflow)
        stage = Stage(airflow, omnitron, erp, postgres)
        for flow in STATUSES:
            airflow.wait_for_dag(stage.dag_id(flow))
        yield stage


def _connection(url: str, login: str) -> Mapping[str, Any]:
    return {"conn_type": "http", "host": url, "login": login, "password": "secret"}


def _variables() -> dict[str, str]:
    lanes: dict[str, dict[str, Any]] = {
        BULK: {"fan_out": 5, "lots": 2, "erp__max_in_flight": 6},
        SINGLE: {"fan_out": 1000},
    }
    named = {"order_cancel_flows": json.dumps([*STATUSES])}
    for flow, lane in lanes.items():
        raw = settings(
            omnitron__cancel_status=STATUSES[flow],
            erp__timeout_seconds=5,
            erp__in_doubt="resend",
            script=SCRIPT,
            **lane,
        )
        named[f"order_cancel_flow__{flow}"] = json.dumps(raw)
    return named
