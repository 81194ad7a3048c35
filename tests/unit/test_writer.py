"""Many plans, few commits; and every plan hears what became of its own move."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from include.order_cancel.errors import JournalDown, LeaseLost
from include.order_cancel.journal import Journal
from include.order_cancel.rows import Move, Row, State
from include.order_cancel.writer import Writer
from tests.journal_fixtures import FLOW, HOST


class FakeJournal:
    """Remembers which plans came in which commit; a commit waits until the test opens the gate."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.gate.set()
        self.lost: set[str] = set()
        self.down = 0  # so many commits fail

    def apply(self, moves: Sequence[Move]) -> list[LeaseLost | None]:
        self.begun.set()
        assert self.gate.wait(10)
        self.threads.add(threading.current_thread().name)
        if self.down:
            self.down -= 1
            raise JournalDown("gone")
        self.commits.append([move.row.pk for move in moves])
        return [LeaseLost(move.row.pk) if move.row.pk in self.lost else None for move in moves]


@pytest.fixture(autouse=True)
def once_more_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried once more, without a pause."""
    monkeypatch.setattr(Writer, "try_again_seconds", 0.0)


def move(pk: int) -> Move:
    return Move(Row(pk, HOST, FLOW, str(pk), 1, State.FETCHED))


def writer(journal: FakeJournal, gather_seconds: float = 0.0) -> Writer:
    return Writer(cast(Journal, journal), gather_seconds)


async def move_all(journal: FakeJournal, pks: Sequence[int], gather: float = 0.0) -> list[Any]:
    async with writer(journal, gather) as opened:
        return await asyncio.gather(*(opened.move(move(pk)) for pk in pks), return_exceptions=True)


def test_moves_that_come_while_a_commit_is_under_way_share_the_next_one() -> None:
    journal = FakeJournal()
    journal.gate.clear()

    async def run() -> None:
        async with writer(journal) as opened:
            first = asyncio.create_task(opened.move(move(0)))
            await asyncio.to_thread(journal.begun.wait, 10)
            others = [asyncio.create_task(opened.move(move(pk))) for pk in range(1, 100)]
            await asyncio.sleep(0)
            journal.gate.set()
            await asyncio.gather(first, *others)
            assert opened.commits == 2

    asyncio.run(run())

    assert journal.commits == [["0"], [str(pk) for pk in range(1, 100)]]


def test_a_writer_that_gathers_puts_all_that_come_at_once_into_one_commit() -> None:
    journal = FakeJournal()

    asyncio.run(move_all(journal, range(200), gather=0.01))

    assert [len(commit) for commit in journal.commits] == [200]


def test_moves_of_one_plan_keep_their_order() -> None:
    journal = FakeJournal()

    async def run() -> None:
        async with writer(journal) as opened:
            for pk in range(20):
                await opened.move(move(pk))

    asyncio.run(run())

    assert journal.commits == [[str(pk)] for pk in range(20)]


def test_only_the_plan_that_lost_its_lease_hears_of_it() -> None:
    journal = FakeJournal()
    journal.lost = {"3"}

    results = asyncio.run(move_all(journal, range(5)))

    assert [type(result) for result in results] == [type(None)] * 3 + [LeaseLost, type(None)]


def test_a_journal_that_stays_down_is_told_to_every_plan_of_the_commit() -> None:
    journal = FakeJournal()
    journal.down = 2

    results = asyncio.run(move_all(journal, range(5)))

    assert {type(result) for result in results} == {JournalDown}
    assert journal.commits == []


def test_a_commit_that_failed_is_made_again_and_its_plans_stop_there() -> None:
    journal = FakeJournal()
    journal.down = 1

    results = asyncio.run(move_all(journal, range(5), gather=0.01))

    assert {type(result) for result in results} == {JournalDown}
    assert journal.commits == [[str(pk) for pk in range(5)]]


def test_after_a_commit_that_failed_what_the_others_bring_is_written_and_they_stop_there() -> None:
    journal = FakeJournal()
    journal.down = 2

    async def run() -> None:
        async with writer(journal) as opened:
            for pk in (1, 2):
                with pytest.raises(JournalDown):
                    await opened.move(move(pk))

    asyncio.run(run())

    assert journal.commits == [["2"]]


def test_a_question_to_a_journal_that_is_down_is_asked_again_and_nothing_new_may_begin() -> None:
    journal = FakeJournal()
    journal.down = 1

    async def run() -> list[LeaseLost | None]:
        async with writer(journal) as opened:
            opened.check()
            answer = await opened.call(journal.apply, [move(1)])
            with pytest.raises(JournalDown):
                opened.check()
            return answer

    assert asyncio.run(run()) == [None]


def test_a_plan_that_was_cancelled_does_not_keep_the_others_waiting() -> None:
    journal = FakeJournal()
    journal.gate.clear()

    async def run() -> None:
        async with writer(journal) as opened:
            first, second = (asyncio.create_task(opened.move(move(pk))) for pk in (1, 2))
            await asyncio.to_thread(journal.begun.wait, 10)
            first.cancel()
            journal.gate.set()
            await second
            assert first.cancelled()

    asyncio.run(run())

    assert journal.commits == [["1", "2"]]


def test_the_event_loop_runs_on_while_the_journal_works() -> None:
    journal = FakeJournal()
    journal.gate.clear()

    async def run() -> bool:
        async with writer(journal) as opened:
            moving = asyncio.create_task(opened.move(move(1)))
            await asyncio.to_thread(journal.begun.wait, 10)
            free = not moving.done()
            journal.gate.set()
            await moving
            return free

    assert asyncio.run(run())
    assert all(name.startswith("journal") for name in journal.threads)
