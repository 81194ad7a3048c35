"""Gathers the moves of many plans into one commit: one fsync per plan would cap a disk at some 150 plans a second."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from include.order_cancel.errors import JournalDown
from include.order_cancel.journal import Journal
from include.order_cancel.rows import Move

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("order_cancel")

_PAUSE_SECONDS = 1.0


class Writer:
    """The journal for an event loop. While one commit is under way, the next moves gather and share the next one.

    `gather_seconds`: how long a commit waits for company, for a task with many plans under way.

    A journal that cannot be reached is tried again for `try_again_seconds`, so that what a request on the wire led to
    is written. From its first failure on (`failed`) the task ends: nothing new begins, see `check`.
    """

    # A restart or a failover of PostgreSQL takes less; a lease lasts five times longer.
    try_again_seconds = 60.0

    def __init__(self, journal: Journal, gather_seconds: float = 0.0) -> None:
        self.journal = journal
        self._gather_seconds = gather_seconds
        self.commits = 0
        self.failed: JournalDown | None = None
        self._given_up = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._waiting: list[tuple[Move, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        self._thread.shutdown()

    async def move(self, move: Move) -> None:
        """Commit a move. Raises LeaseLost where another task has taken the row over, JournalDown.

        Where the journal has failed in this task, JournalDown is raised of a move that is written, too: the plan goes
        on in the next task. Only a request's intent is not told so: whoever sends has to `check`, and to take it back.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((move, done))
        if self._flushing is None or self._flushing.done():
            self._flushing = loop.create_task(self._flush())
        await done
        if not move.wire_seconds:
            self.check()

    def check(self) -> None:
        """Raises JournalDown where the journal has failed in this task, so that nothing new may begin."""
        if self.failed is not None:
            raise JournalDown(*self.failed.args)

    async def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run one of the journal's blocking methods beside the event loop; once more while the journal is away.

        Raises JournalDown where it stays away, and what the method raises.
        """
        loop = asyncio.get_running_loop()
        failed_at: float | None = None
        while True:
            try:
                return await loop.run_in_executor(self._thread, lambda: function(*args, **kwargs))
            except JournalDown as error:
                self.failed = self.failed or error
                now = time.monotonic()
                failed_at = now if failed_at is None else failed_at
                self._given_up = self._given_up or now - failed_at > self.try_again_seconds
                if self._given_up:
                    raise
                log.warning("%s; tried again for up to %.0f s", error, self.try_again_seconds)
                await asyncio.sleep(min(_PAUSE_SECONDS, self.try_again_seconds))

    async def _flush(self) -> None:
        while self._waiting:
            if self._gather_seconds:
                await asyncio.sleep(self._gather_seconds)
            gathered, self._waiting = self._waiting, []
            results: Sequence[Exception | None]
            try:
                results = await self.call(self.journal.apply, [move for move, _ in gathered])
            except Exception as error:  # every plan whose move was in this commit must hear of it
                results = [error] * len(gathered)
            self.commits += 1
            for (_, done), lost in zip(gathered, results, strict=True):
                if done.done():
                    continue
                if lost is None:
                    done.set_result(None)
                else:
                    done.set_exception(lost)
