"""The bulk lane: many plans side by side, each as well treated as a plan with tasks of its own."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from include.order_cancel import flow as flow_module
from include.order_cancel import schema
from include.order_cancel.rows import State
from tests.harness import MAPPING, Flow
from tests.integration.conftest import MakeFlow
from tests.journal_fixtures import let_deadline_pass, let_pass
from tests.shares import thorough

PATIENCE_SECONDS = 30.0


def until(holds: Callable[[], bool]) -> None:
    """Watch until it holds; a test that waits for ever fails instead."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def test_three_hundred_plans_are_each_sent_and_written_once(make_flow: MakeFlow) -> None:
    flow = make_flow(300, mapping=MAPPING, fan_out=50, lots=3)

    outcome = flow.run()

    assert (len(outcome.lots), outcome.members, outcome.gate) == (3, [], "open")
    assert Counter(call.pk for call in flow.sent()) == dict.fromkeys(range(5001, 5301), 1)
    assert flow.omnitron.simulator.writes == dict.fromkeys(range(5001, 5301), 1)
    assert set(flow.states().values()) == {"done"}


def test_of_two_hundred_exactly_the_seven_refused_get_an_index_of_their_own(make_flow: MakeFlow) -> None:
    flow = make_flow(200, fan_out=50, lots=2)
    refused = [5003, 5031, 5077, 5100, 5101, 5150, 5199]
    for pk in refused:
        flow.erp.simulator.fail("refuse", plan=pk, body={"error": f"no {pk}"})

    outcome = flow.run()

    assert outcome.endings == {str(pk): "red" for pk in refused}
    assert outcome.report["outcomes"] == {"done": 193, "failed": 7}
    assert "7 failed" in outcome.gate
    for pk in refused:
        assert f"no {pk}" in (flow.row(pk).error or "")
        assert len(flow.sent(pk)) == 2
        assert flow.row(pk).attempts == 1


def test_clearing_one_of_them_finishes_it_and_touches_no_other(make_flow: MakeFlow) -> None:
    flow = make_flow(60, fan_out=10, lots=2)
    for pk in (5003, 5031):
        flow.erp.simulator.fail("refuse", plan=pk, times=2)
    outcome = flow.run()
    sent = len(flow.sent())

    assert outcome.clear(5003) == "green"

    assert len(flow.sent()) == sent + 1
    assert (flow.state(5003), flow.state(5031)) == ("done", "failed")
    assert "1 failed" in outcome.gate


def test_of_more_refused_plans_than_fan_out_all_are_counted(make_flow: MakeFlow) -> None:
    flow = make_flow(60, fan_out=5, lots=2)
    for pk in range(5001, 5021):
        flow.erp.simulator.fail("refuse", plan=pk)

    outcome = flow.run()

    assert len(outcome.members) == 5
    assert set(outcome.endings.values()) == {"red"}
    assert outcome.report["outcomes"] == {"done": 40, "failed": 20}
    assert "20 failed" in outcome.gate
    assert set(map(int, outcome.endings)) <= set(range(5001, 5021))


def test_a_lot_never_fails_because_of_its_plans(make_flow: MakeFlow) -> None:
    flow = make_flow(40, fan_out=0, lots=1, erp__timeout_seconds=0.5, erp__reference_path=None)
    erp, omnitron = flow.erp.simulator, flow.omnitron.simulator
    erp.fail("refuse", plan=5001)
    erp.fail("status", status=500, plan=5002)
    erp.fail("drop", plan=5003, effect=True)
    erp.fail("truncate", plan=5004)
    erp.fail("delay", plan=5005, seconds=2)
    erp.fail("answer", plan=5006, body="no JSON \x00", effect=True)
    omnitron.fail("refuse", plan=5007, method="PATCH")
    omnitron.fail("drop", plan=5008, method="PATCH")

    outcome = flow.run()

    states = flow.states()
    assert [states[str(pk)] for pk in range(5001, 5009)] == [
        "failed",
        "in_doubt",
        "in_doubt",
        "in_doubt",
        "in_doubt",
        "done",
        "failed",
        "failed",
    ]
    assert {states[str(pk)] for pk in range(5009, 5041)} == {"done"}
    assert max(Counter(effect.plan for effect in erp.effects).values()) == 1
    assert outcome.report["outcomes"] == {"done": 33, "failed": 3, "in_doubt": 4}


def test_a_mapping_that_fails_for_one_plan_fails_that_plan_only(make_flow: MakeFlow) -> None:
    script = (
        "def transform(plan, attributes):\n"
        "    if plan['pk'] == 5004:\n"
        "        raise ValueError('not this one')\n"
        "    return {'plan': plan['pk']}\n"
    )
    flow = make_flow(12, fan_out=0, lots=1, script=script)

    flow.run()

    assert {pk for pk, state in flow.states().items() if state != "done"} == {"5004"}
    assert "not this one" in (flow.row(5004).error or "")
    assert [call.json for call in flow.sent(5005)] == [{"plan": 5005}]


def test_no_more_requests_are_under_way_than_the_settings_allow(make_flow: MakeFlow) -> None:
    flow = make_flow(60, fan_out=0, lots=2, erp__max_in_flight=8)
    flow.erp.simulator.set(latency_ms=20)

    flow.run()

    assert 2 <= flow.erp.simulator.peak_in_flight <= 8


def test_a_rate_is_kept_side_by_side(make_flow: MakeFlow) -> None:
    flow = make_flow(13, fan_out=0, lots=1, erp__requests_per_second=20)

    flow.run()

    times = sorted(call.time for call in flow.sent())
    assert times[-1] - times[0] >= 12 / 20 * 0.9
    assert set(flow.states().values()) == {"done"}


@pytest.mark.thorough
def test_a_request_that_waited_long_for_its_turn_is_not_taken_for_lost(make_flow: MakeFlow) -> None:
    flow = make_flow(8, fan_out=0, lots=1, erp__requests_per_second=2, erp__timeout_seconds=0.5)

    outcome = flow.run()

    assert (set(flow.states().values()), outcome.gate) == ({"done"}, "open")


def test_a_stopped_lot_holds_what_it_has_not_sent(make_flow: MakeFlow) -> None:
    flow = make_flow(40, fan_out=3, lots=1, erp__max_in_flight=2)
    flow.erp.simulator.fail("status", status=401, plan="*", after=10)

    outcome = flow.run()

    states = Counter(flow.states().values())
    assert states["done"] == len(flow.erp.simulator.effects)
    assert states["done"] + states["held"] == 40
    assert states["done"] <= 12
    assert "stopped" in outcome.gate
    assert len(outcome.members) == 3


def test_a_lot_that_is_done_does_nothing_when_it_is_repeated(make_flow: MakeFlow) -> None:
    flow = make_flow(20, fan_out=0, lots=1)
    outcome = flow.run()

    flow_module.bulk(flow.around, outcome.run_id or 0, 0, True)

    assert len(flow.sent()) == 20
    assert sum(flow.omnitron.simulator.writes.values()) == 20
    assert outcome.judge() == "open"


# Death in the middle, for real


def carry_lot(omnitron: str, erp: str, journal: str, raw: dict[str, Any], run_id: int) -> None:
    """The lot in a process of its own, as a worker's task."""
    flow = Flow(SimpleNamespace(url=omnitron), SimpleNamespace(url=erp), journal, raw)
    flow_module.bulk(flow.around, run_id, 0, False)


def killed_when(flow: Flow, holds: Callable[[], bool]) -> int:
    """Begin a run whose lot is killed with SIGKILL once this holds. Returns the run's number."""
    run_id = flow_module.login(flow.around, "killed", flow_module.Params())
    assert run_id is not None
    flow_module.get_data(flow.around, run_id, flow_module.Params())
    arguments = (flow.omnitron.url, flow.erp.url, flow.journal_url, flow.raw, run_id)
    worker = multiprocessing.get_context("spawn").Process(target=carry_lot, args=arguments)
    worker.start()
    try:
        until(holds)
    finally:
        worker.kill()
        worker.join(PATIENCE_SECONDS)
    return run_id


def finished(flow: Flow, run_id: int) -> dict[str, Any]:
    """The automatic retry of the killed lot, and what follows it."""
    flow_module.bulk(flow.around, run_id, 0, True)
    for member in flow_module.open_plans(flow.around, run_id):
        flow_module.carry_one(flow.around, member, "write_to_omnitron", False, lambda name: None)
    return flow_module.report(flow.around, run_id)


def test_a_lot_killed_before_its_write_backs_sends_nothing_again(make_flow: MakeFlow) -> None:
    flow = make_flow(40, fan_out=0, lots=1, erp__max_in_flight=8)
    flow.omnitron.simulator.fail("stall", plan="*", method="PATCH", seconds=60, after=10)
    run_id = killed_when(flow, lambda: len(flow.omnitron.simulator.calls("PATCH")) >= 18)
    flow.omnitron.simulator.faults.clear()
    in_journal = Counter(flow.states().values())

    report = finished(flow, run_id)

    assert in_journal["answered"] >= 8
    assert report["outcomes"] == {"done": 40}
    assert Counter(call.pk for call in flow.sent()) == dict.fromkeys(range(5001, 5041), 1)


@pytest.mark.parametrize("policy", ["hold", thorough("resend")])
def test_a_lot_killed_between_intent_and_answer_follows_the_policy(make_flow: MakeFlow, policy: str) -> None:
    flow = make_flow(20, fan_out=0, lots=1, erp__max_in_flight=4, erp__in_doubt=policy)
    flow.erp.simulator.fail("delay", plan="*", seconds=60, after=6)
    run_id = killed_when(flow, lambda: len(flow.erp.simulator.effects) >= 10)
    flow.erp.simulator.faults.clear()
    on_the_wire = [row for row in flow.rows().values() if row.state is State.SENDING]
    for row in on_the_wire:
        let_deadline_pass(flow.journal_url, row)

    report = finished(flow, run_id)

    assert len(on_the_wire) == 4
    assert max(Counter(effect.plan for effect in flow.erp.simulator.effects).values()) == 1
    if policy == "hold":
        assert report["outcomes"] == {"done": 16, "in_doubt": 4}
        assert len(flow.sent()) == 20
    else:
        assert report["outcomes"] == {"done": 20}
        assert len(flow.sent()) == 24
        assert all(len(set(flow.keys(int(row.pk)))) == 1 for row in on_the_wire)


@pytest.mark.thorough
def test_a_frozen_workers_plans_are_left_alone_until_their_requests_are_over(make_flow: MakeFlow) -> None:
    flow = make_flow(4, fan_out=0, lots=1, erp__timeout_seconds=1, erp__in_doubt="resend")
    flow.erp.simulator.fail("delay", plan=5001, seconds=60, times=1)
    run_id = killed_when(flow, lambda: Counter(flow.states().values()) == {"done": 3, "sending": 1})
    deadline = time.time() + 1.5
    let_pass(flow.journal_url, schema.plans, flow.row(5001).id, request_deadline=deadline)

    report = finished(flow, run_id)

    assert report["outcomes"] == {"done": 4}
    assert flow.sent(5001)[1].time >= deadline
