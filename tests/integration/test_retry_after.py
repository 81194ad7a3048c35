"""`Retry-After` binds all that ask the host, not only the task that heard it. No second is waited for here."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from include.order_cancel.http import SystemDown
from include.order_cancel.journal import Journal
from tests.harness import Flow
from tests.integration.conftest import MakeFlow

ASKED = 60.0
# A tenth of a minute would be no waiting; what this machine takes between two lines may be missing of the minute.
AT_LEAST = ASKED / 2
HOUR = 3600.0
LANES = pytest.mark.parametrize(
    "lane", [{"fan_out": 50}, {"fan_out": 0, "lots": 2}], ids=["own tasks", "lots"]
)


class Clock:
    """A clock that only waiting moves, for the requests and for the journal."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.began = time.time()

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def monotonic(self) -> float:
        return self.seconds


class Answers(list[tuple[str, str, float]]):
    """The flow's metrics; `moments` says at which second of the clock each answer of the ERP came."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.moments: list[float] = []

    def append(self, metric: tuple[str, str, float]) -> None:
        super().append(metric)
        if metric[1] == "erp.latency":
            self.moments.append(self.clock.seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(Journal, "_now", lambda self, connection: made.began + made.seconds)
    return made


def watched(flow: Flow, clock: Clock) -> Answers:
    flow.http = {"sleep": clock.sleep, "monotonic": clock.monotonic}
    flow.measured = answers = Answers(clock)
    return answers


@LANES
def test_another_task_of_the_run_waits_as_long(
    make_flow: MakeFlow, clock: Clock, lane: dict[str, int]
) -> None:
    flow = make_flow(2, **lane)
    answers = watched(flow, clock)
    flow.erp.simulator.fail("status", status=429, plan=5001, retry_after=ASKED)

    flow.run()

    asked = [call.pk for call in flow.sent()]
    waits = [later - earlier for earlier, later in pairwise(answers.moments)]
    assert asked[:4] == [5001, 5001, 5001, 5002]
    assert all(wait >= AT_LEAST for wait in waits[:3]), waits


@pytest.mark.parametrize("lane", [{"fan_out": 50}, {"fan_out": 0, "lots": 1}], ids=["own tasks", "lot"])
def test_a_wish_that_is_heard_while_a_plan_waits_for_its_turn_binds_it(
    make_flow: MakeFlow, clock: Clock, lane: dict[str, int]
) -> None:
    flow = make_flow(2, erp__requests_per_second=0.1, **lane)
    answers = watched(flow, clock)
    heard: list[float] = []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        if seconds > 1 and not heard:
            heard.append(clock.seconds)
            with flow.journal() as journal:
                journal.rest_write(flow.endpoint("erp").host, ASKED)

    flow.http["sleep"] = sleep

    flow.run()

    assert len(heard) == 1
    assert answers.moments[1] - heard[0] >= AT_LEAST
    assert set(flow.states().values()) == {"done"}


def test_the_next_run_waits_for_the_rest_of_it(make_flow: MakeFlow, clock: Clock) -> None:
    flow = make_flow(1)
    answers = watched(flow, clock)
    flow.erp.simulator.fail("status", status=429, retry_after=ASKED, times=3)
    flow.run()

    flow.run()

    assert flow.states() == {"5001": "done"}
    assert answers.moments[3] - answers.moments[2] >= AT_LEAST


@LANES
def test_omnitron_is_left_alone_by_another_task_as_well(
    make_flow: MakeFlow, clock: Clock, lane: dict[str, int]
) -> None:
    flow = make_flow(2, **lane)
    watched(flow, clock)
    flow.omnitron.simulator.fail("status", status=429, plan=5001, retry_after=ASKED, times=3)

    flow.run()

    asked = [call.pk for call in flow.omnitron.simulator.calls() if call.pk in (5001, 5002)]
    assert asked[:4] == [5001, 5001, 5001, 5002]
    assert flow.state(5002) == "done"
    # The first two answers are waited for by the task that got them, the third one by the task after it.
    assert clock.seconds >= 2 * ASKED + AT_LEAST


def test_the_next_run_s_listing_waits_as_well(make_flow: MakeFlow, clock: Clock) -> None:
    flow = make_flow(1)
    watched(flow, clock)
    flow.omnitron.simulator.fail("status", status=429, plan=5001, retry_after=ASKED, times=3)
    flow.run()
    before = clock.seconds

    flow.run()

    assert flow.states() == {"5001": "done"}
    assert clock.seconds - before >= AT_LEAST


@LANES
def test_an_erp_that_asks_for_hours_is_left_alone_for_one_and_then_asked_again(
    make_flow: MakeFlow, clock: Clock, lane: dict[str, int]
) -> None:
    flow = make_flow(3, erp__max_in_flight=1, **lane)
    watched(flow, clock)
    flow.erp.simulator.fail("status", status=429, retry_after=2 * HOUR, times=1)

    first = flow.run()
    states, sent = set(flow.states().values()), len(flow.sent())
    clock.seconds += HOUR - 100
    second = flow.run()
    sent_within = len(flow.sent())
    clock.seconds += 200
    third = flow.run()

    assert (sent, sent_within) == (1, 1)
    assert states <= {"failed", "held"}
    assert "asks to wait for 7200 s" in first.gate
    assert "s more" in second.gate
    assert set(flow.states().values()) == {"done"}
    assert third.gate == "open"


def test_an_omnitron_that_asks_for_hours_ends_the_run_and_the_next_listing(
    make_flow: MakeFlow, clock: Clock
) -> None:
    flow = make_flow(2)
    watched(flow, clock)
    flow.omnitron.simulator.fail("status", status=429, plan=5001, retry_after=2 * HOUR, times=1)
    flow.run()
    asked = len(flow.omnitron.simulator.calls())

    clock.seconds += HOUR - 100
    with pytest.raises(SystemDown, match=r"asks to wait for \d+ s more"):
        flow.run()
    asked_within = len(flow.omnitron.simulator.calls())
    clock.seconds += 200
    flow.run()

    assert asked_within == asked
    assert set(flow.states().values()) == {"done"}
    assert len(flow.sent()) == 2


def test_a_stop_of_another_task_is_heard_before_the_next_request(make_flow: MakeFlow) -> None:
    flow = make_flow(6, fan_out=0, lots=1, erp__max_in_flight=1)
    flow.erp.simulator.set(latency_ms=200)  # five of them are longer than a look at the journal may be old
    flow.measured = Stopping(flow)

    flow.run()

    assert len(flow.sent()) < 6
    assert set(flow.states().values()) == {"done", "held"}


class Stopping(list[tuple[str, str, float]]):
    """The flow's metrics; at the first answer another task of the run stops it."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def append(self, metric: tuple[str, str, float]) -> None:
        super().append(metric)
        if metric[1] == "erp.latency":
            with self.flow.journal() as journal:
                assert self.flow.run_id is not None
                journal.stop(self.flow.run_id, "another task says so")
