"""A plan that keeps failing: ever rarer tries, an end where there is one, and the ways back for a person."""

from __future__ import annotations

import time

import pytest

from include.order_cancel import schema
from include.order_cancel.journal import Journal
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
