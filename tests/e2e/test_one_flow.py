"""The main job in a real scheduler: plans go to the ERP once and back, and what is red can be mended and cleared."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from include.order_cancel.rows import State
from include.simulator import plans
from tests.e2e.place import BROKEN, Place, of_flow
from tests.shares import thorough

TASKS = ["login", "get_data_from_omnitron", "bulk", "open_plans", "report", "gate"]


def delivered_once(place: Place, pks: list[int]) -> None:
    for pk in pks:
        assert len(place.erp.simulator.calls(pk=pk)) == 1, f"ERP requests of plan {pk}"
        assert place.omnitron.simulator.writes[pk] == 1, f"write-backs of plan {pk}"
        assert place.omnitron.simulator.status(pk) == "approved"


@pytest.mark.parametrize("count", [thorough(0), 1, thorough(6)])
def test_every_plan_of_a_batch_is_sent_once_and_written_back_once(
    places: dict[str, Place], count: int
) -> None:
    place = places["sizes"]
    place.omnitron.simulator.reset()
    place.erp.simulator.reset()
    first = 5001 + 100 * count
    place.omnitron.simulator.put_plans(plans(count, count, first_pk=first))

    run, ended = place.run()

    assert ended == "success"
    states = place.states(run)
    assert len([name for name in states if name.startswith("plan.write_to_erp[")]) == count
    assert states["bulk"] == "skipped"
    delivered_once(place, list(range(first, first + count)))


@pytest.mark.thorough
def test_a_refused_plan_is_red_and_named_and_clearing_it_finishes_it_alone(places: dict[str, Place]) -> None:
    place = places["refused"]
    place.omnitron.simulator.put_plans(plans(7, 3))
    place.erp.simulator.fail("refuse", plan=5002, body={"error": "müşteri bloke"})

    run, ended = place.run()

    assert ended == "failed"
    assert place.instance(run, "plan.write_to_erp", "1000005002 / 5002")["state"] == "failed"
    for name in ("1000005001 / 5001", "1000005003 / 5003"):
        assert place.instance(run, "plan.write_to_omnitron", name)["state"] == "success"
    last_lines = place.log(run, "plan.write_to_erp", "1000005002 / 5002").splitlines()[-6:]
    assert any("422" in line and "müşteri bloke" in line for line in last_lines)
    assert place.instance(run, "gate")["state"] == "failed"
    assert "5002" in place.log(run, "gate")

    place.erp.simulator.faults.clear()
    place.clear(run, "plan.write_to_erp", "1000005002 / 5002")

    assert place.ended(run) == "success"
    assert place.omnitron.simulator.status(5002) == "approved"
    assert len(place.erp.simulator.calls(pk=5002)) == 2
    delivered_once(place, [5001, 5003])


@pytest.mark.thorough
def test_a_mended_mapping_is_used_by_the_cleared_task(places: dict[str, Place]) -> None:
    place = places["bad_mapping"]
    place.omnitron.simulator.put_plans(plans(7, 2))
    place.change_settings(mapping=[{"operation": "shift", "spec": {"no_such_field": "plan"}}])

    run, ended = place.run()

    assert ended == "failed"
    assert "the mapping produced nothing" in place.log(run, "plan.mapping", "1000005001 / 5001")
    assert place.erp.simulator.total == 0

    place.change_settings()
    for name in ("1000005001 / 5001", "1000005002 / 5002"):
        place.clear(run, "plan.mapping", name)

    assert place.ended(run) == "success"
    delivered_once(place, [5001, 5002])
    assert "settings have changed" in place.log(run, "plan.mapping", "1000005001 / 5001")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("flow", "changed"),
    [
        ("made_invalid", "{}"),
        (
            "step_added",
            json.dumps(of_flow("step_added", script="def transform(plan, attributes):\n    return {}\n")),
        ),
        ("step_removed", json.dumps(of_flow("step_removed", mapping=None))),
    ],
)
def test_settings_changed_during_a_run_do_not_reach_its_plans(
    places: dict[str, Place], flow: str, changed: str
) -> None:
    place = places[flow]
    place.omnitron.simulator.put_plans(plans(7, 3))
    place.omnitron.simulator.fail("stall", path="/cancellation_plans/", method="GET", seconds=8, times=1)

    run = place.start()
    place.await_(lambda: place.omnitron.simulator.calls("GET", "/cancellation_plans/"), "the listing")
    place.server.set_variable(f"order_cancel_flow__{flow}", changed)

    assert place.ended(run) == "success"
    delivered_once(place, [5001, 5002, 5003])
    bodies: list[Any] = [call.json for call in place.erp.simulator.calls("POST")]
    assert [sorted(body) for body in bodies] == [["amount", "orderNumber", "plan"]] * 3


@pytest.mark.thorough
def test_a_failed_login_makes_the_run_red_and_says_why(places: dict[str, Place]) -> None:
    place = places["bad_login"]

    run, ended = place.run()

    assert ended == "failed"
    assert place.instance(run, "login")["state"] == "failed"
    log = place.log(run, "login")
    assert "refused" in log
    assert "wrong" not in log
    assert place.instance(run, "gate")["state"] == "failed"
    gate = place.log(run, "gate")
    assert "login failed: Omnitron login" in gate
    assert "get_data_from_omnitron failed" not in gate


@pytest.mark.thorough
def test_a_broken_flow_keeps_its_dag_and_lists_every_problem(places: dict[str, Place]) -> None:
    place = places[BROKEN]

    run, ended = place.run()

    assert ended == "failed"
    log, gate = place.log(run, "login"), place.log(run, "gate")
    for path in ("omnitron.cancel_status", "omnitron.channel_type", "erp"):
        assert path in log
        assert path in gate
    assert "did you mean 'waiting'" in log


@pytest.mark.thorough
def test_a_task_killed_before_the_write_back_sends_nothing_again(places: dict[str, Place]) -> None:
    place = places["killed_after"]
    place.omnitron.simulator.put_plans(plans(7, 1))
    place.omnitron.simulator.fail("stall", plan=5001, method="PATCH", seconds=60, times=1)

    run = place.start()
    place.await_(lambda: place.omnitron.simulator.calls("PATCH", pk=5001), "the write-back's request")
    os.kill(place.pid_working_on("5001"), signal.SIGKILL)

    assert place.ended(run) == "success"
    assert len(place.erp.simulator.calls(pk=5001)) == 1
    assert place.omnitron.simulator.status(5001) == "approved"
    assert place.rows()["5001"].state is State.DONE


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("flow", "requests", "ends"), [("killed_hold", 1, "failed"), ("killed_resend", 2, "success")]
)
def test_a_task_killed_while_the_erp_works_leaves_doubt_that_the_policy_settles(
    places: dict[str, Place], flow: str, requests: int, ends: str
) -> None:
    place = places[flow]
    place.omnitron.simulator.put_plans(plans(7, 1))
    place.erp.simulator.fail("delay", plan=5001, seconds=60, times=1)

    run = place.start()
    place.await_(lambda: place.erp.simulator.calls(pk=5001), "the ERP's request")
    place.await_state("5001", State.SENDING)
    os.kill(place.pid_working_on("5001"), signal.SIGKILL)

    assert place.ended(run) == ends
    calls = place.erp.simulator.calls(pk=5001)
    assert len(calls) == requests
    assert len({(call.headers["Idempotency-Key"], call.raw) for call in calls}) == 1
    assert len(place.erp.simulator.effects_of(5001)) == 1
    assert place.rows()["5001"].state is (State.IN_DOUBT if flow == "killed_hold" else State.DONE)


@pytest.mark.thorough
def test_a_token_that_expires_in_mid_run_costs_one_login(places: dict[str, Place]) -> None:
    place = places["expiry"]
    place.omnitron.simulator.put_plans(plans(7, 4))
    place.erp.simulator.fail("delay", plan=5001, seconds=3, times=1)

    run = place.start()
    place.await_(lambda: place.erp.simulator.calls(pk=5001), "the first ERP request")
    place.omnitron.simulator.expire_tokens()

    assert place.ended(run) == "success"
    assert place.omnitron.simulator.logins == 2
    delivered_once(place, [5001, 5002, 5003, 5004])


def test_a_batch_above_fan_out_goes_through_bulk_and_opens_what_failed(places: dict[str, Place]) -> None:
    place = places["large"]
    place.omnitron.simulator.put_plans(plans(7, 60))
    for pk in (5010, 5020):
        place.erp.simulator.fail("refuse", plan=pk)

    run, ended = place.run()

    assert ended == "failed"
    states = place.states(run)
    assert [state for name, state in states.items() if name.startswith("bulk")] == ["success"], (
        "one lot for 60"
    )
    red = [
        ti
        for ti in place.server.task_instances(place.dag_id, run)
        if ti["state"] == "failed" and ti["map_index"] >= 0
    ]
    assert sorted(ti["rendered_map_index"] for ti in red) == ["1000005010 / 5010", "1000005020 / 5020"]
    delivered_once(place, [pk for pk in range(5001, 5061) if pk not in (5010, 5020)])

    place.erp.simulator.faults.clear()
    for ti in red:
        place.clear(run, ti["task_id"], ti["rendered_map_index"])

    assert place.ended(run) == "success"
    assert set(place.omnitron.simulator.statuses().values()) == {"approved"}


def test_no_secret_stands_in_any_task_log(places: dict[str, Place]) -> None:
    place = places["sizes"]
    place.run()

    for file in place.server.home.joinpath("logs").rglob("*.log"):
        text = file.read_text(errors="replace")
        assert "Bearer" not in text
        assert "Token " not in text
