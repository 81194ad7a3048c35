from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from include.simulator import plans

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "include.simulator"]


@contextmanager
def simulator(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A simulator process and its address, as its first line tells it."""
    process = subprocess.Popen(
        [*COMMAND, *words], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("system", ["omnitron", "erp"])
def test_a_simulator_says_where_it_is_and_ends_on_a_signal(system: str, number: signal.Signals) -> None:
    with simulator(system, "--port", "0") as (process, line):
        address = line.removeprefix(f"{system} simulator on ")
        state = requests.get(f"{address}/_control/state", timeout=10)
        process.send_signal(number)

        assert process.wait(timeout=10) == 0
        assert state.status_code == 200


def test_a_taken_port_is_said_by_number() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [*COMMAND, "erp", "--port", port],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    assert ended.returncode == 2
    assert ended.stderr.strip() == f"erp simulator: port {port} is taken"
    assert ended.stdout == ""


def test_plans_are_generated_from_a_seed() -> None:
    words = (
        "omnitron",
        "--port",
        "0",
        "--plans",
        "30",
        "--seed",
        "7",
        "--status",
        "completed",
        "--transactions",
    )
    with simulator(*words, "--light") as (_, line):
        address = line.rpartition(" ")[2]
        documents = requests.get(f"{address}/_control/plans", timeout=10).json()

    assert documents == plans(7, 30, status="completed")


def test_a_data_file_brings_plans_faults_and_settings(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    faults = [{"kind": "status", "path": "/auth/login/", "status": 503}]
    content = {
        "plans": plans(1, 2),
        "faults": faults,
        "settings": {"bare_lists": True},
        "channel_types": {"4": "web"},
    }
    data.write_text(json.dumps(content), encoding="utf-8")

    with simulator("omnitron", "--port", "0", "--data", str(data)) as (_, line):
        address = line.rpartition(" ")[2]
        state = requests.get(f"{address}/_control/state", timeout=10).json()
        login = requests.post(f"{address}/api/v1/auth/login/", json={}, timeout=10)

    assert state["plans"] == {"5001": "waiting", "5002": "waiting"}
    assert state["settings"]["bare_lists"] is True
    assert login.status_code == 503


def test_an_erp_takes_its_credentials_from_the_command_line() -> None:
    words = ("erp", "--port", "0", "--auth", "basic", "--username", "u", "--password", "p")
    with simulator(*words) as (_, line):
        url = f"{line.rpartition(' ')[2]}/cancellations"
        statuses = [
            requests.post(url, json={}, auth=auth, timeout=10).status_code for auth in (("u", "p"), None)
        ]

    assert statuses == [200, 401]


@pytest.mark.parametrize(
    "content", ["{", '{"settings": {"colour": "red"}}', '{"faults": [{"kind": "earthquake"}]}']
)
def test_a_wrong_data_file_is_said(tmp_path: Path, content: str) -> None:
    data = tmp_path / "data.json"
    data.write_text(content, encoding="utf-8")
    words = ["omnitron", "--port", "0", "--data", str(data)]

    ended = subprocess.run(
        [*COMMAND, *words], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )

    assert ended.returncode == 2
    assert "cannot use the data" in ended.stderr


def test_an_erp_that_is_killed_still_knows_what_it_booked_and_under_which_key(tmp_path: Path) -> None:
    words = ("erp", "--port", "0", "--state", str(tmp_path / "erp"))
    with simulator(*words) as (process, line):
        url = f"{line.rpartition(' ')[2]}/cancellations"
        booked = requests.post(url, json={"plan": 1}, headers={"Idempotency-Key": "a"}, timeout=10).json()
        process.kill()
        process.wait(timeout=10)
    with (tmp_path / "erp").open("ab") as record:
        record.write(b'{"method": "POST", "pa')

    with simulator(*words) as (_, line):
        address = line.rpartition(" ")[2]
        again = requests.post(
            f"{address}/cancellations", json={"plan": 1}, headers={"Idempotency-Key": "a"}, timeout=10
        ).json()
        requests.post(
            f"{address}/cancellations", json={"plan": 2}, headers={"Idempotency-Key": "b"}, timeout=10
        )
    with simulator(*words) as (_, line):
        state = requests.get(f"{line.rpartition(' ')[2]}/_control/state", timeout=10).json()

    assert again == booked
    assert [(effect["plan"], effect["key"]) for effect in state["effects"]] == [(1, "a"), (2, "b")]
    assert (state["attempts"], state["replays"]) == ({"1": 2, "2": 1}, 1)


def test_an_omnitron_that_is_killed_still_knows_its_plans_and_their_moves(tmp_path: Path) -> None:
    words = ("omnitron", "--port", "0", "--plans", "1", "--state", str(tmp_path / "omnitron"))
    with simulator(*words) as (process, line):
        address = line.rpartition(" ")[2]
        requests.post(f"{address}/_control/plans", json=plans(1, 1, first_pk=6001), timeout=10)
        login = {"username": "omnitron", "password": "secret"}
        key = requests.post(f"{address}/api/v1/auth/login/", json=login, timeout=10).json()["key"]
        for pk in (5001, 6001):
            moved = requests.patch(
                f"{address}/api/v1/cancellation_plans/{pk}/",
                json={"status": "approved"},
                headers={"Authorization": f"Token {key}"},
                timeout=10,
            )
            assert moved.status_code == 200
        process.kill()
        process.wait(timeout=10)

    with simulator(*words) as (_, line):
        state = requests.get(f"{line.rpartition(' ')[2]}/_control/state", timeout=10).json()

    assert state["plans"] == {"5001": "approved", "6001": "approved"}
    assert state["transitions"] == [[5001, "waiting", "approved"], [6001, "waiting", "approved"]]
    assert key not in (tmp_path / "omnitron").read_text(encoding="utf-8")
