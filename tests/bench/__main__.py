"""`make bench`: our DAG against bare scripts over the same simulators, printed and written to docs/performance.md.

Each part is written as soon as it is measured. `make bench T="--only own"` measures one, `T="--only large,searching"`
those that are not among the usual ones: 100,000 plans in a run, and the page's searches among as many. With fewer
plans, runs or journals (`T="--plans 1000 --repeat 1"`) it is printed only, unless `--write`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench import document
from tests.bench.figures import PARTS, Bench
from tests.bench.journals import POSTGRESQL, SQLITE
from tests.bench.large import large
from tests.bench.searching import searching
from tests.databases import POSTGRES, postgres_answers

MEASURED = {**PARTS, "large": large, "searching": searching}
JOURNALS = (SQLITE, POSTGRESQL)
PLANS = (1, 20, 50, 1000, 10_000)
REPEAT, REPEAT_LARGE, LARGE = 5, 3, 10_000


def main() -> int:
    """Exit code 1 where a target is missed."""
    given = arguments()
    journals = [name for name in JOURNALS if name.lower() in given.journals]
    if POSTGRESQL in journals and not postgres_answers():
        print(f"no PostgreSQL at {POSTGRES}: its journal is left out", file=sys.stderr)
        journals.remove(POSTGRESQL)
    met = True
    with tempfile.TemporaryDirectory(prefix="order_cancel_bench_") as folder:
        bench = Bench(Path(folder), journals, repeat=lambda plans: given.repeat or usual_repeat(plans))
        for name in given.only:
            where = document.machine()
            part = MEASURED[name](bench, given.plans)
            text = "\n\n".join(
                [
                    part.text,
                    *([document.targets(part.targets)] if part.targets else []),
                    f"Measured on: {where}.",
                ]
            )
            print(f"\n{text}\n", flush=True)
            if given.write or not narrowed(given, journals):
                document.write_part(name, text)
            met = met and all(target.met for target in part.targets)
    return 0 if met else 1


def usual_repeat(plans: int) -> int:
    """How often a run of so many plans is measured."""
    return REPEAT_LARGE if plans >= LARGE else REPEAT


def narrowed(given: argparse.Namespace, journals: Sequence[str]) -> bool:
    """Whether less is measured than a part holds, or less often."""
    return tuple(given.plans) != PLANS or given.repeat is not None or len(journals) < len(JOURNALS)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--plans", type=_numbers, default=PLANS, help="batch sizes, e.g. 1,20,1000")
    parser.add_argument(
        "--repeat", type=int, help=f"runs per figure (default {REPEAT}; from {LARGE} plans {REPEAT_LARGE})"
    )
    parser.add_argument(
        "--journals", type=str.lower, default="sqlite,postgresql", help="sqlite, postgresql or both"
    )
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=list(PARTS), help=", ".join(MEASURED)
    )
    parser.add_argument("--write", action="store_true", help="write the document though less is measured")
    given = parser.parse_args()
    if unknown := set(given.only) - set(MEASURED):
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}, but {', '.join(MEASURED)}")
    return given


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted({int(number) for number in text.split(",")}))


if __name__ == "__main__":
    sys.exit(main())
