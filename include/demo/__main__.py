"""`python -m include.demo [--once]`: simulators, Airflow and the demo flows, all on this machine.

Starts the Omnitron and ERP simulators and a fresh Airflow, runs each demo flow once, prints what became of
its plans, and stays up until Ctrl-C. `--once` ends everything after the runs; the exit code says whether
they went as `expected.json` says. Environment: `DEMO_DIR` (`.run` in the repository) and `DEMO_PORT_UI`,
`DEMO_PORT_OMNITRON`, `DEMO_PORT_ERP` (8080 to 8082).
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import requests

from include.demo.airflow_server import FINISHED, LOGIN, PASSWORD, ROOT, AirflowError, AirflowServer, answers
from include.demo.outcome import FlowOutcome, differences, expected, table
from include.demo.place import Place, PlaceError, check_ports, locked, place_from, read_airflow_settings
from include.demo.processes import LOOPBACK, Kept
from include.simulator import plans, transactions

PATIENCE_SECONDS = 300
TASK_ENDS = ("success", "failed", "skipped", "upstream_failed")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STARTED = time.monotonic()


class Interrupted(BaseException):
    """A signal asks the demo to end; `number` is which."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


def say(text: str) -> None:
    """A line of progress, with the seconds since the start before it."""
    print(f"[{time.monotonic() - STARTED:5.1f} s] {text}", flush=True)


@contextmanager
def simulators(place: Place) -> Iterator[dict[str, str]]:
    """Run both simulators, with the demo's plans and faults; their addresses by name."""
    data = place.directory / "omnitron_data.json"
    data.write_text(json.dumps(omnitron_data()), encoding="utf-8")
    words = {
        "omnitron": ["--port", str(place.omnitron), "--data", str(data)],
        "erp": [
            *("--port", str(place.erp), "--auth", "basic"),
            *("--data", str(Path(__file__).with_name("erp_data.json"))),
        ],
    }
    with ExitStack() as running:
        started = [
            running.enter_context(simulator(name, more, place.directory)) for name, more in words.items()
        ]
        urls = {
            name: f"http://{LOOPBACK}:{port}"
            for name, port in (("omnitron", place.omnitron), ("erp", place.erp))
        }
        for process in started:
            wait_for_simulator(process, urls[process.name])
        say(f"simulators answer: Omnitron on {urls['omnitron']}, ERP on {urls['erp']}")
        yield urls


def omnitron_data() -> dict[str, Any]:
    """What Omnitron holds: the plans of the four flows, told apart by status, type and channel, and transactions."""
    over = {"status": "completed", "plan_type": "refund"}
    returned = plans(10, 3, first_pk=8001, channels=(3,), **over)
    return {
        "plans": [
            *plans(7, 5, plan_type="cancel"),
            *plans(11, 3, plan_type="refund", first_pk=6001),
            *plans(3, 2, first_pk=7001, channels=(1, 2), **over),
            *returned,
        ],
        "transactions": transactions(10, returned),
    }


def simulator(name: str, more: Sequence[str], directory: Path) -> Kept:
    """Start one simulator."""
    command = (sys.executable, "-m", "include.simulator", name, *more)
    log = directory / f"{name}.log"
    log.unlink(missing_ok=True)
    return Kept(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, log=log, cwd=ROOT)


def wait_for_simulator(process: Kept, url: str, timeout: float = 30) -> None:
    """Return once it answers; raises AirflowError when it ended or time is up."""
    deadline = time.monotonic() + timeout
    while process.exit_code is None and time.monotonic() < deadline:
        if answers(f"{url}/_control/state"):
            return
        time.sleep(0.05)
    raise AirflowError(f"the {process.name} simulator does not answer:\n{process.tail()}")


def run_flows(server: AirflowServer, flows: Sequence[str]) -> dict[str, str]:
    """Trigger each flow's DAG once and wait for the runs to end; the final states by flow."""
    runs = {}
    for flow in flows:
        dag_id = f"order_cancel__{flow}"
        server.wait_for_dag(dag_id)
        runs[flow] = server.trigger(dag_id)
        say(f"{flow}: triggered")
    shown: dict[str, str] = {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        server.check()
        states = {flow: server.run(f"order_cancel__{flow}", run)["state"] for flow, run in runs.items()}
        for flow, run in runs.items():
            line = progress(server, flow, run, states[flow])
            if shown.get(flow) != line:
                say(line)
                shown[flow] = line
        if all(state in FINISHED for state in states.values()):
            return states
        time.sleep(1)
    raise AirflowError(f"the runs did not end within {PATIENCE_SECONDS} s: {shown}")


def progress(server: AirflowServer, flow: str, run: str, state: str) -> str:
    """One line on a run: its state and how many of its tasks are in which state."""
    counts = Counter(server.states(f"order_cancel__{flow}", run).values())
    finished = {name: count for name, count in sorted(counts.items(), key=str) if name in TASK_ENDS}
    ended = ", ".join(f"{count} {name}" for name, count in finished.items()) or "none ended yet"
    return f"{flow}: run {state}; {sum(counts.values())} tasks: {ended}"


def outcomes(server: AirflowServer, states: dict[str, str], urls: dict[str, str]) -> list[FlowOutcome]:
    """What the journal and the simulators know after the runs."""
    omnitron = control_state(urls["omnitron"])
    bookings = Counter(str(effect["plan"]) for effect in control_state(urls["erp"])["effects"])
    with ThreadPoolExecutor() as side_by_side:
        plans_of = dict(zip(states, side_by_side.map(partial(journal_plans, server), states), strict=True))
    return [
        FlowOutcome(flow, run, plans_of[flow], omnitron["plans"], bookings, list(omnitron["mappings"]))
        for flow, run in states.items()
    ]


def control_state(url: str) -> dict[str, Any]:
    """A simulator's own account of itself."""
    answer: dict[str, Any] = requests.get(f"{url}/_control/state", timeout=10).json()
    return answer


def journal_plans(server: AirflowServer, flow: str) -> list[dict[str, Any]]:
    """The flow's plans, as the command line prints them; raises AirflowError when it fails."""
    command = [sys.executable, "-m", "include.order_cancel", "plans", "--flow", flow, "--json"]
    done = subprocess.run(
        command, env=server.environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=180
    )
    if done.returncode != 0:
        raise AirflowError(f"{' '.join(command[1:])} failed:\n{done.stderr}")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def demo(place: Place, once: bool) -> int:
    """Run everything; the exit code: 0 when the plans went as expected."""
    check_ports(place)
    settings = read_airflow_settings(ROOT / "airflow_settings.yaml", place)
    wanted = expected()
    home = place.directory / "airflow"
    if home.exists():
        say(
            f"begins anew: what an earlier demo left in {place.directory} is deleted, flows and settings made on the "
            "page too; another DEMO_DIR keeps it"
        )
    server = AirflowServer(
        home,
        port=place.ui,
        connections=settings.connections,
        variables=settings.variables,
        say=say,
    )
    environment = place.directory / "env"
    write_environment(environment, server.environment)
    with simulators(place) as urls, server, undisturbed_end():
        say(f"Airflow answers on {server.url}, login {LOGIN} / {PASSWORD}")
        found = outcomes(server, run_flows(server, list(wanted)), urls)
        print(f"\n{table(found)}\n", flush=True)
        wrong = [text for outcome in found for text in differences(wanted[outcome.flow], outcome)]
        report(wrong, wanted)
        if not once:
            stay(server, environment)
        say("stopping")
    say("stopped; nothing is left running")
    return 1 if wrong else 0


def report(wrong: Sequence[str], wanted: dict[str, Any]) -> None:
    """Say whether all is as expected, and why a red run is."""
    for flow, content in wanted.items():
        print(f"{flow}: expected to end as {content['run']}: {content['why']}.")
    print("Otherwise than expected:\n  " + "\n  ".join(wrong) if wrong else "All plans went as expected.")


def write_environment(file: Path, environment: Mapping[str, str]) -> None:
    """What the command line needs to reach the demo's Airflow, as a shell reads it; for its owner only."""
    named = {name: value for name, value in environment.items() if name.startswith(("AIRFLOW", "PYTHONPATH"))}
    lines = [f"{name}={shlex.quote(value)}" for name, value in sorted(named.items())]
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600), "w") as opened:
        opened.write("\n".join(lines) + "\n")


def stay(server: AirflowServer, environment: Path) -> None:
    """Keep everything up until a signal comes; raises AirflowError when a part of Airflow ends."""
    print(f"\nAirflow's UI: {server.url}   login: {LOGIN}   password: {PASSWORD}")
    print("The command line in another terminal, from the repository's root:")
    load = f"set -a; . {shlex.quote(str(environment))}; set +a"
    print(
        f"  {load}; {shlex.quote(sys.executable)} -m include.order_cancel plans --flow {next(iter(expected()))}"
    )
    print("Ctrl-C ends everything.", flush=True)
    try:
        while True:
            server.check()
            time.sleep(1)
    except Interrupted:
        print(flush=True)


@contextmanager
def undisturbed_end() -> Iterator[None]:
    """Once this block is over, however it ends, no signal interrupts what follows: the cleaning up."""
    try:
        yield
    finally:
        heed(signal.SIG_IGN)


def heed(handler: Any) -> None:
    """Set what happens on each of the signals that ask for an end."""
    for number in ENDING:
        signal.signal(number, handler)


def interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    """The first such signal ends the demo; while it cleans up, further ones are of no effect."""
    heed(signal.SIG_IGN)
    raise Interrupted(number)


def main() -> int:
    """Exit codes: 0 as expected, 1 not so, 2 cannot start here, 128 + n ended by signal n."""
    parser = argparse.ArgumentParser(prog="python -m include.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the runs, with a telling exit code")
    once = parser.parse_args().once
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = f"{LOOPBACK},localhost"  # all that is asked is here
    heed(interrupt)
    try:
        place = place_from(os.environ)
        with locked(place.directory):
            return demo(place, once)
    except PlaceError as error:
        print(error, file=sys.stderr)
        return 2
    except AirflowError as error:
        print(error, file=sys.stderr)
        return 1
    except Interrupted as error:
        say(f"ended by {error}; nothing is left running")
        return 128 + error.number


if __name__ == "__main__":
    sys.exit(main())
