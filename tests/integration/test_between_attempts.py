"""What happens to a plan between its attempts: persons, colleagues and gateways that say something of it."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from include.order_cancel import flow as flow_module
from include.order_cancel.errors import OrderCancelError
from include.simulator.wire import Answer, answer
from tests.harness import MAPPING, Flow
from tests.integration.conftest import MakeFlow
from tests.integration.test_answers import at_once, responding
from tests.integration.test_order_transactions import a_flow, documents, returns

LOOKUP = {"url": "/documents?plan={{ plan.pk }}", "found_path": "documentNumber", "after_seconds": 60}
COMPLETED = {
    "status": "completed",
    "omnitron__cancel_status": "completed",
    "omnitron__next_state": None,
    "omnitron__start_from": "2020-01-01T00:00:00Z",
    "omnitron__overlap_seconds": 0,
}
WRONG = [{"operation": "shift", "spec": {"pk": "plan", "order": {"amount": "amount"}}}]
INGRESS_404 = Answer(404, b"<html>default backend - 404</html>", {"Content-Type": "text/html"})


def bookings(flow: Flow, pk: int = 5001) -> int:
    return len(flow.erp.simulator.effects_of(pk))


def one_plan_page(flow: Flow, page: Answer) -> Any:
    own = flow.omnitron.simulator.handle
    flow.omnitron.simulator.handle = lambda call: (
        page if call.method == "GET" and call.path.endswith("/5001/") else own(call)
    )
    return own


# A dead plan that was sent again lives on


@pytest.mark.parametrize("how", ["clear", "clear lot", "release", "edit"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_dead_plan_that_was_resent_is_booked_once(make_flow: MakeFlow, how: str, when: str) -> None:
    flow = make_flow(1, mapping=MAPPING, max_attempts=1, fan_out=0 if how == "clear lot" else 50, **COMPLETED)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    old = flow.run()
    assert flow.state(5001) == "dead"
    dead = flow.row(5001).id
    with flow.journal() as journal:
        journal.resend(dead, who="p", reason="mended")
    if when == "after":
        flow.run()
    with suppress(OrderCancelError):  # a refusal is as good
        if how == "clear":
            old.clear(5001)
        elif how == "clear lot":
            flow_module.bulk(old.around, old.run_id, old.lots[0], True)
        with flow.journal() as journal:
            if how == "release":
                journal.release(dead, who="p")
            if how == "edit":
                journal.edit_request(dead, json.dumps({"plan": 5001, "amount": "1"}), who="p", reason="r")
    flow.run()
    assert bookings(flow) == 1


# 409 to a repeat after the lookup's "not there" or a person's "not arrived"


@pytest.mark.parametrize("way", ["lookup", "person"])
@pytest.mark.parametrize("refusal", ["failed", "failure"])
def test_a_409_to_a_repeat_settles_nothing(make_flow: MakeFlow, way: str, refusal: str) -> None:
    """The ERP honours keys and is still at work on the first request."""
    policy = "lookup" if way == "lookup" else "hold"
    flow = make_flow(1, mapping=MAPPING, erp__in_doubt=policy, erp__lookup=LOOKUP, erp__refusal=refusal)
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail("answer", path="/documents", status=404, body={"error": "none"})
    flow.erp.simulator.fail("drop", effect=True, plan=5001, times=1)
    flow.erp.simulator.fail(
        "answer", status=409, plan=5001, times=1, body={"error": "this key is being processed"}
    )
    flow.run()
    if way == "person":
        with flow.journal() as journal:
            journal.resolve(flow.row(5001).id, arrived=False, who="p")
    flow.run()
    flow.run()
    assert (bookings(flow), len(set(flow.keys(5001)))) == (1, 1)
    assert flow.omnitron.simulator.status(5001) != "rejected"


# What a lookup found is sent again on a script's word


@pytest.mark.parametrize("word", ["auth_fail", "do_nothing"])
def test_what_a_lookup_found_is_not_sent_again(make_flow: MakeFlow, word: str) -> None:
    script = responding(f"return 'continue' if response.get('status') == 'OK' else '{word}'")
    flow = make_flow(1, erp__in_doubt="lookup", erp__lookup=LOOKUP, erp__idempotency_header=None, **script)
    flow.erp.simulator.fail("drop", effect=True, times=1)
    flow.run()
    flow.run()
    assert bookings(flow) == 1


# A transaction that a person has mapped


@pytest.mark.parametrize("how", ["next run", "clear", "doubt"])
def test_a_plan_of_a_transaction_that_was_mapped_by_hand_is_not_sent(make_flow: MakeFlow, how: str) -> None:
    flow = a_flow(make_flow, documents(1), mapping=MAPPING)
    flow.erp.simulator.fail("drop" if how == "doubt" else "refuse", times=1, plan=5001)
    old = flow.run()
    flow.omnitron.simulator.mappings[returns(flow)[0]].append({"code": "booked by hand"})
    if how == "doubt":
        with flow.journal() as journal:
            journal.resolve(flow.row(5001).id, arrived=False, who="p")
    if how == "clear":
        old.clear(5001)
    flow.run()
    assert bookings(flow) == 0


# A gateway's page for one plan


@pytest.mark.parametrize("page", [INGRESS_404, Answer(404, b"", {})], ids=["ingress", "empty"])
def test_a_gateways_404_for_one_plan_loses_no_plan(make_flow: MakeFlow, page: Answer) -> None:
    flow = make_flow(1, mapping=MAPPING, **COMPLETED)
    flow.omnitron.simulator.change(5001, modified_date="2025-03-01T08:01:02Z")
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    own = one_plan_page(flow, page)
    during = flow.run()
    flow.omnitron.simulator.handle = own
    after = flow.run()
    assert bookings(flow) == 1 or "open" not in (during.gate, after.gate)


@pytest.mark.parametrize("other", [False, True], ids=["no plan", "another plan"])
def test_what_is_no_page_of_the_plan_is_not_sent(make_flow: MakeFlow, other: bool) -> None:
    flow = make_flow(2)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    old = flow.run()
    shown = (
        {**flow.omnitron.simulator.plan(5002), "status": "waiting"} if other else {"detail": "maintenance"}
    )
    one_plan_page(flow, answer(200, shown))
    old.clear(5001)
    assert [effect.plan for effect in flow.erp.simulator.effects] == [5002]
    assert flow.omnitron.simulator.status(5001) == "waiting"


# Rejected though the ERP has not seen what Omnitron shows


@pytest.mark.parametrize("change", [{"refund_amount": "1.00"}, {"status": "confirmed"}])
@pytest.mark.parametrize("when", ["between two tasks", "after a failed write-back"])
def test_other_content_is_not_rejected(make_flow: MakeFlow, change: dict[str, str], when: str) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__refusal="failure")
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    if when == "between two tasks":
        flow.between = lambda task: (
            flow.omnitron.simulator.change(5001, **change) if task == "write_to_erp" else None
        )
    else:
        flow.omnitron.simulator.fail("status", status=500, method="PATCH", path="/5001/", times=3)
    flow.run()
    if when != "between two tasks":
        flow.omnitron.simulator.change(5001, **change)
        flow.run()
    assert flow.omnitron.simulator.status(5001) != "rejected"


# The limit of five


@pytest.mark.parametrize("how", ["kept bytes", "edited request", "lookup"])
def test_what_other_settings_have_made_is_no_acceptance_of_these(make_flow: MakeFlow, how: str) -> None:
    flow = make_flow(14, erp__refusal="failure", mapping=MAPPING, erp__max_in_flight=1, erp__lookup=LOOKUP)
    if how == "kept bytes":
        flow.erp.simulator.fail("status", status=429, times=3, plan=5001)
    elif how == "lookup":
        flow.erp.simulator.fail("drop", effect=True, times=1, plan=5001)
    else:
        flow.raw["mapping"] = WRONG
        flow.erp.simulator.fail("status", status=404, times=1, plan=5001)
    flow.run(plan_ids=[5001])
    flow.raw["mapping"] = WRONG
    if how == "lookup":
        flow.raw["erp"]["in_doubt"] = "lookup"
    if how == "edited request":
        with flow.journal() as journal:
            journal.edit_request(flow.row(5001).id, '{"plan": 5001, "amount": "1"}', who="p", reason="r")
    for pk in range(5002, 5015):
        flow.erp.simulator.fail("refuse", plan=pk)
    flow.run()
    assert list(flow.states().values()).count("rejected") == 5


# A generation that a person began, and what happens afterwards


@pytest.mark.parametrize("status", [409, 422])
def test_a_refused_second_generation_does_not_reject_what_the_first_one_booked(
    make_flow: MakeFlow, status: int
) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__refusal="failure")
    flow.run()
    flow.omnitron.simulator.change(5001, status="waiting", refund_amount="1.00")
    flow.run()
    with flow.journal() as journal:
        journal.resend(flow.row(5001).id, who="p", reason="r")
    flow.erp.simulator.fail("status", status=status, times=1, body={"error": "cancelled already"})
    flow.run()
    assert (bookings(flow), flow.omnitron.simulator.status(5001)) == (1, "waiting")


def test_a_lookup_by_number_does_not_take_the_first_generation_for_the_second(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__in_doubt="lookup", erp__lookup=LOOKUP)
    flow.http = {"sleep": at_once}
    flow.run()
    flow.omnitron.simulator.change(5001, status="waiting", refund_amount="1.00")
    flow.run()
    with flow.journal() as journal:
        journal.resend(flow.row(5001).id, who="p", reason="r")
    flow.erp.simulator.fail("drop", times=1, plan=5001)
    outcome = flow.run()
    assert outcome.gate != "open" or [e.amount for e in flow.erp.simulator.effects_of(5001)][-1] == "1.00"


# Sign-in pages of Omnitron


@pytest.mark.parametrize("call", ["create_mapping", "write_back"])
def test_a_sign_in_page_is_no_answer_of_omnitron(make_flow: MakeFlow, call: str) -> None:
    page = Answer(200, b"<html>Please sign in</html>", {"Content-Type": "text/html"})
    if call == "create_mapping":
        flow = a_flow(make_flow, documents(1), mapping=MAPPING)
    else:
        flow = make_flow(1, mapping=MAPPING, **{**COMPLETED, "omnitron__next_state": "approved"})
    own = flow.omnitron.simulator.handle
    flow.omnitron.simulator.handle = lambda one: (
        page if "create_mapping" in one.path or one.method == "PATCH" else own(one)
    )
    outcome = flow.run()
    assert outcome.gate != "open"
