"""Settings that change during a run: no plan is sent without the steps of its run's snapshot, and the run ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from include.order_cancel.errors import SettingsError
from tests.harness import MAPPING, Flow
from tests.integration.conftest import MakeFlow
from tests.shares import thorough

SCRIPT = "def transform(plan, attributes):\n    return {'plan': plan['pk'], 'by': 'script'}\n"
POST = "def after(request, response, attributes):\n    pass\n"


def once(task: str, change: Callable[[], Any]) -> Callable[[str], None]:
    """Somebody changes the settings once this task has ended."""
    changed: list[str] = []

    def between(ended: str) -> None:
        if ended == task and not changed:
            changed.append(ended)
            change()

    return between


def bodies(flow: Flow) -> list[Any]:
    return [call.json for call in flow.sent()]


LANES = pytest.mark.parametrize(
    "fan_out", [thorough(50, id="plan by plan"), pytest.param(0, id="side by side")]
)
EARLY = pytest.mark.parametrize("task", ["get_data", "open_plans"])


@LANES
@EARLY
def test_settings_made_invalid_do_not_keep_a_run_from_ending(
    make_flow: MakeFlow, fan_out: int, task: str
) -> None:
    flow = make_flow(3, mapping=MAPPING, fan_out=fan_out, lots=1)
    flow.between = once(task, lambda: flow.raw["erp"].update(http_method="NOPE"))

    outcome = flow.run()

    assert outcome.gate == "open"
    assert sorted(body["plan"] for body in bodies(flow)) == [5001, 5002, 5003]
    assert set(flow.states().values()) == {"done"}
    with pytest.raises(SettingsError, match=r"erp\.http_method"):
        flow.run()


@LANES
@pytest.mark.parametrize(
    ("name", "value"), [("mapping", MAPPING), ("script", SCRIPT), ("post_script", POST)], ids=lambda value: ""
)
def test_a_step_that_was_added_waits_for_the_next_run(
    make_flow: MakeFlow, fan_out: int, name: str, value: Any
) -> None:
    flow = make_flow(2, fan_out=fan_out, lots=1)
    flow.between = once("get_data", lambda: flow.raw.update({name: value}))

    outcome = flow.run()

    assert outcome.gate == "open"
    assert all("refund_amount" in body for body in bodies(flow))
    assert {row.post for row in flow.rows().values()} == {""}


@LANES
@EARLY
@pytest.mark.parametrize(("name", "value"), [("mapping", MAPPING), ("script", SCRIPT)], ids=lambda value: "")
def test_a_step_that_was_removed_is_still_made(
    make_flow: MakeFlow, fan_out: int, task: str, name: str, value: Any
) -> None:
    flow = make_flow(2, fan_out=fan_out, lots=1, **{name: value})
    flow.between = once(task, lambda: flow.raw.pop(name))

    outcome = flow.run()

    assert outcome.gate == "open"
    assert sorted(body["plan"] for body in bodies(flow)) == [5001, 5002]
    assert all("order" not in body for body in bodies(flow))


def test_a_step_that_was_removed_between_two_tasks_of_a_plan_is_still_made(make_flow: MakeFlow) -> None:
    flow = make_flow(1, script=SCRIPT, mapping=[{"operation": "default", "spec": {"mapped": True}}])
    flow.between = once("script", lambda: flow.raw.pop("mapping"))

    flow.run()

    assert bodies(flow) == [{"plan": 5001, "by": "script", "mapped": True}]


def test_a_post_script_that_was_removed_leaves_no_plan_behind(make_flow: MakeFlow) -> None:
    flow = make_flow(1, post_script=POST)
    flow.between = once("get_data", lambda: flow.raw.pop("post_script"))
    first = flow.run()
    state = flow.state(5001)

    second = flow.run()

    assert (state, first.gate.splitlines()[0]) == ("written_back", "1 written_back")
    assert (flow.state(5001), second.gate) == ("done", "open")
    assert (len(flow.sent()), len(flow.written())) == (1, 1)


@EARLY
def test_another_url_waits_for_the_next_run(make_flow: MakeFlow, task: str) -> None:
    flow = make_flow(2)
    flow.between = once(task, lambda: flow.raw["erp"].update(cancellation_api_url="/refunds"))

    flow.run()

    assert {call.path for call in flow.sent()} == {"/cancellations"}


def test_another_next_state_waits_for_the_next_run(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.between = once("write_to_erp", lambda: flow.raw["omnitron"].update(next_state="completed"))

    flow.run()

    assert flow.omnitron.simulator.status(5001) == "approved"


def test_settings_made_invalid_before_the_listing_send_nothing(make_flow: MakeFlow) -> None:
    flow = make_flow(2)
    flow.between = once("login", lambda: flow.raw["omnitron"].update(cancel_status="nope"))

    with pytest.raises(SettingsError, match=r"omnitron\.cancel_status"):
        flow.run()

    assert (flow.sent(), flow.rows()) == ([], {})


def test_a_plan_that_is_tried_again_in_the_run_uses_the_settings_as_they_are(make_flow: MakeFlow) -> None:
    flow = make_flow(3, fan_out=2, lots=1)
    flow.erp.simulator.fail("refuse", plan=5002, times=1)
    flow.between = once("bulk", lambda: flow.raw.update(mapping=MAPPING))

    outcome = flow.run()

    first, second = flow.sent(5002)
    assert outcome.endings == {"5002": "green"}
    assert ("refund_amount" in first.json, second.json["plan"]) == (True, 5002)
    assert "settings differ" in flow.happened(5002)


def test_a_failed_plans_next_run_uses_that_runs_settings(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("refuse", times=1)
    flow.run()
    flow.raw["mapping"] = MAPPING

    flow.run()

    assert [body.get("plan") for body in bodies(flow)] == [None, 5001]


def test_what_a_run_used_stays_in_the_journal(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING)
    flow.run()
    used = flow.row(5001).snapshot
    flow.raw["mapping"] = [{"operation": "default", "spec": {"other": True}}]
    flow.run()

    with flow.journal() as journal:
        assert "shift" in journal.snapshot(used)["mapping"]["text"]


def test_a_mended_second_try_after_invalid_settings_is_free_for_the_next_run(make_flow: MakeFlow) -> None:
    flow = make_flow(3, fan_out=2, lots=1)
    flow.erp.simulator.fail("refuse", plan=5002, times=1)
    good = dict(flow.raw["erp"])
    flow.between = once("open_plans", lambda: flow.raw["erp"].update(http_method="NOPE"))
    with pytest.raises(SettingsError):
        flow.run()
    with flow.journal() as journal:
        journal.finish_run(flow.run_id or 0)
    flow.raw["erp"] = good

    outcome = flow.run()

    assert (flow.state(5002), outcome.gate) == ("done", "open")


@pytest.mark.parametrize("changed", [False, True], ids=["as they were", "changed"])
def test_a_cleared_plan_tells_of_other_settings_where_they_are_others(
    make_flow: MakeFlow, changed: bool
) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("status", status=422, times=1)
    outcome = flow.run()
    before = flow.happened(5001)

    if changed:
        flow.raw["erp"]["timeout_seconds"] = 6
    outcome.clear(5001)

    assert "settings differ" not in before
    assert ("settings differ" in flow.happened(5001)) == changed
    assert flow.state(5001) == "done"
