"""A distributed Airflow on one machine: PostgreSQL, Redis, Celery, two schedulers, two workers that share no files.

The API server, the schedulers and the dag-processor have a home of their own. Each worker has another one, with
its own copy of the project, its own logs, and no way to the metadata database: its configuration does not name it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from include.demo.airflow_server import PRELOAD, ROOT, AirflowServer
from include.demo.processes import LOOPBACK, Kept, free_port
from include.simulator import ErpSimulator, OmnitronSimulator, running
from tests.databases import fresh_database
from tests.e2e.place import Place, connection
from tests.harness import journal_connection, settings

HEARTBEAT_TIMEOUT = 20
FLOWS: dict[str, dict[str, Any]] = {
    "small": {"fan_out": 10},
    "finished": {
        "fan_out": 0,
        "lots": 1,
        "omnitron__cancel_status": "completed",
        "omnitron__next_state": None,
        "omnitron__start_from": "2020-01-01T00:00:00Z",
    },
    "large": {"fan_out": 0, "lots": 2},
}


@dataclass
class Worker:
    """A Celery worker with a home of its own; it may be killed and started again."""

    name: str
    home: Path
    environment: dict[str, str]
    process: Kept | None = None

    def start(self) -> None:
        self.process = Kept(
            [
                sys.executable,
                "-m",
                "airflow",
                "celery",
                "worker",
                "--skip-serve-logs",
                "--celery-hostname",
                self.name,
            ],
            env=self.environment,
            log=self.home / "worker.log",
            cwd=self.home,
        )

    def runs(self, pid: int) -> bool:
        return self.process is not None and pid in self.process.descendants()

    def kill(self) -> None:
        """End the worker and its tasks as a power cut would."""
        if self.process is not None:
            self.process.crash()
            self.process = None

    def logs(self, run: str) -> dict[str, str]:
        """The log files of a run that are on this worker, by their names below the run's folder."""
        folders = list(self.home.glob(f"logs/*/run_id={run}"))
        return {
            str(file.relative_to(folder)): file.read_text("utf-8")
            for folder in folders
            for file in folder.rglob("*.log")
        }


@dataclass
class Cluster:
    """The flows' places, and the workers."""

    places: dict[str, Place]
    workers: list[Worker]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """The address of a Redis of the test's own."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    port, folder = free_port(), tmp_path / "redis"
    folder.mkdir()
    command = [program, "--port", str(port), "--bind", LOOPBACK, "--save", "", "--dir", str(folder)]
    with Kept(command, env=dict(os.environ), log=folder / "redis.log", cwd=folder) as redis:
        deadline = time.monotonic() + 30
        while not _listens(port):
            assert redis.exit_code is None, redis.tail()
            assert time.monotonic() < deadline, redis.tail()
            time.sleep(0.05)
        yield f"redis://{LOOPBACK}:{port}"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


@pytest.fixture
def cluster(tmp_path: Path, broker: str, postgres_server: None) -> Iterator[Cluster]:
    """Two schedulers and two workers."""
    with clustered(tmp_path, broker, FLOWS, schedulers=2, workers=2) as found:
        yield found


@pytest.fixture
def small_cluster(tmp_path: Path, broker: str, postgres_server: None) -> Iterator[Cluster]:
    """One scheduler and one worker, for one flow."""
    with clustered(tmp_path, broker, ["small"], schedulers=1, workers=1) as found:
        yield found


@contextmanager
def clustered(
    folder: Path, broker: str, flows: Iterable[str], *, schedulers: int, workers: int
) -> Iterator[Cluster]:
    """An Airflow under CeleryExecutor; one scheduler is the server's own."""
    with ExitStack() as stack:
        metadata = stack.enter_context(fresh_database())
        journal = stack.enter_context(fresh_database())
        systems = {
            flow: (
                stack.enter_context(running(OmnitronSimulator())),
                stack.enter_context(running(ErpSimulator(auth="basic", idempotency=False, latency_ms=100))),
            )
            for flow in flows
        }
        connections = {"order_cancel_journal": journal_connection(journal)}
        variables = {"order_cancel_flows": json.dumps(list(flows))}
        for flow, (omnitron, erp) in systems.items():
            connections[f"omnitron_{flow}"] = connection(omnitron.url, "omnitron")
            connections[f"erp_{flow}"] = connection(erp.url, "erp")
            own = {"omnitron__conn_id": f"omnitron_{flow}", "erp__conn_id": f"erp_{flow}"}
            variables[f"order_cancel_flow__{flow}"] = json.dumps(settings(**own, **FLOWS[flow]))
        celery = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": f"{broker}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"{broker}/1",
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": "1",
            "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
            "AIRFLOW__CELERY__TASK_ACKS_LATE": "True",
            "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "3600",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_TIMEOUT),
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        }
        database = {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": metadata,
        }
        server = AirflowServer(
            folder / "central",
            connections=connections,
            variables=variables,
            env={**celery, **database},
            patience=0,
        )
        stack.enter_context(server)
        for number in range(2, schedulers + 1):
            stack.enter_context(_further_scheduler(server, number))
        started = [
            _worker(f"worker_{number}", folder / f"worker_{number}", server) for number in range(workers)
        ]
        for worker in started:
            stack.callback(worker.kill)
            worker.start()
        places = {flow: Place(server, flow, *systems[flow], journal) for flow in flows}
        yield Cluster(places, started)


def _further_scheduler(server: AirflowServer, number: int) -> Kept:
    command = [sys.executable, "-m", "airflow", "scheduler", "--skip-serve-logs"]
    log = server.home / f"scheduler_{number}.log"
    return Kept(command, env=server.environment, log=log, cwd=server.home)


def _worker(name: str, home: Path, server: AirflowServer) -> Worker:
    project = home / "project"
    for part in ("dags", "include", "plugins"):
        shutil.copytree(ROOT / part, project / part)
    (home / "tmp").mkdir()
    (home / "config").mkdir()
    # A worker forks its tasks: they find these loaded.
    imports = "".join(f"import {module}\n" for module in PRELOAD)
    (home / "config" / "airflow_local_settings.py").write_text(imports, "utf-8")
    own = {
        "AIRFLOW_HOME": home,
        "TMPDIR": home / "tmp",
        "PYTHONPATH": project,
        "AIRFLOW__CORE__DAGS_FOLDER": project / "dags",
        "AIRFLOW__CORE__PLUGINS_FOLDER": project / "plugins",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": home / "logs",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": home / "bundles",
    }
    kept = {key: value for key, value in server.environment.items() if "__DATABASE__" not in key}
    return Worker(name, home, {**kept, **{key: str(value) for key, value in own.items()}})
