"""One real Airflow whose Connections hold canaries, with systems that repeat them: nowhere outside do they sing."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from include.demo.airflow_server import ROOT, AirflowServer
from include.simulator import plans, running
from tests.canaries import CANARIES, LOGIN, TOKEN_LOGIN, CanaryErp, CanaryOmnitron, dump, singing
from tests.e2e.place import PATIENCE
from tests.harness import MAPPING, settings

pytestmark = pytest.mark.thorough

JOURNAL_PASSWORD = "canary-journal/pass+word"
ALL = {**CANARIES, "the journal's password": JOURNAL_PASSWORD}
ECHOES = {5001: None, 5002: 422, 5003: 500, 5004: 503, 5005: 401}
SHOWS_ALL = """
def respond(request, response, attributes):
    log.warn(str(response) + str(attributes))
    raise RuntimeError(str(response))
"""
FLOWS: dict[str, dict[str, Any]] = {
    "by_basic": {},
    "by_token": {"erp__login": TOKEN_LOGIN, "fan_out": 0, "lots": 1},
    "by_script": {"erp__custom_response": True, "erp__custom_response_script": SHOWS_ALL, "mapping": None},
    "login_fails": {"erp__login": TOKEN_LOGIN},
    "bad_mapping": {"mapping": [{"operation": "shift", "spec": {"no_such_field": "plan"}}]},
}


class Processes:
    """What a look at the process list shows, again and again until the end."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.scripts = 0
        self._over = threading.Event()

    def look(self) -> None:
        while not self._over.wait(0.05):
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    self._note(entry)

    def _note(self, process: Path) -> None:
        try:
            command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            return
        self.seen.update((command, environment))
        self.scripts += b"scripts/child.py" in command

    @contextmanager
    def watched(self) -> Iterator[None]:
        watcher = threading.Thread(target=self.look)
        watcher.start()
        try:
            yield
        finally:
            self._over.set()
            watcher.join()


def connections(omnitron_url: str, erp_url: str, flow: str) -> dict[str, Any]:
    extra = {
        "headers": {"X-Api-Key": CANARIES["the ERP's static header"]},
        "key": CANARIES["the ERP's extra"],
    }
    return {
        f"omnitron_{flow}": {
            "conn_type": "http",
            "host": omnitron_url,
            "login": LOGIN,
            "password": CANARIES["Omnitron's password"],
        },
        f"erp_{flow}": {
            "conn_type": "http",
            "host": erp_url,
            "login": LOGIN,
            "password": CANARIES["the ERP's password"],
            "extra": json.dumps(extra),
        },
    }


def journal_connection(url: str, **changes: Any) -> dict[str, Any]:
    parsed = sqlalchemy.make_url(url)
    return {
        "conn_type": "postgres",
        "host": parsed.host,
        "port": parsed.port or 5432,
        "login": parsed.username,
        "password": JOURNAL_PASSWORD,
        "schema": parsed.database,
        **changes,
    }


def command_line(server: AirflowServer, *arguments: str) -> bytes:
    command = [sys.executable, "-m", "include.order_cancel", *arguments]
    done = subprocess.run(
        command, env=server.environment, cwd=ROOT, capture_output=True, timeout=120, check=False
    )
    return done.stdout + done.stderr


def test_no_secret_leaves_a_connection(tmp_path: Path, postgres_url: str) -> None:
    omnitrons = {flow: CanaryOmnitron(plans(20250301, len(ECHOES))) for flow in FLOWS}
    erps = {flow: CanaryErp(auth="token" if "erp__login" in FLOWS[flow] else "basic") for flow in FLOWS}
    erps["login_fails"].echo_login = True
    given: dict[str, Any] = {"order_cancel_journal": journal_connection(postgres_url)}
    variables = {"order_cancel_flows": json.dumps(list(FLOWS))}
    processes = Processes()
    with _all_running([*omnitrons.values(), *erps.values()]) as urls:
        for flow, changes in FLOWS.items():
            erps[flow].echo.update(ECHOES)
            given |= connections(urls[omnitrons[flow]], urls[erps[flow]], flow)
            names = {"omnitron__conn_id": f"omnitron_{flow}", "erp__conn_id": f"erp_{flow}"}
            variables[f"order_cancel_flow__{flow}"] = json.dumps(
                settings(**{"erp__reference_path": "reference", "mapping": MAPPING, **names, **changes})
            )
        server = AirflowServer(tmp_path / "airflow", connections=given, variables=variables, patience=0)
        with processes.watched(), server:
            runs = {flow: _start(server, flow) for flow in FLOWS}
            ended = {flow: server.wait(_dag_of(flow), run, PATIENCE) for flow, run in runs.items()}
            commands = [
                [*arguments, "--flow", flow]
                for flow in ("by_basic", "by_token", "login_fails")
                for arguments in (["plans"], ["plan", "5001", "--json"], ["plan", "5002"], ["check"])
            ]
            with ThreadPoolExecutor(3) as side_by_side:
                shown = b"".join(side_by_side.map(lambda command: command_line(server, *command), commands))

        assert ended == dict.fromkeys(FLOWS, "failed")
        logs = b"".join(file.read_bytes() for file in (server.home / "logs").rglob("*.log"))
        database = b"".join(file.read_bytes() for file in server.home.glob("airflow.db*"))
        assert b"was refused: 403" in logs
        assert b"the ERP refused it: 422" in logs
        assert b"5002" in shown
        assert processes.scripts
        journal = dump(postgres_url)
        assert b"***" in journal
        assert singing(logs, ALL) == []
        assert singing(database, ALL) == []
        assert singing(journal, ALL) == []
        assert singing(shown, ALL) == []
        assert singing(b"\n".join(processes.seen), ALL) == []


def _start(server: AirflowServer, flow: str) -> str:
    server.wait_for_dag(_dag_of(flow))
    return server.trigger(_dag_of(flow))


def _dag_of(flow: str) -> str:
    return f"order_cancel__{flow}"


@contextmanager
def _all_running(simulators: list[Any]) -> Iterator[dict[Any, str]]:
    with ExitStack() as stack:
        yield {simulator: stack.enter_context(running(simulator)).url for simulator in simulators}
