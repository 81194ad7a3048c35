"""Whatever an operator asks of one run: done as asked, or refused by `login` before either system is asked anything."""

from __future__ import annotations

from typing import Any

import pytest

from include.order_cancel import flow as flow_module
from include.order_cancel.errors import SettingsError
from include.order_cancel.params import Params, read
from tests.harness import Flow
from tests.integration.conftest import MakeFlow
from tests.integration.test_order_transactions import a_flow, documents, returns
from tests.integration.test_windows import COMPLETED

SINCE = "2025-02-01T00:00:00+03:00"


def refused(flow: Flow, **params: Any) -> str:
    """The words of the refusal; nothing more was asked of the two systems, nothing was stored."""
    before = (flow.omnitron.simulator.calls(), flow.erp.simulator.calls(), flow.rows(), flow.last_query)
    with pytest.raises(SettingsError) as error:
        flow.run(**params)
    assert before == (
        flow.omnitron.simulator.calls(),
        flow.erp.simulator.calls(),
        flow.rows(),
        flow.last_query,
    )
    return str(error.value)


@pytest.mark.parametrize(
    "params",
    [
        {"dryrun": True},
        {"plan_id": [5001]},
        {"plan_ids": []},
        {"plan_ids": ""},
        {"resend_ids": []},
        {"limit": 0},
        {"limit": False},
        {"dry_run": "true"},
        {"dry_run": 0},
        {"since": ""},
        {"plan_ids": [5001], "retry_only": True},
        {"resend_ids": [5001], "retry_only": True},
        {"resend_ids": [5001, 5002], "limit": 1},
        {"resend_ids": [5001], "plan_ids": [5001]},
        {"retry_only": True, "max_plans": 1},
        {"plan_ids": [5001, 5002], "max_plans": 1},
    ],
    ids=str,
)
def test_params_that_are_not_understood_send_nothing(make_flow: MakeFlow, params: dict[str, Any]) -> None:
    flow = make_flow(3)
    flow.erp.simulator.fail("refuse", plan=5002, times=1)
    flow.run()

    told = refused(flow, **params)

    assert any(f"params.{name}: " in told for name in params)
    assert [len(flow.sent(pk)) for pk in (5001, 5002, 5003)] == [1, 1, 1]


@pytest.mark.parametrize("asked", [{"since": SINCE}, {"until": SINCE}])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "omnitron__cancel_status": "order_transaction",
            "omnitron__next_state": None,
            "omnitron__transactions_since": "2025-01-01T00:00:00Z",
        },
    ],
    ids=["waiting", "order_transaction"],
)
def test_a_flow_without_a_window_is_asked_for_none(
    make_flow: MakeFlow, settings: dict[str, Any], asked: dict[str, str]
) -> None:
    flow = make_flow(2, **settings)

    told = refused(flow, **asked)

    assert "only a `completed` flow has a window" in told
    assert refused(flow, **asked, dry_run=True) == told
    with pytest.raises(SettingsError, match="has a window"):  # only the later task was cleared
        flow_module.get_data(flow.around, None, read({**asked, "dry_run": True}))


def test_a_window_that_ends_before_it_begins_is_refused(make_flow: MakeFlow) -> None:
    flow = make_flow(2, status="completed", **COMPLETED)

    assert "params.until: must be later than since" in refused(
        flow, since=SINCE, until="2025-01-01T00:00:00Z"
    )


@pytest.mark.parametrize(
    ("begun", "now"),
    [
        ({}, {"dry_run": True}),
        ({"dry_run": True}, {}),
        ({"plan_ids": [5001]}, {}),
        ({"plan_ids": [5001]}, {"plan_ids": [5002]}),
        ({"limit": 1}, {"limit": 1, "dry_run": True}),
        ({}, {"limit": 1}),
        ({"limit": 1}, {}),
    ],
)
@pytest.mark.parametrize("committed", [False, True])
def test_a_later_task_goes_by_what_login_went_by_or_not_at_all(
    make_flow: MakeFlow, begun: dict[str, Any], now: dict[str, Any], committed: bool
) -> None:
    flow = make_flow(2)
    run = flow_module.login(flow.around, "run 1", read(begun))
    if committed:
        flow_module.get_data(flow.around, run, read(begun))
    rows, listings = flow.rows(), flow.listings()

    with pytest.raises(SettingsError, match="are not those that this run began with"):
        flow_module.get_data(flow.around, run, read(now))

    assert (flow.rows(), flow.listings(), flow.sent()) == (rows, listings, [])


def test_a_task_that_is_cleared_goes_on_by_the_params_that_the_run_has(make_flow: MakeFlow) -> None:
    flow = make_flow(3)
    params = read({"plan_ids": [5001, "5002"], "limit": 1})
    run = flow_module.login(flow.around, "run 1", params)

    for _ in range(2):
        flow_module.get_data(flow.around, run, params)

    assert len(flow_module.open_plans(flow.around, run)) == 1


def test_a_login_that_a_person_marked_as_done_begins_no_run(make_flow: MakeFlow) -> None:
    flow = make_flow(2)

    with pytest.raises(SettingsError, match="are not those that this run began with"):
        flow_module.get_data(flow.around, None, Params())

    assert flow.listings() == []


@pytest.mark.parametrize("fan_out", [0, 50])
def test_a_dead_plan_that_the_limit_leaves_out_stays_dead(
    make_flow: MakeFlow, journal_url: str, fan_out: int
) -> None:
    flow = make_flow(2, url=journal_url, max_attempts=1, fan_out=fan_out)
    flow.erp.simulator.fail("refuse", times=2)
    flow.run()
    dead, before = flow.states(), flow.happened(5002)

    flow.run(plan_ids=[5001, 5002], limit=1)
    flow.run()

    assert dead == {"5001": "dead", "5002": "dead"}
    assert flow.states() == {"5001": "done", "5002": "dead"}
    assert flow.happened(5002) == before


def test_a_dead_plan_that_is_named_is_looked_at_before_it_is_sent(make_flow: MakeFlow) -> None:
    """Its order transaction was mapped by hand meanwhile."""
    flow = a_flow(make_flow, documents(1), max_attempts=1)
    flow.erp.simulator.fail("refuse", times=1)
    flow.run()
    (transaction,) = returns(flow)
    flow.omnitron.simulator.mappings[transaction].append({"code": "by hand"})

    outcome = flow.run(plan_ids=[5001])

    assert (flow.state(5001), outcome.gate, len(flow.sent())) == ("left", "open", 1)
