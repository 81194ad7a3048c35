"""`python -m tests.chaos.kill_processes`: a real scheduler under load, and processes of every kind killed at random.

Two flows carry plans that keep coming, one in lots, one in tasks of its plans' own, while a seeded killer sends SIGKILL
to tasks, script processes, the scheduler, PostgreSQL, Omnitron and the ERP. Then the killing stops, further runs are
triggered until nothing is left open, and both systems are asked what they saw. The whole measure goes into
docs/reliability.md; a smaller one is printed only, unless `--write`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import requests

from include.demo.airflow_server import FINISHED, AirflowError
from include.order_cancel.errors import JournalDown
from include.order_cancel.rows import State
from include.simulator import plans
from tests.bench import document
from tests.bench.document import machine, table
from tests.chaos.stage import BULK, HEARTBEATS, SINGLE, STATUSES, Stage, kill, set_up

PLANS, KILLS = 1000, 28
SHARE_OF_SINGLE = 0.1
KINDS = (
    "task, bulk lane",
    "task, plan lane",
    "task and the worker that watches it",
    "script process",
    "scheduler and all its tasks",
    "PostgreSQL of the journal",
    "Omnitron",
    "ERP",
)
BEGIN, END = (
    "<!-- chaos: written by `python -m tests.chaos.kill_processes` -->",
    "<!-- end of the chaos -->",
)
_FIRST_PK = {BULK: 5001, SINGLE: 700_001}
_VICTIM_SECONDS = 20.0
_SETTLE_SECONDS = 420.0


@dataclass(frozen=True)
class Found:
    """What the three memories say in the end: the ERP's, Omnitron's, the journal's."""

    plans: int
    effects: Counter[int]
    moves: Counter[int]
    written_early: list[int]
    states: Counter[str]
    requests: int
    replays: int

    def problems(self) -> list[str]:
        """Everything that was promised and did not come true."""
        wanted = {
            "plans without an effect at the ERP": self.plans - len(self.effects),
            "plans with more than one effect": sum(number > 1 for number in self.effects.values()),
            "plans never written back": self.plans - len(self.moves),
            "plans moved more than once": sum(number > 1 for number in self.moves.values()),
            "plans written back before the ERP had them": len(self.written_early),
            "plans that are not done in the journal": self.plans - self.states[State.DONE],
        }
        return [f"{number} {what}" for what, number in wanted.items() if number]


@dataclass
class Chaos:
    """One run of the whole: what comes when is drawn from the seed, what it hits is up to the machine."""

    stage: Stage
    seed: int
    plans: int
    kills: int
    waves: int
    say: Callable[[str], None]
    killed: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    _active: dict[str, str] = field(default_factory=dict)
    _hurt: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        share = max(1, round(self.plans * SHARE_OF_SINGLE))
        self._waves = {
            BULK: _waves(BULK, self.seed, self.plans - share, self.waves),
            SINGLE: _waves(SINGLE, self.seed, share, self.waves),
        }
        self._order = self._kinds()

    def _kinds(self) -> list[str]:
        order: list[str] = []
        while len(order) < self.kills:
            order += self._random.sample(KINDS, len(KINDS))
        return order[: self.kills]

    # The load

    def keep_going(self) -> None:
        """Bring the next plans and trigger the next run of every flow that has none under way."""
        for flow in STATUSES:
            try:
                self._next_run(flow)
            except (AirflowError, requests.RequestException):
                continue  # whoever was asked is down; it is asked again

    def _next_run(self, flow: str) -> None:
        airflow, dag = self.stage.airflow, self.stage.dag_id(flow)
        if flow in self._active:
            state = airflow.run(dag, self._active[flow])["state"]
            if state not in FINISHED:
                return
            self.ended[state] += 1
            del self._active[flow]
        waves = self._waves[flow]
        if waves:
            self.stage.omnitron.ask("POST", "plans", waves[0])
            del waves[0]
        self._active[flow] = airflow.trigger(dag)
        self.runs[flow] += 1

    # The killing

    def kill_all(self) -> None:
        """Kill one process after another, while the load goes on."""
        for number, kind in enumerate(self._order, 1):
            self._go_on_for(self._random.uniform(1.0, 5.0))
            done = self._kill_one(kind)
            self.killed[done] += 1
            self.say(f"kill {number} of {self.kills}: {done}")
        while self._hurt:
            self._go_on_for(0.2)

    def _go_on_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            for due, start in [hurt for hurt in self._hurt if hurt[0] <= time.monotonic()]:
                start()
                self._hurt.remove((due, start))
            self.keep_going()
            if time.monotonic() > until:
                return
            time.sleep(0.2)

    def _kill_one(self, kind: str) -> str:
        until = time.monotonic() + _VICTIM_SECONDS
        while time.monotonic() < until:
            if self._kill(kind):
                return kind
            self._go_on_for(0.1)
        others = [other for other in KINDS if other != kind]
        return self._kill_one(self._random.choice(others))

    def _kill(self, kind: str) -> bool:
        stage = self.stage
        if kind == "script process":
            return self._kill_any([(pid,) for pid in stage.script_processes()])
        if kind.startswith("task"):
            of = {"task, bulk lane": ("bulk",), "task, plan lane": ("plan.",)}.get(kind, ("",))
            tasks = [task for task in stage.tasks() if task.task_id.startswith(of)]
            both = kind == "task and the worker that watches it"
            if kind == "task, bulk lane" and not stage.sending():
                return False
            return self._kill_any([(task.supervisor, task.pid) if both else (task.pid,) for task in tasks])
        if self._hurt or not stage.sending():
            return False  # one big thing at a time, and only while requests are under way
        if kind.startswith("scheduler"):
            stage.airflow.kill("scheduler")
            self._mend_later(lambda: stage.airflow.launch("scheduler"))
        elif kind.startswith("PostgreSQL"):
            stage.postgres.kill()
            self._mend_later(stage.postgres.start)
        else:
            system = stage.omnitron if kind == "Omnitron" else stage.erp
            system.kill()
            self._mend_later(system.start)
        return True

    def _kill_any(self, victims: list[tuple[int, ...]]) -> bool:
        if not victims:
            return False
        kill(*self._random.choice(sorted(victims)))
        return True

    def _mend_later(self, start: Callable[[], None]) -> None:
        self._hurt.append((time.monotonic() + self._random.uniform(0.2, 4.0), start))

    # The end

    def settle(self) -> None:
        """Go on without faults until every plan is settled. Raises TimeoutError where that never comes."""
        self.say("the killing is over; runs go on until nothing is open")
        until = time.monotonic() + _SETTLE_SECONDS
        while any(self._waves.values()) or self._open():
            if time.monotonic() > until:
                raise TimeoutError(f"not settled in {_SETTLE_SECONDS:g} s: {self._open()}")
            self._go_on_for(2.0)

    def _open(self) -> Counter[str]:
        try:
            states = Counter(str(row.state) for row in self.stage.rows())
        except JournalDown as error:
            return Counter({str(error): 1})
        states["not fetched"] = self.plans - sum(states.values())
        return Counter({state: number for state, number in states.items() if number and state != State.DONE})

    def found(self) -> Found:
        """Ask all that remember."""
        erp, omnitron = (
            self.stage.erp.ask("GET", "state"),
            self.stage.omnitron.ask("GET", "state"),
        )
        effects = Counter(effect["plan"] for effect in erp["effects"])
        booked = {effect["plan"]: effect["time"] for effect in erp["effects"]}
        written = [call for call in self.stage.omnitron.ask("GET", "requests") if call["method"] == "PATCH"]
        return Found(
            plans=self.plans,
            effects=effects,
            moves=Counter(pk for pk, _, to in omnitron["transitions"] if to == "approved"),
            written_early=[
                call["pk"] for call in written if call["time"] < booked.get(call["pk"], float("inf"))
            ],
            states=Counter(str(row.state) for row in self.stage.rows()),
            requests=sum(erp["attempts"].values()),
            replays=erp["replays"],
        )


def _waves(flow: str, seed: int, count: int, waves: int) -> list[list[dict[str, Any]]]:
    made = plans(seed, count, status=STATUSES[flow], first_pk=_FIRST_PK[flow])
    size = -(-count // waves)
    return [made[start : start + size] for start in range(0, count, size)]


def perform(
    home: Path, *, seed: int, plans: int, kills: int, waves: int, say: Callable[[str], None]
) -> tuple[Chaos, Found, float]:
    """The whole play; also how many seconds it took, from the first plan to the last."""
    home.mkdir(exist_ok=True)
    with set_up(home, say, latency_ms=150) as stage:
        chaos = Chaos(stage, seed, plans, kills, waves, say)
        began = time.monotonic()
        chaos.kill_all()
        chaos.settle()
        return chaos, chaos.found(), time.monotonic() - began


def figures(chaos: Chaos, found: Found, seconds: float) -> str:
    """What goes into the document."""
    killed = table(["killed with SIGKILL", "times"], [[kind, str(chaos.killed[kind])] for kind in KINDS])
    lowered = ", ".join(f"`{name}` {value} ({usual})" for name, (value, usual) in HEARTBEATS.items())
    saw = [
        ["plans", str(found.plans)],
        ["runs, of which red", f"{chaos.runs.total()}, {chaos.ended['failed']}"],
        ["plans with exactly one effect at the ERP", str(sum(n == 1 for n in found.effects.values()))],
        ["plans with two", str(sum(n > 1 for n in found.effects.values()))],
        ["plans written back once", str(sum(n == 1 for n in found.moves.values()))],
        ["plans written back before the ERP had them", str(len(found.written_early))],
        ["plans lost", str(found.plans - found.states[State.DONE])],
        ["requests that the ERP carried out", str(found.requests)],
        ["of these repeats that it knew by their key", str(found.replays)],
    ]
    return "\n\n".join(
        [
            f"Seed {chaos.seed}: {chaos.killed.total()} kills in {seconds:.0f} s, from the first plan to the last.",
            killed,
            table(["seen in the end", ""], saw),
            "Settings of `[scheduler]` that were lowered, in seconds, so that a lost worker is noticed within the time "
            f"of the measure (Airflow's own values in brackets): {lowered}.",
            f"Measured on: {machine()}.",
        ]
    )


def main() -> int:
    """Exit code 1 where anything was lost, doubled or not settled."""
    given = arguments()
    seed = SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    say(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="order_cancel_chaos_") as folder:
        home = Path(given.home or folder)
        chaos, found, seconds = perform(
            home, seed=seed, plans=given.plans, kills=given.kills, waves=given.waves, say=say
        )
    text = figures(chaos, found, seconds)
    print(f"\n{text}\n")
    problems = found.problems()
    print("\n".join(problems) or "nothing lost, nothing twice")
    if given.write or (given.plans >= PLANS and given.kills >= 20):
        document.write(text, document.RELIABILITY, BEGIN, END)
        print(f"written to {document.RELIABILITY.name}")
    return 1 if problems else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.kill_processes", description=__doc__)
    parser.add_argument("--seed", type=int, help="what is killed when is drawn from it (default: a new one)")
    parser.add_argument("--plans", type=int, default=PLANS)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--waves", type=int, default=8, help="in so many parts the plans come")
    parser.add_argument("--home", help="an empty folder to work in, which stays")
    parser.add_argument("--write", action="store_true", help="write a smaller measure into the document too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
