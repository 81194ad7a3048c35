"""`make bench T="--only large"`: 100,000 plans in a real Airflow, and what a million would take by that."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench import dags
from tests.bench.document import table
from tests.bench.figures import MOST_GROWTH, Bench, Part, Target, dag_run, say, warm_up
from tests.bench.systems import ERP_MS, OMNITRON_MS

COUNTS = (10_000, 100_000)
MOST_MEMORY_GROWTH = 1.2
MILLION = 1_000_000
DAY = 86_400


def large(bench: Bench, _plans: Sequence[int]) -> Part:
    """One run of each size on each journal: time, memory and the journal's size for each plan."""
    with dags.airflow(bench.folder, bench.ports, say=say) as server:
        warm_up(bench, server)
        ran = {
            (kind, count): dag_run(bench, server, kind, count) for kind in bench.journals for count in COUNTS
        }
    part = Part("100,000 plans in one run", [_measured(ran), "What a million plans take by these figures:"])
    part.paragraphs.append(_reckoned({kind: ran[kind, COUNTS[-1]] for kind in bench.journals}))
    for kind in bench.journals:
        small, big = (ran[kind, count] for count in COUNTS)
        memory, time = big.peak_mb / small.peak_mb, big.seconds / small.seconds * COUNTS[0] / COUNTS[1]
        words = f"{COUNTS[1]:,} plans against {COUNTS[0]:,} (at most"
        part.targets += [
            Target(
                f"{kind}: the largest task's memory, {words} {MOST_MEMORY_GROWTH} x)",
                f"{memory:.2f} x",
                memory <= MOST_MEMORY_GROWTH,
            ),
            Target(
                f"{kind}: time for a plan, {words} {MOST_GROWTH} x)", f"{time:.2f} x", time <= MOST_GROWTH
            ),
        ]
    return part


def _measured(ran: dict[tuple[str, int], dags.DagRun]) -> str:
    rows = [
        [
            f"{kind}, {count:,}",
            f"{run.seconds:.0f} s",
            f"{count / run.seconds:.0f}",
            f"{run.tasks['get_data_from_omnitron']:.0f} s",
            f"{run.tasks['bulk']:.0f} s",
            f"{run.cpu / count * 1000:.1f}",
            f"{run.peak_mb:.0f}",
            f"{run.journal_mb:.0f}",
            f"{run.journal_mb * 2**20 / count / 1000:.1f}",
        ]
        for (kind, count), run in ran.items()
    ]
    head = ["journal, plans", "took", "plans a second", "listing", "bulk", "Airflow's CPU for a plan, ms"]
    return table([*head, "largest task, MB", "journal, MB", "of it for a plan, kB"], rows)


def _reckoned(ran: dict[str, dags.DagRun]) -> str:
    rows = []
    for kind, run in ran.items():
        rate = COUNTS[-1] / run.seconds
        size = run.journal_mb * MILLION / COUNTS[-1] / 1024
        asked = MILLION / DAY
        rows.append(
            [
                kind,
                f"{MILLION / rate / 3600:.1f} h",
                f"{asked / rate:.0%}",
                f"{asked * (ERP_MS + OMNITRON_MS) / 1000:.1f}",
                f"{size:.0f} GB",
            ]
        )
    head = ["journal", "in one run, on this machine", "in a day: share of this machine's time"]
    return table([*head, "in a day: requests under way on average", "the journal grows by"], rows)
