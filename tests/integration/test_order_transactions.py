"""Order transactions: each is mapped once, when all its plans are delivered, and is never asked about again."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest

from include.simulator import OmnitronSimulator, plans, transactions
from tests.harness import Flow
from tests.integration.conftest import SEED, MakeFlow

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
