"""A dry run shows what a real run would take and send, and changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from include.order_cancel import schema
from include.order_cancel.fetching import TooManyPlans
from include.order_cancel.restoring import note_restore
from include.simulator import plans
from tests.harness import MAPPING, Flow
from tests.integration.conftest import SEED, MakeFlow
from tests.integration.test_order_transactions import a_flow, documents
from tests.integration.test_windows import COMPLETED
from tests.shares import thorough

Show = Callable[..., list[str]]
KEPT = (schema.plans, schema.bodies, schema.events, schema.runs, schema.members, schema.transactions)


def content(flow: Flow) -> list[Any]:
    """All that the journal holds of plans and runs."""
    with flow.journal() as journal:
        return [[tuple(record) for record in journal.ask(select(table))] for table in KEPT]


@pytest.fixture
def show(caplog: pytest.LogCaptureFixture) -> Show:
    """What a dry run says; the journal, both systems and the last query time stay as they are."""

    def shown(flow: Flow, **params: Any) -> list[str]:
        caplog.clear()
        before = (content(flow), flow.sent(), flow.written(), flow.last_query)
        with caplog.at_level(logging.INFO, "order_cancel"):
            flow.run(dry_run=True, **params)
        assert before == (content(flow), flow.sent(), flow.written(), flow.last_query)
        return [said for said in caplog.messages if not said.startswith("::")]

    return shown


def sent(said: list[str]) -> list[str]:
    """The plans whose request was shown, in order."""
    return [line.partition("]")[0].rpartition(" ")[2] for line in said if "] would send" in line]


def line(said: list[str], beginning: str) -> str:
    return next(one for one in said if one.startswith(beginning))


def test_a_finished_plan_is_counted_and_not_shown(make_flow: MakeFlow, show: Show) -> None:
    flow = make_flow(2, status="completed", **COMPLETED)
    flow.run(plan_ids=[5001])

    said = show(flow)

    assert sent(said) == ["5002"]
    assert line(said, "not taken") == "not taken: 1 known"


def test_the_real_run_takes_what_the_dry_run_showed(
    make_flow: MakeFlow, show: Show, journal_url: str
) -> None:
    flow = make_flow(3, url=journal_url)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.erp.simulator.fail("status", plan=5002, status=429, times=3)
    flow.run()
    flow.omnitron.simulator.put_plans(plans(SEED, 2, first_pk=5003))
    before = len(flow.sent())

    said = show(flow)
    flow.run()

    assert sorted(sent(said)) == sorted({str(call.pk) for call in flow.sent()[before:]})
    assert sent(said) != []


def test_a_resting_and_a_dead_plan_are_counted(make_flow: MakeFlow, show: Show) -> None:
    flow = make_flow(2, max_attempts=6)
    flow.erp.simulator.fail("refuse", plan=5001, times=99)
    for _ in range(5):
        flow.run()

    resting = show(flow)
    flow.run(plan_ids=[5001])
    dead = show(flow)
    named = show(flow, plan_ids=[5001])

    assert (sent(resting), line(resting, "not taken")) == ([], "not taken: 1 resting")
    assert (sent(dead), line(dead, "not taken")) == ([], "not taken: 1 dead")
    assert sent(named) == ["5001"]


def test_an_open_plan_that_is_not_listed_any_more_is_looked_at(make_flow: MakeFlow, show: Show) -> None:
    flow = make_flow(3)
    for pk in (5001, 5002, 5003):
        flow.erp.simulator.fail("refuse", plan=pk, times=1)
    flow.run()
    flow.omnitron.simulator.change(5001, status="cancelled")
    flow.omnitron.simulator.remove(5002)

    said = show(flow)

    assert sent(said) == ["5003"]
    assert any("5001] would be left alone: the status is 'cancelled'" in one for one in said)
    assert any("5002] would be left alone: Omnitron has no such plan any more" in one for one in said)


def test_a_plan_in_doubt_gets_no_other_request(make_flow: MakeFlow, show: Show) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("drop", plan=5001, times=1)
    flow.run()

    said = show(flow)

    assert sent(said) == []
    assert any("5001] would go on from state in_doubt" in one for one in said)


def test_a_finished_plan_that_is_still_listed_has_only_its_write_back_repeated(
    make_flow: MakeFlow, show: Show
) -> None:
    flow = make_flow(1)
    flow.run()
    flow.omnitron.simulator.change(5001, status="waiting")

    said = show(flow)

    assert sent(said) == []
    assert any("5001] would only have its write-back repeated" in one for one in said)


def test_what_may_have_been_sent_before_the_journal_was_restored_is_not_shown_as_sent(
    make_flow: MakeFlow, show: Show
) -> None:
    flow = make_flow(1)
    with flow.journal() as journal:
        note_restore(journal, flow.name, "a tester")

    said = show(flow)

    assert sent(said) == []
    assert any("5001] would be in doubt" in one for one in said)


def test_plans_that_were_named_are_shown_or_it_is_said_why_not(make_flow: MakeFlow, show: Show) -> None:
    flow = make_flow(3)
    flow.omnitron.simulator.change(5002, status="completed")

    said = show(flow, plan_ids=[5001, 5002, 9999])

    assert sent(said) == ["5001"]
    told = [one for one in said if "a run would end with its gate closed" in one]
    assert any("Omnitron knows no plan 9999" in one for one in told)
    assert any("plan 5002" in one and "the status is 'completed', not waiting" in one for one in told)
    assert line(said, "not taken") == "not taken: 1 not fitting, 1 unknown"


def test_a_plan_that_would_be_sent_again_is_shown_and_gets_no_generation(
    make_flow: MakeFlow, show: Show
) -> None:
    flow = make_flow(2, mapping=MAPPING)
    flow.run()

    said = show(flow, resend_ids=[5001])

    assert sent(said) == ["5001"]
    assert '"plan":5001' in "".join(said)
    assert flow.row(5001).generation == 1


def test_only_what_earlier_runs_left_open_is_shown_where_that_is_asked_for(
    make_flow: MakeFlow, show: Show
) -> None:
    flow = make_flow(2)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    flow.omnitron.simulator.put_plans(plans(SEED, 1, first_pk=6001))
    asked = len(flow.listings())

    said = show(flow, retry_only=True)

    assert (sent(said), len(flow.listings())) == (["5001"], asked)


def test_a_limit_shows_the_oldest(make_flow: MakeFlow, show: Show) -> None:
    flow = make_flow(5)
    dates = {str(plan["pk"]): plan["created_date"] for plan in plans(SEED, 5)}

    said = show(flow, limit=2)

    assert sent(said) == sorted(dates, key=lambda pk: dates[pk])[:2]
    assert any("only 2 are shown" in one for one in said)


def test_a_window_is_kept_to(make_flow: MakeFlow, show: Show) -> None:
    flow = make_flow(2, status="completed", **COMPLETED)

    show(flow, since="2025-02-01T00:00:00Z", until="2025-02-02T00:00:00Z")

    assert flow.listings()[-1].query["modified_date__gt"] == "2025-02-01T00:00:00Z"
    assert flow.listings()[-1].query["modified_date__lte"] == "2025-02-02T00:00:00Z"


@pytest.mark.parametrize("status", ["waiting", thorough("order_transaction")])
def test_more_plans_than_the_settings_allow_are_refused_as_by_a_run(
    make_flow: MakeFlow, show: Show, status: str
) -> None:
    if status == "order_transaction":
        flow = a_flow(make_flow, documents(3), omnitron__max_plans=2)
    else:
        flow = make_flow(3, omnitron__max_plans=2)

    with pytest.raises(TooManyPlans, match="3 plans"):
        flow.run(dry_run=True)

    assert len(sent(show(flow, max_plans=3))) == 3


def test_what_no_row_would_keep_is_said(make_flow: MakeFlow, show: Show) -> None:
    flow = make_flow(2, omnitron__api={"plans": {"pk": "id"}})

    said = show(flow)

    assert any("2 plans without a usable number" in one and "gate closed" in one for one in said)
