"""Omnitron answers 404 for one plan: its own word or a gateway's, believed only when it is said again, and later."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from include.order_cancel.journal import Journal
from include.simulator import plans
from include.simulator.wire import Answer, Request, answer
from tests.harness import Flow, Outcome
from tests.integration.conftest import SEED, MakeFlow
from tests.integration.test_listings import KEYED, Changed, keyed_by_id
from tests.integration.test_order_transactions import a_flow, codes, documents, returns
from tests.shares import thorough

LIST = "/api/v1/cancellation_plans/"
TRANSACTIONS = "/api/v1/order_transactions/"
KONG = answer(404, {"message": "no Route matched with those values"})
SPRING = answer(404, {"timestamp": "2025-03-01T08:00:00Z", "status": 404, "error": "Not Found", "path": LIST})
PAGE = Answer(404, b"<html><h1>404 Not Found</h1></html>", {"Content-Type": "text/html"})
GATEWAYS = pytest.mark.parametrize(
    "page", [pytest.param(KONG, id="kong"), thorough(SPRING, id="spring"), thorough(PAGE, id="page")]
)
LANES = pytest.mark.parametrize(
    "lane", [pytest.param({"fan_out": 50}, id="own tasks"), thorough({"fan_out": 0, "lots": 1}, id="lot")]
)
COMPLETED = {
    "omnitron__cancel_status": "completed",
    "omnitron__next_state": None,
    "omnitron__start_from": "2020-01-01T00:00:00Z",
}


ASKS_AGAIN = """
def respond(request, response, attributes):
    return "do_nothing" if attributes["invokehttp.status.code"] == "202" else "continue"
"""


class Clock:
    """The journal's clock, which a test sets forward."""

    ahead = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(Journal, "_now", lambda self, connection: time.time() + made.ahead)
    return made


def in_between(flow: Flow, gives: Callable[[Request], Answer | None]) -> Callable[[], None]:
    """A gateway before Omnitron: what `gives` answers, Omnitron never hears. Returns what takes it away."""
    own = flow.omnitron.simulator.handle
    flow.omnitron.simulator.handle = lambda call: gives(call) or own(call)

    def away() -> None:
        flow.omnitron.simulator.handle = own

    return away


def one_plan(page: Answer, *pks: int) -> Callable[[Request], Answer | None]:
    """`page` for whatever is asked of one plan, of these or of all."""

    def gives(call: Request) -> Answer | None:
        number = call.path.removeprefix(LIST).strip("/")
        return page if number.isdigit() and (not pks or int(number) in pks) else None

    return gives


def refused_once(flow: Flow, *pks: int) -> None:
    """A run after which the plans are read again before they are sent; in a lot they are refused by both lanes."""
    for pk in pks:
        flow.erp.simulator.fail("refuse", plan=pk, times=1 if flow.raw.get("fan_out", 50) else 2)
    flow.run()


def errors(flow: Flow, pk: int = 5001) -> str:
    return flow.row(pk).error or ""


@LANES
@GATEWAYS
def test_a_gateway_that_answers_404_for_every_plan_takes_none_out_of_the_flow(
    make_flow: MakeFlow, clock: Clock, page: Answer, lane: dict[str, int]
) -> None:
    flow = make_flow(3, **lane)
    refused_once(flow, 5001, 5002)
    away = in_between(flow, one_plan(page))

    during = []
    for _ in range(3):
        clock.ahead += 1000
        during.append(flow.run(retry_only=True))
    states, gates = flow.states(), {outcome.gate == "open" for outcome in during}
    away()
    clock.ahead += 30_000
    after = flow.run()

    assert states == {"5001": "failed", "5002": "failed", "5003": "done"}
    assert gates == {False}
    assert (set(flow.states().values()), after.gate) == ({"done"}, "open")


def test_the_error_names_both_plans_and_what_may_be_wrong(make_flow: MakeFlow) -> None:
    flow = make_flow(2)
    refused_once(flow, 5002)
    in_between(flow, one_plan(KONG))

    flow.run(retry_only=True)

    assert errors(flow, 5002).startswith(
        "Omnitron answers 404 to plan 5002, and also to plan 5001 that its own list shows: is the path wrong, or does "
        "a gateway in between answer?"
    )


def test_the_control_question_reads_numbers_where_the_profile_says(make_flow: MakeFlow, clock: Clock) -> None:
    omnitron = Changed(plans(SEED, 2), change=keyed_by_id)
    mapping = [{"operation": "shift", "spec": {"id": "pk"}}]  # by which the simulated ERP knows its plan
    flow = make_flow(omnitron=omnitron, omnitron__api=KEYED, mapping=mapping)
    refused_once(flow, 5001)
    omnitron.remove(5001)

    flow.run(retry_only=True)
    clock.ahead += 1000
    outcome = flow.run(retry_only=True)

    assert (flow.state(5001), outcome.gate) == ("left", "open")


def test_a_404_for_a_plan_that_the_list_shows_is_no_absence(make_flow: MakeFlow, clock: Clock) -> None:
    flow = make_flow(1)
    refused_once(flow, 5001)
    in_between(flow, one_plan(KONG, 5001))

    for _ in range(2):
        clock.ahead += 1000
        flow.run(retry_only=True)

    assert flow.state(5001) == "failed"
    assert "though its own list shows it" in errors(flow)


@pytest.mark.parametrize(
    "page", [KONG, answer(500, {}), answer(200, {"detail": "maintenance"}), Answer(200, b"<html>", {})]
)
def test_a_404_is_not_believed_while_the_list_cannot_be_read(
    make_flow: MakeFlow, clock: Clock, page: Answer
) -> None:
    flow = make_flow(2)
    refused_once(flow, 5001)
    flow.omnitron.simulator.remove(5001)
    in_between(flow, lambda call: page if call.path == LIST else None)

    for _ in range(2):
        clock.ahead += 1000
        flow.run(retry_only=True)

    assert flow.state(5001) == "failed"
    assert "its list cannot be read" in errors(flow)


@LANES
@pytest.mark.parametrize("count", [1, 2], ids=["the only plan", "one of two"])
def test_a_plan_is_left_once_omnitron_has_said_twice_that_it_has_no_such_plan(
    make_flow: MakeFlow, clock: Clock, lane: dict[str, int], count: int
) -> None:
    flow = make_flow(count, **lane)
    refused_once(flow, 5001)
    flow.omnitron.simulator.remove(5001)

    first = flow.run()
    error, state = errors(flow), flow.state(5001)
    clock.ahead += 500
    resting = flow.run()
    clock.ahead += 101
    second = flow.run()

    assert (state, first.gate == "open") == ("failed", False)
    assert error.startswith("Omnitron says that it has no such plan; it is asked again by a run after 20")
    assert resting.report["left_out"] == {"resting": 1}
    assert (flow.state(5001), second.gate) == ("left", "open")
    assert "not in Omnitron" in flow.happened(5001)
    assert {call.status for call in flow.sent(5001)} == {422}


@pytest.mark.parametrize("how", ["clear", "plan by its number"])
def test_asking_again_at_once_makes_no_second_word(make_flow: MakeFlow, clock: Clock, how: str) -> None:
    flow = make_flow(2)
    refused_once(flow, 5001)
    flow.omnitron.simulator.remove(5001)
    first = flow.run()

    for _ in range(3):
        clock.ahead += 150
        first.clear(5001) if how == "clear" else flow.run(retry_only=True)

    assert flow.state(5001) == "failed"
    clock.ahead += 151
    first.clear(5001) if how == "clear" else flow.run(retry_only=True)
    assert flow.state(5001) == "left"


@pytest.mark.parametrize("sighting", ["by a listing", "by its number", "while it rested"])
def test_a_sighting_in_between_makes_the_next_absence_the_first(
    make_flow: MakeFlow, clock: Clock, sighting: str
) -> None:
    flow = make_flow(2, status="completed", **COMPLETED)
    flow.erp.simulator.fail("refuse", plan=5001, times=2)
    flow.run()
    shown = flow.omnitron.simulator.plan(5001)
    flow.omnitron.simulator.remove(5001)
    clock.ahead += 1000
    flow.run(retry_only=True)
    flow.omnitron.simulator.put_plans([shown])
    clock.ahead += 100 if sighting == "while it rested" else 1000
    if sighting == "by its number":
        flow.run(retry_only=True)
    else:
        flow.omnitron.simulator.change(5001, modified_date="2030-01-01T00:00:00Z")
        flow.run()
    flow.omnitron.simulator.remove(5001)
    clock.ahead += 1000

    flow.run(retry_only=True)

    assert flow.state(5001) == "failed"
    assert [what for what in flow.happened(5001) if what in ("not in Omnitron", "shown again")] == [
        "not in Omnitron",
        "shown again",
        "not in Omnitron",
    ]


def test_bytes_that_were_sent_make_the_absent_plan_a_persons_matter(
    make_flow: MakeFlow, clock: Clock
) -> None:
    flow = make_flow(2, erp__custom_response=True, erp__custom_response_script=ASKS_AGAIN)
    flow.erp.simulator.fail("answer", plan=5001, status=202, effect=True, times=1, body={"state": "at work"})
    flow.run()
    flow.omnitron.simulator.remove(5001)

    flow.run()
    state = flow.state(5001)
    clock.ahead += 601
    flow.run()

    assert (state, flow.state(5001)) == ("failed", "changed")


def test_many_absent_plans_share_one_control_question(make_flow: MakeFlow) -> None:
    flow = make_flow(8, fan_out=0, lots=1, erp__max_in_flight=1)
    refused_once(flow, *range(5001, 5008))
    for pk in range(5001, 5008):
        flow.omnitron.simulator.remove(pk)
    before, asked = len(flow.listings()), {}
    flow.between = lambda task: asked.update({task: len(flow.listings())})

    flow.run(retry_only=True)

    assert asked["bulk"] - before == 1
    assert flow.states() == {**{str(pk): "failed" for pk in range(5001, 5008)}, "5008": "done"}


# A write-back to a plan that is gone


def gone_before_the_write_back(flow: Flow, pk: int = 5001) -> None:
    """Somebody deletes the plan between the ERP's answer and the write-back."""
    own = flow.omnitron.simulator.handle

    def handle(call: Request) -> Answer:
        if call.method == "PATCH" and call.pk == pk and pk in flow.omnitron.simulator.statuses():
            flow.omnitron.simulator.remove(pk)
        return own(call)

    flow.omnitron.simulator.handle = handle


def table(outcome: Outcome) -> str:
    return str(outcome.report["table"])


@LANES
@pytest.mark.parametrize("post", [False, True], ids=["", "post script"])
def test_a_plan_that_is_gone_before_its_write_back_ends_done_with_a_warning(
    make_flow: MakeFlow, clock: Clock, lane: dict[str, int], post: bool
) -> None:
    script = "def after(request, response, attributes):\n    pass\n" if post else None
    flow = make_flow(2, post_script=script, **lane)
    gone_before_the_write_back(flow)

    first = flow.run()
    state, error = flow.state(5001), errors(flow)
    clock.ahead += 601
    second = flow.run()
    third = flow.run()

    assert (state, first.gate == "open") == ("failed", False)
    assert error.startswith("Omnitron says that it has no such plan; it is asked again by a run after 20")
    assert (flow.state(5001), second.gate, third.gate) == ("done", "open", "open")
    told = f"the ERP has it with reference {flow.row(5001).erp_reference}, and Omnitron has no such plan any more"
    assert errors(flow).startswith(told)
    assert "done with a warning:" in table(second)
    assert told[:60] in table(second)
    assert len(flow.sent(5001)) == 1


def test_a_rejected_plan_that_is_gone_ends_rejected_with_a_warning(make_flow: MakeFlow, clock: Clock) -> None:
    flow = make_flow(2, erp__refusal="failure")
    flow.erp.simulator.fail("refuse", plan=5001)
    gone_before_the_write_back(flow)

    first = flow.run()
    state = flow.state(5001)
    clock.ahead += 601
    second = flow.run()

    assert (state, first.gate == "open") == ("failed", False)
    assert (flow.state(5001), second.gate) == ("rejected", "open")
    assert "could not be written" in errors(flow)
    assert "done with a warning:" in table(second)


@GATEWAYS
def test_a_gateways_404_for_a_write_back_ends_no_plan(
    make_flow: MakeFlow, clock: Clock, page: Answer
) -> None:
    flow = make_flow(2)
    away = in_between(flow, one_plan(page))

    for _ in range(3):
        clock.ahead += 1000
        flow.run(retry_only=bool(flow.rows()))
    states = set(flow.states().values())
    away()
    clock.ahead += 30_000
    flow.run()

    assert states == {"failed"}
    assert set(flow.states().values()) == {"done"}
    assert set(flow.omnitron.simulator.statuses().values()) == {"approved"}
    assert [len(flow.sent(pk)) for pk in (5001, 5002)] == [1, 1]


def test_a_404_of_the_write_back_alone_is_a_refusal(make_flow: MakeFlow, clock: Clock) -> None:
    flow = make_flow(2)
    in_between(flow, lambda call: KONG if call.method == "PATCH" else None)

    for _ in range(2):
        clock.ahead += 1000
        flow.run()

    assert set(flow.states().values()) == {"failed"}


# An order transaction that is gone


def with_returns(make_flow: MakeFlow, **changes: Any) -> tuple[Flow, int]:
    """Two orders with a plan and a return transaction each, and the number of the first one's."""
    flow = a_flow(make_flow, documents(2), **changes)
    return flow, returns(flow)[0]


def test_a_transaction_that_is_gone_before_its_mapping_ends_its_plan_with_a_warning(
    make_flow: MakeFlow, clock: Clock
) -> None:
    flow, transaction = with_returns(make_flow)
    flow.between = lambda task: (
        flow.omnitron.simulator._transactions.pop(transaction, None) if task == "write_to_erp" else None
    )

    first = flow.run()
    state, error = flow.state(5001), errors(flow)
    clock.ahead += 601
    second = flow.run()

    assert (state, first.gate == "open") == ("failed", False)
    assert error.startswith(
        f"Omnitron says that it has no order transaction {transaction}; it is asked again by"
    )
    assert (flow.states(), second.gate) == ({"5001": "done", "5002": "done"}, "open")
    assert f"Omnitron has no order transaction {transaction} any more: it could not be mapped" in errors(flow)
    assert "done with a warning:" in table(second)
    assert transaction not in codes(flow)
    assert len(flow.sent(5001)) == 1


def test_a_plan_whose_transaction_is_gone_is_not_sent_any_more(make_flow: MakeFlow, clock: Clock) -> None:
    flow, transaction = with_returns(make_flow)
    refused_once(flow, 5001)
    flow.omnitron.simulator._transactions.pop(transaction)

    first = flow.run()
    state = flow.state(5001)
    clock.ahead += 601
    flow.run()

    assert (state, first.gate == "open", flow.state(5001)) == ("failed", False, "left")
    assert len(flow.sent(5001)) == 1


@GATEWAYS
def test_a_gateways_404_for_mappings_ends_no_plan(make_flow: MakeFlow, clock: Clock, page: Answer) -> None:
    flow, _ = with_returns(make_flow)
    own = flow.omnitron.simulator.handle
    hidden = False

    def handle(call: Request) -> Answer:
        return page if hidden and call.path.endswith("/get_mappings/") else own(call)

    def hide(task: str) -> None:
        nonlocal hidden
        hidden = hidden or task == "write_to_erp"

    flow.omnitron.simulator.handle, flow.between = handle, hide
    flow.run()
    for _ in range(2):
        clock.ahead += 1000
        flow.run(retry_only=True)
    states = set(flow.states().values())
    flow.omnitron.simulator.handle = own
    clock.ahead += 30_000
    flow.run()

    assert states == {"failed"}
    assert set(flow.states().values()) == {"done"}
    assert sorted(map(len, codes(flow).values())) == [1, 1]


def test_a_gone_plan_of_an_order_is_believed_twice_before_the_mapping(
    make_flow: MakeFlow, clock: Clock
) -> None:
    flow, transaction = with_returns(make_flow)
    flow.between = lambda task: (
        flow.omnitron.simulator.remove(5001)
        if task == "write_to_erp" and 5001 in flow.omnitron.simulator.statuses()
        else None
    )

    first = flow.run()
    state, mapped = flow.state(5001), codes(flow).get(transaction)
    clock.ahead += 601
    second = flow.run()

    assert (state, mapped, first.gate == "open") == ("failed", None, False)
    assert (flow.state(5001), len(codes(flow)[transaction]), second.gate) == ("done", 1, "open")
