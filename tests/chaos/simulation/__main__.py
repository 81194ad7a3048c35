"""`make chaos`: run seeded histories of the whole flow, and say what was hit and what did not hold.

python -m tests.chaos.simulation --seeds 300             histories of the seeds 0 to 299
python -m tests.chaos.simulation --seed 17               one history, with its whole trail
python -m tests.chaos.simulation --seeds 1000 --start 5000 --save part.json
python -m tests.chaos.simulation --document part*.json   the figures into docs/reliability.md
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.simulation.history import Result, database, run, shown
from tests.chaos.simulation.points import POINTS
from tests.chaos.simulation.rules import INVARIANTS

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "reliability.md"
BEGIN = "<!-- crash simulation: written by `python -m tests.chaos.simulation --document` -->"
END = "<!-- end of crash simulation -->"
ALL_POINTS_FROM = 1000


@dataclass
class Figures:
    """What came of many histories."""

    histories: int = 0
    kills: int = 0
    points_passed: int = 0
    effects: int = 0
    seconds: float = 0.0
    first: int = 0
    last: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    breaches: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    failing: list[int] = field(default_factory=list)

    def add(self, result: Result) -> None:
        self.histories += 1
        self.kills += sum(result.hits.values())
        self.points_passed += sum(result.passed.values())
        self.effects += result.effects
        self.hits += result.hits
        self.states += result.states
        self.breaches.update(name for name, _ in result.breaches)
        if result.breaches:
            self.failing.append(result.seed)

    def missed(self) -> list[str]:
        """The crash points at which no process died."""
        return [name for name in POINTS if not self.hits[name]]

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def together(cls, parts: list[dict[str, Any]]) -> Figures:
        """Several pieces as one."""
        whole = cls(first=min(part["first"] for part in parts), last=max(part["last"] for part in parts))
        for part in parts:
            for name in ("histories", "kills", "points_passed", "effects", "seconds"):
                setattr(whole, name, getattr(whole, name) + part[name])
            for name in ("hits", "breaches", "states"):
                getattr(whole, name).update(part[name])
            whole.failing += part["failing"]
        return whole


def simulate(first: int, count: int, url: str = "sqlite://", seconds: float = float("inf")) -> Figures:
    """Run the histories of `count` seeds; a failing one is printed with what led to it."""
    figures = Figures(first=first, last=first + count - 1)
    began = time.perf_counter()
    with database(url) as opened:
        for seed in range(first, first + count):
            result = run(seed, opened)
            figures.add(result)
            if result.breaches:
                print(shown(result, 25), flush=True)
                print(f"  again: python -m tests.chaos.simulation --seed {seed}", flush=True)
            if time.perf_counter() - began > seconds:
                figures.last = seed
                break
    figures.seconds = time.perf_counter() - began
    return figures


def report(figures: Figures) -> str:
    """The figures as they are printed."""
    lines = [
        f"{figures.histories} histories (seeds {figures.first} to {figures.last}), {figures.seconds:.0f} s",
        f"{figures.points_passed} boundaries passed, {figures.kills} processes killed, "
        f"{figures.effects} bookings in the ERP",
        "",
        f"crash points hit: {len(POINTS) - len(figures.missed())} of {len(POINTS)}",
    ]
    lines += [f"  {figures.hits[name]:>6}  {name}" for name in sorted({*POINTS, *figures.hits})]
    lines += ["", "violations"]
    lines += [f"  {figures.breaches[name]:>6}  {name}: {meaning}" for name, meaning in INVARIANTS.items()]
    lines += [
        "",
        "ended as: " + ", ".join(f"{number} {state}" for state, number in figures.states.most_common()),
    ]
    return "\n".join(lines)


def section(figures: Figures) -> str:
    """The figures as docs/reliability.md shows them."""
    lines = [
        BEGIN,
        f"{figures.histories:,} histories (seeds {figures.first} to {figures.last}): "
        f"{figures.points_passed:,} boundaries passed, {figures.kills:,} processes killed, "
        f"{len(POINTS) - len(figures.missed())} of {len(POINTS)} crash points hit, {figures.effects:,} bookings "
        f"in the ERP, {len(figures.failing)} histories in which something did not hold.",
        "",
        "| invariant | means | violations |",
        "|---|---|---|",
        *(f"| {name} | {meaning} | {figures.breaches[name]} |" for name, meaning in INVARIANTS.items()),
        "",
        "Processes killed at each crash point:",
        "",
        "| crash point | kills |",
        "|---|---|",
        *(f"| {name} | {figures.hits[name]} |" for name in sorted({*POINTS, *figures.hits})),
        END,
    ]
    return "\n".join(lines)


def document(parts: list[Path]) -> None:
    """Write the figures of saved pieces into docs/reliability.md, between the markers."""
    figures = Figures.together([json.loads(part.read_text("utf-8")) for part in parts])
    text = DOCUMENT.read_text("utf-8")
    place = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    DOCUMENT.write_text(place.sub(lambda _: section(figures), text), "utf-8")
    print(report(figures))


def main() -> int:
    """The exit code: 1 where something did not hold, or a crash point was never hit in a thousand histories."""
    given = argparse.ArgumentParser(
        prog="python -m tests.chaos.simulation", description=__doc__.splitlines()[0]
    )
    given.add_argument("--seeds", type=int, default=300, help="how many histories")
    given.add_argument("--start", type=int, default=0, help="the first seed")
    given.add_argument("--seed", type=int, help="only this history, with its whole trail")
    given.add_argument("--seconds", type=float, default=float("inf"), help="begin no history after so long")
    given.add_argument(
        "--journal", default="sqlite://", help="an empty database to use, as an SQLAlchemy URL"
    )
    given.add_argument("--save", type=Path, help="write the figures as JSON")
    given.add_argument(
        "--document", type=Path, nargs="+", help="saved figures that go into docs/reliability.md"
    )
    options = given.parse_args()
    if options.document:
        document(options.document)
        return 0
    if options.seed is not None:
        with database(options.journal) as opened:
            result = run(options.seed, opened)
        print(shown(result, len(result.trail)))
        return int(bool(result.breaches))
    figures = simulate(options.start, options.seeds, options.journal, options.seconds)
    print(report(figures))
    if options.save:
        options.save.write_text(json.dumps(figures.as_json()), "utf-8")
    missed = figures.missed() if figures.histories >= ALL_POINTS_FROM else []
    for name in missed:
        print(f"never hit: {name}")
    return int(bool(figures.failing or missed))


if __name__ == "__main__":
    sys.exit(main())
