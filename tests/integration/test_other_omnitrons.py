"""A Connection that is spelt anew or points elsewhere: nothing is sent before a person has said what it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from include.order_cancel import flow as flow_module
from include.order_cancel import schema
from include.order_cancel.adopting import Naming, OtherOmnitron, adopt, keep_apart
from include.order_cancel.http import Endpoint
from include.order_cancel.rows import Row
from include.simulator import OmnitronSimulator, RunningServer, plans
from tests.harness import Crash, Flow, Outcome
from tests.integration.conftest import SEED, MakeFlow
from tests.integration.test_order_transactions import a_flow, documents, returns
from tests.shares import thorough

Serve = Callable[[Any], RunningServer[Any]]
COMPLETED: dict[str, Any] = {
    "status": "completed",
    "omnitron__cancel_status": "completed",
    "omnitron__next_state": None,
    "omnitron__start_from": "2020-01-01T00:00:00Z",
}
UNCHANGED = "def transform(plan, attributes):\n    return plan\n"
BROKEN = "def transform(plan, attributes):\n    raise ValueError('a mistake')\n"


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


def bookings(flow: Flow, *pks: int) -> list[int]:
    """How often the ERP has booked each plan."""
    return [len(flow.erp.simulator.effects_of(pk)) for pk in pks]


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


@pytest.mark.parametrize("next_state", [None, thorough("completed")])
def test_a_flow_that_writes_no_status_does_not_begin_anew_unasked(
    make_flow: MakeFlow, serve: Serve, next_state: str | None
) -> None:
    """Omnitron goes on listing what is finished: at a new address it would be taken for new."""
    flow = make_flow(2, **{**COMPLETED, "omnitron__next_state": next_state})
    flow.run()
    old = identity(flow)
    move(flow)

    with pytest.raises(OtherOmnitron, match=rf"plans of {old} \(0 open\).*adopt --flow cancels --from {old}"):
        flow.run()

    say(flow, old, same=True)
    flow.last_query = None
    assert flow.run().gate == "open"
    assert bookings(flow, 5001, 5002) == [1, 1]


@pytest.mark.thorough
def test_an_order_transaction_flow_does_not_begin_anew_unasked(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(1))
    flow.run()
    move(flow)

    with pytest.raises(OtherOmnitron):
        flow.run()


@pytest.mark.thorough
def test_a_flow_that_writes_no_status_begins_at_another_shop_once_a_person_has_said_so(
    make_flow: MakeFlow, serve: Serve
) -> None:
    flow = make_flow(1, **COMPLETED)
    flow.run()
    old = identity(flow)
    flow.omnitron = serve(OmnitronSimulator(plans(SEED + 1, 1, status="completed", first_pk=7001)))
    say(flow, old, same=False)
    flow.last_query = None

    assert flow.run().gate == "open"
    assert bookings(flow, 5001, 7001) == [1, 1]


def test_two_names_that_a_person_called_one_stay_one(make_flow: MakeFlow) -> None:
    flow = make_flow(2, **COMPLETED)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    old, before = identity(flow), flow.endpoint
    move(flow)
    say(flow, old, same=True)
    assert flow.run().gate == "open"
    new, flow.endpoint = identity(flow), before  # the move is taken back
    flow.last_query = None

    with pytest.raises(OtherOmnitron, match=f"adopt --flow cancels --from {new}"):
        flow.run()

    say(flow, new, same=True)
    assert flow.run().gate == "open"
    assert bookings(flow, 5001, 5002) == [1, 1]


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
    flow = make_flow(1, **COMPLETED, omnitron__overlap_seconds=0)
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


# A plan that has rows of both names


def taken_unsent_under_both_names(flow: Flow) -> None:
    """A script fails it under each name; then a person says that both are one."""
    flow.raw["script"] = BROKEN
    flow.run()
    old = identity(flow)
    move(flow)
    say(flow, old, same=False)
    flow.run()
    say(flow, old, same=True)
    flow.raw["script"] = UNCHANGED


def test_an_adopted_plan_that_leaves_the_flow_is_left(make_flow: MakeFlow) -> None:
    """It is a second generation, but nobody has asked for it to be sent again."""
    flow = make_flow(1, script=UNCHANGED)
    taken_unsent_under_both_names(flow)
    flow.omnitron.simulator.change(5001, status="rejected")

    flow.run()

    assert (bookings(flow, 5001), flow.state(5001)) == ([0], "left")


@pytest.mark.thorough
def test_an_adopted_plan_of_a_mapped_transaction_is_left(make_flow: MakeFlow) -> None:
    flow = a_flow(make_flow, documents(1), script=UNCHANGED)
    taken_unsent_under_both_names(flow)
    flow.omnitron.simulator.mappings[returns(flow)[0]].append({"code": "by hand"})

    flow.run()

    assert (bookings(flow, 5001), flow.state(5001)) == ([0], "left")


def test_an_adopted_plan_that_was_never_sent_is_looked_up(make_flow: MakeFlow) -> None:
    lookup = {"url": "/documents?plan={{ plan.pk }}", "found_path": "documentNumber", "after_seconds": 0}
    flow = make_flow(1, script=UNCHANGED, erp__in_doubt="lookup", erp__lookup=lookup)
    taken_unsent_under_both_names(flow)
    flow.erp.simulator.fail("drop", plan=5001, effect=True, times=1)

    flow.run()

    assert (bookings(flow, 5001), flow.state(5001)) == ([1], "done")


@pytest.mark.thorough
def test_an_adopted_plan_that_was_never_sent_may_be_rejected(make_flow: MakeFlow) -> None:
    flow = make_flow(1, script=UNCHANGED, erp__refusal="failure")
    taken_unsent_under_both_names(flow)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)

    flow.run()

    assert (flow.state(5001), flow.omnitron.simulator.status(5001)) == ("rejected", "rejected")


def passed_under_both_names(make_flow: MakeFlow, **changes: Any) -> Flow:
    """The script lets it pass under each name after the ERP has answered; both are one, and it shall go once more."""
    responding = "def respond(request, response, attributes):\n    return 'do_nothing'\n"
    changes = {"erp__custom_response": True, "erp__custom_response_script": responding, **changes}
    flow = make_flow(1, **COMPLETED, **changes)
    flow.erp.simulator.fail("refuse", plan=5001, times=1)  # of the first request nothing stays
    flow.run()
    old = identity(flow)
    move(flow)
    say(flow, old, same=False)
    flow.last_query = None
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    say(flow, old, same=True)
    assert [str(row.state) for row in all_rows(flow)] == ["passed", "passed"]
    flow.raw["erp"] |= {"custom_response": False}
    del flow.raw["erp"]["custom_response_script"]
    return flow


@pytest.mark.thorough
def test_a_generation_that_follows_a_sent_one_is_not_looked_up_by_number(make_flow: MakeFlow) -> None:
    lookup = {"url": "/documents?plan={{ plan.pk }}", "found_path": "documentNumber", "after_seconds": 0}
    flow = passed_under_both_names(make_flow, erp__in_doubt="lookup", erp__lookup=lookup)
    flow.erp.simulator.fail("drop", plan=5001, effect=True, times=1)

    flow.run(plan_ids=[5001])

    assert flow.state(5001) == "in_doubt"
    assert "cannot tell this request from an earlier one" in (flow.row(5001).error or "")


# Two homes on one journal


@pytest.fixture(params=["sqlite", "postgresql"])
def shared_url(request: pytest.FixtureRequest) -> str:
    """A journal's URL, on each of both databases."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url: str = request.getfixturevalue(name)
    return url


def other_home(flow: Flow) -> Flow:
    """The same flow elsewhere, which calls the same Omnitron by another name."""
    twin = replace(flow, home="other home", _journal=None)
    move(twin)
    return twin


def begin(flow: Flow) -> int | None:
    return flow_module.login(flow.in_run("run 1"), "run 1", flow_module.Params())


def fetch(flow: Flow, run_id: int | None) -> None:
    flow_module.get_data(flow.in_run("run 1"), run_id, flow_module.Params())


def deliver(flow: Flow, run_id: int | None) -> None:
    for member in flow_module.open_plans(flow.in_run("run 1"), run_id):
        flow_module.carry_one(flow.in_run("run 1"), member, "post_script", False, lambda name: None)
    flow_module.report(flow.in_run("run 1"), run_id)


def seems_dead(flow: Flow) -> None:
    """Minutes pass without a sign of life of any run."""
    with flow.journal() as journal, journal.transaction() as (connection, now):
        connection.execute(update(schema.runs).values(alive_until=now - 1))


KINDS = [pytest.param({}, id="waiting"), pytest.param(COMPLETED, id="completed")]


@pytest.mark.parametrize("kind", KINDS)
def test_two_homes_that_name_one_omnitron_in_two_ways_send_once(
    make_flow: MakeFlow, shared_url: str, kind: dict[str, Any]
) -> None:
    """Both begin in the same minute with nothing open, as on every tick of one cron."""
    flow = make_flow(2, url=shared_url, **kind)
    twin = other_home(flow)
    mine = begin(flow)

    with pytest.raises(
        OtherOmnitron, match=f"{identity(flow)}.*adopt --flow cancels --from {identity(flow)}"
    ):
        begin(twin)

    fetch(flow, mine)
    deliver(flow, mine)
    twin.close()
    assert bookings(flow, 5001, 5002) == [1, 1]


THEIRS_FIRST = ("their fetch", "my fetch", "their deliver", "my deliver")
WHILE_MINE_WAITED = ("their fetch", "their deliver", "my fetch", "my deliver")
MINE_FIRST = ("my fetch", "their fetch", "my deliver", "their deliver")
WHILE_THEIRS_WAITED = ("my fetch", "my deliver", "their fetch", "their deliver")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "order", [THEIRS_FIRST, *map(thorough, (WHILE_MINE_WAITED, MINE_FIRST, WHILE_THEIRS_WAITED))]
)
def test_homes_that_began_while_the_other_seemed_dead_send_once(
    make_flow: MakeFlow, shared_url: str, kind: dict[str, Any], order: tuple[str, ...]
) -> None:
    flow = make_flow(2, url=shared_url, **kind)
    twin = other_home(flow)
    begun = {"my": (flow, begin(flow))}
    seems_dead(flow)
    begun["their"] = (twin, begin(twin))
    flow.runs = twin.runs = 1
    for side, step in map(str.split, order):
        with suppress(OtherOmnitron):
            {"fetch": fetch, "deliver": deliver}[step](*begun[side])

    seems_dead(flow)
    for home in (twin, flow):
        home.last_query = None
        with suppress(OtherOmnitron):
            home.run()

    assert bookings(flow, 5001, 5002) == [1, 1]
    assert len({row.host for row in all_rows(flow)}) == 1
    twin.close()


@pytest.mark.thorough
def test_homes_that_a_person_has_told_apart_run_side_by_side(make_flow: MakeFlow, serve: Serve) -> None:
    flow = make_flow(1)
    twin = replace(flow, home="other home", _journal=None)
    point_elsewhere(twin, serve)
    mine = begin(flow)
    fetch(flow, mine)
    say(twin, identity(flow), same=False)

    theirs = begin(twin)
    fetch(twin, theirs)
    deliver(flow, mine)
    deliver(twin, theirs)

    assert {str(row.state) for row in all_rows(flow)} == {"done"}
    twin.close()


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
