"""A plan that keeps failing: ever rarer tries, an end where there is one, and the ways back for a person."""

from __future__ import annotations

import time
from typing import Any

import pytest

from include.order_cancel import schema
from include.order_cancel.errors import StopFlow
from include.order_cancel.journal import Journal
from include.order_cancel.rows import Body
from tests.harness import Flow
from tests.integration.conftest import MakeFlow
from tests.journal_fixtures import let_pass


def test_the_distance_is_kept_by_the_journals_clock(
    make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 7200.0
    monkeypatch.setattr(Journal, "_now", lambda self, connection: time.time() + ahead)
    flow = make_flow(1)
    flow.erp.simulator.fail("refuse", plan=5001)
    for _ in range(5):
        flow.run()

    row = flow.row(5001)

    assert row.next_attempt_at - row.updated_at == pytest.approx(600, abs=5)
    assert flow.run().report["left_out"] == {"resting": 1}


@pytest.mark.parametrize("attempts", [11, 12, 5000])
def test_the_distance_never_grows_beyond_six_hours(make_flow: MakeFlow, attempts: int) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("refuse", plan=5001)
    flow.run()
    let_pass(flow.journal_url, schema.plans, flow.row(5001).id, attempts=attempts)

    flow.run()

    row = flow.row(5001)
    assert (row.state, row.attempts) == ("failed", attempts + 1)
    assert row.next_attempt_at - row.updated_at == pytest.approx(6 * 3600, abs=5)


@pytest.mark.parametrize("fan_out", [50, 0], ids=["plan by plan", "side by side"])
def test_a_dead_plan_makes_one_gate_red_and_is_counted_by_the_runs_after_it(
    make_flow: MakeFlow, fan_out: int
) -> None:
    flow = make_flow(3, max_attempts=2, fan_out=fan_out, lots=1)
    flow.erp.simulator.fail("refuse", plan=5002)
    gates = [flow.run().gate for _ in range(2)]

    later = [flow.run() for _ in range(2)]

    assert ["5002: failed" in gates[0], "5002: dead" in gates[1]] == [True, True]
    assert [outcome.gate for outcome in later] == ["open", "open"]
    assert [outcome.report["left_out"] for outcome in later] == [{"dead": 1}, {"dead": 1}]
    assert [flow.state(pk) for pk in (5001, 5002, 5003)] == ["done", "dead", "done"]


# A plan whose own answer stops the run

LANES = pytest.mark.parametrize(
    "lane",
    [{"fan_out": 50}, {"fan_out": 0, "lots": 1, "erp__max_in_flight": 1}, {"fan_out": 0, "lots": 2}],
    ids=["own tasks", "one by one", "side by side"],
)
AUTH_FAIL = """
def respond(request, response, attributes):
    return "auth_fail" if request["pk"] == 5001 else "continue"
"""
STOPS = {
    "401": lambda flow: flow.erp.simulator.fail("answer", plan=5001, status=401, times=None, effect=False),
    "429 for hours": lambda flow: flow.erp.simulator.fail(
        "answer", plan=5001, status=429, retry_after=7200, times=None, effect=False
    ),
    "auth_fail": lambda flow: flow.raw["erp"].update(custom_response=True, custom_response_script=AUTH_FAIL),
    "401 to a write-back": lambda flow: flow.omnitron.simulator.fail(
        "status", path="cancellation_plans/5001", method="PATCH", status=401, times=None
    ),
    "429 to a write-back": lambda flow: flow.omnitron.simulator.fail(
        "status", path="cancellation_plans/5001", method="PATCH", status=429, retry_after=7200, times=None
    ),
}


class Clock:
    """A clock that only waiting and the test move, for the requests and for the journal."""

    def __init__(self) -> None:
        self.seconds, self.began = 0.0, time.time()

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def of(self, flow: Flow) -> Flow:
        flow.http = {"sleep": self.sleep, "monotonic": lambda: self.seconds}
        return flow


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(Journal, "_now", lambda self, connection: made.began + made.seconds)
    return made


def run(flow: Flow, **params: Any) -> str:
    """A run, and how it ended; where Omnitron asks all to wait, not even the list is read."""
    try:
        return flow.run(**params).gate
    except StopFlow as stop:
        with flow.journal() as journal:
            journal.finish_run(flow.run_id)
        return str(stop)


@LANES
@pytest.mark.parametrize("stops", list(STOPS))
def test_a_plan_whose_answer_stops_the_run_keeps_no_other_plan_waiting(
    make_flow: MakeFlow, clock: Clock, stops: str, lane: dict[str, int]
) -> None:
    flow = clock.of(make_flow(6, **lane))
    STOPS[stops](flow)

    run(flow)
    clock.seconds += 3700 if "429" in stops else 60  # the longest rest that a system gets
    if "429" in stops:
        run(flow)
        clock.seconds += 3700
    run(flow)

    assert {pk: state for pk, state in flow.states().items() if state != "done"}.keys() == {"5001"}
    assert "stopped the run" in flow.happened(5001)
    assert not any("stopped the run" in flow.happened(pk) for pk in range(5002, 5007))


def test_a_rest_doubles_with_each_stop_up_to_six_hours(make_flow: MakeFlow, clock: Clock) -> None:
    flow = clock.of(make_flow(1))
    STOPS["401"](flow)

    rests = []
    for _ in range(9):
        flow.run()
        rests.append(round(flow.row(5001).next_attempt_at - clock.began - clock.seconds))
        resting = flow.run().report["left_out"]
        clock.seconds += rests[-1] + 1
        assert resting == {"resting": 1}

    assert rests == [600, 1200, 2400, 4800, 9600, 19200, 21600, 21600, 21600]
    assert "the answer to this plan stopped the run: it is tried again, as the last one, by a run after" in (
        flow.row(5001).error or ""
    )


@pytest.mark.parametrize("how", ["clear", "plan_ids", "retry_only"])
def test_a_person_does_not_wait_for_the_rest(make_flow: MakeFlow, how: str) -> None:
    flow = make_flow(2)
    flow.erp.simulator.fail("answer", plan=5001, status=401, times=2, effect=False)
    first = flow.run()

    if how == "clear":
        first.clear(5001)
    else:
        flow.run(**({"plan_ids": ["5001"]} if how == "plan_ids" else {"retry_only": True}))

    assert flow.state(5001) == "done"


def test_plans_that_another_ones_answer_held_do_not_rest_and_keep_their_place(
    make_flow: MakeFlow, clock: Clock
) -> None:
    flow = clock.of(make_flow(5))
    STOPS["401"](flow)
    flow.run()
    held = [flow.row(pk) for pk in range(5002, 5006)]
    clock.seconds += 601
    flow.erp.simulator.reset()

    flow.run()

    assert [(str(row.state), row.next_attempt_at) for row in held] == [("held", 0.0)] * 4
    by_age = sorted(range(5002, 5006), key=lambda pk: flow.row(pk).plan_date or "")
    assert [call.pk for call in flow.sent()] == [*by_age, 5001]


def test_what_was_never_tried_goes_before_what_failed_and_that_before_what_stopped_a_run(
    make_flow: MakeFlow, clock: Clock
) -> None:
    flow = clock.of(make_flow(3))
    flow.erp.simulator.fail("refuse", plan=5002, times=1)
    flow.run(plan_ids=["5002"])
    STOPS["401"](flow)
    flow.run(plan_ids=["5001"])
    flow.erp.simulator.reset()
    clock.seconds += 601

    flow.run()

    assert [call.pk for call in flow.sent()] == [5003, 5002, 5001]


def lead_elsewhere(flow: Flow, **changed: str) -> None:
    """The stored request of plan 5001 was for an address that the settings do not lead to."""
    row = flow.row(5001)
    with flow.journal() as journal:
        body = journal.body(row.id, "request")
        assert body is not None
        meta = {**body.meta, "url": "http://elsewhere.test/cancellations", **changed}
        with journal.transaction() as (connection, now):
            journal._write_bodies(connection, [(row.id, Body("request", body.content, meta))], now)


def test_a_request_for_an_address_off_the_settings_is_its_plans_own_failure(make_flow: MakeFlow) -> None:
    flow = make_flow(3)
    flow.erp.simulator.fail("status", plan=5001, status=429, times=3)
    flow.run(plan_ids=["5001"])
    lead_elsewhere(flow, method="PUT")

    outcome = flow.run()

    assert flow.states() == {"5001": "failed", "5002": "done", "5003": "done"}
    assert "the run was stopped" not in outcome.gate
    assert "elsewhere.test" in (flow.row(5001).error or "")


@pytest.mark.parametrize("policy", ["hold", "resend", "lookup"])
def test_a_doubt_about_an_address_off_the_settings_stops_no_run(make_flow: MakeFlow, policy: str) -> None:
    lookup = {"url": "/documents?key={{ key }}", "found_path": "documentNumber"}
    flow = make_flow(3, erp__in_doubt=policy, erp__lookup=lookup if policy == "lookup" else None)
    flow.erp.simulator.fail("status", plan=5001, status=500, times=9)
    flow.erp.simulator.fail("answer", path="/documents", status=500, times=3)
    flow.run(plan_ids=["5001"])
    lead_elsewhere(flow)

    flow.run()

    assert flow.states() == {"5001": "in_doubt", "5002": "done", "5003": "done"}
