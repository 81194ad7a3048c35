"""A request whose body a person wrote: it stays theirs, and settles nothing that went out before it."""

from __future__ import annotations

from typing import Any

import pytest

from include.simulator.wire import Answer
from tests.harness import MAPPING, Flow
from tests.integration.conftest import MakeFlow
from tests.integration.test_answers import at_once
from tests.shares import thorough

EDITED = '{"plan": 5001, "amount": "1"}'
LOOKUP = {"url": "/documents?plan={{ plan.pk }}", "found_path": "documentNumber", "after_seconds": 0}


def bookings(flow: Flow) -> list[Any]:
    return [effect.amount for effect in flow.erp.simulator.effects_of(5001)]


def edit(flow: Flow, content: str = EDITED, **risk: bool) -> None:
    with flow.journal() as journal:
        journal.edit_request(flow.row(5001).id, content, who="p", reason="too much", **risk)


@pytest.mark.parametrize("fan_out", [thorough(0), 50])
def test_a_refused_edit_is_sent_once_more_as_the_person_wrote_it(make_flow: MakeFlow, fan_out: int) -> None:
    flow = make_flow(1, mapping=MAPPING, fan_out=fan_out)
    flow.erp.simulator.fail("status", status=403, times=3 if fan_out == 0 else 2)
    flow.run()
    edit(flow)

    flow.run()
    flow.run()

    assert (bookings(flow), flow.state(5001)) == (["1"], "done")
    assert len(set(flow.keys(5001))) == len(flow.keys(5001))  # each was refused: a key of its own for each


@pytest.mark.thorough
def test_new_content_takes_the_place_of_a_refused_edit(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING)
    flow.erp.simulator.fail("status", status=403, times=2)
    flow.run()
    edit(flow)
    flow.run()
    flow.omnitron.simulator.change(5001, refund_amount="7.77")

    flow.run()

    assert bookings(flow) == ["7.77"]


@pytest.mark.parametrize("status", [thorough(400), thorough(409), 422])
def test_a_mistake_in_an_edit_rejects_no_plan(make_flow: MakeFlow, status: int) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__refusal="failure")
    flow.erp.simulator.fail("status", status=403, times=1)
    flow.run()
    own = flow.erp.simulator.handle
    flow.erp.simulator.handle = lambda call: (
        Answer(status, b'{"error": "amount is missing"}', {"Content-Type": "application/json"})
        if call.path == "/cancellations" and "amount" not in (call.json or {})
        else own(call)
    )
    edit(flow, '{"plan": 5001, "amuont": "1"}')

    flow.run()
    flow.run()

    assert (flow.state(5001), flow.omnitron.simulator.status(5001)) == ("failed", "waiting")
    assert "a person wrote the request" in (flow.row(5001).error or "")
    edit(flow)
    flow.run()
    assert bookings(flow) == ["1"]


@pytest.mark.parametrize("refusal", [thorough("failed"), "failure"])
@pytest.mark.parametrize("status", [thorough(403), thorough(409), 422])
def test_a_refused_edit_settles_nothing_of_the_request_before_it(
    make_flow: MakeFlow, refusal: str, status: int
) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__refusal=refusal)
    flow.erp.simulator.fail("drop", effect=True, times=1)
    flow.erp.simulator.fail(
        "status", status=status, times=1, body={"error": "this plan is cancelled already"}
    )
    flow.run()
    edit(flow, despite_doubt=True)

    flow.run()
    flow.run()

    assert (len(bookings(flow)), flow.state(5001)) == (1, "in_doubt")
    assert flow.omnitron.simulator.status(5001) == "waiting"


def test_a_lookup_by_number_does_not_take_the_request_before_for_the_edited_one(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__in_doubt="hold", erp__lookup=LOOKUP)
    flow.erp.simulator.fail("drop", effect=True, times=1)
    flow.erp.simulator.fail("drop", times=1)
    flow.run()
    edit(flow, despite_doubt=True)
    flow.raw["erp"]["in_doubt"] = "lookup"
    flow.http = {"sleep": at_once}

    outcome = flow.run()

    assert (flow.state(5001), len(bookings(flow))) == ("in_doubt", 1)
    assert "cannot tell this request from an earlier one" in outcome.gate
