"""What the tests of the journal share: listed plans, runs, and a way to let time pass in the database."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import pytest
from sqlalchemy import Table, create_engine, update

from include.order_cancel import journal as journal_module
from include.order_cancel import schema, under_way
from include.order_cancel.journal import Journal
from include.order_cancel.placing import Placing
from include.order_cancel.rows import Listed, Move, Row, Run, State

HOST = "omnitron.example"
FLOW = "cancels"


def listed(pk: int | str, *, content: str = "first", day: int = 1, transaction: str | None = None) -> Listed:
    """A plan as a listing shows it; `content` stands for all that its digest covers."""
    document = {"pk": pk, "content": content}
    return Listed(
        pk=str(pk),
        document=json.dumps(document),
        digest=hashlib.sha256(content.encode()).hexdigest(),
        order_number=f"N{pk}",
        order_pk=f"9{pk}",
        amount="12.50",
        currency="TRY",
        plan_type="cancel",
        plan_date=f"2025-03-{day:02}T08:00:00Z",
        transaction_pk=transaction,
    )


def a_run(journal: Journal, key: str = "run 1", *, home: str = "home", flow: str = FLOW) -> Run:
    """A run that has begun."""
    return journal.begin_run(flow, key, home, HOST, {})


def with_plans(
    journal: Journal, *pks: int | str, key: str = "run 1", **commit: Any
) -> tuple[Run, dict[str, Row]]:
    """A run whose listing showed these plans, its membership frozen; and their rows by number."""
    run = a_run(journal, key)
    journal.take_page(run, [listed(pk) for pk in pks], Placing())
    journal.commit_run(run, **{"fan_out": 50, "lots": 4, "counts": {}, "queried_at": None, **commit})
    return run, {row.pk: row for row in journal.run_rows(run.id)}


def settle(journal: Journal, run: Run, row: Row, state: State, **values: Any) -> Row:
    """Move a row to a state, as a task of the run would, and give its lease back."""
    held = journal.claim_one(row.id, run.id, "task")
    held.state = state
    for name, value in values.items():
        setattr(held, name, value)
    held.owner, held.lease_until = "", 0.0
    if held.at_rest:
        held.claim_run = None
    assert journal.apply([Move(held)]) == [None]
    return held


def let_pass(url: str, table: Table, row_id: int, **times: Any) -> None:
    """Write moments of the past into a row, instead of waiting for them to pass."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(update(table).where(table.c.id == row_id).values(**times))
    engine.dispose()


def let_run_die(url: str, run: Run) -> None:
    """The run has not been heard of for longer than runs are believed to live."""
    let_pass(url, schema.runs, run.id, alive_until=1.0)


def let_lease_lapse(url: str, row: Row) -> None:
    """The row's lease is over, its task was not heard of."""
    let_pass(url, schema.plans, row.id, lease_until=1.0)


def let_deadline_pass(url: str, row: Row) -> None:
    """The row's request can no longer be on the wire."""
    let_pass(url, schema.plans, row.id, request_deadline=1.0)


class Clocks:
    """This machine's clocks as the journal and a plan's task see them: a test lets time pass, and sets the wall clock.

    `passed`: seconds that went by while a process stood still; `slept`: while the machine did. `set_by`: how far the
    wall clock was set forward. `up`: seconds since the machine's start, where it was started anew.
    """

    CLOCK_MONOTONIC, CLOCK_BOOTTIME = 1, 7

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = self.slept = self.set_by = 0.0
        self.up: float | None = None
        self._monkeypatch = monkeypatch
        for module in (journal_module, under_way):
            monkeypatch.setattr(module, "time", self)
        real = Journal._now
        monkeypatch.setattr(Journal, "_now", lambda journal, connection: self._now(real, journal, connection))

    def _now(self, real: Any, journal: Journal, connection: Any) -> float:
        return float(real(journal, connection)) + (0.0 if journal._sqlite else self.passed + self.slept)

    def time(self) -> float:
        return time.time() + self.passed + self.slept + self.set_by

    def monotonic(self) -> float:
        return (time.monotonic() if self.up is None else self.up) + self.passed

    def clock_gettime(self, clock: int) -> float:
        return self.monotonic() + (self.slept if clock == self.CLOCK_BOOTTIME else 0.0)

    def start_anew(self, up: float) -> None:
        """The machine was started anew, so many seconds ago."""
        self.up, self.passed = up, 0.0
        self._monkeypatch.setattr(journal_module, "_boot_id", lambda: "another start")
