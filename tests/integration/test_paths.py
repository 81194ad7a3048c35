"""A lookup that is read in the notation which the ERP's users know: what is found there is not booked again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from include.simulator import ErpSimulator
from include.simulator.wire import Answer, Request, answer
from tests.integration.conftest import MakeFlow
from tests.integration.test_answers import at_once


class ListingErp(ErpSimulator):
    """An ERP that recognises no key and, asked for a document, answers with the list of those that it found."""

    def __init__(self) -> None:
        super().__init__(idempotency=False)

    def _look_up(self, call: Request) -> Answer:
        one = super()._look_up(call)
        found = [{"id": json.loads(one.body)["documentNumber"]}] if one.status == 200 else []
        return answer(200, {"value": found}, {"X-Total-Count": str(len(found))})


PATHS = ["value[0].id", "$.value[0].id", "value.0.id", "value[0]", "value", "header:X-Total-Count"]


def lookup(path: str) -> dict[str, Any]:
    return {"erp__in_doubt": "lookup", "erp__lookup": {"url": "/documents?key={{ key }}", "found_path": path}}


@pytest.mark.parametrize("path", PATHS)
def test_what_a_lookup_finds_is_booked_once(make_flow: MakeFlow, path: str) -> None:
    flow = make_flow(1, erp=ListingErp(), erp__reference_path="$.value[0].id", **lookup(path))
    flow.erp.simulator.fail("drop", effect=True, times=1)

    outcome = flow.run()

    (effect,) = flow.erp.simulator.effects
    assert (flow.state(5001), outcome.gate) == ("done", "open")
    assert flow.row(5001).erp_reference == effect.document_number
    assert len(flow.sent()) == 1


@pytest.mark.parametrize("path", PATHS)
def test_what_a_lookup_does_not_find_is_sent(make_flow: MakeFlow, path: str) -> None:
    flow = make_flow(1, erp=ListingErp(), **lookup(path))
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail("drop", times=1)

    flow.run()

    assert flow.state(5001) == "done"
    assert len(flow.erp.simulator.effects) == 1
    assert len(flow.sent()) == 2
