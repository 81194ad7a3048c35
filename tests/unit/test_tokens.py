"""One login for many refused requests, and a token that only its own Connection can read."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest

from include.order_cancel.errors import JournalDown, StopFlow
from include.order_cancel.tokens import (
    FetchToken,
    Given,
    LoginFailed,
    MemoryStore,
    StoredToken,
    Token,
    Tokens,
    token_key,
)


class Logins:
    """A system that gives a new token at each login and counts them, from whatever thread."""

    def __init__(self, seconds: float = 0.01, fails: int = 0, life: float | None = None) -> None:
        self.count = 0
        self._seconds = seconds
        self._fails = fails
        self._life = life
        self._lock = threading.Lock()

    async def __call__(self) -> Given:
        with self._lock:
            self.count += 1
            number = self.count
        await asyncio.sleep(self._seconds)
        if number <= self._fails:
            raise LoginFailed("refused")
        return Given(f"canary-{number}", self._life)


class Clock:
    """A clock that only a test moves."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def tokens(
    store: MemoryStore, fetch: FetchToken, own: str = "s3cret", claim_seconds: float = 60.0, **more: Any
) -> Tokens:
    return Tokens("key", store, fetch, own, claim_seconds=claim_seconds, poll_seconds=0.005, **more)


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

        async def never() -> Given:
            began.set()
            await asyncio.Event().wait()
            return Given("")

        waiting = asyncio.create_task(tokens(store, never).current())
        await began.wait()
        waiting.cancel()

    asyncio.run(interrupted())

    assert store.token_claim("key", 0, "another", 60)


# A token's end


def test_a_token_is_used_by_all_until_shortly_before_its_end() -> None:
    logins, clock = Logins(life=1000), Clock()
    store = MemoryStore(clock)

    async def run() -> list[int]:
        first, found = tokens(store, logins, monotonic=clock), []
        for passed in (0, 960, 11, 0):  # the end is at 1000, and 30 s before it the token is replaced
            clock.now += passed
            other = tokens(store, logins, monotonic=clock)
            found += [(await first.current()).version, (await other.current()).version]
        return found

    assert asyncio.run(run()) == [1, 1, 1, 1, 2, 2, 2, 2]
    assert logins.count == 2


@pytest.mark.parametrize(("life", "replaced_at"), [(10, 9), (300, 270), (301, 271), (86400, 86370)])
def test_a_tenth_of_a_life_is_spared_and_half_a_minute_at_most(life: float, replaced_at: float) -> None:
    logins, clock = Logins(life=life), Clock(0.0)

    async def run() -> list[int]:
        here, found = tokens(MemoryStore(clock), logins, monotonic=clock), []
        for moment in (0, replaced_at - 0.5, replaced_at + 0.5):
            clock.now = moment
            found.append((await here.current()).version)
        return found

    assert asyncio.run(run()) == [1, 1, 2]


def test_a_token_that_is_over_is_replaced_once_for_many_workers() -> None:
    logins, clock = Logins(life=100), Clock()
    store = MemoryStore(clock)
    found: list[Token] = []

    async def run() -> None:
        here = tokens(store, logins, monotonic=clock)
        found.extend(await asyncio.gather(*(here.current() for _ in range(5))))

    asyncio.run(run())
    clock.now += 95
    workers = [threading.Thread(target=asyncio.run, args=(run(),)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [token.version for token in found] == [1] * 5 + [2] * 40
    assert logins.count == 2


@pytest.mark.parametrize("jump", [-1e9, -3600, 3600, 1e9])
def test_a_store_s_clock_that_jumps_costs_each_task_one_login_at_most(jump: float) -> None:
    logins, ours, its = Logins(life=600), Clock(), Clock()
    store = MemoryStore(its)

    async def task() -> None:
        here, before = tokens(store, logins, monotonic=ours), logins.count
        for _ in range(20):
            await here.current()
            its.now += jump
            ours.now += 1
        assert logins.count - before <= 1

    async def run() -> None:
        for _ in range(5):
            await task()

    asyncio.run(run())


def test_an_hour_that_a_store_s_clock_jumps_costs_one_login_for_all() -> None:
    logins, ours, its = Logins(life=600), Clock(), Clock()
    store = MemoryStore(its)

    async def run() -> None:
        await tokens(store, logins, monotonic=ours).current()
        its.now += 3600
        for _ in range(10):
            await tokens(store, logins, monotonic=ours).current()

    asyncio.run(run())

    assert logins.count == 2


def test_a_login_that_fails_at_a_token_s_end_is_tried_by_the_next_who_asks() -> None:
    clock = Clock()
    store = MemoryStore(clock)
    asyncio.run(tokens(store, Logins(life=100), monotonic=clock).current())
    clock.now += 95
    logins = Logins(fails=1)

    async def run() -> Token:
        here = tokens(store, logins, monotonic=clock)
        with pytest.raises(LoginFailed):
            await here.current()
        return await here.current()

    assert asyncio.run(run()).version == 2


# What an answer says of a token


def test_only_a_token_of_the_store_may_be_what_a_403_means() -> None:
    store = MemoryStore()

    async def run() -> list[bool]:
        here, other = tokens(store, Logins()), tokens(store, Logins())
        await here.current()
        await other.current()
        return [
            one.may_renew(status, 1) for one in (here, other) for status in (401, 403, 419, 440, 404, 200)
        ]

    asked = asyncio.run(run())

    assert asked == [True, False, False, False, False, False, True, True, True, True, False, False]


def test_a_403_to_a_token_that_was_just_fetched_is_known_to_others_for_five_minutes() -> None:
    clock = Clock()
    store = MemoryStore(clock)

    async def other() -> bool:
        here = tokens(store, Logins())
        return here.may_renew(403, (await here.current()).version)

    async def run() -> list[bool]:
        here = tokens(store, Logins())
        await here.current()
        found = [await other()]
        await here.note(200, 1)
        found.append(await other())
        await here.note(403, 1)
        found.append(await other())
        clock.now += 200
        await here.note(403, 1)  # it is known; what is said again lasts no longer
        found.append(await other())
        clock.now += 101
        found.append(await other())
        return found

    assert asyncio.run(run()) == [True, True, False, False, True]


def test_a_403_to_a_token_that_was_in_use_for_a_while_tells_others_nothing() -> None:
    clock = Clock()
    store = MemoryStore(clock)

    async def run() -> bool:
        here, other = tokens(store, Logins(), monotonic=clock), tokens(store, Logins())
        await here.current()
        clock.now += 61
        await here.note(403, 1)
        return other.may_renew(403, (await other.current()).version)

    assert asyncio.run(run())


def test_what_others_know_of_a_token_does_not_hold_for_the_next_one() -> None:
    store = MemoryStore()

    async def run() -> bool:
        here, other = tokens(store, Logins()), tokens(store, Logins())
        await here.note(403, (await here.current()).version)
        await here.renew(await here.current())
        return other.may_renew(403, (await other.current()).version)

    assert asyncio.run(run())


def test_a_store_that_is_down_does_not_cost_an_answer() -> None:
    class Down(MemoryStore):
        def token_trust(self, key: str, version: int, seconds: float) -> None:
            raise JournalDown("gone")

    async def run() -> None:
        here = tokens(Down(), Logins())
        await here.note(403, (await here.current()).version)

    asyncio.run(run())


def test_a_stored_token_is_encrypted() -> None:
    store = MemoryStore()

    asyncio.run(tokens(store, Logins()).current())

    stored = store.token_read("key")
    assert stored is not None
    assert b"canary" not in stored.secret
    assert "canary" not in repr(Token("canary", 1)) + repr(Given("canary")) + repr(stored)


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
