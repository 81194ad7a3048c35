"""Whose settings and which content an attempt uses: the run's own first one, and every other."""

from __future__ import annotations

from typing import Any

import pytest

from include.order_cancel import flow as flow_module
from include.simulator.wire import answer
from tests.harness import MAPPING, Flow
from tests.integration.conftest import MakeFlow
from tests.integration.test_answers import at_once

WRONG = [{"operation": "shift", "spec": {"pk": "plan", "order": {"amount": "amount"}}}]
LOOKUP = {"url": "/documents?plan={{ plan.pk }}", "found_path": "documentNumber", "after_seconds": 0}
COMPLETED = {
    "status": "completed",
    "omnitron__cancel_status": "completed",
    "omnitron__next_state": None,
    "omnitron__start_from": "2020-01-01T00:00:00Z",
}


def looks(flow: Flow, pk: int = 5001) -> int:
    """How often the plan itself was read."""
    return sum(call.path.endswith(f"/{pk}/") for call in flow.omnitron.simulator.calls("GET"))


def amounts(flow: Flow) -> list[Any]:
    return [effect.amount for effect in flow.erp.simulator.effects_of(5001)]


def shows_more(flow: Flow) -> None:
    """From now on the page of one plan has a field that a listing does not show."""
    own = flow.omnitron.simulator.handle

    def handle(call: Any) -> Any:
        if call.method == "GET" and call.path.endswith("/5001/"):
            return answer(200, {**flow.omnitron.simulator.plan(5001), "detail": {"more": [1]}})
        return own(call)

    flow.omnitron.simulator.handle = handle


# Cleared, retried, overtaken


@pytest.mark.parametrize("cleared", [0, 1], ids=["older run", "newest run"])
def test_a_cleared_task_uses_the_settings_as_they_are(make_flow: MakeFlow, cleared: int) -> None:
    flow = make_flow(1, mapping=WRONG)
    flow.erp.simulator.fail("refuse", plan=5001, times=2)
    runs = [flow.run(), flow.run()]
    flow.raw["mapping"] = MAPPING
    flow.raw["erp"]["cancellation_api_url"] = "/refunds"

    ending = runs[cleared].clear(5001)

    last = flow.sent(5001)[-1]
    assert (ending, last.path) == ("green", "/refunds")
    assert last.json["amount"] == flow.omnitron.simulator.plan(5001)["refund_amount"]
    assert "settings differ" in flow.happened(5001)


@pytest.mark.parametrize("cleared", [0, 1], ids=["older run", "newest run"])
def test_a_cleared_task_looks_at_the_plan_first(make_flow: MakeFlow, cleared: int) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("refuse", plan=5001, times=2)
    runs = [flow.run(), flow.run()]
    flow.omnitron.simulator.change(5001, status="cancelled")

    ending = runs[cleared].clear(5001)

    assert (ending, flow.state(5001)) == ("skipped", "left")
    assert not flow.erp.simulator.effects


@pytest.mark.parametrize("again", [True, False], ids=["a retry", "overtaken"])
@pytest.mark.parametrize("fan_out", [0, 50], ids=["bulk", "plan"])
def test_a_task_that_was_not_come_to_in_time_sends_what_omnitron_shows_now(
    make_flow: MakeFlow, again: bool, fan_out: int
) -> None:
    flow = make_flow(1, mapping=MAPPING, fan_out=fan_out)
    run_id = flow_module.login(flow.around, "run 0", flow_module.Params())
    lots = flow_module.get_data(flow.around, run_id, flow_module.Params())
    members = flow_module.open_plans(flow.around, run_id) if not lots else []
    flow.omnitron.simulator.change(5001, refund_amount="1.00")
    flow.raw["erp"]["cancellation_api_url"] = "/refunds"
    if not again:
        flow_module.login(flow.around, "run 9", flow_module.Params())

    for lot in lots:
        flow_module.bulk(flow.around, run_id, lot, again)
    for member in members:
        flow_module.carry_one(flow.around, member, "post_script", again, lambda name: None)

    assert [(call.path, call.json["amount"]) for call in flow.sent()] == [("/refunds", "1.00")]


def test_a_first_attempt_is_fresh(make_flow: MakeFlow) -> None:
    flow = make_flow(3, mapping=MAPPING, fan_out=0)

    flow.run()

    assert [looks(flow, pk) for pk in (5001, 5002, 5003)] == [0, 0, 0]


@pytest.mark.parametrize("fan_out", [0, 50], ids=["bulk", "plan"])
def test_a_first_attempt_looks_once_its_listing_is_too_old(make_flow: MakeFlow, fan_out: int) -> None:
    flow = make_flow(1, mapping=MAPPING, fan_out=fan_out, omnitron__look_again_seconds=0)
    flow.between = lambda task: (
        flow.omnitron.simulator.change(5001, refund_amount="1.00") if task == "get_data" else None
    )

    flow.run()

    assert (amounts(flow), flow.state(5001)) == (["1.00"], "done")


def test_steps_of_one_plan_begin_anew_where_its_content_changed_between_them(make_flow: MakeFlow) -> None:
    script = (
        "def transform(plan, attributes):\n    attributes['seen'] = plan['refund_amount']\n    return plan\n"
    )
    flow = make_flow(1, script=script, mapping=MAPPING, omnitron__look_again_seconds=0)
    flow.between = lambda task: (
        flow.omnitron.simulator.change(5001, refund_amount="1.00") if task == "mapping" else None
    )

    flow.run()

    assert (amounts(flow), flow.state(5001)) == (["1.00"], "done")
    assert flow.row(5001).attributes["seen"] == "1.00"


def test_a_plan_that_leaves_between_its_steps_is_left(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING, omnitron__look_again_seconds=0)
    flow.between = lambda task: (
        flow.omnitron.simulator.change(5001, status="cancelled") if task == "mapping" else None
    )

    flow.run()

    assert (amounts(flow), flow.state(5001)) == ([], "left")


def test_a_page_of_one_plan_that_shows_more_than_the_listing_is_no_other_content(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING, omnitron__look_again_seconds=0)
    shows_more(flow)
    flow.erp.simulator.fail("status", status=429, times=3)
    flow.run()
    state = flow.state(5001)

    flow.run()

    assert (state, flow.state(5001), len(set(flow.keys(5001)))) == ("failed", "done", 1)


def test_a_dead_plan_that_is_named_goes_out_as_it_is_now(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING, max_attempts=1)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    state = flow.state(5001)
    flow.omnitron.simulator.change(5001, refund_amount="1.00")

    flow.run(plan_ids=[5001])

    assert (state, amounts(flow)) == ("dead", ["1.00"])


@pytest.mark.parametrize("state", ["failed", "done"])
def test_a_named_plan_whose_page_shows_more_than_the_listing_is_no_other_content(
    make_flow: MakeFlow, state: str
) -> None:
    flow = make_flow(1, mapping=MAPPING)
    if state == "failed":
        flow.erp.simulator.fail("status", status=429, times=3)
    flow.run()
    before = flow.state(5001)
    shows_more(flow)

    flow.run(plan_ids=[5001])

    assert (before, flow.state(5001), len(amounts(flow))) == (state, "done", 1)


# What was held back


@pytest.mark.parametrize("policy", ["lookup", "resend", "hold"])
@pytest.mark.parametrize(
    ("change", "settled"), [({"status": "cancelled"}, "left"), ({"refund_amount": "1.00"}, "changed")]
)
def test_what_changed_while_a_plan_was_in_doubt_is_not_sent_as_it_was(
    make_flow: MakeFlow, policy: str, change: dict[str, str], settled: str
) -> None:
    flow = make_flow(1, erp__in_doubt=policy, erp__lookup=LOOKUP)
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail("answer", path="/documents", status=500, times=3)
    flow.erp.simulator.fail("drop", plan=5001, times=3, effect=False)
    flow.run()
    state = flow.state(5001)
    flow.omnitron.simulator.change(5001, **change)
    sent = len(flow.sent())

    flow.run()

    assert state == "in_doubt"
    assert len(flow.sent()) == sent
    assert flow.state(5001) == (settled if policy == "lookup" else "in_doubt")
    if policy != "lookup":
        with flow.journal() as journal:
            journal.resolve(flow.row(5001).id, arrived=False, who="a person")
        outcome = flow.run()
        assert (flow.state(5001), len(flow.sent())) == (settled, sent)
        assert (outcome.gate == "open") is (settled == "left")


@pytest.mark.parametrize("flow_kind", ["waiting", "completed"])
@pytest.mark.parametrize("settle", ["lookup", "a person"])
def test_other_content_of_a_plan_that_had_arrived_after_all_is_told(
    make_flow: MakeFlow, flow_kind: str, settle: str
) -> None:
    kind = COMPLETED if flow_kind == "completed" else {}
    flow = make_flow(1, erp__in_doubt="hold", erp__lookup=LOOKUP, mapping=MAPPING, **kind)
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail("drop", plan=5001, times=1, effect=True)
    flow.run()
    booked = amounts(flow)
    flow.omnitron.simulator.change(5001, refund_amount="1.00")
    if settle == "lookup":
        flow.raw["erp"]["in_doubt"] = "lookup"
    else:
        with flow.journal() as journal:
            journal.resolve(flow.row(5001).id, arrived=True, who="a person")

    outcome = flow.run()
    flow.run()

    assert (flow.state(5001), amounts(flow)) == ("changed", booked)
    assert "other content" in (flow.row(5001).error or "")
    assert outcome.gate != "open"
    assert not flow.written()


@pytest.mark.parametrize("fan_out", [0, 50], ids=["bulk", "plan"])
def test_what_a_person_settles_after_the_listing_is_looked_at(make_flow: MakeFlow, fan_out: int) -> None:
    flow = make_flow(1, mapping=MAPPING, fan_out=fan_out)
    flow.erp.simulator.fail("drop", plan=5001, times=1, effect=False)
    flow.run()
    flow.omnitron.simulator.change(5001, refund_amount="1.00")

    def settle(task: str) -> None:
        if task == "get_data":
            with flow.journal() as journal:
                journal.resolve(flow.row(5001).id, arrived=False, who="a person")

    flow.between = settle
    flow.run()

    assert (flow.state(5001), amounts(flow)) == ("changed", [])


def test_a_changed_plan_that_a_person_sends_again_goes_out_as_it_is_now(make_flow: MakeFlow) -> None:
    flow = make_flow(1, erp__in_doubt="lookup", erp__lookup=LOOKUP, mapping=MAPPING)
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail("answer", path="/documents", status=500, times=3)
    flow.erp.simulator.fail("drop", plan=5001, times=1, effect=False)
    flow.run()
    flow.omnitron.simulator.change(5001, refund_amount="1.00")
    flow.run()
    assert "it was sent and not taken" in (flow.row(5001).error or "")
    with flow.journal() as journal:
        journal.resend(flow.row(5001).id, who="a person", reason="the amount was mended")

    flow.run()

    assert (flow.state(5001), amounts(flow)) == ("done", ["1.00"])
    assert len(set(flow.keys(5001))) == 2


@pytest.mark.parametrize("status", [429, 401])
def test_bytes_that_left_and_were_not_taken_are_not_sent_again_for_other_content(
    make_flow: MakeFlow, status: int
) -> None:
    flow = make_flow(1, mapping=MAPPING)
    flow.erp.simulator.fail("status", status=status, times=3)
    flow.run()
    sent = len(flow.sent())
    flow.omnitron.simulator.change(5001, refund_amount="1.00")

    flow.run(plan_ids=["5001"])  # it may rest, as its own 401 stopped the run
    flow.run()

    assert (flow.state(5001), len(flow.sent())) == ("changed", sent)


def test_a_crash_between_the_answer_and_the_write_back_tells_of_other_content(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING)
    flow.omnitron.simulator.fail("status", status=500, method="PATCH", path="/5001/", times=3)
    flow.run()
    flow.omnitron.simulator.change(5001, refund_amount="1.00")

    flow.run()

    assert flow.state(5001) == "changed"
    assert len(amounts(flow)) == 1
