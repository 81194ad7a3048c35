"""A run whose first answers are all refusals stops: a wrong mapping is not sent to the ERP five thousand times."""

from __future__ import annotations

from collections import Counter

import pytest

from include.simulator import plans
from tests.harness import Flow
from tests.integration.conftest import SEED, MakeFlow
from tests.shares import thorough

REFUSED = 16
LANES = pytest.mark.parametrize(
    "lane",
    [
        thorough({"fan_out": 50}, id="own tasks"),
        thorough({"fan_out": 0, "lots": 1, "erp__max_in_flight": 1}, id="one lot"),
        pytest.param({"fan_out": 0, "lots": 3, "erp__max_in_flight": 3}, id="three lots"),
    ],
)
FAILURE = """
def respond(request, response, attributes):
    return "failure"
"""


def refuse(flow: Flow, *pks: int) -> None:
    for pk in pks:
        flow.erp.simulator.fail("refuse", plan=pk)


def counts(flow: Flow) -> Counter[str]:
    return Counter(flow.states().values())


@LANES
def test_a_run_stops_once_its_first_answers_were_all_refusals(
    make_flow: MakeFlow, lane: dict[str, int]
) -> None:
    flow = make_flow(24, **lane)
    refuse(flow, *range(5001, 5025))

    outcome = flow.run()

    assert len({call.pk for call in flow.sent()}) == REFUSED
    unsent = [row for row in flow.rows().values() if row.outcome == ""]
    assert len(unsent) >= 24 - REFUSED
    assert {(str(row.state), row.next_attempt_at) for row in unsent} == {("held", 0.0)}
    assert "the run was stopped: the ERP has refused all of the first 16 plans of this run" in outcome.gate


@pytest.mark.parametrize(
    "lane", [{"fan_out": 50}, thorough({"fan_out": 0, "lots": 1, "erp__max_in_flight": 1})]
)
def test_the_next_run_goes_on_with_what_was_not_sent(make_flow: MakeFlow, lane: dict[str, int]) -> None:
    flow = make_flow(40, **lane)
    by_age = sorted(plans(SEED, 40, status="waiting"), key=lambda plan: (plan["created_date"], plan["pk"]))
    refuse(flow, *(plan["pk"] for plan in by_age[:32]))
    runs = 0
    while counts(flow)["done"] < 8 and runs < 4:
        flow.run()
        runs += 1

    assert (runs, counts(flow)["done"]) == (3, 8)


@LANES
def test_one_accepted_plan_lets_the_run_go_on(make_flow: MakeFlow, lane: dict[str, int]) -> None:
    flow = make_flow(24, **lane)
    refuse(flow, *range(5002, 5025))

    outcome = flow.run()

    assert len({call.pk for call in flow.sent()}) == 24
    assert counts(flow) == {"failed": 23, "done": 1}
    assert "stopped" not in outcome.gate


def test_what_a_response_script_rejects_counts_as_well(make_flow: MakeFlow) -> None:
    flow = make_flow(20, erp__custom_response=True, erp__custom_response_script=FAILURE)

    outcome = flow.run()

    assert counts(flow) == {"rejected": REFUSED, "held": 4}
    assert "the run was stopped" in outcome.gate


def test_answers_that_tell_nothing_of_the_plan_do_not_count(make_flow: MakeFlow) -> None:
    flow = make_flow(24)
    refuse(flow, *range(5002, 5025))
    flow.erp.simulator.fail("status", plan=5001, status=500, times=1)

    flow.run()

    assert len({call.pk for call in flow.sent()}) == REFUSED + 1


def test_a_write_back_of_an_earlier_runs_answer_is_no_acceptance(make_flow: MakeFlow) -> None:
    flow = make_flow(24)
    flow.omnitron.simulator.fail(
        "status", path="cancellation_plans/5001", method="PATCH", status=500, times=3
    )
    flow.run(plan_ids=["5001"])
    refuse(flow, *range(5002, 5025))

    flow.run()

    assert len({call.pk for call in flow.sent()}) == REFUSED + 1
