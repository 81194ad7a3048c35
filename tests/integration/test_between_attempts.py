"""What happens to a plan between its attempts: persons, colleagues and gateways that say something of it."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from include.order_cancel import flow as flow_module
from include.order_cancel.errors import OrderCancelError
from include.order_cancel.omnitron import content_digest
from include.simulator import OmnitronSimulator, plans
from include.simulator.wire import Answer, answer
from tests.harness import MAPPING, Flow
from tests.integration.conftest import SEED, MakeFlow
from tests.integration.test_answers import at_once, responding
from tests.integration.test_order_transactions import a_flow, documents, returns
from tests.shares import thorough

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


# What a plan's lines say by their status


LINES = """
def transform(plan, attributes):
    lines = [line for line in plan["cancellationplanorderitem_set"] if line["status"] != "cancelled"]
    return {"pk": plan["pk"], "refund_amount": str(len(lines))}
"""


def of_two_lines(make_flow: MakeFlow, fault: str, **changes: Any) -> Flow:
    """A plan whose script refunds the lines that nobody has cancelled; its first try comes to nothing."""
    made = plans(SEED, 1, status="waiting")
    line = made[0]["cancellationplanorderitem_set"][0]
    made[0]["cancellationplanorderitem_set"] = [{**line, "pk": pk, "status": "waiting"} for pk in (1, 2)]
    flow = make_flow(omnitron=OmnitronSimulator(made), script=LINES, **changes)
    flow.http = {"sleep": at_once}
    if fault == "script":
        flow.raw["script"] = "def transform(plan, attributes):\n    raise ValueError('a mistake')\n"
    else:
        flow.erp.simulator.fail("refuse", plan=5001, times=1)
    return flow


def cancel_a_line(flow: Flow) -> None:
    flow.raw["script"] = LINES
    lines = flow.omnitron.simulator.plan(5001)["cancellationplanorderitem_set"]
    lines[1]["status"] = "cancelled"
    flow.omnitron.simulator.change(5001, cancellationplanorderitem_set=lines)


@pytest.mark.parametrize("fault", ["refuse", thorough("script")])
@pytest.mark.parametrize(
    "params", [{}, thorough({"plan_ids": [5001]}), thorough({"retry_only": True})], ids=str
)
def test_a_line_that_a_colleague_cancelled_is_not_refunded(
    make_flow: MakeFlow, journal_url: str, fault: str, params: dict[str, Any]
) -> None:
    flow = of_two_lines(make_flow, fault, url=journal_url)
    flow.run()
    cancel_a_line(flow)

    outcome = flow.run(**params)

    assert outcome.gate == "open"
    assert [call.json["refund_amount"] for call in flow.sent(5001)][-1] == "1"


@pytest.mark.thorough
def test_a_line_that_was_cancelled_after_its_refund_was_sent_changes_no_request(make_flow: MakeFlow) -> None:
    flow = of_two_lines(make_flow, "refuse", erp__in_doubt="resend")
    flow.erp.simulator.faults.clear()
    flow.erp.simulator.fail("drop", plan=5001, times=4)
    flow.run()
    cancel_a_line(flow)

    outcome = flow.run()

    assert (outcome.gate, flow.state(5001), bookings(flow)) == ("open", "done", 1)
    assert {call.json["refund_amount"] for call in flow.sent(5001)} == {"2"}


def test_a_cleared_task_sends_the_lines_as_they_are(make_flow: MakeFlow) -> None:
    flow = of_two_lines(make_flow, "refuse")
    outcome = flow.run()
    cancel_a_line(flow)

    outcome.clear(5001)

    assert [call.json["refund_amount"] for call in flow.sent(5001)] == ["2", "1"]


@pytest.mark.parametrize("name", ["modified_date", thorough("modified_by"), thorough("external_status")])
def test_a_plan_that_was_only_touched_is_not_prepared_again(make_flow: MakeFlow, name: str) -> None:
    flow = make_flow(1, script="def transform(plan, attributes):\n    return plan\n", mapping=MAPPING)
    flow.between = lambda task: (
        flow.omnitron.simulator.change(5001, **{name: "2025-03-02T08:00:00Z"}) if task == "mapping" else None
    )
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    outcome = flow.run()

    outcome.clear(5001)

    assert (flow.state(5001), flow.happened(5001).count("new content")) == ("done", 0)


# A plan's page that shows more than the listing


def shows_more(flow: Flow) -> None:
    own = flow.omnitron.simulator.handle
    flow.omnitron.simulator.handle = lambda call: (
        answer(200, {**flow.omnitron.simulator.plan(5001), "detail": {"more": [1]}})
        if call.method == "GET" and call.path.endswith("/5001/")
        else own(call)
    )


def read_again(flow: Flow, busy: int = 0) -> None:
    """Refused, changed by a colleague, and cleared: its document is that of its page by then.

    `busy`: how often the ERP answers 429 then.
    """
    shows_more(flow)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.erp.simulator.fail("status", plan=5001, status=429, times=busy)
    outcome = flow.run()
    flow.omnitron.simulator.change(5001, refund_amount="1.00")
    outcome.clear(5001)
    flow.last_query = None


@pytest.mark.parametrize("kind", ["completed", "write-back"])
def test_a_plan_that_was_read_again_is_not_changed_by_its_next_listing(
    make_flow: MakeFlow, journal_url: str, kind: str
) -> None:
    flow = make_flow(1, url=journal_url, mapping=MAPPING, **(COMPLETED if kind == "completed" else {}))
    read_again(flow)
    if kind == "write-back":  # it did not take
        flow.omnitron.simulator.change(5001, status="waiting")

    outcome = flow.run()
    with flow.journal() as journal:
        digest = flow.row(5001).digest
        known = json.loads(journal.body(flow.row(5001).id, "document").content)  # type: ignore[union-attr]

    assert (flow.state(5001), outcome.gate, bookings(flow)) == ("done", "open", 1), flow.row(5001).error
    assert digest == content_digest({name: known[name] for name in known if name != "detail"})


@pytest.mark.thorough
def test_a_plan_that_was_read_again_and_not_taken_keeps_its_request(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING)
    flow.http = {"sleep": at_once}
    read_again(flow, busy=3)
    first = flow.state(5001)

    outcome = flow.run()

    assert (first, flow.state(5001), outcome.gate, bookings(flow)) == ("failed", "done", "open", 1)


# What a person decides is decided of what Omnitron shows


@pytest.mark.parametrize("last", ["2.00", thorough("as it was sent")])
def test_what_was_dismissed_stays_closed_while_nothing_changes(
    make_flow: MakeFlow, journal_url: str, last: str
) -> None:
    flow = make_flow(1, url=journal_url, mapping=MAPPING, **COMPLETED)
    sent = flow.omnitron.simulator.plan(5001)["refund_amount"]
    flow.run()
    for amount in ("1.00", sent if last == "as it was sent" else last):
        flow.omnitron.simulator.change(5001, refund_amount=amount)
        flow.run()
    changed = flow.state(5001)
    with flow.journal() as journal:
        journal.dismiss(flow.row(5001).id, who="p", reason="r")
    flow.last_query = None

    outcome = flow.run()

    assert (changed, flow.state(5001), outcome.gate) == ("changed", "dismissed", "open"), flow.row(5001).error


@pytest.mark.parametrize("listed", [True, thorough(False)])
def test_an_edited_request_of_a_plan_that_changed_is_not_sent(make_flow: MakeFlow, listed: bool) -> None:
    flow = make_flow(1, mapping=MAPPING)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    with flow.journal() as journal:
        journal.edit_request(flow.row(5001).id, '{"plan": 5001, "amount": "9.99"}', who="p", reason="r")
    flow.omnitron.simulator.change(5001, refund_amount="1.00")

    flow.run(**({} if listed else {"retry_only": True}))

    assert (flow.state(5001), bookings(flow)) == ("changed", 0)
