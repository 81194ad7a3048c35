"""A host that wants to be left alone: who hears of it, for how long."""

from __future__ import annotations

import asyncio

import pytest

from include.order_cancel.resting import Rest
from tests.unit.local_server import FakeTime, Wishes

HOST = "erp.example"


@pytest.fixture
def clock() -> FakeTime:
    return FakeTime(100.0)


@pytest.fixture
def wishes(clock: FakeTime) -> Wishes:
    return Wishes(clock)


def left(rest: Rest) -> float:
    return asyncio.run(rest.left())


def test_what_one_heard_everybody_hears(clock: FakeTime, wishes: Wishes) -> None:
    asyncio.run(Rest(wishes, HOST, clock).heard(40))
    clock.now += 10

    assert left(Rest(wishes, HOST, clock)) == 30
    assert left(Rest(wishes, "other.example", clock)) == 0


def test_the_store_is_asked_at_most_four_times_a_second(clock: FakeTime, wishes: Wishes) -> None:
    rest = Rest(wishes, HOST, clock)
    assert left(rest) == 0
    asyncio.run(Rest(wishes, HOST, clock).heard(40))

    clock.now += 0.25
    assert (left(rest), wishes.reads) == (0, 1)
    clock.now += 0.25
    assert (left(rest), wishes.reads) == (39.5, 2)
    clock.now += 0.125
    assert (left(rest), wishes.reads) == (39.375, 2)


@pytest.mark.parametrize(("asked", "kept"), [(0.0, {}), (-1.0, {}), (3600.0, {HOST: 3700.0})])
def test_what_is_no_wish_is_not_kept(
    clock: FakeTime, wishes: Wishes, asked: float, kept: dict[str, float]
) -> None:
    asyncio.run(Rest(wishes, HOST, clock).heard(asked))

    assert wishes.until == kept


@pytest.mark.parametrize("asked", [3601.0, 1e9, float("inf")])
def test_an_absurd_wish_is_kept_for_an_hour(clock: FakeTime, wishes: Wishes, asked: float) -> None:
    asyncio.run(Rest(wishes, HOST, clock).heard(asked))

    assert wishes.until == {HOST: clock.now + 3600}


def test_a_host_s_name_fits_the_journal_s_column(clock: FakeTime, wishes: Wishes) -> None:
    asyncio.run(Rest(wishes, "h" * 300, clock).heard(1))

    assert list(wishes.until) == ["h" * 255]
