"""The main job: waiting plans go to the ERP and back, each exactly once, whatever happens on the way."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from include.order_cancel.errors import SettingsError
from include.order_cancel.fetching import TooManyPlans
from include.order_cancel.journal import Journal
from include.order_cancel.omnitron import BadListing, ListingFailed
from include.simulator import OmnitronSimulator, plans
from include.simulator.wire import Answer, Request, answer
from tests.harness import MAPPING, Crash, Flow
from tests.integration.conftest import SEED, MakeFlow
from tests.shares import thorough


def crash_after(task: str) -> Callable[[str], None]:
    """The worker dies when this task has ended."""

    def between(ended: str) -> None:
        if ended == task:
            raise Crash(task)

    return between


def never(task: str) -> None:
    """Nothing happens between the tasks."""


def once_each(flow: Flow, pks: range) -> None:
    """Each plan: one ERP request, one effect, one write-back, approved, done."""
    wanted = {str(pk): 1 for pk in pks}
    assert Counter(str(call.pk) for call in flow.sent()) == wanted
    assert Counter(str(effect.plan) for effect in flow.erp.simulator.effects) == wanted
    assert {str(pk): times for pk, times in flow.omnitron.simulator.writes.items()} == wanted
    assert flow.omnitron.simulator.statuses() == dict.fromkeys(pks, "approved")
    assert flow.states() == {str(pk): "done" for pk in pks}


# Batches


@pytest.mark.parametrize("count", [0, 1, 4, 5], ids=["none", "one", "fan_out", "fan_out and one more"])
def test_each_plan_is_one_erp_request_and_one_write_back(
    make_flow: MakeFlow, journal_url: str, count: int
) -> None:
    flow = make_flow(count, url=journal_url, mapping=MAPPING, fan_out=4, lots=2)

    outcome = flow.run()

    once_each(flow, range(5001, 5001 + count))
    assert outcome.gate == "open"
    assert outcome.lots == ([0, 1] if count == 5 else [])
    assert len(outcome.members) == (0 if count == 5 else count)
    assert outcome.report["outcomes"] == ({"done": count} if count else {})
    for effect in flow.erp.simulator.effects:
        document = flow.omnitron.simulator.plan(effect.plan)
        assert effect.amount == document["refund_amount"]
        assert flow.row(effect.plan).erp_reference == effect.document_number


def test_a_second_run_sends_nothing(make_flow: MakeFlow) -> None:
    flow = make_flow(3)
    flow.run()

    outcome = flow.run()

    once_each(flow, range(5001, 5004))
    assert outcome.members == []


def test_the_tasks_of_a_run_that_are_repeated_send_nothing_again(make_flow: MakeFlow) -> None:
    flow = make_flow(3)
    first = flow.run()

    again = flow.run_again()

    once_each(flow, range(5001, 5004))
    assert again.members == first.members


def test_all_plans_are_listed_before_the_first_is_written(make_flow: MakeFlow) -> None:
    flow = make_flow(7, omnitron__page_size=2)
    flow.run()

    last_listing = max(call.time for call in flow.listings())
    assert len(flow.listings()) >= 4
    assert last_listing < min(call.time for call in flow.written())
    once_each(flow, range(5001, 5008))


# What was not finished


def test_a_refused_write_back_is_all_that_the_next_run_repeats(make_flow: MakeFlow) -> None:
    flow = make_flow(2)
    flow.omnitron.simulator.fail("refuse", plan=5001, method="PATCH", times=1)
    first = flow.run()
    state_between = flow.state(5001)

    second = flow.run()

    assert first.endings == {"5001": "red", "5002": "green"}
    assert (state_between, first.gate.splitlines()[0]) == ("failed", "1 failed")
    assert second.gate == "open"
    assert len(flow.sent(5001)) == 1
    assert flow.omnitron.simulator.status(5001) == "approved"
    assert flow.state(5001) == "done"


def test_a_done_plan_that_omnitron_still_lists_has_only_its_write_back_repeated(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.run()
    flow.omnitron.simulator.change(5001, status="waiting")

    outcome = flow.run()

    assert outcome.endings == {"5001": "green"}
    assert len(flow.sent()) == 1
    assert len(flow.written()) == 2
    assert flow.omnitron.simulator.status(5001) == "approved"


def test_a_finished_plan_with_other_content_is_changed_and_nothing_is_sent(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.run()
    flow.omnitron.simulator.change(5001, status="waiting", refund_amount="1.00")

    outcome = flow.run()

    assert flow.state(5001) == "changed"
    assert len(flow.sent()) == 1
    assert len(flow.written()) == 1
    assert "1 changed" in outcome.gate


@pytest.mark.parametrize("status", ["completed", "rejected", "approved"])
def test_a_failed_plan_that_a_colleague_settled_by_hand_is_left(make_flow: MakeFlow, status: str) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("refuse", times=1)
    flow.run()
    flow.omnitron.simulator.change(5001, status=status)

    outcome = flow.run()

    assert flow.state(5001) == "left"
    assert outcome.endings == {"5001": "skipped"}
    assert outcome.gate == "open"
    assert len(flow.sent()) == 1
    assert flow.written() == []


def test_a_failed_plan_that_is_gone_from_omnitron_is_left_once_it_says_so_again(
    make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("refuse", times=1)
    flow.run()
    flow.omnitron.simulator.remove(5001)

    flow.run()
    state = flow.state(5001)
    monkeypatch.setattr(Journal, "_now", lambda self, connection: time.time() + 601)
    flow.run()

    assert (state, flow.state(5001)) == ("failed", "left")


def test_a_failed_plan_that_is_not_in_the_listing_is_read_again_before_it_is_sent(
    make_flow: MakeFlow,
) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("refuse", times=1)
    flow.run()
    flow.omnitron.simulator.change(5001, refund_amount="7.77")

    flow.run(retry_only=True)

    with flow.journal() as journal:
        kept = journal.body(flow.row(5001).id, "document")
    assert len(flow.listings()) == 1
    assert flow.erp.simulator.effects[0].amount == "7.77"
    assert kept is not None
    assert json.loads(kept.content)["refund_amount"] == "7.77"
    assert "new content" in flow.happened(5001)
    assert flow.state(5001) == "done"


def test_a_failed_plan_takes_its_new_content_from_the_listing(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("refuse", times=1)
    flow.run()
    flow.omnitron.simulator.change(5001, refund_amount="7.77")

    flow.run()

    assert [effect.amount for effect in flow.erp.simulator.effects] == ["7.77"]


def test_clearing_one_plan_finishes_it_and_sends_nothing_else(make_flow: MakeFlow) -> None:
    flow = make_flow(3)
    flow.erp.simulator.fail("refuse", plan=5002, times=1)
    outcome = flow.run()
    gate_before = outcome.gate

    ending = outcome.clear(5002)

    assert "1 failed" in gate_before
    assert (ending, outcome.gate) == ("green", "open")
    assert [len(flow.sent(pk)) for pk in (5001, 5002, 5003)] == [1, 2, 1]
    assert flow.omnitron.simulator.status(5002) == "approved"


def test_a_mapping_that_was_mended_is_used_by_the_cleared_task(make_flow: MakeFlow) -> None:
    bad = [{"operation": "cardinality", "spec": {"order": "NONSENSE"}}]
    flow = make_flow(2, mapping=[{"operation": "default", "spec": {"note": "first"}}])
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    outcome = flow.run()
    flow.raw["mapping"] = bad
    with pytest.raises(SettingsError):
        outcome.clear(5001)
    flow.raw["mapping"] = [{"operation": "default", "spec": {"note": "mended"}}]

    ending = outcome.clear(5001)

    assert ending == "green"
    assert [call.json["note"] for call in flow.sent(5001)] == ["first", "mended"]
    assert "settings differ" in flow.happened(5001)


# Death of a worker


def test_a_worker_that_dies_after_the_answer_leaves_only_the_write_back(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.between = crash_after("write_to_erp")
    with pytest.raises(Crash):
        flow.run()
    answered = flow.state(5001)
    flow.between = never

    flow.run_again()

    assert answered == "answered"
    once_each(flow, range(5001, 5002))


@pytest.mark.parametrize("task", ["login", "get_data", "open_plans", "mapping", "write_to_erp"])
def test_a_run_that_died_anywhere_is_finished_by_the_next(make_flow: MakeFlow, task: str) -> None:
    flow = make_flow(3, mapping=MAPPING)
    flow.between = crash_after(task)
    with pytest.raises(Crash):
        flow.run()
    with flow.journal() as journal:
        assert flow.run_id is not None
        journal.finish_run(flow.run_id)
    flow.between = never

    outcome = flow.run()

    once_each(flow, range(5001, 5004))
    assert outcome.gate == "open"


def test_a_token_that_expires_in_mid_run_is_renewed_once(make_flow: MakeFlow) -> None:
    flow = make_flow(6, fan_out=2, lots=2)

    def expire(task: str) -> None:
        if task == "get_data":
            flow.omnitron.simulator.expire_tokens()

    flow.between = expire
    flow.run()

    once_each(flow, range(5001, 5007))
    assert flow.omnitron.simulator.logins == 2


# Giving up


def test_a_plan_that_keeps_failing_rests_after_five_runs_and_retry_only_wakes_it(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("refuse", plan=5001)
    for _ in range(5):
        flow.run()
    resting = flow.run()
    sent_before = len(flow.sent())

    flow.run(retry_only=True)

    assert resting.members == []
    assert resting.report["left_out"] == {"resting": 1}
    assert sent_before == 5
    assert len(flow.sent()) == 6


def test_the_distance_between_tries_doubles(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("refuse", plan=5001)
    waits = []
    for _ in range(7):
        flow.run(retry_only=True) if flow.runs else flow.run()
        row = flow.row(5001)
        waits.append(row.next_attempt_at - row.updated_at if row.next_attempt_at else 0.0)

    assert waits[:4] == [0.0] * 4
    assert waits[4:] == [pytest.approx(600, abs=5), pytest.approx(1200, abs=5), pytest.approx(2400, abs=5)]


def test_a_plan_is_dead_after_max_attempts_and_only_its_name_releases_it(make_flow: MakeFlow) -> None:
    flow = make_flow(1, max_attempts=2)
    flow.erp.simulator.fail("refuse", plan=5001, times=2)
    flow.run()
    flow.run()
    dead = flow.state(5001)
    for params in ({}, {"retry_only": True}):
        assert flow.run(**params).members == []

    outcome = flow.run(plan_ids=[5001])

    assert dead == "dead"
    assert outcome.gate == "open"
    assert flow.state(5001) == "done"
    assert len(flow.sent()) == 3


def test_a_dead_plan_is_tried_once_more_when_its_task_is_cleared(make_flow: MakeFlow) -> None:
    flow = make_flow(1, max_attempts=1)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    outcome = flow.run()
    dead = flow.state(5001)

    assert (dead, outcome.clear(5001), outcome.gate) == ("dead", "green", "open")


# What narrows a run


def test_a_run_that_finds_too_many_plans_sends_nothing_and_says_how_many(make_flow: MakeFlow) -> None:
    flow = make_flow(6, omnitron__max_plans=5)

    with pytest.raises(TooManyPlans, match=r"6 plans in status waiting.*oldest of 20\d\d.*allows 5") as told:
        flow.run()

    assert "max_plans" in str(told.value)
    assert flow.sent() == []
    assert flow.rows() == {}
    assert flow.run(max_plans=6).gate == "open"
    once_each(flow, range(5001, 5007))


def test_only_what_is_not_finished_here_counts_for_too_many(make_flow: MakeFlow) -> None:
    flow = make_flow(6, omnitron__max_plans=2, omnitron__cancel_status="completed", status="completed",
                     omnitron__next_state=None, omnitron__start_from="2025-01-01T00:00:00Z")  # fmt: skip
    flow.erp.simulator.fail("refuse", plan=5004, times=1)
    flow.run(max_plans=6)
    flow.omnitron.simulator.put_plans(
        plans(SEED, 2, status="completed", first_pk=7001, start="2030-01-01T00:00:00Z")
    )

    with pytest.raises(TooManyPlans, match=r"3 plans in status completed.*allows 2"):
        flow.run(since="2025-01-01T00:00:00Z", limit=9)

    assert (len(flow.sent()), sorted(flow.rows())) == (6, [str(pk) for pk in range(5001, 5007)])


def test_a_limit_takes_the_oldest_and_leaves_the_rest_to_the_next_run(make_flow: MakeFlow) -> None:
    flow = make_flow(5)
    by_age = sorted(range(5001, 5006), key=lambda pk: flow.omnitron.simulator.plan(pk)["created_date"])

    flow.run(limit=2)
    first = [call.pk for call in flow.sent()]
    flow.run()

    assert first == by_age[:2]
    once_each(flow, range(5001, 5006))


def test_a_dry_run_prepares_and_stores_and_sends_nothing(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    flow = make_flow(3, mapping=MAPPING)
    with caplog.at_level(logging.INFO, "order_cancel"):
        outcome = flow.run(dry_run=True)

    told = [line for line in caplog.messages if "would send POST" in line]
    assert len(told) == 3
    assert '"plan":5001' in "".join(told)
    assert (flow.sent(), flow.written(), flow.rows()) == ([], [], {})
    assert (outcome.run_id, outcome.gate) == (None, "open")


def test_a_dry_run_tells_of_plans_that_would_fail(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    flow = make_flow(2, erp__http_method="GET")
    with caplog.at_level(logging.INFO, "order_cancel"):
        flow.run(dry_run=True)

    assert "2 plans prepared, 2 of them failed" in caplog.text


def test_plan_ids_sends_only_these(make_flow: MakeFlow) -> None:
    flow = make_flow(4)

    outcome = flow.run(plan_ids=[5002, "5004", 9999])

    assert sorted(call.pk for call in flow.sent()) == [5002, 5004]
    assert [call.query for call in flow.listings()] == [{"limit": "1"}]  # is the 404 for 9999 Omnitron's own?
    assert outcome.report["left_out"] == {"new": 2, "unknown": 1}


def test_plan_ids_does_not_send_what_does_not_fit_the_settings(make_flow: MakeFlow) -> None:
    flow = make_flow(2)
    flow.omnitron.simulator.change(5001, status="completed")

    outcome = flow.run(plan_ids=[5001])

    assert flow.sent() == []
    assert outcome.report["left_out"] == {"not fitting": 1}


def test_retry_only_takes_what_earlier_runs_left_open(make_flow: MakeFlow) -> None:
    flow = make_flow(2)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    flow.omnitron.simulator.put_plans(plans(SEED, 1, first_pk=6001))

    flow.run(retry_only=True)

    assert flow.states() == {"5001": "done", "5002": "done"}
    assert flow.sent(6001) == []


def test_resend_ids_sends_a_finished_plan_again_under_another_key(make_flow: MakeFlow) -> None:
    flow = make_flow(2)
    flow.run()

    outcome = flow.run(resend_ids=[5001])

    assert outcome.gate == "open"
    assert len(set(flow.keys(5001))) == 2
    assert len(flow.erp.simulator.effects_of(5001)) == 2
    assert len(flow.sent(5002)) == 1
    assert (flow.row(5001).generation, flow.state(5001)) == (2, "done")


def test_resend_ids_of_a_plan_that_is_not_over_is_an_ordinary_try(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("status", status=429, times=3)
    flow.run()

    flow.run(resend_ids=[5001])

    assert flow.row(5001).generation == 1
    assert len(set(flow.keys(5001))) == 1
    assert flow.state(5001) == "done"


@pytest.mark.parametrize(
    ("params", "moves"),
    [
        ({}, True),
        ({"limit": 2}, False),
        ({"plan_ids": [5001]}, False),
        ({"retry_only": True}, False),
        ({"dry_run": True}, False),
        ({"max_plans": 10}, False),
        ({"resend_ids": [5001]}, False),
    ],
    ids=lambda value: next(iter(value), "nothing") if isinstance(value, dict) else "",
)
def test_only_a_run_that_nothing_narrows_moves_the_last_query_time(
    make_flow: MakeFlow, params: dict[str, Any], moves: bool
) -> None:
    flow = make_flow(2)

    flow.run(**params)

    assert (flow.last_query is not None) is moves


# Listings that do not behave


class Shrinking(OmnitronSimulator):
    """Settles a plan of the first page by other hands, once that page was served."""

    settled: int | None = 5001

    def handle(self, call: Request) -> Answer:
        answer = super().handle(call)
        if self.settled is not None and call.query.get("page") == "1":
            settled, self.settled = self.settled, None
            self.change(settled, status="completed")
        return answer


def test_a_listing_that_shrinks_while_it_is_read_loses_no_plan(make_flow: MakeFlow) -> None:
    flow = make_flow(omnitron=Shrinking(plans(SEED, 6)), omnitron__page_size=2)

    flow.run()

    assert {call.pk for call in flow.sent()} >= set(range(5002, 5007))
    assert max(Counter(call.pk for call in flow.sent()).values()) == 1


@pytest.mark.parametrize("fan_out", [0, 50])
@pytest.mark.parametrize(
    "change", [{"refund_amount": "1.00"}, {"status": "rejected"}, thorough({"lines": "cancelled"})]
)
@pytest.mark.parametrize("tried_before", [False, thorough(True)])
def test_a_repeated_listing_counts(
    make_flow: MakeFlow, journal_url: str, change: dict[str, str], fan_out: int, tried_before: bool
) -> None:
    """Page 2 fails; Airflow repeats the task ten seconds later; a colleague changed the plan in between."""
    flow = make_flow(2, url=journal_url, omnitron__page_size=1, fan_out=fan_out)
    if tried_before:
        flow.erp.simulator.fail("refuse", times=2 if fan_out else 4)
        flow.run()
    before = len(flow.sent(5001))
    flow.runs += 1
    own, broken = flow.omnitron.simulator.handle, [True]
    flow.omnitron.simulator.handle = lambda call: (
        answer(500, {"detail": "try again"}) if broken[0] and call.query.get("page") == "2" else own(call)
    )
    with pytest.raises(ListingFailed):
        flow.run_again()
    broken[0] = False
    if "lines" in change:
        lines = flow.omnitron.simulator.plan(5001)["cancellationplanorderitem_set"]
        flow.omnitron.simulator.change(
            5001, cancellationplanorderitem_set=[{**line, "status": "cancelled"} for line in lines]
        )
    else:
        flow.omnitron.simulator.change(5001, **change)
    shown = flow.omnitron.simulator.plan(5001)

    outcome = flow.run_again()

    assert [call.json for call in flow.sent(5001)[before:]] == ([] if "status" in change else [shown])
    assert (outcome.gate, flow.state(5001)) == ("open", "left" if "status" in change else "done")


class Moving(OmnitronSimulator):
    """Settles the first plan by other hands and changes the second, once the first page was served."""

    def handle(self, call: Request) -> Answer:
        found = super().handle(call)
        if call.query.get("page") == "1" and self.status(5001) == "waiting":
            self.change(5001, status="rejected")
            self.change(5002, refund_amount="1.00")
        return found


def test_a_plan_that_the_second_reading_does_not_show_is_not_sent(
    make_flow: MakeFlow, journal_url: str
) -> None:
    """And what it shows otherwise is sent so, and counted once."""
    omnitron = Moving(plans(SEED, 4))
    flow = make_flow(omnitron=omnitron, url=journal_url, omnitron__page_size=2, omnitron__max_plans=4)

    outcome = flow.run()

    assert [call.query["page"] for call in flow.listings()] == ["1", "2", "1", "2"]
    assert flow.states() == {"5001": "left", "5002": "done", "5003": "done", "5004": "done"}
    assert min((call.pk, call.json["refund_amount"]) for call in flow.sent()) == (5002, "1.00")
    assert (outcome.gate, len(flow.sent())) == ("open", 3)


def test_what_two_readings_of_one_list_leave_out_is_counted_once(make_flow: MakeFlow) -> None:
    omnitron = Moving(plans(SEED, 4))
    flow = make_flow(omnitron=omnitron, omnitron__page_size=2, omnitron__cancel_type="refund")
    own = omnitron.handle

    def deaf(call: Request) -> Answer:
        call.query.pop("plan_type", None)
        return own(call)

    omnitron.handle = deaf  # type: ignore[method-assign]
    omnitron.change(5004, plan_type="cancel")
    for pk in (5001, 5002, 5003):
        omnitron.change(pk, plan_type="refund")

    outcome = flow.run()

    assert (outcome.report["left_out"]["not fitting"], outcome.gate) == (1, "open")


def test_pages_that_repeat_send_nothing_and_say_so(make_flow: MakeFlow) -> None:
    flow = make_flow(6, omnitron__page_size=2)
    flow.omnitron.simulator.set(ignore_page=True)

    with pytest.raises(BadListing, match="repeat"):
        flow.run()

    assert flow.sent() == []


def test_bare_lists_whose_pages_repeat_end_and_double_nothing(make_flow: MakeFlow) -> None:
    flow = make_flow(2, omnitron__page_size=2)
    flow.omnitron.simulator.set(ignore_page=True, bare_lists=True)

    flow.run()

    once_each(flow, range(5001, 5003))


class Deaf(OmnitronSimulator):
    """Ignores the filters of its lists."""

    def handle(self, call: Request) -> Answer:
        for name in ("status", "plan_type", "channel_id__in", "channel_type"):
            call.query.pop(name, None)
        return super().handle(call)


def test_plans_that_a_deaf_omnitron_lists_are_checked_and_not_sent(make_flow: MakeFlow) -> None:
    documents = plans(SEED, 6, plan_type="cancel")
    documents[0]["status"] = "completed"
    documents[1]["plan_type"] = "refund"
    documents[2]["order"]["channel"] = 77
    documents[3]["order"]["channel"] = {"pk": 2, "name": "Web", "channel_type": "web"}
    for document in documents[4:]:
        document["order"]["channel"] = 2
    flow = make_flow(omnitron=Deaf(documents), omnitron__cancel_type="cancel", omnitron__channel_ids="1, 2,3")

    outcome = flow.run()

    assert sorted(call.pk for call in flow.sent()) == [5005, 5006]
    assert outcome.report["left_out"]["not fitting"] == 4
    assert outcome.gate == "open"


def test_a_plan_document_needs_its_pk_only(make_flow: MakeFlow) -> None:
    flow = make_flow(omnitron=OmnitronSimulator(plans(SEED, 1)))
    bare = {"pk": 5001, "status": "waiting", "modified_date": "2025-03-01T08:00:00.000000Z"}
    flow.omnitron.simulator.put_plans([bare])

    outcome = flow.run()

    assert outcome.gate == "open"
    assert flow.row(5001).name == "- / 5001"


class Odd(OmnitronSimulator):
    """Writes characters into its documents that JSON can say and databases cannot keep."""

    odd = b""

    def handle(self, call: Request) -> Answer:
        answer = super().handle(call)
        return replace(answer, body=answer.body.replace(b"ODD", self.odd))


@pytest.mark.parametrize("odd", [r"a\u0000b", r"half \ud800 pair", r"\u2028\u202e"])
@pytest.mark.parametrize("with_mapping", [True, thorough(False)])
def test_odd_characters_in_a_plan_touch_that_plan_only(
    make_flow: MakeFlow, journal_url: str, odd: str, with_mapping: bool
) -> None:
    documents = plans(SEED, 3)
    documents[0]["order"] |= {"notes": "ODD", "number": "ODD"}
    documents[0] |= {"refund_amount": "ODD", "created_date": "ODD"}
    omnitron = Odd(documents)
    omnitron.odd = odd.encode()
    flow = make_flow(omnitron=omnitron, url=journal_url, mapping=MAPPING if with_mapping else None, fan_out=0)

    flow.run()

    assert (flow.state(5002), flow.state(5003)) == ("done", "done")
    with flow.journal() as journal:
        document = journal.body(flow.row(5001).id, "document")
    assert document is not None
    assert json.loads(document.content)["order"]["notes"] == json.loads(f'"{odd}"')
    assert flow.state(5001) == ("failed" if "ud800" in odd else "done")


def test_a_run_whose_login_is_refused_opens_nothing(make_flow: MakeFlow) -> None:
    flow = make_flow(2)
    flow.password = "wrong"

    with pytest.raises(Exception, match="Omnitron login"):
        flow.run()

    assert flow.rows() == {}
    assert flow.listings() == []


def test_the_logs_name_the_place_of_run_and_plan_on_the_page(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("refuse", plan=5001)
    with caplog.at_level(logging.INFO, "order_cancel"):
        flow.run()

    told = [line for line in caplog.messages if "/order-cancel/" in line]
    assert told == [
        f"its journey: /order-cancel/flows/cancels/plans/{flow.row(5001).id}",
        "its plans: /order-cancel/run?dag_id=order_cancel__cancels&run_id=run+1",
    ]
