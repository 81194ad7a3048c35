"""`Retry-After` binds every task of the flow, not only the one that heard it. No second is waited for here."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from include.order_cancel.journal import Journal
from tests.harness import Flow
from tests.integration.conftest import MakeFlow

ASKED = 60.0
# A tenth of a minute would be no waiting; what this machine takes between two lines may be missing of the minute.
AT_LEAST = ASKED / 2


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


@pytest.mark.parametrize("lane", [{"fan_out": 50}, {"fan_out": 0, "lots": 2}], ids=["own tasks", "lots"])
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


def test_the_next_run_waits_for_the_rest_of_it(make_flow: MakeFlow, clock: Clock) -> None:
    flow = make_flow(1)
    answers = watched(flow, clock)
    flow.erp.simulator.fail("status", status=429, retry_after=ASKED, times=3)
    flow.run()

    flow.run()

    assert flow.states() == {"5001": "done"}
    assert answers.moments[3] - answers.moments[2] >= AT_LEAST


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
