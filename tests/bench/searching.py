"""How long a search of the page and its first page take in a large journal, beside a bare indexed query.

The bare query reads one page of one state of one flow along the index, through the driver's own cursor, and makes no
rows of it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from sqlalchemy import select

from include.order_cancel.journal import Journal
from include.order_cancel.rows import State
from include.order_cancel.searching import PAGE, plans, search
from tests.bench import journals
from tests.bench.document import table
from tests.bench.figures import Bench, Part, Target, say
from tests.journal_fixtures import FLOW
from tests.unit.test_searching import SEARCHES, fill

PLANS = 100_000
ROUNDS = 40
MOST = 5.0


def searching(bench: Bench, _plans: Sequence[int]) -> Part:
    """Each search's median on each journal, and its ratio to the bare query's."""
    took = {kind: _took(bench, kind) for kind in bench.journals}
    rows = [
        [what, *(_cell(took[kind][what], took[kind][_BARE]) for kind in bench.journals)]
        for what in (_BARE, *SEARCHES)
    ]
    part = Part(
        f"The page's searches among {PLANS:,} plans",
        [f"Medians of {ROUNDS}, in milliseconds.", table(["search", *bench.journals], rows)],
    )
    for kind in bench.journals:
        worst = max(SEARCHES, key=lambda what: took[kind][what])
        ratio = took[kind][worst] / took[kind][_BARE]
        part.targets.append(
            Target(f"{kind}: at most {MOST:.0f} x the bare query", f"{ratio:.1f} x ({worst})", ratio <= MOST)
        )
    return part


_BARE = "a bare indexed query of one page"


def _took(bench: Bench, kind: str) -> dict[str, float]:
    with journals.journal(kind, bench.folder) as url:
        say(f"searching: {PLANS:,} plans on {kind}")
        fill(url, PLANS)
        journal = Journal.open(url)
        took = {_BARE: median(lambda: bare_query(journal))}
        for what, wanted in SEARCHES.items():
            took[what] = median(lambda wanted=wanted: search(journal, wanted))
        journal.close()
    return took


def _cell(took: float, bare: float) -> str:
    return f"{took:.2f} = {took / bare:.1f} x"


def bare_query(journal: Journal) -> None:
    """One page along the index."""
    question = (
        select(plans)
        .where(plans.c.flow == FLOW, plans.c.state == State.DONE)
        .order_by(plans.c.updated_at.desc(), plans.c.id.desc())
        .limit(PAGE + 1)
    )
    assert len(journal.ask(question)) == PAGE + 1


def median(call: Callable[[], object]) -> float:
    """The median of some calls, in milliseconds, after two that warm up."""
    call(), call()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)
