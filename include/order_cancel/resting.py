"""How long a system wants to be left alone: the `Retry-After` that one task heard binds all that ask the host.

It rests in the journal, by host: other tasks of the run, the next run, other flows and logins ask there first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from include.order_cancel.tokens import TokenStore

# How old what others have heard or said may be when a request goes out.
LOOK_SECONDS = 0.25
# What a system may ask for; a greater number, which may be a mistake, must not silence every flow for days.
_LONGEST_SECONDS = 3600.0


class RestStore(Protocol):
    """Where a host's wish rests, shared by processes. Both methods block."""

    def rest_read(self, host: str) -> float:
        """For how many more seconds the host wants to be left alone, 0 where it does not."""

    def rest_write(self, host: str, seconds: float) -> None:
        """Keep that it wants to be left alone for so many seconds from now on; an earlier, longer wish stands."""


class Store(TokenStore, RestStore, Protocol):
    """What all that ask a system share."""


class Rest:
    """One host's wish, as everybody has heard it. `monotonic` gives seconds. Raises JournalDown."""

    def __init__(self, store: RestStore, host: str, monotonic: Callable[[], float]) -> None:
        self._store, self._host, self._monotonic = store, host[:255], monotonic
        self._looked_at = self._until = float("-inf")

    async def left(self) -> float:
        """The seconds that are left of it; the store is asked where the last look is too old."""
        if self._monotonic() - self._looked_at > LOOK_SECONDS:
            self._looked_at = self._monotonic()
            left = await asyncio.to_thread(self._store.rest_read, self._host)
            self._until = self._monotonic() + left
        return max(0.0, self._until - self._monotonic())

    async def heard(self, seconds: float) -> None:
        """Let everybody know, for an hour at most."""
        if seconds > 0:
            kept = min(seconds, _LONGEST_SECONDS)
            await asyncio.to_thread(self._store.rest_write, self._host, kept)
