"""Many rows side by side in one task: a bounded number under way, commits shared, neighbours left alone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from include.order_cancel.adopting import OtherOmnitron
from include.order_cancel.errors import JournalDown, LeaseLost
from include.order_cancel.journal import OnTheWire
from include.order_cancel.rows import Member, Row
from include.order_cancel.steps import advance, begin, verdict
from include.order_cancel.under_way import Work, log

_CHUNK = 100
_PROGRESS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Claimed:
    row: Row
    member: Member
    document: str | None


async def carry_all(work: Work, members: Sequence[Member], in_flight: int) -> Counter[str]:
    """Take every member's plan through all steps, `in_flight` at a time. Returns how many ended how.

    A plan's failure is in its row. What is raised (JournalDown, or what no plan is to blame for) ends the work, once
    what is on the wire has ended and is written: no plan is begun any more.
    """
    ended: Counter[str] = Counter()
    waiting: deque[_Claimed] = deque()
    left = deque(members)
    began = time.monotonic()
    ticker = asyncio.create_task(_report_progress(work, ended, len(members), began))
    filling = asyncio.Lock()
    stood_aside: set[asyncio.Task[None] | None] = set()
    workers: set[asyncio.Task[None]] = set()
    failed: list[Exception] = []

    async def next_plan() -> _Claimed | None:
        async with filling:
            while not failed and not waiting and left:
                part = [left.popleft() for _ in range(min(_CHUNK, len(left)))]
                waiting.extend(await _claim(work, part, ended))
            work.writer.check()
            return waiting.popleft() if waiting and not failed else None

    async def worker() -> None:
        try:
            while (taken := await next_plan()) is not None:
                ended[await _carry(work, taken)] += 1
                if asyncio.current_task() in stood_aside:
                    return
        except Exception as error:  # its neighbours' requests may be on the wire
            failed.append(error)
            if isinstance(error, JournalDown):
                work.writer.failed = work.writer.failed or error

    def stand_aside() -> None:
        """While a plan waits, another worker takes its worker's place."""
        waiting_worker = asyncio.current_task()
        if waiting_worker not in stood_aside:
            stood_aside.add(waiting_worker)
            workers.add(asyncio.create_task(worker()))

    work.stand_aside = stand_aside
    workers.update(asyncio.create_task(worker()) for _ in range(max(1, min(in_flight, len(members)))))
    try:
        await _until_done(work, workers, failed)
    finally:
        ticker.cancel()
        await _end(workers)
    _say_progress(ended, len(members), began)
    if failed:
        raise failed[0]
    return ended


async def _until_done(work: Work, workers: set[asyncio.Task[None]], failed: list[Exception]) -> None:
    """Wait for the workers; once something has failed no longer than a request takes with the commit of its answer.

    Those that are left then wait for something, a `Retry-After` perhaps.
    """
    ends_at = None
    while workers:
        left = None if ends_at is None else max(0.0, ends_at - time.monotonic())
        done, _ = await asyncio.wait(workers, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return
        workers.difference_update(done)
        if failed and ends_at is None:
            log.error("%s; no plan is begun any more, what is on the wire ends and is written", failed[0])
            ends_at = time.monotonic() + work.longest_request + work.writer.try_again_seconds


async def _end(workers: set[asyncio.Task[None]]) -> None:
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


async def _claim(work: Work, part: list[Member], ended: Counter[str]) -> list[_Claimed]:
    by_plan = {member.plan_id: member for member in part}
    while True:
        rows, refused = await work.writer.call(work.journal.claim, list(by_plan), work.run.id, work.owner)
        under_way = [why.seconds for why in refused.values() if isinstance(why, OnTheWire)]
        if rows or not under_way:
            break
        await asyncio.sleep(max(0.1, min(under_way)))
    for why in refused.values():
        log.warning("%s", why)
    ended["busy"] += len(refused)
    order = {plan_id: place for place, plan_id in enumerate(by_plan)}
    rows.sort(key=lambda row: order[row.id])
    documents = await work.writer.call(work.journal.bodies, [row.id for row in rows], "document")
    return [
        _Claimed(row, by_plan[row.id], documents[row.id].content if row.id in documents else None)
        for row in rows
    ]


async def _carry(work: Work, claimed: _Claimed) -> str:
    row = claimed.row
    try:
        plan = await begin(work, row, claimed.member)
        plan.preloaded = claimed.document
        await advance(plan, "post_script")
    except LeaseLost as lost:
        log.warning("%s", lost)
        return "busy"
    except OtherOmnitron as wrong:
        log.error("%s", wrong)
        await work.give_back(row)
        return "red"
    ending = verdict(row)
    reference = f", reference {row.erp_reference}" if row.erp_reference else ""
    level = logging.ERROR if ending == "red" else logging.INFO
    plan.say(f"{row.state}{reference}" + (f": {row.error}" if row.error else ""), level)
    return ending


async def _report_progress(work: Work, ended: Counter[str], total: int, began: float) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        _say_progress(ended, total, began)
        try:
            await work.writer.call(work.journal.stay_alive, work.run.id)
            await work.look()
        except JournalDown:
            return  # the next plan to be committed says so


def _say_progress(ended: Counter[str], total: int, began: float) -> None:
    done, seconds = sum(ended.values()), max(time.monotonic() - began, 1e-3)
    log.info(
        "%d of %d plans: %d well, %d skipped, %d open; %.0f a second, %d remain",
        done,
        total,
        ended["green"],
        ended["skipped"],
        ended["red"] + ended["busy"],
        done / seconds,
        total - done,
    )
