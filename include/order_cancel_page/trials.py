"""How much of this machine the page's trials may use: so many a minute for each user, so many at once for all.

The counts are of one process of the API server; each of several allows as much.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastapi import HTTPException

PER_MINUTE = 30
AT_ONCE = 2
_MINUTE = 60.0
_WAIT_SECONDS = 5.0


class Trials:
    """Lets trials in, or says when to come again."""

    def __init__(
        self,
        per_minute: int = PER_MINUTE,
        at_once: int = AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._places = threading.BoundedSemaphore(at_once)
        self._lock = threading.Lock()
        self._begun: dict[str, deque[float]] = {}

    @contextmanager
    def one(self, user: str) -> Iterator[None]:
        """A trial of this user. Raises HTTPException 429 where there were too many, 503 where there is no place."""
        self._count(user)
        if not self._places.acquire(timeout=_WAIT_SECONDS):
            raise HTTPException(503, "other trials are running; try again in a moment")
        try:
            yield
        finally:
            self._places.release()

    def _count(self, user: str) -> None:
        now = self._clock()
        with self._lock:
            for name in [name for name, begun in self._begun.items() if begun[-1] <= now - _MINUTE]:
                del self._begun[name]
            begun = self._begun.setdefault(user, deque())
            while begun and begun[0] <= now - _MINUTE:
                begun.popleft()
            if len(begun) >= self._per_minute:
                wait = begun[0] + _MINUTE - now
                raise HTTPException(
                    429, f"{self._per_minute} trials a minute are the most; go on in {wait:.0f} s"
                )
            begun.append(now)
