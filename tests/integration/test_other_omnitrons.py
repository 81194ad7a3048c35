"""A Connection that is spelt anew or points elsewhere: nothing is sent before a person has said what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from include.order_cancel import flow as flow_module
from include.order_cancel.adopting import Naming, OtherOmnitron, adopt, keep_apart
from include.order_cancel.http import Endpoint
from include.order_cancel.rows import Row
from include.simulator import OmnitronSimulator, RunningServer, plans
from tests.harness import Crash, Flow, Outcome
from tests.integration.conftest import SEED, MakeFlow

Serve = Callable[[Any], RunningServer[Any]]


def spell(flow: Flow, change: Callable[[str], str]) -> None:
    """The Connection `omnitron` gets another address, which leads to the same server."""
    before = flow.endpoint

    def endpoint(conn_id: str) -> Endpoint:
        found = before(conn_id)
        return replace(found, base_url=change(found.base_url)) if conn_id == "omnitron" else found

    flow.endpoint = endpoint


def move(flow: Flow) -> None:
    """The same Omnitron has another name from now on."""
    spell(flow, lambda url: url.replace("127.0.0.1", "localhost"))


def point_elsewhere(flow: Flow, serve: Serve) -> OmnitronSimulator:
    """The Connection points to another shop's Omnitron, whose plans have the same numbers."""
    documents = plans(SEED + 1, 3, status="waiting")
    for document in documents:
        document["order"]["number"] = f"SHOP-B-{document['pk']}"
    flow.omnitron = serve(OmnitronSimulator(documents))
    simulator: OmnitronSimulator = flow.omnitron.simulator
    return simulator


def identity(flow: Flow) -> str:
    return flow.endpoint("omnitron").identity


def say(flow: Flow, other: str, *, same: bool) -> int:
    with flow.journal() as journal:
        naming = Naming(flow.name, other, identity(flow), "a person")
        return adopt(journal, naming) if same else keep_apart(journal, naming)


def all_rows(flow: Flow) -> list[Row]:
    with flow.journal() as journal:
        return journal.find(flow.name, all_generations=True)


def unleased(rows: list[Row]) -> list[Row]:
    """The rows as they are but for what leases leave."""
    return [replace(row, fence=0, claim_run=None) for row in rows]


# Spellings


@pytest.mark.parametrize("spelling", ["LOCALHOST", "ｌｏｃａｌｈｏｓｔ", "localhost/", "localhost//"])
def test_another_spelling_finds_the_same_rows(make_flow: MakeFlow, spelling: str) -> None:
    flow = make_flow(1)
    move(flow)
    flow.erp.simulator.fail("drop", plan=5001, times=1, effect=True)
    flow.run()
    host, slashes = spelling.rstrip("/"), "/" * spelling.count("/")
    spell(flow, lambda url: url.replace("localhost", host) + slashes)

    outcome = flow.run()

    assert flow.states() == {"5001": "in_doubt"}
    assert len(all_rows(flow)) == len(flow.sent()) == 1
    assert "in_doubt" in outcome.gate


# Login


def test_a_flow_that_points_elsewhere_does_not_start_while_plans_are_open(
    make_flow: MakeFlow, serve: Serve
) -> None:
    flow = make_flow(3)
    for pk in (5001, 5002):
        flow.erp.simulator.fail("refuse", plan=pk, times=1)
    flow.run()
    old, sent, before = identity(flow), len(flow.sent()), all_rows(flow)
    new = point_elsewhere(flow, serve)

    with pytest.raises(OtherOmnitron) as told:
        flow.run()

    assert f"{old} (2 open)" in str(told.value)
    assert f"Connection 'omnitron' points to Omnitron {identity(flow)}" in str(told.value)
    assert f"adopt --flow cancels --from {old}" in str(told.value)
    assert (new.requests, len(flow.sent()), all_rows(flow)) == ([], sent, before)


def test_where_nothing_is_open_a_flow_goes_on_elsewhere(make_flow: MakeFlow, serve: Serve) -> None:
    flow = make_flow(1)
    flow.run()
    point_elsewhere(flow, serve)

    assert flow.run().gate == "open"
    assert [str(row.state) for row in all_rows(flow)] == ["done"] * 4


def test_a_dry_run_sends_nothing_and_may_look_at_every_omnitron(make_flow: MakeFlow, serve: Serve) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    before = all_rows(flow)
    point_elsewhere(flow, serve)

    flow.run(dry_run=True)

    assert all_rows(flow) == before


# A person's word


def test_the_same_omnitron_at_another_address_goes_on_with_the_same_keys(make_flow: MakeFlow) -> None:
    flow = make_flow(2, erp__in_doubt="resend")
    flow.erp.simulator.fail("drop", plan=5001, times=3, effect=True)
    flow.erp.simulator.fail("refuse", plan=5002, times=1)
    flow.run()
    old = identity(flow)
    move(flow)

    assert say(flow, old, same=True) == 2
    assert flow.run().gate == "open"

    assert flow.states() == {"5001": "done", "5002": "done"}
    assert {row.host for row in all_rows(flow)} == {identity(flow)}
    assert len(set(flow.keys(5001))) == 1
    assert len(flow.erp.simulator.effects_of(5001)) == 1
    assert "adopted" in flow.happened(5001)


def test_a_completed_flow_loses_no_plan_to_a_new_address(make_flow: MakeFlow) -> None:
    flow = make_flow(
        1,
        status="completed",
        omnitron__cancel_status="completed",
        omnitron__next_state=None,
        omnitron__start_from="2020-01-01T00:00:00Z",
        omnitron__overlap_seconds=0,
    )
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    old = identity(flow)
    move(flow)

    say(flow, old, same=True)
    flow.run()

    assert flow.states() == {"5001": "done"}


def test_a_request_that_is_made_again_keeps_its_key(make_flow: MakeFlow) -> None:
    """A person said that it did not arrive: its bytes are made anew, under the key that it had."""
    flow = make_flow(1)
    flow.erp.simulator.fail("drop", plan=5001, times=1, effect=False)
    flow.run()
    old = identity(flow)
    with flow.journal() as journal:
        journal.resolve(flow.row(5001).id, arrived=False, who="a person")
    move(flow)
    say(flow, old, same=True)

    flow.run()

    assert flow.state(5001) == "done"
    assert len(flow.keys(5001)) == 2
    assert len(set(flow.keys(5001))) == 1


def test_an_edited_request_keeps_the_key_that_it_was_given(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    old = identity(flow)
    with flow.journal() as journal:
        edited = journal.edit_request(flow.row(5001).id, '{"pk": 5001}', who="a person", reason="a typo")
    move(flow)
    say(flow, old, same=True)

    flow.run()

    assert flow.keys(5001)[-1] == edited.key
    assert flow.keys(5001)[0] != edited.key


def test_another_omnitron_is_left_alone_and_found_again(make_flow: MakeFlow, serve: Serve) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    first, old = flow.omnitron, identity(flow)
    point_elsewhere(flow, serve)

    assert say(flow, old, same=False) == 1
    there = flow.run().gate
    flow.omnitron = first
    here = flow.run().gate

    assert (there, here) == ("open", "open")
    assert [str(row.state) for row in all_rows(flow)] == ["done"] * 4
    assert first.simulator.status(5001) == "approved"
    assert len(flow.sent(5001)) == 3


# Tasks of a run that began before


def once_cleared(outcome: Outcome, step: str = "post_script") -> list[str]:
    """What the tasks of yesterday's plans say when they are cleared."""
    said = []
    for member in outcome.members:
        with pytest.raises(OtherOmnitron) as told:
            flow_module.carry_one(outcome.around, member, step, True, lambda name: None)
        said.append(str(told.value))
    return said


@pytest.mark.parametrize("fault", ["refuse", "drop", "write-back"])
def test_yesterdays_task_tells_another_shop_nothing(make_flow: MakeFlow, serve: Serve, fault: str) -> None:
    flow = make_flow(1, erp__in_doubt="resend" if fault == "drop" else "hold")
    if fault == "write-back":
        flow.omnitron.simulator.fail("status", path="5001", method="PATCH", status=503, times=9)
    else:
        flow.erp.simulator.fail(fault, plan=5001, times=3)
    yesterday = flow.run()
    old, sent, before = identity(flow), len(flow.sent()), all_rows(flow)
    new = point_elsewhere(flow, serve)

    (said,) = once_cleared(yesterday)

    assert f"is of Omnitron {old}, but Connection 'omnitron' points to {identity(flow)} now" in said
    assert "trigger a new run" in said
    assert (new.requests, len(flow.sent())) == ([], sent)
    assert unleased(all_rows(flow)) == unleased(before)
    assert [row.owner for row in all_rows(flow)] == [""]


def dies_after(task: str) -> Callable[[str], None]:
    def between(ended: str) -> None:
        if ended == task:
            raise Crash

    return between


def test_yesterdays_lot_tells_another_shop_nothing(make_flow: MakeFlow, serve: Serve) -> None:
    flow = make_flow(3, fan_out=0, lots=1)
    flow.erp.simulator.fail("refuse", plan="*")
    flow.between = dies_after("bulk")
    with pytest.raises(Crash):
        flow.run()
    sent, before = len(flow.sent()), all_rows(flow)
    new = point_elsewhere(flow, serve)

    ended = flow_module.bulk(flow.in_run("run 1"), flow.run_id or 0, 0, True)

    assert ended["red"] == 3
    assert (new.requests, len(flow.sent())) == ([], sent)
    assert unleased(all_rows(flow)) == unleased(before)


def test_a_row_of_another_omnitron_in_a_lot_does_not_break_the_others(make_flow: MakeFlow) -> None:
    flow = make_flow(3, fan_out=0, lots=1)

    def misplace(task: str) -> None:
        if task == "get_data":
            with flow.journal() as journal, journal.transaction() as (connection, _):
                connection.exec_driver_sql(
                    "UPDATE order_cancel_plans SET host = 'no.example' WHERE pk = '5002'"
                )

    flow.between = misplace
    with pytest.raises(OtherOmnitron):
        flow.run()

    assert flow.states() == {"5001": "done", "5002": "fetched", "5003": "done"}
    assert {call.pk for call in flow.sent()} == {5001, 5003}


@pytest.mark.parametrize("task", ["login", "get_data"])
def test_an_earlier_task_of_yesterdays_run_fails_in_words(
    make_flow: MakeFlow, serve: Serve, task: str
) -> None:
    flow = make_flow(1)
    flow.run()
    last_query, before = flow.last_query, all_rows(flow)
    new = point_elsewhere(flow, serve)
    around, params = flow.in_run("run 1"), flow_module.Params()
    tasks: dict[str, Callable[[], Any]] = {
        "login": lambda: flow_module.login(around, "run 1", params),
        "get_data": lambda: flow_module.get_data(around, flow.run_id, params),
    }

    with pytest.raises(OtherOmnitron, match=r"this run is of Omnitron .*, but Connection 'omnitron' points"):
        tasks[task]()

    assert [call.path for call in new.requests if "login" not in call.path] == []
    assert (flow.last_query, all_rows(flow)) == (last_query, before)


def test_the_settings_as_they_are_now_may_name_another_connection(make_flow: MakeFlow, serve: Serve) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    yesterday = flow.run()
    other = serve(OmnitronSimulator(plans(SEED + 1, 1, status="waiting")))
    before = flow.endpoint
    there = Endpoint("shop_b", other.url, "omnitron", "secret")
    flow.endpoint = lambda conn_id: there if conn_id == "shop_b" else before(conn_id)
    flow.raw["omnitron"]["conn_id"] = "shop_b"

    (said,) = once_cleared(yesterday)

    assert "Connection 'shop_b'" in said
    assert other.simulator.requests == []
