"""What is started ends with its owner, however the owner ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from include.demo.airflow_server import ROOT
from include.demo.processes import Kept, free_port, is_free

# A parent with a child in a session of its own, both deaf to the polite signals, as pids in a file.
STUBBORN = """
import os, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
with open(sys.argv[1], "a") as file:
    print(os.getpid(), file=file)
time.sleep(600)
"""
# Its child outlives it: only a subreaper still finds that one. It leaves as soon as the child has told its pid.
LEAVING = """
import os, sys, time
told, tell = os.pipe()
if os.fork():
    os.close(tell)
    os.read(told, 1)
    sys.exit(7)
os.setsid()
with open(sys.argv[1], "a") as file:
    print(os.getpid(), file=file)
os.close(tell)
time.sleep(600)
"""
OWNER = """
import sys, time
from pathlib import Path
from include.demo.processes import Kept
folder = Path(sys.argv[1])
command = [sys.executable, "-c", sys.argv[2], folder / "pids"]
kept = Kept(command, env={}, log=folder / "log", cwd=folder, patience=0.2)
time.sleep(600)
"""


def until(happened: Callable[[], bool], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def pids_in(file: Path, count: int) -> list[int]:
    until(lambda: file.exists() and file.read_text().count("\n") == count)
    return [int(line) for line in file.read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def keep(folder: Path, *command: str | Path) -> Kept:
    return Kept(command, env={}, log=folder / "kept.log", cwd=folder, patience=0.2)


def test_the_exit_code_of_a_command_is_kept(tmp_path: Path) -> None:
    kept = keep(tmp_path, sys.executable, "-c", "raise SystemExit(3)")

    assert kept.wait(20) == 3


def test_a_command_that_a_signal_ended_says_so(tmp_path: Path) -> None:
    kept = keep(tmp_path, sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")

    assert kept.wait(20) == 128 + 9


def test_what_a_command_prints_stands_in_its_log(tmp_path: Path) -> None:
    kept = keep(tmp_path, sys.executable, "-c", "import sys; print('first'); sys.exit('last')")
    kept.wait(20)

    assert sorted(kept.tail().split()) == ["first", "last"]


def test_a_stubborn_command_and_its_child_in_another_session_are_ended(tmp_path: Path) -> None:
    kept = keep(tmp_path, sys.executable, "-c", STUBBORN, tmp_path / "pids")
    pids = pids_in(tmp_path / "pids", 2)

    kept.stop()

    assert [pid for pid in pids if is_alive(pid)] == []


def test_a_child_that_outlives_its_command_is_ended(tmp_path: Path) -> None:
    kept = keep(tmp_path, sys.executable, "-c", LEAVING, tmp_path / "pids")
    (orphan,) = pids_in(tmp_path / "pids", 1) if kept.wait(20) == 7 else []

    assert not is_alive(orphan)


def test_a_crash_ends_everything_at_once(tmp_path: Path) -> None:
    kept = keep(tmp_path, sys.executable, "-c", STUBBORN, tmp_path / "pids")
    pids = pids_in(tmp_path / "pids", 2)

    kept.crash()

    assert kept.exit_code == 128 + 9
    assert [pid for pid in pids if is_alive(pid)] == []


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process, which keeps the stubborn command."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(OWNER), str(tmp_path), STUBBORN]
    with subprocess.Popen(command, env=environment) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_ends_when_its_owner_is_killed(
    owner: subprocess.Popen[bytes], tmp_path: Path, number: signal.Signals
) -> None:
    pids = pids_in(tmp_path / "pids", 2)

    owner.send_signal(number)

    until(lambda: not any(map(is_alive, pids)))


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    port = free_port()
    assert is_free(port)

    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
