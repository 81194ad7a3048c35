"""What Omnitron does not say, or says wrongly, loses no plan and does not stay untold."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.order_cancel.rows import Move, State
from include.simulator import OmnitronSimulator, plans
from include.simulator.wire import Answer, Request, answer
from tests.harness import Flow
from tests.integration.conftest import SEED, MakeFlow
from tests.integration.test_windows import COMPLETED
from tests.shares import thorough

LIST = "/api/v1/cancellation_plans/"


class Shaped(OmnitronSimulator):
    """Gives at most two plans a page, in an answer that `shape` makes of the usual one."""

    shape: Callable[[dict[str, Any]], Any] = staticmethod(lambda content: content)

    def handle(self, call: Request) -> Answer:
        if call.path != LIST or call.method != "GET":
            return super().handle(call)
        call.query["limit"] = str(min(2, int(call.query["limit"])))
        usual = super().handle(call)
        return answer(200, self.shape(json.loads(usual.body))) if usual.status == 200 else usual


SHAPES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a bare list": lambda content: content["results"],
    "no next": lambda content: {"results": content["results"]},
    "a count in words": lambda content: {"count": str(content["count"]), "results": content["results"]},
}


@pytest.mark.parametrize("page_size", [thorough(2), 100])
@pytest.mark.parametrize("kind", [thorough("waiting"), "completed"])
@pytest.mark.parametrize("shape", SHAPES)
def test_pages_that_are_shorter_than_asked_for_are_read_to_the_end(
    make_flow: MakeFlow, shape: str, kind: str, page_size: int
) -> None:
    omnitron = Shaped(plans(SEED, 5, status=kind))
    omnitron.shape = SHAPES[shape]
    changes = COMPLETED if kind == "completed" else {}
    flow = make_flow(omnitron=omnitron, omnitron__page_size=page_size, **changes)

    outcome = flow.run()

    assert (outcome.gate, len(flow.sent())) == ("open", 5)


def test_a_list_that_stays_shorter_than_its_count_closes_the_gate(make_flow: MakeFlow) -> None:
    omnitron = Shaped(plans(SEED, 5))
    omnitron.shape = lambda content: {**content, "next": None}
    flow = make_flow(omnitron=omnitron)

    outcome = flow.run()

    assert "Omnitron counts more than its list shows, also when it is read again" in outcome.gate
    assert flow.states() == {"5001": "done", "5002": "done"}


def refused_once(flow: Flow) -> None:
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    assert flow.state(5001) == "failed"


@pytest.mark.parametrize(
    "changes",
    [
        {"channel_ids": [99]},
        {"cancel_type": "refund"},
        {"cancel_status": "confirmed", "next_state": "completed"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_settings_that_lead_elsewhere_take_no_open_plan_out_of_the_flow(
    make_flow: MakeFlow, changes: dict[str, Any]
) -> None:
    flow = make_flow(1, plan_type="cancel")
    refused_once(flow)
    usual = dict(flow.raw["omnitron"])

    flow.raw["omnitron"] = {**usual, **changes}
    outcome = flow.run()
    state, error = flow.state(5001), flow.row(5001).error or ""
    flow.raw["omnitron"] = usual
    after = flow.run()

    assert (state, outcome.gate == "open") == ("failed", False)
    assert error.startswith("it does not fit the settings: ")
    assert (flow.state(5001), after.gate) == ("done", "open")


def test_a_status_that_one_plans_page_spells_otherwise_takes_no_plan_out_of_the_flow(
    make_flow: MakeFlow,
) -> None:
    flow = make_flow(1, status="completed", **COMPLETED)
    refused_once(flow)
    own = flow.omnitron.simulator.handle

    def shouting(call: Request) -> Answer:
        given = own(call)
        if call.path != f"{LIST}5001/":
            return given
        return answer(200, {**json.loads(given.body), "status": "COMPLETED"})

    flow.omnitron.simulator.handle = shouting
    outcome = flow.run(retry_only=True)

    assert (flow.state(5001), outcome.gate == "open") == ("failed", False)


def test_a_write_back_that_takes_no_effect_closes_the_gate_when_it_is_repeated(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    own = flow.omnitron.simulator.handle
    flow.omnitron.simulator.handle = lambda call: answer(200, {}) if call.method == "PATCH" else own(call)

    first, second = flow.run(), flow.run()
    error = flow.row(5001).error or ""
    flow.omnitron.simulator.handle = own
    third = flow.run()

    assert (first.gate, second.gate == "open", third.gate) == ("open", False, "open")
    assert "shows the plan in its old status" in error
    assert (flow.state(5001), len(flow.sent())) == ("done", 1)


def test_plans_in_doubt_keep_none_waiting_that_was_merely_held(make_flow: MakeFlow) -> None:
    flow = make_flow(12, fan_out=0, lots=1, erp__in_doubt="resend", erp__max_in_flight=1)
    oldest = sorted(plans(SEED, 12), key=lambda plan: str(plan["created_date"]))[:2]
    for pk in (plan["pk"] for plan in oldest):
        flow.erp.simulator.fail("status", status=500, plan=pk)
    flow.run()
    assert "held" in flow.states().values()

    flow.run()

    assert list(flow.states().values()).count("done") == 10


def test_what_is_sent_again_while_in_doubt_counts_as_an_attempt(make_flow: MakeFlow) -> None:
    flow = make_flow(1, erp__in_doubt="resend", max_attempts=2)
    flow.erp.simulator.fail("status", status=500, plan=5001)

    for _ in range(4):
        flow.run()

    row = flow.row(5001)
    assert (row.state, row.attempts) == (State.IN_DOUBT, 2)
    assert "2 runs have sent it, as many as max_attempts allows" in (row.error or "")
    assert len(flow.sent()) == 6  # three tries in place by each of two runs


@pytest.mark.parametrize(("policy", "rests"), [("resend", True), ("hold", False)])
def test_only_what_is_sent_again_rests_after_many_attempts(
    make_flow: MakeFlow, policy: str, rests: bool
) -> None:
    flow = make_flow(1, erp__in_doubt=policy)
    refused_once(flow)
    row = flow.row(5001)
    row.attempts = 7
    with flow.journal() as journal:
        journal.apply([Move(row)])
    flow.erp.simulator.fail("status", status=500, plan=5001)

    flow.run()

    row = flow.row(5001)
    assert (row.state, row.next_attempt_at > 0) == (State.IN_DOUBT, rests)


@pytest.mark.parametrize("by", ["start_from", "variable"])
def test_a_window_that_begins_in_the_future_closes_the_gate_and_moves_no_time(
    make_flow: MakeFlow, by: str
) -> None:
    flow = make_flow(2, status="completed", **COMPLETED)
    later = datetime.now(UTC) + timedelta(days=9000)
    if by == "variable":
        flow.last_query = later
    else:
        flow.raw["omnitron"]["start_from"] = later.isoformat()

    outcome = flow.run()

    assert "the window begins in the future" in outcome.gate
    assert flow.last_query == (later if by == "variable" else None)


def test_a_plan_that_changed_in_the_same_instant_is_listed_without_an_overlap(make_flow: MakeFlow) -> None:
    flow = make_flow(2, status="completed", **{**COMPLETED, "omnitron__overlap_seconds": 0})
    simulator = flow.omnitron.simulator
    same = [
        plan | {"modified_date": "2025-03-01T08:00:00.000000Z"} for plan in plans(SEED, 2, status="completed")
    ]
    simulator.put_plans(same[:1])
    simulator.remove(same[1]["pk"])
    flow.run()
    simulator.put_plans(same[1:])

    flow.run()

    assert flow.states() == {"5001": "done", "5002": "done"}


def test_plans_that_wait_for_a_word_leave_room_for_new_ones(make_flow: MakeFlow) -> None:
    flow = make_flow(2, omnitron__max_plans=2)
    new = plans(SEED, 4)[2:]
    for pk in (5001, 5002):
        flow.erp.simulator.fail("status", status=500, plan=pk)
    flow.run()
    assert set(flow.states().values()) == {"in_doubt"}
    flow.omnitron.simulator.put_plans(new)

    flow.run(dry_run=True)
    flow.run()

    assert flow.states() == {"5001": "in_doubt", "5002": "in_doubt", "5003": "done", "5004": "done"}
