"""When all plans of an order are settled, so that its transaction may be mapped."""

from __future__ import annotations

from typing import Any

import pytest

from include.order_cancel.profile import Words
from include.order_cancel.rows import Row, State
from include.order_cancel.whole_order import NOBODYS, NOT_YET, is_open, pks_of, standing

SETTLED = {State.DONE, State.WRITTEN_BACK, State.REJECTED, State.PASSED, State.DISMISSED}


def document(status: Any = "completed", pk: Any = 2) -> dict[str, Any]:
    return {"pk": pk, "status": status}


def row(state: State, flow: str = "refunds", pk: str = "2") -> Row:
    return Row(1, "host", flow, pk, 1, state)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("flow", ["refunds", "cancels"])
def test_a_plan_that_some_flow_has_carried_to_an_end_is_settled(state: State, flow: str) -> None:
    found = standing([document()], [row(state, flow)], Words())

    assert (found.waits == "") is (state in SETTLED)
    assert found.unclaimed is (state is State.LEFT)


@pytest.mark.parametrize("state", [state for state in State if is_open(row(state))])
def test_a_plan_that_is_open_in_one_flow_waits_though_another_has_carried_it(state: State) -> None:
    found = standing([document()], [row(State.DONE), row(state, "cancels")], Words())

    assert (found.waits, found.word) == (f"plan 2 is {state} in flow cancels", NOT_YET)


@pytest.mark.parametrize(
    ("status", "waits", "word"),
    [
        ("completed", "plan 2 is completed, and no flow has carried it", NOBODYS),
        ("waiting", "plan 2 is waiting", NOT_YET),
        ("approved", "plan 2 is approved", NOT_YET),
        ("cancelled", "plan 2 is cancelled", NOT_YET),
        ("never heard", "plan 2 is never heard", NOT_YET),
        (50, "plan 2 shows no status", NOT_YET),
        (None, "plan 2 shows no status", NOT_YET),
        ("rejected", "", NOT_YET),
    ],
)
@pytest.mark.parametrize("rows", [[], [row(State.LEFT)]], ids=["unknown", "left alone"])
def test_a_plan_that_no_flow_has_carried_waits_unless_omnitron_has_rejected_it(
    status: Any, waits: str, word: str, rows: list[Row]
) -> None:
    found = standing([document(status)], rows, Words())

    assert (found.waits, found.word) == (waits, word)


def test_the_profile_s_words_are_compared() -> None:
    words = Words(rejected="REJECTED", completed="COMPLETED")

    assert standing([document("REJECTED")], [], words).waits == ""
    assert standing([document("rejected")], [], words).waits == "plan 2 is rejected"
    assert standing([document("COMPLETED")], [], words).unclaimed


def test_every_plan_that_waits_is_named() -> None:
    found = standing(
        [document(pk=1), document("waiting"), document(pk=3)], [row(State.DONE, pk="3")], Words()
    )

    assert found.waits == "plan 1 is completed, and no flow has carried it; plan 2 is waiting"
    assert found.unclaimed


@pytest.mark.parametrize("state", sorted(SETTLED))
def test_an_order_is_delivered_where_all_its_carried_plans_are(state: State) -> None:
    found = standing([document(pk=1), document()], [row(State.DONE, pk="1"), row(state, "cancels")], Words())

    assert found.delivered is (state in (State.DONE, State.WRITTEN_BACK))


def test_a_plan_that_was_left_alone_is_no_obstacle_once_omnitron_has_rejected_it() -> None:
    found = standing(
        [document(pk=1), document("rejected")], [row(State.DONE, pk="1"), row(State.LEFT)], Words()
    )

    assert (found.waits, found.delivered) == ("", True)


def test_a_number_is_the_same_in_every_form() -> None:
    assert pks_of([{"pk": 5001}, {"pk": " 5002 "}]) == [" 5002 ", "5001", "5002"]
    assert standing([document(pk="2 ")], [row(State.DONE, pk=" 2")], Words()).waits == ""
