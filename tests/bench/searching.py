"""`python -m tests.bench.searching [PLANS]`: how long a search and its first page take, beside a bare indexed query.

On SQLite and PostgreSQL. The bare query reads one page of one state of one flow along the index, through the
driver's own cursor, and makes no rows of it.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

from sqlalchemy import make_url, select

from include.order_cancel.journal import Journal
from include.order_cancel.rows import State
from include.order_cancel.searching import PAGE, plans, search
from tests.unit.journal_fixtures import FLOW, postgres_database
from tests.unit.test_searching import SEARCHES, fill

SERVER = os.environ.get("ORDER_CANCEL_TEST_POSTGRES") or "postgresql+psycopg://postgres@127.0.0.1:5432/test"
ROUNDS = 40


def main() -> None:
    """Print a table for each database."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        compare("SQLite", f"sqlite:///{folder}/order_cancel.db", count)
    with postgres_database(make_url(SERVER)) as url:
        compare("PostgreSQL", url, count)


def compare(name: str, url: str, count: int) -> None:
    """One database: the bare query's median, and each search's with its ratio."""
    journal = Journal.open(url)
    fill(url, count)
    bare = median(lambda: bare_query(journal))
    print(f"{name}, {count} plans; a bare indexed query of one page: {bare:.2f} ms")
    for what, wanted in SEARCHES.items():
        took = median(lambda wanted=wanted: search(journal, wanted))
        print(f"  {what:<10} {took:7.2f} ms  {took / bare:5.1f} x")
    journal.close()


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


if __name__ == "__main__":
    main()
