"""Plans, answers and scripts full of what could forge a log: each plan's failure is its own, each line one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from include.order_cancel.text import UNPRINTABLE
from include.simulator import ErpSimulator, OmnitronSimulator, plans
from include.simulator.omnitron import JSON_HEADERS
from include.simulator.wire import Answer, Request, answer
from tests.harness import Flow, settings

FORGED = (
    "x\n::group::forged\r\x1b[2K\x9b1m\x85\u2028\u2029\u202e\u2066 ::endgroup:: [2026-01-01] INFO all well"
)
LIST = "/api/v1/cancellation_plans/"
SCRIPT = """
def transform(plan, attributes):
    log.info(str(plan))
    attributes["log.forged"] = str(plan.get("order"))
    if plan.get("fails"):
        raise ValueError(str(plan.get("order")))
    return {"plan": plan["pk"], "order": plan.get("order")}
"""


def deep(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


ODD: list[dict[str, Any]] = [
    {"pk": 6001, "order": {"number": FORGED}},
    {"pk": 6002, "order": {"number": FORGED}, "fails": True},
    {"pk": 6003, "order": FORGED},
    {"pk": 6004, "order": None, "refund_amount": {"a": []}},
    {"pk": 6005, "order": deep(200)},
    {"pk": 6006, "order": {"number": "n" * 100_000}, "refund_amount": 10**300},
    {"pk": 6007, "order": {"number": "\ud800"}},
    {"pk": 6008, "created_date": 5, "modified_date": [], "currency": FORGED, FORGED: FORGED},
    {"pk": 6009, "status": "waiting", "order": {"channel": FORGED, "currency": FORGED, "pk": FORGED}},
    {"pk": 6010, "status": FORGED},
    {"pk": 6011, "cancellationplanorderitem_set": [{"order_item": {"price": "NaN"}}, None]},
    {"pk": "6012/../x?y#z", "order": {"number": "a path"}},
    {"pk": f"6013{FORGED}"},
    {"pk": None},
    {"pk": {"pk": 1}},
    {},
]


class OddOmnitron(OmnitronSimulator):
    """Lists odd documents beside its own plans, and refuses the write-back of those it does not know with a forgery."""

    def handle(self, call: Request) -> Answer:
        if call.path == LIST:
            own = json.loads(super().handle(call).body)["results"]
            return Answer(
                200, json.dumps({"count": len(own) + len(ODD), "results": own + ODD}).encode(), JSON_HEADERS
            )
        usual = super().handle(call)
        return usual if usual.status < 400 else answer(422, {"detail": FORGED})


class ForgingErp(ErpSimulator):
    """Refuses each second odd plan with a forged message."""

    def handle(self, call: Request) -> Answer:
        if isinstance(call.pk, int) and call.pk > 6000 and call.pk % 2:
            return answer(422, {"error": FORGED})
        return super().handle(call)


@pytest.mark.parametrize(
    "changes", [{"fan_out": 50}, {"fan_out": 0, "lots": 2}], ids=["a task each", "in bulk"]
)
def test_odd_plans_fail_alone_and_forge_no_line(
    serve: Callable[[Any], Any], sqlite_url: str, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    raw = settings(mapping=None, script=SCRIPT, **changes)
    flow = Flow(serve(OddOmnitron(plans(20250301, 3))), serve(ForgingErp()), sqlite_url, raw)
    caplog.set_level("INFO", "order_cancel")

    outcome = flow.run()

    states = flow.states()
    flow.close()
    assert {states[str(pk)] for pk in (5001, 5002, 5003)} == {"done"}
    assert {state for pk, state in states.items() if pk > "6"} <= {"answered", "failed", "left"}
    assert states["6002"] == states["6001"] == "failed"
    assert "6010" not in states
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("order_cancel")]
    lines += [*outcome.gate.splitlines(), *outcome.report["table"].splitlines()]
    assert any("forged" in line for line in lines)
    for line in lines:
        if line.startswith("outcome of this run\n"):
            continue
        assert not UNPRINTABLE.search(line), line
        assert "::group::" not in line or line.startswith("::group::"), line
        assert "::endgroup::" not in line or line == "::endgroup::", line
