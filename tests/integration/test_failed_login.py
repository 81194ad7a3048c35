"""The gate of a run whose login failed says why; that of a dry run says that nothing was sent."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from include.order_cancel import flow as flow_module
from include.order_cancel import pruning
from include.order_cancel.errors import JournalDown, OrderCancelError
from include.order_cancel.flow import GateClosed, noting_login
from include.order_cancel.params import read
from tests.harness import Flow, settings
from tests.integration.conftest import MakeFlow

KEY = "manual 7"


def failed_login(flow: Flow) -> str:
    """What the login of the run told, as the bridge calls it."""
    with pytest.raises(OrderCancelError) as told, noting_login(flow.around, KEY):
        flow_module.login(flow.around, KEY, read({}))
    return str(told.value)


def gate(flow: Flow) -> str:
    with pytest.raises(GateClosed) as closed:
        flow_module.gate(flow.in_run(KEY), None, ["login"], KEY)
    return str(closed.value)


def test_the_gate_gives_the_reason_of_a_refused_login(make_flow: MakeFlow) -> None:
    flow = make_flow(1, alerts=[{"notifier": "some.Notifier", "on": ["gate_failed"]}])
    flow.password = "wrong"

    told = failed_login(flow)

    assert "Omnitron login" in told
    assert gate(flow) == f"login failed: {told}"
    assert flow.told == [("gate_failed", f"login failed: {told}")]


def test_the_gate_lists_every_problem_of_invalid_settings(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.raw = settings(erp__http_method="TRACE", fan_out=-1)

    told = failed_login(flow)

    assert len(told.splitlines()) == 2
    assert gate(flow) == f"login failed: {told}"


def test_the_reason_of_another_run_or_of_another_airflow_is_not_given(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.password = "wrong"
    failed_login(flow)

    for other in (flow.around, replace(flow.around, home="another Airflow")):
        key = KEY if other.home == "another Airflow" else "manual 8"
        with pytest.raises(GateClosed, match=r"login failed: .*the log of the task login"):
            flow_module.gate(other, None, ["login"], key)


def test_the_newest_reason_counts(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.password = "wrong"
    failed_login(flow)
    flow.raw = settings(fan_out=-1)

    told = failed_login(flow)

    assert "fan_out" in told
    assert gate(flow) == f"login failed: {told}"


def test_a_journal_out_of_reach_is_what_the_gate_says(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.journal_url = f"sqlite:///{__file__}/order_cancel.db"  # a file is no folder

    with pytest.raises(JournalDown) as told, noting_login(flow.around, KEY):
        flow_module.login(flow.around, KEY, read({}))

    assert gate(flow).splitlines() == [
        "task login failed",
        f"the journal is out of reach, so the gate cannot say how the plans ended: {told.value}",
    ]


def test_a_failed_login_is_forgotten_with_the_runs(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.password = "wrong"
    failed_login(flow)
    retention = flow.settings().retention.model_copy(update={"rows_days": 0, "bodies_days": 0})

    with flow.journal() as journal:
        pruning.prune_flow(journal, flow.name, retention)

        assert journal.failed_login(flow.name, flow.home, KEY) is None


def test_a_dry_run_says_that_nothing_was_sent(make_flow: MakeFlow, caplog: pytest.LogCaptureFixture) -> None:
    flow = make_flow(1)
    caplog.set_level(logging.INFO, "order_cancel")

    outcome = flow.run(dry_run=True)

    assert outcome.gate == "open"
    assert flow_module.gate(outcome.around, None, []) == "this was a dry run: nothing was sent"
    assert "nothing to report: this was a dry run, nothing was sent" in caplog.messages


def test_the_report_after_a_failed_login_says_so(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    flow = make_flow(1)
    caplog.set_level(logging.INFO, "order_cancel")

    assert flow_module.report(flow.in_run(KEY), None, ["login"]) == {}
    assert "nothing to report: the login failed; the gate says why" in caplog.messages
