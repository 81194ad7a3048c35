"""Flows over completed plans: which window each run asks for, and that no crash, edit or overlap loses or doubles."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.order_cancel.fetching import TooManyPlans
from include.order_cancel.omnitron import ListingFailed
from include.order_cancel.restoring import note_restore
from include.simulator import OmnitronSimulator, plans
from include.simulator.wire import Answer, Request
from tests.harness import Crash, Flow
from tests.integration.conftest import SEED, MakeFlow

START = datetime(2025, 1, 1, tzinfo=UTC)
COMPLETED: dict[str, Any] = {
    "omnitron__cancel_status": "completed",
    "omnitron__next_state": None,
    "omnitron__start_from": "2025-01-01T00:00:00Z",
}


def a_flow(make_flow: MakeFlow, count: int = 3, **changes: Any) -> Flow:
    return make_flow(count, status="completed", **{**COMPLETED, **changes})


def asked(flow: Flow) -> list[datetime]:
    """From when each listing asked, in order, its pages left out."""
    first_pages = [call for call in flow.listings() if call.query["page"] == "1"]
    return [datetime.fromisoformat(call.query["modified_date__gt"]) for call in first_pages]


def once_each(flow: Flow, pks: range) -> None:
    assert Counter(call.pk for call in flow.sent()) == dict.fromkeys(pks, 1)
    assert flow.states() == {str(pk): "done" for pk in pks}
    assert flow.written() == []


def completed_now(flow: Flow, pk: int) -> None:
    """One more plan that was completed just now."""
    flow.omnitron.simulator.put_plans(plans(SEED, 1, status="completed", first_pk=pk))
    flow.omnitron.simulator.change(pk)


def test_the_first_window_starts_where_the_settings_say(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow)

    outcome = flow.run()

    assert asked(flow) == [START]
    assert outcome.gate == "open"
    once_each(flow, range(5001, 5004))


def test_the_next_window_starts_before_the_last_query_by_the_overlap(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, omnitron__overlap_seconds=120)
    flow.run()
    last = flow.last_query
    completed_now(flow, 5004)

    flow.run()

    assert last is not None
    assert asked(flow)[1] == last - timedelta(seconds=120)
    once_each(flow, range(5001, 5005))


def test_the_last_query_time_is_omnitrons_moment_before_it_was_asked(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, 0)
    flow.omnitron.simulator.set(clock_skew_seconds=-7200)
    before = datetime.now(UTC)

    flow.run()

    assert flow.last_query is not None
    assert flow.last_query <= before - timedelta(seconds=7200) + timedelta(seconds=1)
    assert flow.last_query >= before - timedelta(seconds=7205)


def test_an_overlap_lists_plans_twice_and_sends_nothing_twice(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, 0)
    completed_now(flow, 5001)
    flow.run()

    outcome = flow.run()

    assert outcome.report["left_out"] == {"known": 1}
    once_each(flow, range(5001, 5002))


def test_a_failed_plan_of_an_earlier_window_is_delivered_by_the_next_run(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow)
    flow.erp.simulator.fail("refuse", plan=5002, times=1)
    flow.run()

    outcome = flow.run()

    newest = max(plan["modified_date"] for plan in plans(SEED, 3, status="completed"))
    assert asked(flow)[-1] == datetime.fromisoformat(newest) - timedelta(seconds=300, milliseconds=1)
    assert outcome.endings == {"5002": "green"}
    assert Counter(call.pk for call in flow.sent()) == {5001: 1, 5002: 2, 5003: 1}
    assert flow.state(5002) == "done"


def test_since_takes_the_windows_place_and_until_ends_it(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow)
    with flow.journal() as journal:
        note_restore(
            journal, flow.name, "a tester", START
        )  # the Variable alone would tell of an older journal
    flow.last_query = datetime(2026, 1, 1, tzinfo=UTC)

    flow.run(since="2025-02-01T00:00:00+03:00", until="2025-04-01T00:00:00Z")

    query = flow.listings()[0].query
    assert query["modified_date__gt"] == "2025-01-31T21:00:00Z"
    assert query["modified_date__lte"] == "2025-04-01T00:00:00Z"
    assert flow.last_query == datetime(2026, 1, 1, tzinfo=UTC)
    once_each(flow, range(5001, 5004))


@pytest.mark.parametrize("params", [{"since": "2025-01-01T00:00:00Z"}, {"until": "2035-01-01T00:00:00Z"}])
def test_a_run_that_was_given_its_window_does_not_move_the_last_query_time(
    make_flow: MakeFlow, params: dict[str, str]
) -> None:
    flow = a_flow(make_flow)

    flow.run(**params)

    assert flow.last_query is None
    once_each(flow, range(5001, 5004))


def test_a_person_who_sets_the_time_back_scans_again_and_sends_nothing_twice(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow)
    flow.run()
    flow.last_query = START

    flow.run()

    once_each(flow, range(5001, 5004))
    assert flow.last_query > START


def test_the_last_query_time_never_moves_backward(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow)
    future = datetime(2099, 1, 1, tzinfo=UTC)
    flow.last_query = future

    flow.run()

    assert flow.last_query == future


def test_a_completed_plan_that_was_changed_later_is_reported_and_not_sent(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, 1)
    flow.run()
    flow.omnitron.simulator.change(5001, refund_amount="0.01")

    outcome = flow.run()

    assert flow.state(5001) == "changed"
    assert "1 changed" in outcome.gate
    assert len(flow.sent()) == 1


# Crashes


def test_a_listing_that_breaks_off_moves_nothing_and_loses_nothing(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, 6, omnitron__page_size=2)
    flow.omnitron.simulator.fail("status", status=503, path="cancellation_plans", plan=None, after=1, times=3)
    with pytest.raises(ListingFailed):
        flow.run()
    last = flow.last_query

    flow.run_again()

    assert last is None
    once_each(flow, range(5001, 5007))


def test_a_crash_between_the_rows_and_the_variable_is_made_good_by_the_retry(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow)
    written = flow._set_last_query
    flow._set_last_query = crashing  # type: ignore[method-assign]
    with pytest.raises(Crash):
        flow.run()
    flow._set_last_query = written  # type: ignore[method-assign]
    completed_now(flow, 5004)

    flow.run_again()

    assert len(asked(flow)) == 1
    assert flow.last_query is not None
    once_each(flow, range(5001, 5004))
    flow.run()
    once_each(flow, range(5001, 5005))


def test_a_crash_between_the_rows_and_the_variable_that_is_not_retried_loses_nothing(
    make_flow: MakeFlow,
) -> None:
    flow = a_flow(make_flow)
    written = flow._set_last_query
    flow._set_last_query = crashing  # type: ignore[method-assign]
    with pytest.raises(Crash):
        flow.run()
    flow._set_last_query = written  # type: ignore[method-assign]
    end_run(flow)

    flow.run()

    assert asked(flow) == [START, START]
    once_each(flow, range(5001, 5004))


@pytest.mark.parametrize("task", ["get_data", "open_plans", "write_to_erp"])
def test_a_crash_after_the_variable_leaves_the_plans_to_the_next_run(make_flow: MakeFlow, task: str) -> None:
    flow = a_flow(make_flow)
    flow.between = crash_after(task)
    with pytest.raises(Crash):
        flow.run()
    end_run(flow)
    flow.between = lambda task: None

    flow.run()

    assert len(asked(flow)) == 2
    assert asked(flow)[1] > START
    once_each(flow, range(5001, 5004))


def test_what_a_limit_left_out_comes_with_the_next_run(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, 5)
    flow.run(limit=2)
    last = flow.last_query

    flow.run()

    assert last is None
    once_each(flow, range(5001, 5006))


class Boasting(OmnitronSimulator):
    """Counts more plans than it lists."""

    more = 5

    def handle(self, call: Request) -> Answer:
        answer = super().handle(call)
        document = json.loads(answer.body) if call.path.endswith("/cancellation_plans/") else None
        if isinstance(document, dict) and "count" in document:
            document["count"] += self.more
            return replace(answer, body=json.dumps(document).encode())
        return answer


def test_a_listing_shorter_than_its_own_count_does_not_move_the_time(make_flow: MakeFlow) -> None:
    omnitron = Boasting(plans(SEED, 3, status="completed"))
    flow = make_flow(omnitron=omnitron, **COMPLETED)
    flow.run()
    last = flow.last_query
    omnitron.more = 0

    flow.run()

    assert last is None
    assert flow.last_query is not None
    once_each(flow, range(5001, 5004))


def test_a_large_window_that_a_person_let_through_ends(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, omnitron__max_plans=2)
    with pytest.raises(TooManyPlans):
        flow.run()
    let_through = flow.run(max_plans=10)

    ordinary = flow.run()

    assert (let_through.gate, ordinary.gate) == ("open", "open")
    assert flow.last_query is not None
    once_each(flow, range(5001, 5004))


def crashing(moment: datetime) -> None:
    raise Crash(str(moment))


def crash_after(task: str) -> Callable[[str], None]:
    def between(ended: str) -> None:
        if ended == task:
            raise Crash(task)

    return between


def end_run(flow: Flow) -> None:
    """Airflow's report still ran, though the plans' tasks did not."""
    with flow.journal() as journal:
        assert flow.run_id is not None
        journal.finish_run(flow.run_id)
