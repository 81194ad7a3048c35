"""A journal whose plans were pruned long ago, and an Omnitron that lists them still. On both databases."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import create_engine, update

from include.order_cancel import schema
from include.order_cancel.pruning import prune_flow
from include.order_cancel.rows import State
from include.order_cancel.settings import Retention
from tests.harness import Flow
from tests.integration.conftest import MakeFlow

COMPLETED = {
    "status": "completed",
    "omnitron__cancel_status": "completed",
    "omnitron__next_state": None,
    "omnitron__start_from": "2020-01-01T00:00:00Z",
}


def grow_old(flow: Flow) -> None:
    """Two years pass, and the maintenance comes by."""
    engine = create_engine(flow.journal_url)
    with engine.begin() as connection:
        connection.execute(
            update(schema.plans).values(updated_at=schema.plans.c.updated_at - 2 * 366 * 86_400)
        )
    engine.dispose()
    with flow.journal() as journal:
        assert prune_flow(journal, flow.name, Retention())["rows"] == len(flow.rows())


def test_nothing_is_sent_again_when_omnitron_lists_them_still(make_flow: MakeFlow, journal_url: str) -> None:
    flow = make_flow(3, url=journal_url, **COMPLETED)
    flow.run()
    grow_old(flow)
    flow.last_query = None  # the whole past is listed once more

    outcome = flow.run()

    assert len(flow.listings()) >= 2
    assert outcome.gate == "open"
    assert len(flow.sent()) == 3
    assert set(flow.states().values()) == {"done"}


def test_the_run_that_knows_the_last_query_time_stays(make_flow: MakeFlow, journal_url: str) -> None:
    """A run that is given a plan by its number knows none, and the newest run would be all that is left."""
    flow = make_flow(1, url=journal_url, **COMPLETED)
    flow.run()
    for _ in range(3):
        flow.run(plan_ids=[5001])
    grow_old(flow)
    with flow.journal() as journal:
        with journal.transaction() as (connection, _now):
            connection.execute(
                update(schema.runs).values(started_at=schema.runs.c.started_at - 2 * 366 * 86_400)
            )
            connection.execute(update(schema.runs).values(alive_until=0.0))
        pruned = prune_flow(journal, flow.name, Retention())["runs"]

    outcome = flow.run()

    assert (pruned, outcome.gate) == (2, "open")


def test_a_write_back_that_did_not_take_is_repeated_for_a_pruned_plan(
    make_flow: MakeFlow, journal_url: str
) -> None:
    flow = make_flow(1, url=journal_url)
    flow.run()
    grow_old(flow)
    flow.omnitron.simulator.change(5001, status="waiting")

    outcome = flow.run()

    assert outcome.gate == "open"
    assert len(flow.sent()) == 1
    assert len(flow.written(5001)) == 2


def test_a_pruned_plan_that_a_person_sends_again_is_read_again(make_flow: MakeFlow, journal_url: str) -> None:
    flow = make_flow(1, url=journal_url)
    flow.run()
    grow_old(flow)
    with flow.journal() as journal:
        journal.resend(flow.row(5001).id, who="a person", reason="asked for")

    outcome = flow.run()

    assert outcome.gate == "open"
    assert len(set(flow.keys(5001))) == 2
    assert "read again" in flow.happened(5001)


def test_a_pruned_plan_that_was_passed_over_can_be_tried_after_all(
    make_flow: MakeFlow, journal_url: str
) -> None:
    script = 'def respond(request, response, attributes):\n    return "do_nothing"\n'
    flow = make_flow(
        1, url=journal_url, **COMPLETED, erp__custom_response=True, erp__custom_response_script=script
    )
    flow.run()
    assert flow.row(5001).state is State.PASSED
    grow_old(flow)
    flow.raw["erp"]["custom_response_script"] = script.replace("do_nothing", "continue")

    flow.run(plan_ids=[5001])

    assert flow.row(5001).state is State.DONE
    assert len(set(flow.keys(5001))) == 2


def test_a_run_for_named_plans_raises_no_alarm_once_old_runs_are_pruned(
    make_flow: MakeFlow, journal_url: str
) -> None:
    flow = make_flow(1, url=journal_url)
    flow.run()
    engine = create_engine(flow.journal_url)
    with engine.begin() as connection:
        old = schema.runs.c.queried_at - 2 * 366 * 86_400
        connection.execute(update(schema.runs).values(queried_at=old, started_at=old))
    engine.dispose()
    with flow.journal() as journal:
        queried_at = journal.run(flow.run_id or 0).queried_at
    assert queried_at is not None
    flow.last_query = datetime.fromtimestamp(queried_at, UTC)
    flow.run(retry_only=True)
    grow_old(flow)

    assert flow.run().gate == "open"
