"""Our DAG in a real Airflow, and the same arrows with nothing in them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from include.demo.airflow_server import FINISHED, PRELOAD, ROOT, AirflowServer
from tests.bench.own import FLOW, MOST
from tests.bench.systems import BenchError, Ports
from tests.bench.watch import PeakOfTasks, cpu_seconds
from tests.harness import journal_connection, settings

DAG, EMPTY = f"order_cancel__{FLOW}", "empty_tasks"
ALONE = ("login", "get_data_from_omnitron", "bulk", "open_plans", "plan", "report", "gate")
_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 3600.0

EMPTY_DAG = """
from airflow.sdk import DAG, Param, TriggerRule, task, task_group

with DAG("empty_tasks", schedule=None, params={"plans": Param(1)}) as dag:

    @task
    def login():
        return 1

    @task
    def get_data_from_omnitron(run):
        return []

    @task
    def bulk(run, lot):
        return None

    @task(trigger_rule=TriggerRule.NONE_FAILED)
    def open_plans(run, params=None):
        return list(range(params["plans"]))

    @task_group
    def plan(member):
        previous = None
        for name in ("mapping", "write_to_erp", "write_to_omnitron"):

            @task(task_id=name)
            def empty(member):
                return None

            done = empty(member)
            if previous is not None:
                previous >> done
            previous = done

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def report(run):
        return None

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def gate(run):
        return None

    run = login()
    lots = get_data_from_omnitron(run)
    in_lots = bulk.partial(run=run).expand(lot=lots)
    opened = open_plans(run)
    carried = plan.expand(member=opened)
    reported = report(run)
    lots >> in_lots >> opened >> carried >> reported
    [run, lots, in_lots, opened, carried, reported] >> gate(run)
"""


@dataclass(frozen=True)
class DagRun:
    """One run: seconds from the trigger to its end, Airflow's CPU seconds by process, seconds by task, peak memory.

    Tasks are forked from the scheduler, so that their CPU is among its own. `journal_mb` is what the journal takes
    after it.
    """

    seconds: float
    cpu_of: Mapping[str, float]
    tasks: Mapping[str, float]
    between: float
    peak_mb: float
    journal_mb: float = 0.0

    @property
    def cpu(self) -> float:
        """CPU seconds of all of Airflow."""
        return sum(self.cpu_of.values())


@contextmanager
def airflow(
    folder: Path,
    ports: Ports,
    *,
    env: Mapping[str, str] | None = None,
    preload: Sequence[str] = PRELOAD,
    say: Callable[[str], None] = lambda _text: None,
) -> Iterator[AirflowServer]:
    """An Airflow as `make run` starts it, with the flow of the measurements and the empty DAG."""
    dags = folder / "dags"
    dags.mkdir(exist_ok=True)
    shutil.copy(ROOT / "dags" / "order_cancel.py", dags)
    (dags / "empty_tasks.py").write_text(EMPTY_DAG)
    flow_settings = settings(omnitron__max_plans=MOST)
    server = AirflowServer(
        folder / "airflow",
        dags=dags,
        connections={
            "omnitron": _http("omnitron", ports.omnitron),
            "erp": _http("erp", ports.erp),
            "order_cancel_journal": {"conn_type": "sqlite", "host": str(folder / "journal.db")},
        },
        variables={
            "order_cancel_flows": json.dumps([FLOW]),
            f"order_cancel_flow__{FLOW}": json.dumps(flow_settings),
        },
        env=env or {},
        preload=preload,
        say=say,
    )
    with server:
        for dag in (DAG, EMPTY):
            server.wait_for_dag(dag)
        yield server


def _http(name: str, port: int) -> dict[str, Any]:
    return {"conn_type": "http", "host": f"http://127.0.0.1:{port}", "login": name, "password": "secret"}


def use_journal(server: AirflowServer, url: str) -> None:
    """Let the flow's next run keep its rows there, as if it were its first one."""
    server.delete_variable(f"order_cancel_last_run__{FLOW}")
    body = {"connection_id": "order_cancel_journal", **journal_connection(url)}
    server.api("PATCH", "/connections/order_cancel_journal", body)


def measured(server: AirflowServer, dag: str, conf: Mapping[str, Any] | None = None) -> DagRun:
    """Trigger a run and wait for its end, by Airflow's own times. Raises BenchError where it fails."""
    before = _cpu_of(server)
    with PeakOfTasks(server.process("scheduler").pid) as peak:
        run_id = server.trigger(dag, conf)
        run = _ended(server, dag, run_id)
    cpu_of = {name: used - before[name] for name, used in _cpu_of(server).items()}
    spans = _spans(server.task_instances(dag, run_id))
    tasks = {name: _covered([span for at, span in spans if at == name]) for name in ALONE}
    seconds = _moment(run["end_date"]) - _moment(run["queued_at"])
    return DagRun(seconds, cpu_of, tasks, seconds - _covered([span for _, span in spans]), peak.mb)


def _cpu_of(server: AirflowServer) -> dict[str, float]:
    return {process.name: cpu_seconds(process.pid) for process in server.processes}


def _ended(server: AirflowServer, dag: str, run_id: str) -> dict[str, Any]:
    """Asked seldom: each question costs the API server time that the run could have."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        run = server.run(dag, run_id)
        if run["state"] == "success":
            return run
        if run["state"] in FINISHED:
            raise BenchError(f"{run_id} of {dag} has failed; its tasks: {server.states(dag, run_id)}")
    raise BenchError(f"{run_id} of {dag} did not end within {_PATIENCE_SECONDS:g} s")


def _spans(instances: Sequence[Mapping[str, Any]]) -> list[tuple[str, tuple[float, float]]]:
    return [
        (found["task_id"].partition(".")[0], (_moment(found["start_date"]), _moment(found["end_date"])))
        for found in instances
        if found["start_date"] and found["end_date"]
    ]


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds in which at least one of the spans was under way."""
    covered = until = 0.0
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
