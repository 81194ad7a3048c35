"""What a listing shows: taken, or told by the report and the gate; and up to when a run knows what there is."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from include.order_cancel.omnitron import BadListing
from include.simulator import OmnitronSimulator, plans, transactions
from include.simulator.wire import Answer, Request, answer
from tests.harness import Flow
from tests.integration.conftest import SEED, MakeFlow
from tests.integration.test_order_transactions import SETTINGS as TRANSACTIONS
from tests.integration.test_order_transactions import Deaf, codes, documents, returns
from tests.integration.test_windows import COMPLETED
from tests.shares import thorough

LISTS = ("cancellation_plans/", "order_transactions/")
Change = Callable[[dict[str, Any]], Any]


def keyed_by_id(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its own number under `id`."""
    return {("id" if name == "pk" else name): value for name, value in document.items()}


class Changed(OmnitronSimulator):
    """Shows its plans and transactions, listed and one by one, as `change` makes them."""

    def __init__(self, *given: Any, change: Change) -> None:
        super().__init__(*given)
        self.changing = change

    def handle(self, call: Request) -> Answer:
        given = super().handle(call)
        if call.method != "GET" or given.status != 200 or call.path.endswith("get_mappings/"):
            return given
        content = json.loads(given.body)
        if "results" in content:
            return answer(200, {**content, "results": [self.changing(one) for one in content["results"]]})
        return answer(200, self.changing(content))


# The profile's number


KEYED = {"plans": {"pk": "id"}, "transactions": {"pk": "id"}}


@pytest.mark.parametrize("kind", ["waiting", "completed"])
def test_plans_whose_number_stands_elsewhere_are_carried(make_flow: MakeFlow, kind: str) -> None:
    changes = COMPLETED if kind == "completed" else {}
    simulator = Changed(plans(SEED, 3, status=kind), change=keyed_by_id)
    flow = make_flow(omnitron=simulator, omnitron__api=KEYED, omnitron__page_size=2, **changes)
    flow.erp.simulator.fail("status", status=429, times=3)

    flow.run()
    outcome = flow.run()

    assert flow.states() == dict.fromkeys(("5001", "5002", "5003"), "done")
    assert (outcome.gate, len(flow.erp.simulator.effects)) == ("open", 3)


def test_plans_are_asked_for_by_a_number_that_stands_elsewhere(make_flow: MakeFlow) -> None:
    flow = make_flow(omnitron=Changed(plans(SEED, 2), change=keyed_by_id), omnitron__api=KEYED)

    outcome = flow.run(plan_ids=[5002])

    assert (flow.states(), outcome.gate) == ({"5002": "done"}, "open")
    assert flow.omnitron.simulator.statuses() == {5001: "waiting", 5002: "approved"}


def test_transactions_and_plans_of_an_order_whose_numbers_stand_elsewhere_are_mapped(
    make_flow: MakeFlow,
) -> None:
    made = documents(2, together=True)
    simulator = Changed(made, transactions(SEED, made), change=keyed_by_id)
    flow = make_flow(omnitron=simulator, omnitron__api=KEYED, **TRANSACTIONS)
    flow.erp.simulator.fail("refuse", times=1)
    first = flow.run()
    between = dict(codes(flow))

    outcome = flow.run()

    assert "1 failed" in first.gate
    assert (outcome.gate, flow.states()) == ("open", {"5001": "done", "5002": "done"})
    assert ([len(found) for found in between.values()], len(codes(flow)[returns(flow)[0]])) == (
        [0] * len(between),
        1,
    )
    assert flow.run().report["left_out"] == {"settled transactions": 1}


@pytest.mark.parametrize(
    "pk",
    [
        thorough(None),
        True,
        1.0,
        "",
        thorough("  "),
        "a\u202eb",
        "9" * 64,
        thorough({"id": 1}),
        thorough(".."),
    ],
    ids=repr,
)
@pytest.mark.parametrize("changes", [COMPLETED, thorough({})], ids=["completed", "waiting"])
def test_a_plan_without_a_usable_number_closes_the_gate_and_holds_the_time(
    make_flow: MakeFlow, pk: Any, changes: dict[str, Any]
) -> None:
    status = "completed" if changes else "waiting"
    simulator = Changed(
        plans(SEED, 3, status=status), change=lambda one: {**one, "pk": pk} if one["pk"] == 5002 else one
    )
    flow = make_flow(omnitron=simulator, **changes)

    outcome = flow.run()

    assert outcome.report["left_out"]["plans without a usable number"] == 1
    assert "1 plans without a usable number" in outcome.gate
    assert "omnitron.api.plans.pk" in outcome.gate
    assert flow.last_query is None
    assert flow.states() == {"5001": "done", "5003": "done"}


def test_all_plans_under_another_name_are_counted_on_every_page(make_flow: MakeFlow) -> None:
    simulator = Changed(plans(SEED, 5, status="completed"), change=keyed_by_id)
    flow = make_flow(omnitron=simulator, omnitron__page_size=2, **COMPLETED)

    outcome = flow.run()

    assert "5 plans without a usable number" in outcome.gate
    assert flow.last_query is None


def test_two_long_numbers_never_become_one_plan(make_flow: MakeFlow) -> None:
    long = "7" * 70
    simulator = Changed(plans(SEED, 2), change=lambda one: {**one, "pk": f"{long}{one['pk']}"})
    flow = make_flow(omnitron=simulator)

    outcome = flow.run()

    assert (flow.rows(), flow.sent()) == ({}, [])
    assert "2 plans without a usable number" in outcome.gate


def test_an_entry_that_is_no_object_is_counted(make_flow: MakeFlow) -> None:
    simulator = Changed(plans(SEED, 2), change=lambda one: one["pk"] if one["pk"] == 5001 else one)
    flow = make_flow(omnitron=simulator)

    outcome = flow.run()

    assert "1 plans without a usable number" in outcome.gate
    assert flow.states() == {"5002": "done"}


def test_what_has_no_number_is_counted_once_where_a_list_is_read_twice(make_flow: MakeFlow) -> None:
    class Boasting(Changed):
        def handle(self, call: Request) -> Answer:
            given = super().handle(call)
            content = json.loads(given.body)
            return answer(200, {**content, "count": 9}) if "count" in content else given

    flow = make_flow(omnitron=Boasting(plans(SEED, 3), change=keyed_by_id))

    outcome = flow.run()

    assert outcome.report["left_out"] == {"plans without a usable number": 3}


# Order transactions


def transaction_flow(make_flow: MakeFlow, change: Change, **changes: Any) -> Flow:
    made = documents(2)
    simulator = Changed(made, transactions(SEED, made), change=change)
    return make_flow(omnitron=simulator, **TRANSACTIONS, **changes)


@pytest.mark.parametrize("pk", [None, thorough(True), thorough("8" * 80)], ids=repr)
def test_a_transaction_without_a_usable_number_closes_the_gate(make_flow: MakeFlow, pk: Any) -> None:
    flow = transaction_flow(make_flow, lambda one: {**one, "pk": pk} if one.get("order") == 20001 else one)

    outcome = flow.run()

    assert outcome.report["left_out"]["transactions without a usable number"] == 1
    assert "omnitron.api.transactions.pk" in outcome.gate
    assert (flow.states(), flow.last_query) == ({"5002": "done"}, None)


@pytest.mark.parametrize(
    "order", [None, thorough(20001.0), thorough(True), thorough("1" * 80), thorough([1])], ids=repr
)
def test_a_transaction_without_an_order_closes_the_gate(make_flow: MakeFlow, order: Any) -> None:
    flow = transaction_flow(
        make_flow, lambda one: {**one, "order": order} if one.get("order") == 20001 else one
    )

    outcome = flow.run()

    assert outcome.report["left_out"]["transactions without an order"] == 1
    assert "1 transactions without an order" in outcome.gate
    assert flow.states() == {"5002": "done"}


@pytest.mark.parametrize("status", [thorough(400), thorough(404), 500])
def test_an_order_whose_plans_cannot_be_listed_does_not_stop_the_others(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    flow = transaction_flow(make_flow, lambda one: one)
    own = flow.omnitron.simulator.handle
    flow.omnitron.simulator.handle = lambda call: (
        answer(status, {"detail": "no"}) if call.query.get("order_id") == "20001" else own(call)
    )

    outcome = flow.run()

    assert outcome.report["left_out"]["orders whose plans cannot be listed"] == 1
    assert "1 orders whose plans cannot be listed" in outcome.gate
    assert "order 20001 cannot be listed" in caplog.text
    assert (flow.states(), flow.last_query) == ({"5002": "done"}, None)
    flow.omnitron.simulator.handle = own
    assert (flow.run().gate, flow.state(5001)) == ("open", "done")


def test_a_plan_of_a_transaction_that_no_flow_takes_closes_the_gate(make_flow: MakeFlow) -> None:
    flow = transaction_flow(
        make_flow,
        lambda one: {**one, "plan_type": "REFUND"} if one["pk"] == 5001 else one,
        omnitron__cancel_type="refund",
    )

    outcome = flow.run()

    assert outcome.report["left_out"]["not fitting"] == 1
    assert "the plan type is 'REFUND', not refund" in outcome.gate
    assert flow.states() == {"5002": "done"}


def test_plans_whose_orders_are_named_otherwise_than_in_their_transactions_close_the_gate(
    make_flow: MakeFlow,
) -> None:
    class ByNumber(OmnitronSimulator):
        """Takes the order's pk for its filter, and shows the order's number only."""

        def handle(self, call: Request) -> Answer:
            given = super().handle(call)
            content = json.loads(given.body) if call.path.endswith("/cancellation_plans/") else {}
            for one in content.get("results", ()):
                one["order"] = {"number": one["order"]["number"]}
            return answer(200, content) if content else given

    made = documents(2)
    flow = make_flow(omnitron=ByNumber(made, transactions(SEED, made)), **TRANSACTIONS)

    outcome = flow.run()

    assert "2 plans of other orders than those that were asked for are kept by no flow" in outcome.gate
    assert (flow.rows(), outcome.report["left_out"]["plans of other orders"]) == ({}, 2)


def test_plans_of_other_orders_that_come_with_their_own_transaction_leave_the_gate_open(
    make_flow: MakeFlow,
) -> None:
    made = documents(3)
    flow = make_flow(omnitron=Deaf(made, transactions(SEED, made)), **TRANSACTIONS)

    outcome = flow.run()

    assert outcome.report["left_out"]["plans of other orders"] == 6
    assert flow.states() == dict.fromkeys(("5001", "5002", "5003"), "done")
    assert outcome.gate == "open"


# What does not fit


def of_type(channel_type: str, *pks: int) -> Change:
    def change(one: dict[str, Any]) -> dict[str, Any]:
        channel = {"pk": 7, "name": "web", "channel_type": channel_type}
        return {**one, "order": {**one["order"], "channel": channel}} if not pks or one["pk"] in pks else one

    return change


def test_where_no_listed_plan_fits_the_gate_says_what_was_shown_and_what_is_wanted(
    make_flow: MakeFlow,
) -> None:
    flow = make_flow(omnitron=Changed(plans(SEED, 3), change=of_type("WEB")))

    outcome = flow.run()

    assert "3 times the channel type is 'WEB', not sales_channel" in outcome.gate
    assert outcome.report["left_out"] == {"not fitting": 3}
    assert flow.sent() == []


def test_where_some_listed_plans_fit_the_gate_stays_open(make_flow: MakeFlow) -> None:
    flow = make_flow(omnitron=Changed(plans(SEED, 3), change=of_type("web", 5001)))

    outcome = flow.run()

    assert (outcome.gate, outcome.report["left_out"]["not fitting"]) == ("open", 1)


def test_a_plan_that_does_not_fit_a_completed_flow_closes_the_gate_and_is_found_later(
    make_flow: MakeFlow,
) -> None:
    made = plans(SEED, 2, status="completed")
    flow = make_flow(omnitron=Changed(made, change=of_type("web", 5002)), **COMPLETED)

    first = flow.run()
    held = flow.last_query
    flow.omnitron.simulator.changing = of_type("sales_channel", 5002)
    second = flow.run()

    assert "1 times the channel type is 'web', not sales_channel" in first.gate
    assert (held, second.gate) == (None, "open")
    assert (flow.states(), flow.last_query is None) == ({"5001": "done", "5002": "done"}, False)


@pytest.mark.parametrize("param", ["plan_ids", "resend_ids"])
def test_a_plan_that_was_asked_for_by_number_and_is_not_known_closes_the_gate(
    make_flow: MakeFlow, param: str
) -> None:
    flow = make_flow(1)

    outcome = flow.run(**{param: [5001, 9999]})

    assert "Omnitron knows no plan 9999" in outcome.gate
    assert flow.states() == {"5001": "done"}


def test_the_gate_names_fifty_of_many_plans_that_are_not_known(make_flow: MakeFlow) -> None:
    flow = make_flow(0)

    outcome = flow.run(plan_ids=list(range(9001, 9061)))

    assert outcome.gate.count("Omnitron knows no plan") == 50
    assert "and 10 more" in outcome.gate


@pytest.mark.parametrize("param", ["plan_ids", "resend_ids"])
def test_a_plan_that_was_asked_for_by_number_and_does_not_fit_closes_the_gate(
    make_flow: MakeFlow, param: str
) -> None:
    flow = make_flow(1)
    flow.omnitron.simulator.change(5001, status="completed")

    outcome = flow.run(**{param: [5001]})

    assert "plan 5001, which was asked for by its number, does not fit" in outcome.gate
    assert "the status is 'completed', not waiting" in outcome.gate
    assert flow.rows() == {}


# The last query time


class Ahead(OmnitronSimulator):
    """Behind a balancer whose clock is ahead, or behind."""

    seconds = 900.0

    def handle(self, call: Request) -> Answer:
        given = super().handle(call)
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=self.seconds), usegmt=True)
        return replace(given, headers={**given.headers, "Date": date})


def test_a_header_s_clock_that_is_ahead_loses_no_plan(make_flow: MakeFlow) -> None:
    flow = make_flow(omnitron=Ahead(plans(SEED, 2, status="completed")), **COMPLETED)
    flow.run()
    late = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    third = plans(SEED, 3, status="completed")[2]
    flow.omnitron.simulator.put_plans([{**third, "modified_date": late}])

    flow.run()

    assert Counter(call.pk for call in flow.sent()) == {5001: 1, 5002: 1, 5003: 1}


@pytest.mark.parametrize("clock", [0.0, 900.0])
def test_where_nothing_is_shown_the_earlier_clock_counts(make_flow: MakeFlow, clock: float) -> None:
    flow = make_flow(omnitron=Ahead([]), **COMPLETED)
    flow.omnitron.simulator.seconds = 900.0 - clock
    flow.http = {"clock": lambda: datetime.now(UTC).timestamp() + clock}

    flow.run()

    assert flow.last_query is not None
    assert flow.last_query <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("shown", "known"),
    [
        ("2025-03-02T10:00:00Z", "2025-03-02T10:00:00+00:00"),
        ("2025-03-02T10:00:00+03:00", "2025-03-02T07:00:00+00:00"),
        ("2025-03-02T10:00:00", "2025-03-01T20:00:00+00:00"),
    ],
)
def test_the_last_query_time_is_never_later_than_the_newest_plan_that_was_shown(
    make_flow: MakeFlow, shown: str, known: str
) -> None:
    dates = {5001: "2025-03-01T00:00:00Z", 5002: shown, 5003: "soon"}
    simulator = Changed(
        plans(SEED, 3, status="completed"), change=lambda one: {**one, "modified_date": dates[one["pk"]]}
    )
    flow = make_flow(omnitron=simulator, **COMPLETED)

    flow.run()

    assert flow.last_query == datetime.fromisoformat(known) - timedelta(milliseconds=1)


def test_plans_without_a_readable_date_leave_the_time_to_the_clocks(make_flow: MakeFlow) -> None:
    simulator = Changed(plans(SEED, 2, status="completed"), change=lambda one: {**one, "modified_date": 5})
    flow = make_flow(omnitron=simulator, **COMPLETED)
    before = datetime.now(UTC) - timedelta(seconds=5)

    flow.run()

    assert flow.last_query is not None
    assert before <= flow.last_query <= datetime.now(UTC)


def test_a_plan_in_the_future_does_not_move_the_time_there(make_flow: MakeFlow) -> None:
    simulator = Changed(
        plans(SEED, 1, status="completed"),
        change=lambda one: {**one, "modified_date": "2099-01-01T00:00:00Z"},
    )
    flow = make_flow(omnitron=simulator, **COMPLETED)

    flow.run()

    assert flow.last_query is not None
    assert flow.last_query <= datetime.now(UTC)


# The next page


@pytest.mark.parametrize(
    "inside", [b"http://inside:8000/app/api", b"/api"], ids=["a proxy's inside name", "relative"]
)
def test_a_next_page_that_names_another_place_is_read_where_the_connection_points_to(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture, inside: bytes
) -> None:
    class Inside(OmnitronSimulator):
        def handle(self, call: Request) -> Answer:
            given = super().handle(call)
            own = f"http://{call.headers['Host']}/api".encode()
            assert own in given.body or b'"next": "' not in given.body
            return replace(given, body=given.body.replace(own, inside))

    flow = make_flow(omnitron=Inside(plans(SEED, 5, status="completed")), omnitron__page_size=2, **COMPLETED)

    with caplog.at_level(logging.WARNING):
        outcome = flow.run()

    assert (outcome.gate, len(flow.erp.simulator.effects)) == ("open", 5)
    told = [said for said in caplog.messages if "it is asked where the Connection points to" in said]
    assert len(told) == (1 if inside.startswith(b"http") else 0)


def test_a_next_page_of_another_list_is_refused_and_moves_nothing(make_flow: MakeFlow) -> None:
    class Straying(OmnitronSimulator):
        def handle(self, call: Request) -> Answer:
            given = super().handle(call)
            return replace(given, body=given.body.replace(b"cancellation_plans/?", b"order_items/?"))

    flow = make_flow(
        omnitron=Straying(plans(SEED, 4, status="completed")), omnitron__page_size=2, **COMPLETED
    )

    with pytest.raises(BadListing, match="next page"):
        flow.run()

    assert (flow.last_query, flow.sent()) == (None, [])
