"""`python -m include.demo` as a person meets it: what it says, its exit code, and that it leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from include.demo.airflow_server import ROOT
from include.demo.processes import free_port

MARK = "ORDER_CANCEL_TEST_MARK"
TIMEOUT = 300


class Demo:
    """A demo in a process of its own, in a folder of its own, on free ports."""

    def __init__(self, folder: Path) -> None:
        self.mark = f"{MARK}={uuid.uuid4()}"
        ports = {f"DEMO_PORT_{name}": str(free_port()) for name in ("UI", "OMNITRON", "ERP")}
        self.environment = {
            **os.environ,
            **dict([self.mark.split("=")]),
            **ports,
            "DEMO_DIR": str(folder),
            "http_proxy": f"http://127.0.0.1:{free_port()}",  # nobody listens: what goes there is lost
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "include.demo"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""

    def read_until(self, text: str) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return
        pytest.fail(f"it never said {text!r}:\n{self.output}")

    def end(self) -> int:
        output, _ = self.process.communicate(timeout=TIMEOUT)
        self.output += output
        return self.process.returncode

    def left(self) -> list[str]:
        """The command lines of the processes that still carry this demo's mark."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and self.mark.encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found

    def until_nothing_is_left(self, timeout: float = 30) -> None:
        deadline = time.monotonic() + timeout
        while left := self.left():
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """The line in a shell of its own, which knows nothing of Airflow."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return ended(["/bin/bash", "-c", line], environment)


def ended(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A command that has ended, from the repository's root."""
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=180
    )


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    running = Demo(tmp_path)
    yield running
    running.process.kill()
    running.process.communicate()
    running.until_nothing_is_left()


@pytest.mark.thorough
def test_a_demo_goes_as_expected_stays_up_and_ends_on_ctrl_c(demo: Demo) -> None:
    demo.read_until("Ctrl-C ends everything.")
    ui = f"http://127.0.0.1:{demo.environment['DEMO_PORT_UI']}"

    assert "All plans went as expected." in demo.output
    assert ui in demo.output
    assert requests.get(ui, timeout=10).ok
    shown = shell(next(line for line in demo.output.splitlines() if "include.order_cancel plans" in line))
    assert (shown.returncode, "done" in shown.stdout) == (0, True), shown.stderr
    assert (Path(demo.environment["DEMO_DIR"]) / "env").stat().st_mode & 0o777 == 0o600

    demo.process.send_signal(signal.SIGINT)

    assert demo.end() == 0
    assert demo.left() == []


def test_a_taken_port_is_said_by_number_before_anything_starts(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        environment = {**os.environ, "DEMO_DIR": str(folder), "DEMO_PORT_ERP": str(port)}

        refused = ended([sys.executable, "-m", "include.demo"], environment)

    assert refused.returncode == 2
    assert str(port) in refused.stderr.split("Choose others")[0]
    assert [file.name for file in folder.iterdir()] == ["lock"]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("simulators answer", signal.SIGINT),
        ("preparing Airflow", signal.SIGTERM),
        ("starting Airflow", signal.SIGINT),
        ("starting Airflow", signal.SIGHUP),
        ("triggered", signal.SIGTERM),
    ],
)
def test_an_interruption_at_any_moment_leaves_no_process(
    demo: Demo, moment: str, number: signal.Signals
) -> None:
    demo.read_until(moment)

    demo.process.send_signal(number)

    assert demo.end() == 128 + number
    assert demo.left() == []


@pytest.mark.thorough
@pytest.mark.parametrize("moment", ["preparing Airflow", "Airflow answers"])
def test_a_demo_that_is_killed_outright_leaves_no_process(demo: Demo, moment: str) -> None:
    demo.read_until(moment)

    demo.process.kill()

    demo.process.wait(TIMEOUT)
    demo.until_nothing_is_left()


@pytest.mark.thorough
def test_a_second_demo_says_that_it_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "airflow").mkdir()
    demo = Demo(tmp_path)
    try:
        demo.read_until("begins anew")
        assert f"what an earlier demo left in {tmp_path} is deleted" in demo.output
    finally:
        demo.process.kill()
        demo.process.communicate()
        demo.until_nothing_is_left()


@pytest.mark.thorough
def test_a_second_interruption_does_not_disturb_the_end(demo: Demo) -> None:
    demo.read_until("Airflow answers")

    demo.process.send_signal(signal.SIGINT)
    demo.process.send_signal(signal.SIGINT)
    demo.process.send_signal(signal.SIGTERM)

    assert demo.end() == 128 + signal.SIGINT
    assert demo.left() == []
