"""Alerts and metrics of real runs: each event is told once, whatever is cleared, repeated or run again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, update

from include.order_cancel import flow as flow_module
from include.order_cancel import schema
from include.order_cancel.alerts import Happening
from include.order_cancel.http import SystemDown
from include.order_cancel.params import Params
from include.order_cancel.settings import Alert
from include.order_cancel.tokens import LoginFailed
from include.simulator import ErpSimulator
from tests.harness import Flow
from tests.integration.conftest import MakeFlow


def alert(*on: str, **more: Any) -> dict[str, Any]:
    return {"on": list(on), "notifier": "a.package.Notifier", **more}


def events(flow: Flow) -> list[str]:
    return [event for event, _ in flow.told]


def test_a_failed_gate_is_told_once_for_each_run(make_flow: MakeFlow, journal_url: str) -> None:
    flow = make_flow(2, url=journal_url, alerts=[alert("gate_failed", "in_doubt")])
    flow.erp.simulator.fail("status", plan=5001, status=422)

    outcome = flow.run()
    outcome.clear(5001)
    assert events(flow) == ["gate_failed"]
    assert "5001: failed" in flow.told[0][1]

    flow.run()
    assert events(flow) == ["gate_failed", "gate_failed"]


def test_a_plan_in_doubt_is_told_once_until_it_is_in_doubt_again(
    make_flow: MakeFlow, journal_url: str
) -> None:
    flow = make_flow(2, url=journal_url, alerts=[alert("in_doubt")])
    flow.erp.simulator.fail("status", plan=5001, status=500)
    flow.run()
    flow.run()
    assert events(flow) == ["in_doubt"]
    assert "/ 5001" in flow.told[0][1]
    assert "/ 5002" not in flow.told[0][1]

    with flow.journal() as journal:
        journal.resolve(flow.row(5001).id, arrived=False, who="a person")
    flow.erp.simulator.faults.clear()
    flow.run()
    assert flow.state(5001) == "done"
    assert events(flow) == ["in_doubt"]


def test_an_open_breaker_is_told_once(make_flow: MakeFlow, journal_url: str) -> None:
    flow = make_flow(8, url=journal_url, alerts=[alert("breaker_open")], fan_out=0, erp__max_in_flight=1)
    flow.erp.simulator.fail("status", status=503, retry_after=3600)

    outcome = flow.run()
    outcome.judge()

    assert events(flow) == ["breaker_open"]
    assert ("gauge", "breaker_open", 1.0) in flow.measured


def test_a_refused_token_is_told_once(make_flow: MakeFlow, journal_url: str) -> None:
    erp = ErpSimulator(auth="basic")
    flow = make_flow(2, url=journal_url, erp=erp, alerts=[alert("token_refused")])
    flow.erp_password = "wrong"

    outcome = flow.run()
    outcome.judge()

    assert events(flow) == ["token_refused"]


def test_a_refused_login_is_told_once_and_its_gate_too(make_flow: MakeFlow, journal_url: str) -> None:
    flow = make_flow(1, url=journal_url, alerts=[alert("token_refused", "gate_failed")])
    flow.password = "wrong"

    for _ in range(2):  # the task and its retry
        with pytest.raises(LoginFailed):
            flow_module.login(flow.around, "run 1", Params())
        with pytest.raises(flow_module.GateClosed):
            flow_module.gate(flow.around, None, ["login"], "run 1")

    assert events(flow) == ["token_refused", "gate_failed"]


def test_silence_is_told_once_until_the_next_success(make_flow: MakeFlow, journal_url: str) -> None:
    flow = make_flow(1, url=journal_url, alerts=[alert("no_success", no_success_minutes=60)])
    flow.run()
    flow_module.watch(flow.around)
    assert events(flow) == []

    for told in (1, 2):
        engine = create_engine(journal_url)
        with engine.begin() as connection:
            connection.execute(update(schema.runs).values(succeeded_at=time.time() - 3700))
        engine.dispose()
        flow_module.watch(flow.around)
        flow_module.watch(flow.around)
        assert events(flow) == ["no_success"] * told
        flow.run()


def test_a_flow_that_never_ran_is_silent_from_the_first_look_on(
    make_flow: MakeFlow, journal_url: str
) -> None:
    flow = make_flow(1, url=journal_url, alerts=[alert("no_success", no_success_minutes=1)])
    flow_module.watch(flow.around)
    engine = create_engine(journal_url)
    with engine.begin() as connection:
        connection.execute(update(schema.alerts).values(at=time.time() - 90))
    engine.dispose()

    flow_module.watch(flow.around)
    flow_module.watch(flow.around)

    assert events(flow) == ["no_success"]


def test_a_notifier_that_fails_changes_nothing_and_is_told_later(
    make_flow: MakeFlow, journal_url: str
) -> None:
    flow = make_flow(1, url=journal_url, alerts=[alert("gate_failed")])
    flow.erp.simulator.fail("status", status=422)
    heard = flow.notify

    def deaf(_: Alert, __: Happening) -> None:
        raise OSError("no mail today")

    flow.notify = deaf  # type: ignore[method-assign]
    outcome = flow.run()
    assert "5001: failed" in outcome.gate
    flow.notify = heard  # type: ignore[method-assign]
    outcome.judge()

    assert events(flow) == ["gate_failed"]


def test_each_notifier_is_told_what_it_wants(make_flow: MakeFlow) -> None:
    mail = alert("gate_failed", arguments={"to": "a@b.example"})
    flow = make_flow(
        1, alerts=[mail, alert("gate_failed", "in_doubt"), alert("no_success", no_success_minutes=9)]
    )
    flow.erp.simulator.fail("status", status=422)

    flow.run()

    assert events(flow) == ["gate_failed", "gate_failed"]


def test_a_run_that_goes_well_tells_nobody(make_flow: MakeFlow) -> None:
    flow = make_flow(2, alerts=[alert("gate_failed", "in_doubt", "breaker_open", "token_refused")])

    assert flow.run().gate == "open"

    assert flow.told == []


def test_what_a_run_measures(make_flow: MakeFlow) -> None:
    flow = make_flow(3)
    flow.erp.simulator.fail("status", plan=5001, status=422)
    outcome = flow.run()
    flow_module.report(flow.around, outcome.run_id)

    counters = [(name, value) for kind, name, value in flow.measured if kind == "incr"]
    assert sorted(counters) == [("plans.done", 2), ("plans.failed", 1)]
    latencies = [value for kind, name, value in flow.measured if (kind, name) == ("timing", "erp.latency")]
    assert len(latencies) == 3
    assert all(0 < milliseconds < 60_000 for milliseconds in latencies)
    gauges = {name: value for kind, name, value in flow.measured if kind == "gauge"}
    assert (gauges["open_plans"], gauges["breaker_open"]) == (1, 0.0)
    assert 0 < gauges["oldest_open_seconds"] < 600


def test_every_metric_is_described(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.run()
    written = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()

    for _, name, _ in flow.measured:
        assert f"`{'plans.<state>' if name.startswith('plans.') else name}`" in written


def test_the_stop_of_a_system_that_is_down_is_its_own_event() -> None:
    assert (SystemDown.alert, LoginFailed.alert) == ("breaker_open", "token_refused")
