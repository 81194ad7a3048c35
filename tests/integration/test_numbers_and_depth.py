"""Numbers that Python would write otherwise reach the ERP as they came; what no parser likes fails alone, or passes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from include.order_cancel.text import UNPRINTABLE
from include.simulator import OmnitronSimulator, plans
from include.simulator.wire import Answer, Request
from tests.harness import Flow
from tests.integration.conftest import MakeFlow
from tests.shares import thorough
from tests.unit.test_exact_json import LITERALS

LIST = "/api/v1/cancellation_plans/"
TAKE_EXTRA = [
    {"operation": "shift", "spec": {"pk": "plan", "extra": "amount"}},
    {
        "operation": "modify-overwrite-beta",
        "spec": {"orderNumber": "=concat('x', 'y')", "kept": "=toDouble(@(1,amount))"},
    },
]
PLAIN = """
def transform(plan, attributes):
    assert plan["extra"] * 0 == 0 or plan["extra"] * 2 == plan["extra"]
    return {"plan": plan["pk"], "amount": plan["extra"]}
"""
INTEGRATOR = """
import re
text = inputStream.read().decode("utf-8")
amount = re.search(r'"extra": ([^,}]+)', text).group(1)
pk = re.search(r'"pk": ([0-9]+)', text).group(1)
outputStream.write(('{"plan": %s, "amount": %s}' % (pk, amount)).encode("utf-8"))
"""
NONE = "def transform(plan, attributes):\n    return {'plan': plan['pk']}\n"


class RawOmnitron(OmnitronSimulator):
    """Shows the member `extra` of its plans as raw JSON text: what no Python value would be written as."""

    def __init__(self, documents: list[dict[str, Any]], extras: Mapping[int, str]) -> None:
        super().__init__(documents)
        self.extras = dict(extras)

    def handle(self, call: Request) -> Answer:
        usual = super().handle(call)
        if call.method != "GET" or not call.path.startswith(LIST) or usual.status != 200:
            return usual
        said = json.loads(usual.body)
        shown = said.get("results", [said])
        for document in shown:
            if document["pk"] in self.extras:
                document["extra"] = f"@{document['pk']}@"
        text = json.dumps(said)
        for pk, raw in self.extras.items():
            text = text.replace(f'"@{pk}@"', raw)
        return Answer(usual.status, text.encode(), usual.headers)


def raw(make_flow: MakeFlow, extras: Mapping[int, str], count: int = 3, **changes: Any) -> Flow:
    documents = plans(20250301, count, status="waiting")
    return make_flow(0, omnitron=RawOmnitron(documents, extras), **changes)


def sent(flow: Flow, pk: int) -> str:
    return str(flow.sent(pk)[-1].raw.decode())


@pytest.mark.parametrize("fan_out", [0, thorough(50)])
@pytest.mark.parametrize("way", ["as it is", "mapping", "plain script", "integrator script"])
def test_a_number_reaches_the_erp_as_it_came(make_flow: MakeFlow, way: str, fan_out: int) -> None:
    given: dict[str, Any] = {
        "as it is": {},
        "mapping": {"mapping": TAKE_EXTRA},
        "plain script": {"script": PLAIN},
        "integrator script": {"script": INTEGRATOR},
    }[way]
    extras = dict(enumerate(LITERALS, start=5001))
    flow = raw(make_flow, extras, len(extras), fan_out=fan_out, **given)

    gate = flow.run().gate

    assert gate == "open"
    name = "extra" if way == "as it is" else "amount"
    assert {pk: f'"{name}":{literal}' in sent(flow, pk) for pk, literal in extras.items()} == dict.fromkeys(
        extras, True
    )


@pytest.mark.parametrize("way", [thorough("lookup"), "query"])
def test_a_number_in_an_address_is_as_it_came(make_flow: MakeFlow, way: str) -> None:
    if way == "query":
        flow = raw(
            make_flow, {5001: "1.10"}, 1, mapping=TAKE_EXTRA, erp__http_method="GET", erp__reference_path=None
        )
        flow.run()
        assert flow.sent(5001)[0].query["amount"] == "1.10"
        return
    lookup = {"url": "/documents?plan={{ plan.extra }}&amount={{ body.amount }}", "after_seconds": 0}
    flow = raw(make_flow, {5001: "1.10"}, 1, mapping=TAKE_EXTRA, erp__in_doubt="lookup", erp__lookup=lookup)
    flow.erp.simulator.fail("drop", plan=5001, times=1)
    flow.run()
    asked = [call for call in flow.erp.simulator.calls("GET") if call.path == "/documents"]

    assert {(call.query["plan"], call.query["amount"]) for call in asked} == {("1.10", "1.10")}


def test_the_amount_is_shown_as_it_was_written(make_flow: MakeFlow) -> None:
    documents = plans(20250301, 1, status="waiting")
    documents[0]["refund_amount"] = "@"
    omnitron = RawOmnitron(documents, {})
    flow = make_flow(0, omnitron=omnitron)
    usual = omnitron.handle
    omnitron.handle = lambda call: _with_amount(usual(call))  # type: ignore[method-assign]

    flow.run()

    assert flow.row(5001).amount == "1.10"


def _with_amount(said: Answer) -> Answer:
    return Answer(said.status, said.body.replace(b'"@"', b"1.10"), said.headers)


def nested(levels: int, kind: str = '{"n": ') -> str:
    return kind * levels + '"x"' + ("}" if kind[0] == "{" else "]") * levels


ODD = {
    "600 levels": (nested(600), "nested deeper than 200 levels"),
    "100,000 levels": (nested(100_000, "["), "nested deeper than 200 levels"),
    "half a surrogate pair": (r'"\ud800"', "surrogate"),
    "a NUL": (r'"a\u0000b"', None),
    "a million digits": ("7" * 1_000_000, "a number of thousands of digits"),
    "5 MB of text": ('"' + "x" * 5_000_000 + '"', None),
}
SAME = "def transform(plan, attributes):\n    return plan\n"


@pytest.mark.parametrize("url", ["sqlite", thorough("postgresql")])
@pytest.mark.parametrize("fan_out", [0, thorough(50)])
@pytest.mark.parametrize("what", [odd if odd == "600 levels" else thorough(odd) for odd in ODD])
def test_an_odd_document_fails_alone_or_passes(
    make_flow: MakeFlow, request: pytest.FixtureRequest, what: str, fan_out: int, url: str
) -> None:
    extra, words = ODD[what]
    journal = request.getfixturevalue("postgres_url") if url == "postgresql" else None
    flow = raw(make_flow, {5002: extra}, fan_out=fan_out, script=SAME, url=journal)

    outcome = flow.run()
    again = flow.run()

    assert (flow.state(5001), flow.state(5003)) == ("done", "done")
    if words is None:
        assert (flow.state(5002), outcome.gate) == ("done", "open")
    else:
        assert flow.state(5002) == "failed"
        assert words in str(flow.row(5002).error)
        assert words in outcome.gate
        assert words in again.gate
        assert not flow.sent(5002)
    with flow.journal() as opened:
        stored = opened.body(flow.row(5002).id, "document")
    assert stored is not None
    assert '"extra"' in stored.content
    assert not UNPRINTABLE.search(outcome.gate.replace("\n", ""))


@pytest.mark.parametrize(
    "what", ["600 levels", thorough("100,000 levels"), thorough("half a surrogate pair")]
)
def test_an_odd_document_is_not_sent_without_a_script_either(make_flow: MakeFlow, what: str) -> None:
    flow = raw(make_flow, {5002: ODD[what][0]})

    flow.run()

    assert flow.states() == {"5001": "done", "5002": "failed", "5003": "done"}
    assert not flow.sent(5002)


def test_a_number_of_a_million_digits_reaches_the_erp(make_flow: MakeFlow) -> None:
    flow = raw(make_flow, {5002: "7" * 1_000_000})

    flow.run()

    assert any("7" * 1_000_000 in call.raw.decode() for call in flow.sent())
    assert (flow.state(5001), flow.state(5003)) == ("done", "done")


@pytest.mark.parametrize("kind", ["script", "mapping"])
def test_a_result_that_is_nested_too_deep_fails_its_plan_alone(make_flow: MakeFlow, kind: str) -> None:
    grow = """
def transform(plan, attributes):
    made = {"plan": plan["pk"]}
    for _ in range(3000 if plan["pk"] == 5002 else 0):
        made = {"n": made}
    return made
"""
    deeper = [{"operation": "shift", "spec": {"pk": ".".join(["n"] * 3000)}}]
    if kind == "script":
        flow = make_flow(3, script=grow)
        flow.run()
        assert flow.states() == {"5001": "done", "5002": "failed", "5003": "done"}
    else:
        flow = make_flow(3, mapping=deeper)
        flow.run()
        assert set(flow.states().values()) == {"failed"}
    assert "nested" in str(flow.row(5002).error)


@pytest.mark.parametrize("fan_out", [0, thorough(50)])
@pytest.mark.parametrize("levels", [600, thorough(900), 100_000])
@pytest.mark.parametrize("with_scripts", [False, True])
def test_an_answer_that_is_nested_too_deep_is_read_as_far_as_it_goes(
    make_flow: MakeFlow, with_scripts: bool, levels: int, fan_out: int
) -> None:
    script = "def respond(request, response, attributes):\n    return 'continue', type(response).__name__\n"
    after = "def after(request, response, attributes):\n    assert response\n"
    scripts = {"erp__custom_response": True, "erp__custom_response_script": script, "post_script": after}
    flow = make_flow(3, fan_out=fan_out, **(scripts if with_scripts else {}))
    usual = flow.erp.simulator.handle

    def handle(call: Request) -> Answer:
        said: Answer = usual(call)
        if call.pk != 5002 or call.method != "POST":
            return said
        document = json.loads(said.body)
        text = json.dumps({**document, "deep": "@"}).replace('"@"', nested(levels))
        return Answer(said.status, text.encode(), said.headers)

    flow.erp.simulator.handle = handle

    flow.run()

    assert flow.states() == {"5001": "done", "5002": "done", "5003": "done"}
    assert {row.error for row in flow.rows().values()} == {None}
    assert flow.row(5002).erp_reference
