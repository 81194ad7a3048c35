"""Order transactions: each is mapped once, when all its plans are delivered, and is never asked about again."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from include.order_cancel import schema
from include.order_cancel.errors import StopFlow
from include.order_cancel.journal import Journal
from include.order_cancel.omnitron import ListingFailed
from include.simulator import OmnitronSimulator, plans, transactions
from include.simulator.wire import Answer, Request, answer
from tests.harness import Flow, settings
from tests.integration.conftest import SEED, MakeFlow
from tests.shares import thorough

noted = schema.transactions
SETTINGS: dict[str, Any] = {
    "omnitron__cancel_status": "order_transaction",
    "omnitron__next_state": None,
    "omnitron__transactions_since": "2025-01-01T00:00:00Z",
}


def documents(count: int, *, together: bool = False) -> list[dict[str, Any]]:
    """Completed plans, each of an order of its own, or all of one."""
    made = plans(SEED, count, status="completed", plan_type="refund")
    for position, plan in enumerate(made):
        number = 0 if together else position
        plan["order"] = {**made[0]["order"], "pk": 20001 + number, "number": f"100000500{number}"}
    return made


def a_flow(make_flow: MakeFlow, made: list[dict[str, Any]], **changes: Any) -> Flow:
    simulator = OmnitronSimulator(made, transactions(SEED, made))
    return make_flow(omnitron=simulator, **{**SETTINGS, **changes})


def returns(flow: Flow) -> list[int]:
    """The return transactions, by number."""
    return [
        pk for pk, one in flow.omnitron.simulator._transactions.items() if one["transaction_type"] == "return"
    ]


def codes(flow: Flow) -> dict[int, list[str]]:
    """What was mapped to what."""
    return {
        pk: [mapping["code"] for mapping in found] for pk, found in flow.omnitron.simulator.mappings.items()
    }


def asked_mappings(flow: Flow) -> int:
    return len(flow.omnitron.simulator.calls("GET", "get_mappings"))


@pytest.mark.parametrize("fan_out", [50, 0], ids=["plan by plan", "side by side"])
def test_a_transaction_is_mapped_to_the_reference_of_its_first_plan_after_all_of_them(
    make_flow: MakeFlow, journal_url: str, fan_out: int
) -> None:
    flow = a_flow(make_flow, documents(2, together=True), url=journal_url, fan_out=fan_out)

    outcome = flow.run()

    (transaction,) = returns(flow)
    assert codes(flow) == {transaction: [flow.row(5001).erp_reference]}
    (mapping,) = flow.omnitron.simulator.calls("POST", "create_mapping")
    assert mapping.time > max(call.time for call in flow.sent())
    assert Counter(call.pk for call in flow.sent()) == {5001: 1, 5002: 1}
    assert (outcome.gate, flow.written()) == ("open", [])


def test_an_erp_without_references_gives_the_plans_number(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(1), erp__reference_path=None)

    flow.run()

    assert list(codes(flow).values()) == [["5001"]]


def test_a_second_run_asks_about_no_mapped_transaction_and_sends_nothing(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(5))
    flow.run()
    asked, listed = asked_mappings(flow), len(flow.listings())

    outcome = flow.run()

    assert (asked_mappings(flow), len(flow.listings())) == (asked, listed)
    assert len(flow.sent()) == 5
    assert outcome.report["left_out"] == {"settled transactions": 5}


def test_ten_thousand_mapped_transactions_are_only_listed(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(1), omnitron__page_size=500)
    one = next(iter(flow.omnitron.simulator._transactions.values()))
    mapped = range(900_000, 910_000)
    flow.omnitron.simulator.put_transactions(
        {**one, "pk": pk, "transaction_type": "return", "order": pk} for pk in mapped
    )
    with flow.journal() as journal:
        host = flow.endpoint("omnitron").host
        journal.note_transactions(host, flow.name, [str(pk) for pk in mapped], "mapped")

    outcome = flow.run()

    assert {call.pk for call in flow.omnitron.simulator.calls("GET", "get_mappings")} == {800_002}
    lists = [
        call for call in flow.omnitron.simulator.calls("GET") if call.path.endswith("order_transactions/")
    ]
    assert len(lists) == 21
    assert outcome.report["left_out"]["settled transactions"] == 10_000
    assert len(flow.sent()) == 1


def test_a_transaction_that_somebody_else_mapped_is_remembered_and_its_plans_are_not_sent(
    make_flow: MakeFlow,
) -> None:
    flow = a_flow(make_flow, documents(2))
    by_hand = returns(flow)[0]
    flow.omnitron.simulator.mappings[by_hand].append({"code": "by hand"})

    flow.run()
    asked = asked_mappings(flow)
    flow.run()

    assert [call.pk for call in flow.sent()] == [5002]
    assert codes(flow)[by_hand] == ["by hand"]
    assert asked_mappings(flow) == asked


def test_mappings_are_asked_side_by_side(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(9))
    flow.omnitron.simulator.set(latency_ms=30)

    flow.run()

    assert flow.omnitron.simulator.peak_in_flight >= 5


@pytest.mark.parametrize("fan_out", [50, 0], ids=["plan by plan", "side by side"])
def test_with_a_failed_plan_nothing_is_mapped_until_the_next_run_delivers_it(
    make_flow: MakeFlow, fan_out: int
) -> None:
    flow = a_flow(make_flow, documents(2, together=True), fan_out=fan_out)
    times = 1 if fan_out else 2  # a lot's failed plan is tried once more in an index of its own
    flow.erp.simulator.fail("refuse", plan=5001, times=times)
    first = flow.run()
    mapped_between = codes(flow)

    second = flow.run()

    assert (mapped_between, first.gate.splitlines()[0]) == ({}, "1 failed")
    assert list(codes(flow).values()) == [[flow.row(5001).erp_reference]]
    assert second.gate == "open"
    assert len(flow.sent(5002)) == 1


def test_a_rejected_plan_that_is_sent_again_and_taken_maps_its_transaction(
    make_flow: MakeFlow, journal_url: str
) -> None:
    flow = a_flow(make_flow, documents(1), url=journal_url, erp__refusal="failure")
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    assert (flow.state(5001), codes(flow)) == ("rejected", {})
    with flow.journal() as journal:
        journal.resend(flow.row(5001).id, who="a tester", reason="the ERP takes it now")

    outcome = flow.run()

    assert (flow.state(5001), outcome.gate) == ("done", "open")
    (transaction,) = returns(flow)
    assert codes(flow) == {transaction: [flow.row(5001).erp_reference]}


def test_a_plan_first_named_by_its_number_maps_the_transaction_that_shows_it_later(
    make_flow: MakeFlow, journal_url: str
) -> None:
    flow = a_flow(make_flow, documents(1), url=journal_url)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run(plan_ids="5001")
    assert (flow.state(5001), codes(flow)) == ("failed", {})

    outcome = flow.run()

    assert (flow.state(5001), outcome.gate) == ("done", "open")
    (transaction,) = returns(flow)
    assert codes(flow) == {transaction: [flow.row(5001).erp_reference]}


def test_a_rejected_plan_settles_its_transaction_without_a_mapping(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(2, together=True), erp__refusal="failure")
    flow.erp.simulator.fail("refuse", plan=5002)
    first = flow.run()
    asked = asked_mappings(flow)

    second = flow.run()

    assert flow.states() == {"5001": "done", "5002": "rejected"}
    assert codes(flow) == {}
    assert asked_mappings(flow) == asked
    assert (first.gate, second.members) == ("open", [])
    assert flow.written() == []


def test_a_plan_that_its_script_holds_keeps_the_transaction_open(make_flow: MakeFlow) -> None:
    script = "def respond(request, response, attributes):\n    return '{}'\n"
    flow = a_flow(
        make_flow,
        documents(1),
        erp__custom_response=True,
        erp__custom_response_script=script.format("do_nothing"),
    )
    flow.run()
    held, mapped = flow.state(5001), codes(flow)
    flow.raw["erp"]["custom_response_script"] = script.format("continue")

    flow.run()

    assert (held, mapped) == ("held", {})
    assert flow.state(5001) == "done"
    assert len(codes(flow)) == 1


def test_a_refused_mapping_is_all_that_the_next_run_repeats(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(1))
    flow.omnitron.simulator.fail("refuse", path="create_mapping", plan=None, times=1)
    first = flow.run()
    state = flow.state(5001)

    second = flow.run()

    assert (state, "1 failed" in first.gate) == ("failed", True)
    assert (flow.state(5001), second.gate) == ("done", "open")
    assert len(flow.sent()) == 1
    assert len(codes(flow)) == 1


@pytest.mark.parametrize("how", ["next run", "retry_only", "cleared", "group after a lot"])
def test_a_mapping_whose_answer_was_lost_is_not_made_twice(make_flow: MakeFlow, how: str) -> None:
    flow = a_flow(make_flow, documents(1), fan_out=0 if how == "group after a lot" else 50)
    flow.omnitron.simulator.fail("drop", path="create_mapping", plan=None, effect=True, times=1)
    outcome = flow.run()

    if how == "cleared":
        outcome.clear(5001)
    elif how != "group after a lot":
        outcome = flow.run(retry_only=how == "retry_only")

    assert (flow.state(5001), outcome.gate) == ("done", "open")
    assert [len(found) for found in codes(flow).values()] == [1]
    assert len(flow.sent()) == 1


def test_a_crash_before_the_mapping_is_made_good_by_the_next_run(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(1))
    flow.run()
    flow.omnitron.simulator.mappings.clear()
    with flow.journal() as journal:
        host = flow.endpoint("omnitron").host
        journal.note_transactions(host, flow.name, [str(pk) for pk in returns(flow)], "mapping")
        journal.free_transaction(host, flow.name, str(returns(flow)[0]))

    outcome = flow.run()

    assert outcome.gate == "open"
    assert len(flow.sent()) == 1
    assert len(codes(flow)) == 1


def test_a_transaction_without_plans_is_left_and_counted(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(1))
    flow.omnitron.simulator.change(5001, status="approved")

    outcome = flow.run()

    assert (outcome.members, outcome.gate) == ([], "open")
    assert outcome.report["left_out"]["transactions without plans, left"] == 1


def test_two_returns_of_one_order_are_both_mapped_and_its_plan_is_sent_once(make_flow: MakeFlow) -> None:
    made = documents(1)
    flow = a_flow(make_flow, made)
    first = returns(flow)[0]
    one = flow.omnitron.simulator._transactions[first]
    flow.omnitron.simulator.put_transactions([{**one, "pk": first + 50}])

    flow.run()
    flow.run()
    asked = asked_mappings(flow)
    flow.run()

    assert set(codes(flow)) == {first, first + 50}
    assert [len(found) for found in codes(flow).values()] == [1, 1]
    assert len(flow.sent()) == 1
    assert asked_mappings(flow) == asked


def test_a_plan_that_was_sent_by_its_number_is_mapped_by_the_next_ordinary_run(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(1))
    flow.run(plan_ids=[5001])
    mapped = codes(flow)

    flow.run()

    assert mapped == {}
    assert len(codes(flow)) == 1
    assert len(flow.sent()) == 1


def test_transactions_are_bound_by_their_date(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(2), omnitron__transactions_since="2034-01-01T00:00:00Z")

    outcome = flow.run()

    assert (outcome.members, flow.sent()) == ([], [])


def test_a_dry_run_shows_the_plans_of_transactions_that_are_not_mapped(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    flow = a_flow(make_flow, documents(2))
    flow.omnitron.simulator.mappings[returns(flow)[0]].append({"code": "by hand"})
    flow.omnitron.simulator.put_plans(plans(SEED, 1, status="completed", first_pk=7001))

    with caplog.at_level(logging.INFO, "order_cancel"):
        flow.run(dry_run=True)

    told = [line for line in caplog.messages if "would send" in line]
    assert len(told) == 1
    assert "/ 5002]" in told[0]


# All plans of the order


def another_flow(flow: Flow, **changes: Any) -> Flow:
    """A second flow between the same systems, in the same journal."""
    raw = settings(**{"mapping": None, **SETTINGS, "omnitron__cancel_type": "cancel", **changes})
    return Flow(flow.omnitron, flow.erp, flow.journal_url, raw, name="others")


def of_both_types() -> list[dict[str, Any]]:
    """A refund and a cancellation of one order."""
    made = documents(2, together=True)
    made[1]["plan_type"] = "cancel"
    return made


def asked_for_all(flow: Flow) -> list[Any]:
    """The lists of all plans of an order."""
    return [call for call in flow.listings() if "status" not in call.query]


def bookings(flow: Flow) -> dict[int, int]:
    return dict(Counter(call.pk for call in flow.sent()))


def mapped_times(flow: Flow) -> list[int]:
    """How often each transaction was mapped."""
    return [len(found) for found in codes(flow).values() if found]


@pytest.mark.parametrize("fan_out", [pytest.param(50, id="plan by plan"), thorough(0, id="side by side")])
@pytest.mark.parametrize("status", ["confirmed", thorough("approved"), thorough("waiting_for_payment")])
def test_a_plan_that_is_completed_later_is_sent_before_its_transaction_is_mapped(
    make_flow: MakeFlow, journal_url: str, status: str, fan_out: int
) -> None:
    flow = a_flow(make_flow, documents(2, together=True), url=journal_url, fan_out=fan_out)
    flow.omnitron.simulator.change(5002, status=status)
    first = flow.run()
    between = mapped_times(flow)
    flow.omnitron.simulator.change(5002, status="completed")

    second = flow.run()

    assert (between, first.gate, second.gate) == ([], "open", "open")
    assert first.report["left_out"]["transactions held back"] == 1
    assert f"plan 5002 is {status}" in first.report["table"]
    assert bookings(flow) == {5001: 1, 5002: 1}
    assert codes(flow) == {returns(flow)[0]: [flow.row(5001).erp_reference]}


def test_a_transaction_that_waits_is_told_by_each_run_and_adds_nothing_to_the_plans_journey(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    flow = a_flow(make_flow, documents(2, together=True))
    flow.omnitron.simulator.change(5002, status="waiting")
    flow.run()
    asked, happened = len(asked_for_all(flow)), flow.happened(5001)
    caplog.clear()

    with caplog.at_level(logging.WARNING, "order_cancel"):
        outcome = flow.run()

    assert len(asked_for_all(flow)) == asked + 1
    assert flow.happened(5001) == happened
    assert outcome.report["left_out"] == {"transactions held back": 1}
    assert "plan 5002 is waiting" in caplog.text
    assert outcome.members == []
    assert (outcome.gate, mapped_times(flow)) == ("open", [])


def test_a_plan_that_does_not_fit_is_counted_while_its_transaction_waits(make_flow: MakeFlow) -> None:
    simulator = Typeless(made := of_both_types(), transactions(SEED, made))
    flow = make_flow(omnitron=simulator, **SETTINGS, omnitron__cancel_type="refund")
    simulator.put_plans([{**made[0], "pk": 5003, "status": "confirmed"}])
    other = another_flow(flow)
    other.run()
    flow.run()

    outcome = flow.run()

    assert outcome.report["left_out"] == {"transactions held back": 1, "not fitting": 1}
    other.close()


class Typeless(OmnitronSimulator):
    """An Omnitron that ignores for which type of plan it is asked."""

    def handle(self, call: Request) -> Answer:
        call.query.pop("plan_type", None)
        return super().handle(call)


@pytest.mark.parametrize("fan_out", [pytest.param(50, id="plan by plan"), thorough(0, id="side by side")])
def test_all_plans_of_an_order_are_asked_for_once_and_without_a_filter(
    make_flow: MakeFlow, fan_out: int
) -> None:
    flow = a_flow(
        make_flow,
        documents(4, together=True),
        fan_out=fan_out,
        omnitron__cancel_type="refund",
        omnitron__channel_ids=[1, 2, 3],
    )

    flow.run()

    (call,) = asked_for_all(flow)
    assert call.query == {"order_id": "20001", "page": "1", "limit": "100"}
    assert mapped_times(flow) == [1]


@pytest.mark.parametrize("fan_out", [pytest.param(50, id="plan by plan"), thorough(0, id="side by side")])
@pytest.mark.parametrize("order", ["refunds first", "cancellations first"])
def test_of_two_flows_of_one_order_the_one_that_ends_last_maps_it(
    make_flow: MakeFlow, journal_url: str, order: str, fan_out: int
) -> None:
    flow = a_flow(
        make_flow, of_both_types(), url=journal_url, omnitron__cancel_type="refund", fan_out=fan_out
    )
    other = another_flow(flow, fan_out=fan_out)
    one, two = (flow, other) if order == "refunds first" else (other, flow)
    missing = 5002 if order == "refunds first" else 5001

    first = one.run()
    between = mapped_times(flow)
    second = two.run()
    again = [one.run(), two.run()]

    assert between == []
    assert f"plan {missing} is completed, and no flow has carried it" in first.gate
    assert (second.gate, [outcome.gate for outcome in again]) == ("open", ["open", "open"])
    assert mapped_times(flow) == [1]
    assert bookings(flow) == {5001: 1, 5002: 1}
    other.close()


def test_a_plan_that_another_flow_has_still_open_holds_the_mapping_back(
    make_flow: MakeFlow, journal_url: str
) -> None:
    flow = a_flow(make_flow, of_both_types(), url=journal_url, omnitron__cancel_type="refund")
    other = another_flow(flow)
    flow.erp.simulator.fail("refuse", plan=5002, times=1)
    other.run()

    outcome = flow.run()
    between = mapped_times(flow)
    other.run()

    assert (outcome.gate, between) == ("open", [])
    assert "plan 5002 is failed in flow others" in outcome.report["table"]
    assert mapped_times(flow) == [1]
    other.close()


class Interrupted(Journal):
    """A journal in which something else happens just before a claim is given back."""

    meanwhile: Any = None

    def free_transaction(self, host: str, flow: str, pk: str) -> None:
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        super().free_transaction(host, flow, pk)


def test_a_flow_that_ends_while_the_other_looks_leaves_the_mapping_to_it(
    make_flow: MakeFlow, journal_url: str
) -> None:
    flow = a_flow(make_flow, of_both_types(), url=journal_url, omnitron__cancel_type="refund")
    other = another_flow(flow)
    journal = Interrupted.open(journal_url)
    assert isinstance(journal, Interrupted)
    journal.meanwhile, flow._journal = other.run, journal

    outcome = flow.run()

    assert (outcome.gate, mapped_times(flow)) == ("open", [1])
    assert bookings(flow) == {5001: 1, 5002: 1}
    other.close()


class Slow(Journal):
    """A journal by whose clock two minutes pass right after a claim."""

    slow = True

    def claim_transaction(self, host: str, flow: str, pk: str) -> float | None:
        claimed = super().claim_transaction(host, flow, pk)
        if self.slow:
            with self.transaction() as (connection, _):
                connection.execute(noted.update().values(at=1.0))
        return claimed


def test_a_claim_that_has_run_out_maps_nothing(make_flow: MakeFlow, journal_url: str) -> None:
    flow = a_flow(make_flow, documents(1), url=journal_url)
    journal = Slow.open(journal_url)
    assert isinstance(journal, Slow)
    flow._journal = journal
    flow.run()
    between = mapped_times(flow)
    journal.slow = False

    flow.run()

    assert (between, mapped_times(flow)) == ([], [1])
    assert bookings(flow) == {5001: 1}


def test_a_completed_flow_that_has_carried_the_other_plan_lets_the_mapping_be_made(
    make_flow: MakeFlow,
) -> None:
    flow = a_flow(make_flow, of_both_types(), omnitron__cancel_type="refund")
    other = another_flow(
        flow,
        omnitron__cancel_status="completed",
        omnitron__transactions_since=None,
        omnitron__start_from="2025-01-01T00:00:00Z",
    )
    flow.run()
    between = mapped_times(flow)
    other.run()

    flow.run()

    assert (between, mapped_times(flow)) == ([], [1])
    other.close()


def test_what_a_flow_did_with_a_plan_before_it_was_completed_does_not_count(make_flow: MakeFlow) -> None:
    made = of_both_types()
    made[1]["status"] = "waiting"
    flow = a_flow(make_flow, made, omnitron__cancel_type="refund")
    approving = another_flow(
        flow,
        omnitron__cancel_status="waiting",
        omnitron__transactions_since=None,
        omnitron__next_state="approved",
    )
    approving.run()
    flow.omnitron.simulator.change(5002, status="completed")

    outcome = flow.run()

    assert approving.state(5002) == "done"
    assert "plan 5002 is completed, and no flow has carried it" in outcome.gate
    assert mapped_times(flow) == []
    approving.close()


def test_a_plan_that_omnitron_has_rejected_holds_nothing_back(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(2, together=True))
    flow.omnitron.simulator.change(5002, status="rejected")

    outcome = flow.run()

    assert (outcome.gate, mapped_times(flow)) == ("open", [1])
    assert bookings(flow) == {5001: 1}


@pytest.mark.parametrize("fan_out", [pytest.param(50, id="plan by plan"), thorough(0, id="side by side")])
def test_a_rejected_plan_does_not_settle_a_transaction_whose_other_plan_is_still_to_come(
    make_flow: MakeFlow, journal_url: str, fan_out: int
) -> None:
    flow = a_flow(
        make_flow, documents(2, together=True), url=journal_url, erp__refusal="failure", fan_out=fan_out
    )
    flow.erp.simulator.fail("refuse", plan=5001)
    flow.omnitron.simulator.change(5002, status="confirmed")
    first = flow.run()
    second = flow.run()
    flow.omnitron.simulator.change(5002, status="completed")
    flow.run()
    asked = asked_mappings(flow)

    flow.run()

    assert flow.states() == {"5001": "rejected", "5002": "done"}
    assert [outcome.report["left_out"]["transactions held back"] for outcome in (first, second)] == [1, 1]
    assert (mapped_times(flow), asked_mappings(flow)) == ([], asked)


def test_a_transaction_is_settled_once_what_it_waited_for_is_rejected_in_omnitron(
    make_flow: MakeFlow,
) -> None:
    flow = a_flow(make_flow, documents(2, together=True), erp__refusal="failure")
    flow.erp.simulator.fail("refuse", plan=5001)
    flow.omnitron.simulator.change(5002, status="confirmed")
    flow.run()
    flow.omnitron.simulator.change(5002, status="rejected")
    flow.run()
    asked = asked_mappings(flow)

    outcome = flow.run()

    assert (mapped_times(flow), asked_mappings(flow), outcome.gate) == ([], asked, "open")


def test_a_dismissed_plan_settles_its_transaction_once_no_other_plan_is_to_come(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(2, together=True))
    flow.erp.simulator.fail("refuse", plan=5001)
    flow.omnitron.simulator.change(5002, status="confirmed")
    flow.run()
    with flow.journal() as journal:
        journal.dismiss(flow.row(5001).id, who="a tester", reason="booked by hand")
    waits = flow.run()
    flow.omnitron.simulator.change(5002, status="completed")
    flow.run()
    asked = asked_mappings(flow)

    flow.run()

    assert waits.report["left_out"]["transactions held back"] == 1
    assert bookings(flow)[5002] == 1
    assert (mapped_times(flow), asked_mappings(flow)) == ([], asked)


def test_a_plan_that_is_sent_again_holds_the_mapping_back_until_it_is_delivered(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(2, together=True))
    flow.omnitron.simulator.change(5002, status="confirmed")
    flow.run()
    with flow.journal() as journal:
        journal.resend(flow.row(5001).id, who="a tester", reason="the ERP lost it")
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.omnitron.simulator.change(5002, status="completed")
    flow.run()
    between = mapped_times(flow)

    flow.run()

    assert (between, mapped_times(flow)) == ([], [1])
    assert flow.row(5001).generation == 2


class Moody(OmnitronSimulator):
    """An Omnitron with a list of all plans of an order, no other, that is refused, or not what it should be."""

    refused: int = 0
    changed: Callable[[dict[str, Any]], dict[str, Any]] | None = None

    def handle(self, call: Request) -> Answer:
        given = super().handle(call)
        if not call.path.endswith("/cancellation_plans/") or "status" in call.query:
            return given
        if self.refused:
            return answer(self.refused, {"detail": "no"})
        return given if self.changed is None else answer(200, self.changed(json.loads(given.body)))


def a_moody_flow(make_flow: MakeFlow, made: list[dict[str, Any]], **changes: Any) -> tuple[Flow, Moody]:
    simulator = Moody(made, transactions(SEED, made))
    return make_flow(omnitron=simulator, **{**SETTINGS, **changes}), simulator


@pytest.mark.parametrize("status", [thorough(400), 404, thorough(500), thorough(503)])
def test_where_all_plans_cannot_be_listed_the_next_run_maps(
    make_flow: MakeFlow, journal_url: str, status: int
) -> None:
    flow, simulator = a_moody_flow(make_flow, documents(1), url=journal_url)
    simulator.refused = status
    first = flow.run()
    between = (flow.state(5001), mapped_times(flow))
    simulator.refused = 0

    second = flow.run()

    assert between == ("failed", [])
    assert "the plans of order 20001 cannot be listed" in first.gate
    assert (flow.state(5001), second.gate, mapped_times(flow)) == ("done", "open", [1])
    assert bookings(flow) == {5001: 1}


def test_a_transaction_that_waits_is_mapped_though_it_could_not_be_looked_at_in_between(
    make_flow: MakeFlow,
) -> None:
    flow, simulator = a_moody_flow(make_flow, documents(2, together=True))
    simulator.change(5002, status="confirmed")
    flow.run()
    simulator.refused = 500
    failed = flow.run()
    simulator.refused = 0
    simulator.change(5002, status="completed")

    outcome = flow.run()

    assert "the plans of order 20001 cannot be listed" in failed.gate
    assert (outcome.gate, mapped_times(flow)) == ("open", [1])
    assert bookings(flow) == {5001: 1, 5002: 1}


@pytest.mark.parametrize(
    "changed",
    [
        lambda whole: {**whole, "count": whole["count"] + 1},
        lambda whole: {**whole, "results": [{"status": "completed"}, *whole["results"]]},
        lambda whole: {**whole, "count": 0, "results": []},
    ],
    ids=["shorter than its count", "with a plan without a number", "without the plan itself"],
)
def test_a_list_of_all_plans_that_cannot_be_relied_on_maps_nothing(
    make_flow: MakeFlow, changed: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    flow, simulator = a_moody_flow(make_flow, documents(1))
    simulator.changed = changed
    first = flow.run()
    between = mapped_times(flow)
    simulator.changed = None

    flow.run()

    assert "the plans of order 20001 cannot be listed" in first.gate
    assert (between, mapped_times(flow)) == ([], [1])


@pytest.mark.parametrize("left", ["a claim", "nothing"])
def test_a_crash_between_the_question_and_the_mapping_is_made_good(
    make_flow: MakeFlow, journal_url: str, left: str
) -> None:
    flow = a_flow(make_flow, documents(1), url=journal_url)
    journal = Crashing.open(journal_url)
    assert isinstance(journal, Crashing)
    journal.crashes, flow._journal = True, journal
    with pytest.raises(KeyboardInterrupt):
        flow.run()
    asked, between = len(asked_for_all(flow)), mapped_times(flow)
    journal.crashes = False
    with journal.transaction() as (connection, _):
        ran_out = noted.update().values(at=1.0)
        connection.execute(ran_out if left == "a claim" else noted.delete())
        connection.execute(schema.plans.update().values(lease_until=0.0, claim_run=None))

    flow.run()

    assert (asked, between, mapped_times(flow)) == (1, [], [1])
    assert bookings(flow) == {5001: 1}


class Crashing(Journal):
    """A journal whose process dies once all plans of an order are known."""

    crashes = False

    def keep_transaction(self, host: str, flow: str, pk: str, claimed_at: float) -> bool:
        if self.crashes:
            raise KeyboardInterrupt
        return super().keep_transaction(host, flow, pk, claimed_at)


def test_a_plan_on_a_later_page_holds_the_mapping_back(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(5, together=True), omnitron__page_size=2)
    flow.omnitron.simulator.change(5005, status="waiting")

    outcome = flow.run()

    assert mapped_times(flow) == []
    assert "plan 5005 is waiting" in outcome.report["table"]
    assert [call.query["page"] for call in asked_for_all(flow)] == ["1", "2", "3"]


class Deaf(OmnitronSimulator):
    """An Omnitron that ignores by which order it is asked."""

    def handle(self, call: Request) -> Answer:
        call.query.pop("order_id", None)
        return super().handle(call)


def test_a_transaction_mapped_between_two_tries_of_the_listing(make_flow: MakeFlow, journal_url: str) -> None:
    flow = a_flow(make_flow, documents(2), url=journal_url, omnitron__page_size=1)
    flow.runs += 1
    own, broken = flow.omnitron.simulator.handle, [True]
    flow.omnitron.simulator.handle = lambda call: (
        answer(500, {"detail": "try again"})
        if broken[0] and call.path.endswith("/order_transactions/") and call.query.get("page") == "2"
        else own(call)
    )
    with pytest.raises(ListingFailed):
        flow.run_again()
    broken[0] = False
    first, second = returns(flow)
    flow.omnitron.simulator.mappings[first].append({"code": "by hand"})

    outcome = flow.run_again()

    assert flow.states() == {"5001": "left", "5002": "done"}
    assert (codes(flow)[first], len(codes(flow)[second]), outcome.gate) == (["by hand"], 1, "open")


class Boasting(Deaf):
    """Counts one plan and one transaction more than there are, so that all is read twice; the first plan changes."""

    def handle(self, call: Request) -> Answer:
        found = super().handle(call)
        document = json.loads(found.body)
        if "count" not in document:
            return found
        if call.path.endswith("/cancellation_plans/") and self.status(5001) == "completed":
            self.change(5001, status="rejected")
        return answer(200, {**document, "count": document["count"] + 1})


@pytest.mark.thorough
def test_lists_that_are_read_twice_count_as_they_were_read_last(make_flow: MakeFlow) -> None:
    made = documents(3)
    simulator = Boasting(made, [one for one in transactions(SEED, made) if one["order"] in (20001, 20002)])
    flow = make_flow(omnitron=simulator, **SETTINGS)

    outcome = flow.run()

    assert flow.states() == {"5002": "failed"}  # all plans of its order cannot be known
    assert bookings(flow) == {5002: 1}
    assert outcome.report["left_out"]["plans of other orders"] == 3


def test_plans_of_other_orders_are_left_out_where_omnitron_ignores_the_order(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    made = documents(4)
    simulator = Deaf(made, [one for one in transactions(SEED, made) if one["order"] in (20001, 20002)])
    simulator.change(5002, status="confirmed")
    flow = make_flow(omnitron=simulator, **SETTINGS)

    with caplog.at_level(logging.WARNING):
        outcome = flow.run()

    first, second = returns(flow)
    assert bookings(flow) == {5001: 1}
    assert (list(codes(flow)), codes(flow)[first]) == ([first], [flow.row(5001).erp_reference])
    assert outcome.report["left_out"]["plans of other orders"] == 5
    assert "plans of other orders" in caplog.text
    assert second not in codes(flow)


def test_plans_that_do_not_tell_their_order_are_trusted_with_a_warning(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    made = documents(2, together=True)
    returned = transactions(SEED, made)
    for plan in made:
        del plan["order"]
    simulator = Untold(made, returned)
    flow = make_flow(omnitron=simulator, **SETTINGS)
    simulator.change(5002, status="confirmed")
    flow.run()
    between = mapped_times(flow)
    simulator.change(5002, status="completed")

    with caplog.at_level(logging.WARNING):
        outcome = flow.run()

    assert (between, outcome.gate, mapped_times(flow)) == ([], "open", [1])
    assert bookings(flow) == {5001: 1, 5002: 1}
    assert "do not show their order" in caplog.text


class Untold(OmnitronSimulator):
    """An Omnitron that knows the order of its plans, all of one, but does not show it."""

    def handle(self, call: Request) -> Answer:
        assert call.query.pop("order_id", "20001") == "20001"
        return super().handle(call)


def test_an_order_that_is_named_by_its_number_is_asked_for_by_it(make_flow: MakeFlow) -> None:
    made = documents(2, together=True)
    returned = [{**one, "order": {"number": "1000005000"}} for one in transactions(SEED, made)]
    flow = make_flow(
        omnitron=OmnitronSimulator(made, returned),
        **SETTINGS,
        omnitron__api={"plans": {"order": "order_number"}, "transactions": {"order_path": "order.number"}},
    )

    flow.run()

    assert [call.query["order_number"] for call in asked_for_all(flow)] == ["1000005000"]
    assert mapped_times(flow) == [1]


def test_a_number_with_blanks_around_it_is_the_same_plan(make_flow: MakeFlow) -> None:
    def padded(whole: dict[str, Any]) -> dict[str, Any]:
        return {**whole, "results": [{**plan, "pk": f" {plan['pk']} "} for plan in whole["results"]]}

    flow, simulator = a_moody_flow(make_flow, documents(2, together=True))
    simulator.changed = padded

    outcome = flow.run()

    assert (outcome.gate, mapped_times(flow)) == ("open", [1])


@pytest.mark.parametrize("fan_out", [50, 0], ids=["plan by plan", "side by side"])
def test_two_flows_that_run_at_once_map_their_order_once(
    make_flow: MakeFlow, journal_url: str, fan_out: int
) -> None:
    made = documents(12)
    for position, plan in enumerate(made):
        plan["order"] = made[position - position % 2]["order"]
        plan["plan_type"] = "refund" if position % 2 else "cancel"
    flow = a_flow(make_flow, made, url=journal_url, omnitron__cancel_type="refund", fan_out=fan_out)
    other = another_flow(flow, fan_out=fan_out)

    with ThreadPoolExecutor(2) as both:
        list(both.map(Flow.run, [flow, other]))
    flow.run()

    assert mapped_times(flow) == [1] * 6
    assert set(bookings(flow).values()) == {1}
    other.close()


# A plan that has left


@pytest.mark.parametrize("how", ["rejected", thorough("deleted")])
@pytest.mark.parametrize("fan_out", [50, 0], ids=["plan by plan", "side by side"])
def test_a_transaction_whose_failed_plan_was_rejected_in_omnitron_is_mapped(
    make_flow: MakeFlow, how: str, fan_out: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = a_flow(make_flow, documents(2, together=True), fan_out=fan_out)
    flow.erp.simulator.fail("refuse", plan=5001, times=2 if fan_out == 0 else 1)
    flow.run()
    assert flow.states() == {"5001": "failed", "5002": "done"}
    if how == "rejected":
        flow.omnitron.simulator.change(5001, status="rejected")
    else:
        flow.omnitron.simulator.remove(5001)

    flow.run()
    # A plan that is gone is asked for once more, ten minutes later.
    monkeypatch.setattr(Journal, "_now", lambda self, connection: time.time() + 700)
    flow.run()
    flow.run()

    assert flow.states() == {"5001": "left", "5002": "done"}
    assert list(codes(flow).values()) == [[flow.row(5002).erp_reference]]


def test_a_transaction_all_of_whose_plans_have_left_is_not_mapped(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(2, together=True))
    flow.erp.simulator.fail("refuse", plan="*", times=2)
    flow.run()
    for pk in (5001, 5002):
        flow.omnitron.simulator.change(pk, status="rejected")

    gates = [flow.run().gate for _ in range(2)]

    assert flow.states() == {"5001": "left", "5002": "left"}
    assert (gates, codes(flow)) == (["open"] * 2, {})


# A transaction whose mappings cannot be read


def unreadable(flow: Flow, transaction: int, status: int) -> None:
    own = flow.omnitron.simulator.handle
    flow.omnitron.simulator.handle = lambda call: (
        answer(status, {"detail": "no"})
        if call.path.endswith("get_mappings/") and f"/{transaction}/" in call.path
        else own(call)
    )


@pytest.mark.parametrize("status", [404, thorough(403), thorough(500)])
def test_one_transaction_whose_mappings_cannot_be_read_does_not_stop_the_others(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    flow = a_flow(make_flow, documents(3), omnitron__page_size=1)
    own, first = flow.omnitron.simulator.handle, returns(flow)[0]
    unreadable(flow, first, status)

    outcome = flow.run()

    assert flow.states() == {"5002": "done", "5003": "done"}
    assert outcome.report["left_out"]["transactions whose mappings cannot be read"] == 1
    assert "1 transactions whose mappings cannot be read" in outcome.gate
    told = (
        f"no order transaction {first}" if status == 404 else f"transaction {first} cannot be read: {status}"
    )
    assert told in caplog.text
    flow.omnitron.simulator.handle = own
    assert flow.run().gate == "open"
    assert flow.state(5001) == "done"


def test_a_refused_token_for_mappings_stops_the_run(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(2))
    flow.omnitron.simulator.fail("status", status=401, path="get_mappings", times=99)

    with pytest.raises(StopFlow):
        flow.run()

    assert flow.sent() == []


@pytest.mark.thorough
def test_a_dry_run_shows_the_plans_of_the_other_transactions(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    flow = a_flow(make_flow, documents(2))
    unreadable(flow, returns(flow)[0], 404)

    with caplog.at_level("INFO", "order_cancel"):
        flow.run(dry_run=True)

    assert len([said for said in caplog.messages if "would send" in said]) == 1
