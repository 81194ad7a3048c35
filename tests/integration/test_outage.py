"""The ERP is away, for a run or for an hour: few requests, no plan lost, and each delivered once when it is back."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

from include.order_cancel.journal import Journal
from tests.harness import Flow
from tests.integration.conftest import MakeFlow
from tests.shares import thorough

IN_FLIGHT = 64  # the default of erp.max_in_flight


async def at_once(seconds: float) -> None:
    """Waits between tries are not what is measured here."""


def delivered_once(flow: Flow, count: int) -> bool:
    once = dict.fromkeys(range(5001, 5001 + count), 1)
    effects = Counter(effect.plan for effect in flow.erp.simulator.effects)
    return effects == once and flow.omnitron.simulator.writes == once


@pytest.mark.parametrize(
    "fault",
    [pytest.param({"kind": "status", "status": 503}, id="503"), thorough({"kind": "drop"}, id="cut off")],
)
@pytest.mark.parametrize("count", [thorough(1000, id="side by side"), pytest.param(50, id="plan by plan")])
def test_an_erp_that_is_down_sees_at_most_three_times_what_may_be_in_flight(
    make_flow: MakeFlow, count: int, fault: dict[str, Any]
) -> None:
    flow = make_flow(count, erp__in_doubt="resend")
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail(**fault, plan="*")

    down = flow.run()
    seen = flow.erp.simulator.total
    waiting = Counter(flow.states().values())
    flow.erp.simulator.faults.clear()
    up = flow.run()

    assert seen <= 3 * IN_FLIGHT
    assert flow.omnitron.simulator.writes.total() == count
    assert waiting.total() == count
    assert waiting["done"] == 0
    assert down.gate != "open"
    assert up.gate == "open"
    assert delivered_once(flow, count)


@pytest.mark.thorough
def test_an_erp_that_refuses_connections_costs_no_plan(make_flow: MakeFlow) -> None:
    flow = make_flow(1000)
    flow.http = {"sleep": at_once}
    flow.erp.stop()

    down = flow.run()
    waiting = Counter(flow.states().values())
    flow.erp.start()
    up = flow.run()

    assert down.gate != "open"
    assert set(waiting) <= {"held", "failed"}
    assert (up.gate, delivered_once(flow, 1000)) == ("open", True)


def test_an_hour_of_runs_without_an_erp_and_then_each_plan_once(
    make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes = [0]
    monkeypatch.setattr(Journal, "_now", lambda self, connection: time.time() + 60 * minutes[0])
    flow = make_flow(3)
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail("status", status=429, plan="*")
    tried: list[int] = []
    for minute in range(0, 60, 5):
        minutes[0] = minute
        before = flow.erp.simulator.total
        flow.run()
        if flow.erp.simulator.total > before:
            tried.append(minute)
    flow.erp.simulator.faults.clear()
    for minute in range(60, 125, 5):
        minutes[0] = minute
        flow.run()

    assert tried == [0, 5, 10, 15, 20, 30, 50]
    assert delivered_once(flow, 3)
