"""Faults put into the product on purpose, each of which the simulation must find: so it is known that it can fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from include.order_cancel import flow, journal, steps, under_way
from include.order_cancel.rows import State


def _intent_after_sending() -> list[tuple[Any, str, Any]]:
    real = under_way.Plan.commit

    async def commit(self: Any, *, release: bool = False) -> None:
        if self.row.state is not State.SENDING or release:
            await real(self, release=release)

    return [(under_way.Plan, "commit", commit)]


def _key_changes_in_doubt() -> list[tuple[Any, str, Any]]:
    real = steps._settle_doubt

    async def settle(plan: Any) -> None:
        plan.row.body_number += 1
        plan.row.key = journal.idempotency_key(plan.row)
        await real(plan)

    return [(steps, "_settle_doubt", settle)]


def _write_back_before_the_answer() -> list[tuple[Any, str, Any]]:
    real = under_way.Plan.commit

    async def commit(self: Any, *, release: bool = False) -> None:
        if self.row.state is not State.ANSWERED or release:
            await real(self, release=release)

    return [(under_way.Plan, "commit", commit)]


def _window_before_the_rows() -> list[tuple[Any, str, Any]]:
    real = flow._fetch

    async def fetch(around: Any, settings: Any, opened: Any, run: Any, params: Any) -> Any:
        flow._move_last_query(around, datetime.fromtimestamp(opened.now(), UTC).timestamp())
        return await real(around, settings, opened, run, params)

    return [(flow, "_fetch", fetch)]


def _leases_ignored() -> list[tuple[Any, str, Any]]:
    def nobody(*_: Any) -> set[int]:
        return set()

    def free(*_: Any) -> None:
        return None

    return [
        (journal.Journal, "_leased_elsewhere", nobody),
        (journal.Journal, "_claimed_elsewhere", nobody),
        (journal, "_why_busy", free),
    ]


def _open_rows_forgotten() -> list[tuple[Any, str, Any]]:
    def none(*_: Any) -> str:
        return "resting"

    return [(journal, "place_open", none)]


MUTANTS: dict[str, Callable[[], list[tuple[Any, str, Any]]]] = {
    "the intent is committed after sending": _intent_after_sending,
    "the key changes while in doubt": _key_changes_in_doubt,
    "the write-back starts before the answer is committed": _write_back_before_the_answer,
    "the last query time moves before the rows are committed": _window_before_the_rows,
    "leases and deadlines are ignored": _leases_ignored,
    "what a run left open is forgotten": _open_rows_forgotten,
}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The product with this fault."""
    changes = MUTANTS[name]()
    before = [(place, attribute, getattr(place, attribute)) for place, attribute, _ in changes]
    try:
        for place, attribute, value in changes:
            setattr(place, attribute, value)
        yield
    finally:
        for place, attribute, value in before:
            setattr(place, attribute, value)
