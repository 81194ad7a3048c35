"""What was sent to one ERP, and settings or a Connection that lead to another by now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from include.order_cancel.http import Endpoint
from include.simulator import ErpSimulator, RunningServer, plans
from include.simulator.wire import Answer
from tests.harness import MAPPING, Flow
from tests.integration.conftest import SEED, MakeFlow
from tests.integration.test_answers import at_once
from tests.shares import thorough

LOOKUP = {"url": "/documents?plan={{ plan.pk }}", "found_path": "documentNumber", "after_seconds": 0}
BY_KEY = {"url": "/documents?key={{ key }}", "found_path": "documentNumber", "after_seconds": 0}
WITHOUT_KEYS = {"erp__idempotency_header": None}
Serve = Callable[[Any], RunningServer[Any]]


def bookings(flow: Flow, pk: int = 5001) -> int:
    return len(flow.erp.simulator.effects_of(pk))


def erp_moves(
    flow: Flow, spell: Callable[[str], str] = lambda url: url.replace("127.0.0.1", "localhost")
) -> None:
    """The ERP's Connection gets another address, at which the same ERP answers."""
    before = flow.endpoint

    def endpoint(conn_id: str) -> Endpoint:
        found = before(conn_id)
        return replace(found, base_url=spell(found.base_url)) if conn_id == "erp" else found

    flow.endpoint = endpoint  # type: ignore[method-assign]


def resolve(flow: Flow, *, arrived: bool) -> None:
    with flow.journal() as journal:
        journal.resolve(flow.row(5001).id, arrived=arrived, who="p")


def behind_wrong_path(flow: Flow, answer: Answer) -> None:
    """A gateway answers at the path /wrong, the ERP at its own."""
    own = flow.erp.simulator.handle
    flow.erp.simulator.handle = lambda call: answer if call.path == "/wrong" else own(call)


# What was not taken goes to the address as it is


@pytest.mark.parametrize("method", ["POST", thorough("GET")])
@pytest.mark.parametrize("how", ["429", thorough("not arrived")])
def test_an_erp_at_a_new_address_gets_what_was_not_taken(make_flow: MakeFlow, how: str, method: str) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__http_method=method)
    flow.http = {"sleep": at_once}
    fault: dict[str, Any] = (
        {"kind": "status", "status": 429, "times": 3} if how == "429" else {"kind": "drop"}
    )
    flow.erp.simulator.fail(**{"times": 1, **fault})
    flow.run()
    if how == "not arrived":
        resolve(flow, arrived=False)
    erp_moves(flow)
    flow.raw["mapping"] = [{"operation": "default", "spec": {"other": True}}]

    outcome = flow.run()

    assert (flow.state(5001), outcome.gate, bookings(flow)) == ("done", "open", 1)
    assert len({(call.raw, tuple(call.query.items())) for call in flow.sent()}) == 1
    assert len(set(flow.keys(5001))) == 1
    assert flow.sent()[-1].headers["Host"].startswith("localhost")
    assert "new address" in flow.happened(5001)


def test_a_mended_path_gets_what_was_not_taken(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__cancellation_api_url="/wrong")
    behind_wrong_path(flow, Answer(429, b"", {}))
    flow.run()
    flow.raw["erp"]["cancellation_api_url"] = "/cancellations"

    outcome = flow.run()

    assert (flow.state(5001), outcome.gate, bookings(flow)) == ("done", "open", 1)


def test_a_mended_path_gets_what_a_person_says_did_not_arrive(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__cancellation_api_url="/wrong")
    behind_wrong_path(flow, Answer(302, b"", {"Location": "/sign-in"}))
    flow.run()
    flow.raw["erp"]["cancellation_api_url"] = "/cancellations"
    resolve(flow, arrived=False)

    outcome = flow.run()

    assert (flow.state(5001), outcome.gate, bookings(flow)) == ("done", "open", 1)


def test_a_mended_path_gets_what_the_lookup_does_not_find(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__cancellation_api_url="/wrong")
    behind_wrong_path(flow, Answer(302, b"", {"Location": "/sign-in"}))
    flow.http = {"sleep": at_once}
    flow.run()
    flow.raw["erp"].update(cancellation_api_url="/cancellations", in_doubt="lookup", lookup=LOOKUP)

    outcome = flow.run()

    assert (flow.state(5001), outcome.gate, bookings(flow)) == ("done", "open", 1)


@pytest.mark.parametrize("policy", ["hold", thorough("resend")])
@pytest.mark.thorough
def test_a_request_that_is_lost_at_the_new_address_is_the_one_that_is_kept(
    make_flow: MakeFlow, policy: str
) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__cancellation_api_url="/wrong", erp__in_doubt=policy)
    behind_wrong_path(flow, Answer(429, b"", {}))
    flow.run()
    flow.raw["erp"]["cancellation_api_url"] = "/cancellations"
    flow.erp.simulator.fail("drop", effect=True, times=3)
    flow.run()
    state = flow.state(5001)
    flow.raw["erp"]["in_doubt"] = "resend"

    flow.run()

    assert (state, flow.state(5001), bookings(flow)) == ("in_doubt", "done", 1)
    assert flow.sent()[-1].path == "/cancellations"


def test_another_method_keeps_the_request_as_it_was(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING)
    flow.erp.simulator.fail("status", status=429, times=3)
    flow.run()
    flow.raw["erp"].update(http_method="PUT", cancellation_api_url="/refunds")

    flow.run()

    assert {(call.method, call.path) for call in flow.sent()} == {("POST", "/cancellations")}


# One plan's old address stops no other plan


@pytest.mark.parametrize("fan_out", [0, thorough(50)])
@pytest.mark.parametrize(
    "how",
    ["429", "resend", *map(thorough, ("not arrived", "lookup", "other method", "held by its script"))],
)
def test_a_plan_whose_request_is_for_the_old_address_stops_no_neighbours(
    make_flow: MakeFlow, serve: Serve, how: str, fan_out: int
) -> None:
    flow = make_flow(1, mapping=MAPPING, fan_out=fan_out)
    flow.http = {"sleep": at_once}
    more: dict[str, Any] = {}
    if how == "held by its script":
        word = "'do_nothing' if request['plan'] == 5001 else 'continue'"
        more = {
            "custom_response": True,
            "custom_response_script": f"def respond(request, response, attributes):\n    return {word}\n",
        }
        flow.raw["erp"].update(more)
    elif how in ("429", "other method"):
        flow.erp.simulator.fail("status", status=429)
    else:
        flow.erp.simulator.fail("status", status=302)
    flow.run()
    flow.omnitron.simulator.put_plans(plans(SEED + 3, 2, first_pk=6001))
    flow.erp = serve(ErpSimulator())
    if how == "not arrived":
        resolve(flow, arrived=False)
    flow.raw["erp"].update(
        {
            "resend": {"in_doubt": "resend"},
            "lookup": {"in_doubt": "lookup", "lookup": LOOKUP},
            "other method": {"http_method": "PUT"},
        }.get(how, {})
    )

    outcome = flow.run()

    ends = {"429": "done", "not arrived": "done", "other method": "failed"}
    assert flow.states() == {"5001": ends.get(how, "in_doubt"), "6001": "done", "6002": "done"}
    assert "stopped" not in outcome.gate
    if ends.get(how) != "done":
        assert "set " in str(flow.row(5001).error)
        assert "dismiss" in str(flow.row(5001).error)
        assert bookings(flow) == 0


@pytest.mark.parametrize("policy", ["resend", thorough("lookup")])
def test_a_doubt_of_the_old_address_ends_once_the_connection_is_set_back(
    make_flow: MakeFlow, serve: Serve, policy: str
) -> None:
    flow = make_flow(1, mapping=MAPPING)
    flow.erp.simulator.fail("drop", effect=True, times=1)
    flow.run()
    flow.raw["erp"].update(in_doubt=policy, lookup=LOOKUP)
    first, flow.erp = flow.erp, serve(ErpSimulator())
    errors = set()
    for _ in range(3):
        flow.run()
        errors.add(flow.row(5001).error)
    others = flow.erp.simulator.requests
    flow.erp = first

    outcome = flow.run()

    assert (len(errors), others) == (1, [])
    assert (flow.state(5001), outcome.gate, bookings(flow)) == ("done", "open", 1)


@pytest.mark.parametrize("way", [thorough("edit"), "dismiss"])
def test_a_person_ends_what_was_for_the_old_address(make_flow: MakeFlow, serve: Serve, way: str) -> None:
    flow = make_flow(1, mapping=MAPPING)
    flow.erp.simulator.fail("drop", times=1)
    flow.run()
    flow.erp = serve(ErpSimulator())
    flow.raw["erp"]["in_doubt"] = "resend"
    flow.run()
    state, row = flow.state(5001), flow.row(5001).id
    with flow.journal() as journal:
        if way == "edit":
            body = '{"plan": 5001, "amount": "1"}'
            journal.edit_request(row, body, who="p", reason="r", despite_doubt=True)
        else:
            journal.dismiss(row, who="p", reason="r")

    outcome = flow.run()

    assert (state, outcome.gate) == ("in_doubt", "open")
    assert [effect.amount for effect in flow.erp.simulator.effects] == (["1"] if way == "edit" else [])


# A request that never carried today's key


@pytest.mark.parametrize("before", [None, thorough("Idempotency-Key")])
@pytest.mark.parametrize("policy", ["resend", "lookup"])
def test_what_was_sent_without_the_key_is_not_repeated_by_it(
    make_flow: MakeFlow, before: str | None, policy: str
) -> None:
    erp = ErpSimulator(idempotency_header="X-Request-Id")
    flow = make_flow(1, erp=erp, mapping=MAPPING, erp__idempotency_header=before)
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail("drop", effect=True, times=1)
    flow.run()
    flow.raw["erp"].update(idempotency_header="X-Request-Id", in_doubt=policy, lookup=BY_KEY)

    flow.run()
    flow.run()

    assert (flow.state(5001), bookings(flow), len(flow.sent())) == ("in_doubt", 1, 1)
    assert "'X-Request-Id'" in str(flow.row(5001).error)


@pytest.mark.parametrize("policy", ["resend", thorough("lookup")])
def test_the_keys_header_is_the_same_in_any_case(make_flow: MakeFlow, policy: str) -> None:
    flow = make_flow(1, mapping=MAPPING)
    flow.erp.simulator.fail("drop", effect=True, times=1)
    flow.run()
    flow.raw["erp"].update(idempotency_header="idempotency-key", in_doubt=policy, lookup=BY_KEY)

    flow.run()

    assert (flow.state(5001), bookings(flow)) == ("done", 1)


def test_what_did_not_arrive_without_the_key_goes_out_with_it(make_flow: MakeFlow) -> None:
    erp = ErpSimulator(idempotency_header="X-Request-Id")
    flow = make_flow(1, erp=erp, mapping=MAPPING)
    flow.erp.simulator.fail("drop", times=1)
    flow.run()
    flow.raw["erp"].update(idempotency_header="X-Request-Id", in_doubt="resend")
    resolve(flow, arrived=False)
    flow.erp.simulator.fail("drop", effect=True, times=1)

    flow.run()

    assert (flow.state(5001), bookings(flow)) == ("done", 1)
    assert {call.headers["X-Request-Id"] for call in flow.sent()[1:]} == {flow.row(5001).key}


# A lookup at another ERP


def test_a_not_there_of_another_erp_does_not_send_to_the_first(make_flow: MakeFlow, serve: Serve) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__in_doubt="lookup", erp__lookup=LOOKUP, **WITHOUT_KEYS)
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail("drop", effect=True, times=1)
    flow.erp.simulator.fail("status", path="/documents", status=500, times=3)
    flow.run()
    first, flow.erp = flow.erp, serve(ErpSimulator())
    flow.run()
    state, asked = flow.state(5001), flow.erp.simulator.requests
    flow.erp = first

    outcome = flow.run()

    assert (state, asked) == ("in_doubt", [])
    assert (flow.state(5001), outcome.gate, bookings(flow)) == ("done", "open", 1)


def test_a_lookup_of_another_erp_tells_nothing_of_the_first(make_flow: MakeFlow, serve: Serve) -> None:
    flow = make_flow(1, mapping=MAPPING, **WITHOUT_KEYS)
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail("drop", effect=True, times=1)
    flow.run()
    new = serve(ErpSimulator())
    flow.raw["erp"].update(
        cancellation_api_url=f"{new.url}/cancellations",
        in_doubt="lookup",
        lookup={**LOOKUP, "url": f"{new.url}{LOOKUP['url']}"},
    )

    flow.run()

    assert (flow.state(5001), new.simulator.requests, bookings(flow)) == ("in_doubt", [], 1)


@pytest.mark.parametrize("moved", [False, True])
def test_a_lookup_beside_the_erp_tells_as_long_as_its_connection_stays(
    make_flow: MakeFlow, serve: Serve, moved: bool
) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__in_doubt="lookup", erp__lookup=LOOKUP, **WITHOUT_KEYS)
    flow.http = {"sleep": at_once}
    books = serve(flow.erp.simulator)
    flow.raw["erp"]["cancellation_api_url"] = f"{books.url}/cancellations"
    flow.erp.simulator.fail("drop", effect=True, times=1)
    flow.erp.simulator.fail("status", path="/documents", status=500, times=3)
    flow.run()
    if moved:
        flow.erp = serve(ErpSimulator())

    flow.run()

    assert flow.state(5001) == ("in_doubt" if moved else "done")
    assert len(books.simulator.effects) == 1


@pytest.mark.thorough
def test_a_lookup_below_another_base_path_tells_nothing(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__in_doubt="lookup", erp__lookup=LOOKUP, **WITHOUT_KEYS)
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail("drop", effect=True, times=1)
    flow.erp.simulator.fail("status", path="/documents", status=500, times=3)
    flow.run()
    erp_moves(flow, lambda url: f"{url}/test-client")

    flow.run()

    assert (flow.state(5001), bookings(flow)) == ("in_doubt", 1)


@pytest.mark.parametrize("spelling", ["{}/", thorough("{}//")])
def test_a_lookup_at_another_spelling_tells(make_flow: MakeFlow, spelling: str) -> None:
    flow = make_flow(1, mapping=MAPPING, **WITHOUT_KEYS)
    flow.erp.simulator.fail("drop", effect=True, times=1)
    flow.run()
    flow.raw["erp"].update(in_doubt="lookup", lookup=LOOKUP)
    erp_moves(flow, spelling.format)

    flow.run()

    assert (flow.state(5001), bookings(flow)) == ("done", 1)
