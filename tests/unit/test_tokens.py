"""One login for many refused requests, and a token that only its own Connection can read."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable

import pytest

from include.order_cancel.errors import StopFlow
from include.order_cancel.tokens import LoginFailed, MemoryStore, StoredToken, Token, Tokens, token_key

Fetch = Callable[[], Awaitable[str]]


class Logins:
    """A system that gives a new token at each login and counts them, from whatever thread."""

    def __init__(self, seconds: float = 0.01, fails: int = 0) -> None:
        self.count = 0
        self._seconds = seconds
        self._fails = fails
        self._lock = threading.Lock()

    async def __call__(self) -> str:
        with self._lock:
            self.count += 1
            number = self.count
        await asyncio.sleep(self._seconds)
        if number <= self._fails:
            raise LoginFailed("refused")
        return f"canary-{number}"


def tokens(store: MemoryStore, fetch: Fetch, own: str = "s3cret", claim_seconds: float = 60.0) -> Tokens:
    return Tokens("key", store, fetch, own, claim_seconds=claim_seconds, poll_seconds=0.005)


def test_the_first_need_logs_in_and_later_ones_do_not() -> None:
    logins, store = Logins(), MemoryStore()

    async def run() -> list[Token]:
        here = tokens(store, logins)
        return [await here.current(), await here.current(), await tokens(store, logins).current()]

    found = asyncio.run(run())

    assert {token.value for token in found} == {"canary-1"}
    assert logins.count == 1


def test_an_expired_token_is_fetched_once_for_many_401s_in_one_task() -> None:
    logins = Logins()

    async def run() -> set[str]:
        here = tokens(MemoryStore(), logins)
        seen = await here.current()
        return {token.value for token in await asyncio.gather(*(here.renew(seen) for _ in range(200)))}

    assert asyncio.run(run()) == {"canary-2"}
    assert logins.count == 2


def test_an_expired_token_is_fetched_once_for_many_401s_in_many_workers() -> None:
    logins, store = Logins(seconds=0.05), MemoryStore()
    found: list[Token] = []
    start = threading.Barrier(8)

    async def run() -> None:
        here = tokens(store, logins)
        seen = await here.current()
        start.wait()
        found.extend(await asyncio.gather(*(here.renew(seen) for _ in range(5))))

    workers = [threading.Thread(target=asyncio.run, args=(run(),)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [token.version for token in found] == [2] * 40
    assert logins.count == 2


def test_who_comes_late_with_an_old_token_gets_the_new_one_without_a_login() -> None:
    logins, store = Logins(), MemoryStore()

    async def run() -> Token:
        late, early = tokens(store, logins), tokens(store, logins)
        seen = await late.current()
        await early.renew(seen)
        return await late.renew(seen)

    assert asyncio.run(run()).version == 2
    assert logins.count == 2


def test_a_failed_login_is_said_to_all_who_wait_and_leaves_the_way_free() -> None:
    logins, store = Logins(fails=1), MemoryStore()

    async def run() -> tuple[list[object], Token]:
        here = tokens(store, logins)
        failed = await asyncio.gather(*(here.current() for _ in range(10)), return_exceptions=True)
        return list(failed), await tokens(store, logins).current()

    failed, later = asyncio.run(run())

    assert {type(each) for each in failed} == {LoginFailed}
    assert isinstance(failed[0], StopFlow)
    assert (later.value, logins.count) == ("canary-2", 2)


def test_a_login_that_takes_longer_than_its_claim_fails() -> None:
    logins = Logins(seconds=30)

    with pytest.raises(LoginFailed, match="longer than"):
        asyncio.run(tokens(MemoryStore(), logins, claim_seconds=0.05).current())


def test_a_claim_of_a_dead_worker_ends_by_itself() -> None:
    store = MemoryStore()
    store.token_claim("key", 0, "dead", 0.05)

    assert asyncio.run(tokens(store, Logins()).current()).value == "canary-1"


def test_an_interrupted_login_gives_its_claim_back() -> None:
    store = MemoryStore()

    async def interrupted() -> None:
        began = asyncio.Event()

        async def never() -> str:
            began.set()
            await asyncio.Event().wait()
            return ""

        waiting = asyncio.create_task(tokens(store, never).current())
        await began.wait()
        waiting.cancel()

    asyncio.run(interrupted())

    assert store.token_claim("key", 0, "another", 60)


def test_a_stored_token_is_encrypted() -> None:
    store = MemoryStore()

    asyncio.run(tokens(store, Logins()).current())

    stored = store.token_read("key")
    assert stored is not None
    assert b"canary" not in stored.secret
    assert "canary" not in repr(Token("canary", 1)) + repr(stored)


@pytest.mark.parametrize("stored", [StoredToken(3, b"garbage"), StoredToken(3, b"")])
def test_a_token_that_cannot_be_read_counts_as_absent(stored: StoredToken) -> None:
    store = MemoryStore()
    store.token_claim("key", 0, "earlier", 60)
    store.token_write("key", stored.version, stored.secret, "earlier")

    found = asyncio.run(tokens(store, Logins()).current())

    assert (found.value, found.version) == ("canary-1", 4)


def test_a_changed_password_cannot_read_the_older_token() -> None:
    logins, store = Logins(), MemoryStore()

    async def run() -> list[str]:
        return [(await tokens(store, logins, secret).current()).value for secret in ("old", "new", "new")]

    assert asyncio.run(run()) == ["canary-1", "canary-2", "canary-2"]


def test_a_token_s_name_depends_on_every_part() -> None:
    names = {
        token_key(*parts) for parts in [("erp", "http://a"), ("erp", "http://b"), ("erp", None), ("erp",)]
    }

    assert len(names) == 4
    assert "http" not in "".join(names)


def test_who_comes_just_as_the_token_has_come_gets_it_and_the_loop_goes_on() -> None:
    """Between the end of a task and its callbacks there is a moment; waiting for a done task does not yield."""

    class Gated(Tokens):
        async def _read_or_fetch(self, version: int) -> Token:
            await gate.wait()
            return Token("canary", version + 1)

    async def late(here: Tokens) -> Token:
        await gate.wait()  # woken in the same turn of the loop, just after the renewal
        return await here.current()

    async def run() -> list[Token]:
        here = Gated("key", MemoryStore(), Logins(), "s3cret")
        first = asyncio.create_task(here.current())
        for _ in range(3):
            await asyncio.sleep(0)  # until the renewal waits at the gate
        second = asyncio.create_task(late(here))
        await asyncio.sleep(0)
        gate.set()
        return [await first, await second]

    gate = asyncio.Event()
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(20)  # a loop that spins can be ended by nothing else
    try:
        assert [token.value for token in asyncio.run(run())] == ["canary", "canary"]
    finally:
        signal.alarm(0)
