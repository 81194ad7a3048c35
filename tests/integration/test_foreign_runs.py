"""XCom carries numbers, and a journal may be pruned, replaced or restarted: no task carries another run's plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from include.order_cancel import flow as flow_module
from include.order_cancel import pruning, schema
from include.order_cancel.errors import OrderCancelError
from include.order_cancel.flow import GateClosed, Params, Surroundings
from include.order_cancel.journal import ForeignRun, Journal
from include.simulator import plans
from tests.harness import Flow, Outcome, settings
from tests.integration.conftest import SEED, MakeFlow

Task = Callable[[Surroundings, int, int], Any]
TASKS: dict[str, Task] = {
    "get_data_from_omnitron": lambda around, run, member: flow_module.get_data(around, run, Params()),
    "bulk": lambda around, run, member: flow_module.bulk(around, run, 0, True),
    "open_plans": lambda around, run, member: flow_module.open_plans(around, run),
    "plan": lambda around, run, member: flow_module.carry_one(
        around, member, "post_script", True, lambda name: pytest.fail(f"acts on {name}")
    ),
    "report": lambda around, run, member: flow_module.report(around, run),
}
DAY = 86_400.0


@pytest.fixture
def refunds(make_flow: MakeFlow) -> tuple[Flow, Outcome]:
    """Another flow, whose only run so far left plan 5001 open."""
    flow = make_flow(1, erp__cancellation_api_url="/refunds")
    flow.name = "refunds"
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    return flow, flow.run()


def stories(flow: Flow) -> Any:
    """All that the journal knows of the flow's plans, and what both systems were asked."""
    with flow.journal() as journal:
        rows = journal.find(flow.name, all_generations=True)
        return (
            rows,
            [journal.journey(row.id) for row in rows],
            [journal.run(run) for run in range(1, flow.runs + 1)],
            len(flow.erp.simulator.requests),
            len(flow.omnitron.simulator.requests),
        )


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("what", ["flow", "home", "run_key"])
def test_a_task_does_nothing_with_a_run_that_is_not_its_own(
    refunds: tuple[Flow, Outcome], task: str, what: str
) -> None:
    flow, outcome = refunds
    around = replace(flow.in_run("run 1"), **{what: "another"})
    before, last_query = stories(flow), flow.last_query

    with pytest.raises(
        ForeignRun, match=r"another run under the number 1: run 1 of flow refunds.*trigger a new"
    ):
        TASKS[task](around, 1, outcome.members[0])

    assert stories(flow) == before
    assert flow.last_query == last_query


def test_workers_that_are_configured_in_several_ways_carry_on_one_run(refunds: tuple[Flow, Outcome]) -> None:
    flow, outcome = refunds
    around = replace(flow.in_run("run 1"), home="another worker's", compare_home=False)

    ending, _ = flow_module.carry_one(
        around, outcome.members[0], "write_to_omnitron", True, lambda name: None
    )

    assert ending == "green"
    assert flow.states() == {"5001": "done"}


def test_the_gate_closes_over_a_run_that_is_not_its_own(refunds: tuple[Flow, Outcome]) -> None:
    flow, _ = refunds
    flow.raw["alerts"] = [{"on": ["gate_failed"], "notifier": "notifiers.Any"}]
    flow.told.clear()

    with pytest.raises(GateClosed, match="another run under the number 1"):
        flow_module.gate(replace(flow.in_run("run 1"), flow="cancels"), 1, [], "manual 7")

    assert [event for event, _ in flow.told] == ["gate_failed"]


@pytest.mark.parametrize("task", [name for name in TASKS if name != "plan"])
def test_a_run_that_is_gone_is_said_in_words(refunds: tuple[Flow, Outcome], task: str) -> None:
    flow, _ = refunds

    with pytest.raises(ForeignRun, match="the journal knows no run 7: was it replaced or pruned"):
        TASKS[task](flow.in_run("run 1"), 7, 0)
    with pytest.raises(GateClosed, match="the journal knows no run 7"):
        flow_module.gate(flow.in_run("run 1"), 7, [], "run 1")


def test_a_journal_begun_anew_lets_no_flow_carry_the_plan_of_another(
    make_flow: MakeFlow, refunds: tuple[Flow, Outcome]
) -> None:
    """A red task of flow `cancels`, of the journal that was lost, is cleared: its member has the number 1 as well."""
    flow, outcome = refunds
    cancels = Flow(flow.omnitron, flow.erp, flow.journal_url, settings(mapping=None))
    sent = len(flow.erp.simulator.requests)

    with pytest.raises(ForeignRun):
        TASKS["plan"](cancels.in_run("run 1"), 0, outcome.members[0])

    assert len(flow.erp.simulator.requests) == sent
    cancels.close()


# Numbers


def everything_is_old(journal: Journal) -> None:
    with journal.transaction() as (connection, now):
        long_ago = now - 400 * DAY
        connection.execute(update(schema.plans).values(updated_at=long_ago))
        connection.execute(update(schema.runs).values(started_at=long_ago, alive_until=0.0))


def test_numbers_are_not_used_again_after_pruning(make_flow: MakeFlow) -> None:
    flow = make_flow(2)
    old = flow.run()
    with flow.journal() as journal:
        everything_is_old(journal)
        pruning.prune_flow(journal, "cancels", flow.settings().retention)
    flow.omnitron.simulator.put_plans(plans(SEED, 4, status="waiting")[2:])
    flow.erp.simulator.fail("refuse", plan=5003, times=1)

    new = flow.run()

    assert set(old.members).isdisjoint(new.members)
    before = flow.states()
    with pytest.raises(OrderCancelError, match="the journal knows no member"):
        TASKS["plan"](old.around, 0, old.members[0])
    assert flow.states() == before
