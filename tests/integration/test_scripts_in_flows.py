"""Scripts as part of a flow, in tasks of their own and in lots: what they see, what they leave, how they fail."""

from __future__ import annotations

import json
import logging
import textwrap
from collections.abc import Sequence
from typing import Any

import pytest

from include.order_cancel.rows import State
from tests.harness import MAPPING, Flow
from tests.integration.conftest import MakeFlow
from tests.shares import thorough

lanes = pytest.mark.parametrize("fan_out", [thorough(50, id="plan lane"), pytest.param(0, id="bulk lane")])

INTEGRATOR = {
    "script": """
        import json
        from java.nio.charset import StandardCharsets
        from org.apache.commons.io import IOUtils
        from org.apache.nifi.processor.io import StreamCallback

        class Transform(StreamCallback):
            def process(self, inputStream, outputStream):
                plan = json.loads(IOUtils.toString(inputStream, StandardCharsets.UTF_8))
                self.number = plan["order"]["number"]
                plan["by"] = "script"
                outputStream.write(bytearray(json.dumps(plan).encode("utf-8")))

        flowFile = session.get()
        if flowFile != None:
            callback = Transform()
            flowFile = session.write(flowFile, callback)
            flowFile = session.putAttribute(flowFile, "order", callback.number)
            flowFile = session.putAttribute(flowFile, "seen_by_script", get_attribute("channel_type"))
            session.transfer(flowFile, REL_SUCCESS)
        """,
    "response": """
        flowFile = session.get()
        flowFile = session.putAttribute(flowFile, "answered", "order " + get_attribute("order"))
        flowFile = session.putAttribute(flowFile, "relation", "continue")
        session.transfer(flowFile, REL_SUCCESS)
        """,
    "post": """
        flowFile = session.get()
        session.putAttribute(flowFile, "posted", get_attribute("answered") + ", told")
        session.transfer(flowFile, REL_SUCCESS)
        """,
}
PLAIN = {
    "script": """
        def transform(plan, attributes):
            attributes["order"] = plan["order"]["number"]
            attributes["seen_by_script"] = attributes["channel_type"]
            return {**plan, "by": "script"}
        """,
    "response": """
        def respond(request, response, attributes):
            attributes["answered"] = "order " + attributes["order"]
            attributes["relation"] = "continue"
            return "continue"
        """,
    "post": """
        def after(request, response, attributes):
            attributes["posted"] = attributes["answered"] + ", told"
        """,
}
ENDLESS = "    while True:\n        pass"


def scripts(**texts: str) -> dict[str, Any]:
    """The settings' changes for these scripts, by kind."""
    changes: dict[str, Any] = {}
    for kind, text in texts.items():
        place = {"script": "script", "post": "post_script", "response": "erp__custom_response_script"}[kind]
        changes[place] = textwrap.dedent(text)
    if "response" in texts:
        changes["erp__custom_response"] = True
    return changes


def respond(body: str) -> str:
    """A plain response script with this body."""
    return f"def respond(request, response, attributes):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"


def for_one(kind: str, body: str) -> dict[str, Any]:
    """A plain script that does this for plan 5002 and what it should for all others."""
    head, pk, well = {
        "script": ("def transform(plan, attributes):", "plan", "return plan"),
        "response": ("def respond(request, response, attributes):", "request", "return 'continue'"),
    }[kind]
    branch = textwrap.indent(textwrap.dedent(body), "        ")
    return scripts(**{kind: f"{head}\n    if {pk}['pk'] == 5002:\n{branch}\n    {well}\n"})


def printed(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    """The log lines that hold this text."""
    return [record.getMessage() for record in caplog.records if text in record.getMessage()]


def delivered(flow: Flow, pks: Sequence[int]) -> None:
    """Each plan: sent once, booked once, written back once, done."""
    for pk in pks:
        assert (len(flow.sent(pk)), len(flow.written(pk)), flow.state(pk)) == (1, 1, "done"), pk
        assert flow.omnitron.simulator.status(pk) == "approved"
        assert len(flow.erp.simulator.effects_of(pk)) == 1


def left_alone(flow: Flow, pk: int) -> None:
    """Nothing was written back for this plan."""
    assert flow.written(pk) == []
    assert flow.omnitron.simulator.status(pk) == "waiting"


# What scripts see and leave


@lanes
@pytest.mark.parametrize("form", [INTEGRATOR, PLAIN], ids=["integrator", "plain"])
def test_attributes_go_from_script_to_response_to_post_script_and_stay_in_the_journal(
    make_flow: MakeFlow, form: dict[str, str], fan_out: int
) -> None:
    flow = make_flow(3, fan_out=fan_out, **scripts(**form))

    outcome = flow.run()

    assert outcome.gate == "open"
    delivered(flow, [5001, 5002, 5003])
    for row in flow.rows().values():
        assert row.attributes == {
            "channel_type": "sales_channel",
            "seen_by_script": "sales_channel",
            "order": row.order_number,
            "answered": f"order {row.order_number}",
            "relation": "continue",
            "posted": f"order {row.order_number}, told",
        }
    assert [call.json["by"] for call in flow.sent()] == ["script"] * 3


@lanes
def test_a_response_script_sees_request_and_answer_in_its_attributes(
    make_flow: MakeFlow, fan_out: int
) -> None:
    given = ("status.code", "status.message", "response.body", "request.url")
    text = respond(
        f"for name in {given!r}:\n"
        "    attributes['saw.' + name] = attributes['invokehttp.' + name]\n"
        "attributes['saw.request_data'] = attributes['request_data']\n"
        "attributes['saw.channel_type'] = attributes['channel_type']\n"
        "attributes['saw.arguments'] = '%s %s' % (request['plan'], response['documentNumber'])\n"
        "return 'continue'"
    )
    flow = make_flow(1, fan_out=fan_out, mapping=MAPPING, **scripts(response=text))

    flow.run()

    (effect,) = flow.erp.simulator.effects
    attributes = flow.row(5001).attributes
    answer = json.loads(attributes.pop("saw.response.body"))
    assert answer["documentNumber"] == effect.document_number
    assert attributes == {
        "channel_type": "sales_channel",
        "saw.status.code": "200",
        "saw.status.message": "OK",
        "saw.request.url": f"{flow.erp.url}/cancellations",
        "saw.request_data": flow.sent(5001)[0].raw.decode(),
        "saw.channel_type": "sales_channel",
        "saw.arguments": f"5001 {effect.document_number}",
    }


def test_with_get_scripts_see_the_fields_of_the_query_as_the_request(make_flow: MakeFlow) -> None:
    text = (
        respond("attributes['saw'] = request['plan'] + attributes['request_data']\nreturn 'continue'\n")
        + "\ndef after(request, response, attributes):\n    attributes['posted'] = request['amount']\n"
    )
    flow = make_flow(1, mapping=MAPPING, erp__http_method="GET", **scripts(response=text, post=text))

    outcome = flow.run()

    (call,) = flow.sent(5001)
    assert outcome.gate == "open"
    assert flow.row(5001).attributes["saw"] == f"5001{json.dumps(call.query)}"
    assert flow.row(5001).attributes["posted"] == call.query["amount"]


@lanes
@pytest.mark.parametrize(
    ("text", "asked"),
    [("return 'continue', attributes['rejected_count']", 3), ("return 'continue'", 0)],
    ids=["named", "not named"],
)
def test_the_rejected_plans_of_an_order_are_counted_only_where_the_script_names_them(
    make_flow: MakeFlow, text: str, asked: int, fan_out: int
) -> None:
    flow = make_flow(3, fan_out=fan_out, **scripts(response=respond(text)))

    flow.run()

    questions = [call for call in flow.listings() if call.query.get("status") == "rejected"]
    assert len(questions) == asked
    assert {call.query["order_id"] for call in questions} == (
        {row.order_pk for row in flow.rows().values()} if asked else set()
    )
    delivered(flow, [5001, 5002, 5003])


@lanes
def test_log_attributes_are_printed_once_at_the_plans_end(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture, fan_out: int
) -> None:
    caplog.set_level(logging.INFO, "order_cancel")
    flow = make_flow(
        2,
        fan_out=fan_out,
        **scripts(
            script="def transform(plan, attributes):\n    attributes['log.a'] = 'x'\n    return plan\n",
            post="def after(request, response, attributes):\n    attributes['log.b'] = 'y'\n",
        ),
    )

    flow.run()

    for pk, row in flow.rows().items():
        assert printed(caplog, "log.a") == [f"[{one.name}] log.a = x" for one in flow.rows().values()]
        lines = [line for line in printed(caplog, f"/ {pk}]") if "log." in line or "written back" in line]
        assert lines[-2:] == [f"[{row.name}] log.a = x", f"[{row.name}] log.b = y"]


@lanes
def test_what_a_script_prints_stands_in_the_log_though_it_fails_afterwards(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture, fan_out: int
) -> None:
    caplog.set_level(logging.INFO, "order_cancel")
    flow = make_flow(2, fan_out=fan_out, **for_one("script", "print('on the way')\nraise ValueError('boom')"))

    flow.run()

    name = flow.row(5002).name
    assert f"[{name}] script: on the way" in printed(caplog, "on the way")
    (last, *_) = printed(caplog, "log.script.error")
    assert last.startswith(f"[{name}] log.script.error = ValueError: boom (line 4")


@lanes
def test_what_a_failed_response_script_was_given_is_not_kept_among_the_attributes(
    make_flow: MakeFlow, fan_out: int
) -> None:
    flow = make_flow(
        2, fan_out=fan_out, **for_one("response", "attributes['mine'] = '1'\nraise ValueError('boom')")
    )

    flow.run()

    assert flow.row(5002).attributes.keys() == {"channel_type", "mine", "log.script.error"}


# Relations


@lanes
@pytest.mark.parametrize(
    ("text", "state", "status", "ending", "sent", "posted"),
    [
        ("return 'continue'", "done", "approved", "green", 1, True),
        ("return 'failure', 'blocked'", "rejected", "rejected", "green", 1, False),
        ("return 'do_nothing', 'later'", "held", "waiting", "skipped", 1, False),
        (
            "again = 'again' in attributes\n"
            "attributes['again'] = 'yes'\n"
            "return 'continue' if again else 'auth_fail'",
            "done",
            "approved",
            "green",
            2,
            True,
        ),
    ],
    ids=["continue", "failure", "do_nothing", "auth_fail"],
)
def test_the_relation_decides(
    make_flow: MakeFlow,
    text: str,
    state: str,
    status: str,
    ending: str,
    sent: int,
    posted: bool,
    fan_out: int,
) -> None:
    post = "def after(request, response, attributes):\n    attributes['posted'] = 'yes'\n"
    flow = make_flow(2, fan_out=fan_out, **scripts(response=respond(text), post=post))

    outcome = flow.run()

    assert outcome.gate == "open"
    assert outcome.endings == ({"5001": ending, "5002": ending} if fan_out else {})
    for pk in (5001, 5002):
        assert (flow.state(pk), flow.omnitron.simulator.status(pk)) == (state, status)
        assert len(flow.written(pk)) == (0 if status == "waiting" else 1)
        assert len(flow.sent(pk)) == sent
        assert len(set(flow.keys(pk))) == 1
        assert ("posted" in flow.row(pk).attributes) is posted


@lanes
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("session.transfer(flowFile, REL_FAILURE)", "REL_FAILURE"),
        ("session.putAttribute(flowFile, 'relation', 'perhaps')", "unknown relation 'perhaps'"),
        ("session.transfer(flowFile, REL_SUCCESS)", "no relation"),
        ("raise ValueError('boom')", "ValueError: boom"),
        ("import os; os._exit(3)", "ended or broke its own process"),
    ],
    ids=["REL_FAILURE", "unknown", "none", "exception", "exit"],
)
def test_a_response_script_without_a_good_word_fails_its_plan_and_no_other(
    make_flow: MakeFlow, text: str, why: str, fan_out: int
) -> None:
    integrator = f"""
import json
flowFile = session.get()
if json.loads(get_attribute("request_data"))["pk"] == 5002:
    {text}
else:
    session.putAttribute(flowFile, "relation", "continue")
"""
    flow = make_flow(3, fan_out=fan_out, **scripts(response=integrator))
    outcome = flow.run()

    assert why in (flow.row(5002).error or "")
    assert flow.state(5002) == "failed"
    assert outcome.endings["5002"] == "red"
    assert outcome.gate.startswith("1 failed")
    left_alone(flow, 5002)
    delivered(flow, [5001, 5003])

    flow.raw["erp"]["custom_response_script"] = respond("return 'continue'")
    mended = flow.run()

    assert mended.gate == "open"
    delivered(flow, [5001, 5002, 5003])
    assert "log.script.error" not in flow.row(5002).attributes


@lanes
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise ValueError('boom')", "ValueError: boom"),
        ("return None", "transform() returned None"),
        ("return {1, 2}", "is not JSON"),
        ("import os; os._exit(3)", "ended or broke its own process"),
    ],
    ids=["exception", "none", "no JSON", "exit"],
)
def test_a_failing_script_fails_its_plan_before_anything_is_sent(
    make_flow: MakeFlow, body: str, why: str, fan_out: int
) -> None:
    flow = make_flow(3, fan_out=fan_out, **for_one("script", body))
    outcome = flow.run()

    assert why in (flow.row(5002).error or "")
    assert outcome.endings["5002"] == "red"
    assert flow.sent(5002) == []
    left_alone(flow, 5002)
    delivered(flow, [5001, 5003])

    flow.raw["script"] = "def transform(plan, attributes):\n    return plan\n"
    mended = flow.run()

    assert mended.gate == "open"
    delivered(flow, [5001, 5002, 5003])


@lanes
def test_a_script_that_refuses_by_rel_failure_fails_the_plan_with_its_reason(
    make_flow: MakeFlow, fan_out: int
) -> None:
    flow = make_flow(
        1,
        fan_out=fan_out,
        **scripts(
            script="""
            flowFile = session.get()
            session.putAttribute(flowFile, "reason", "no such store")
            session.transfer(flowFile, REL_FAILURE)
            """
        ),
    )

    outcome = flow.run()

    assert outcome.endings == {"5001": "red"}
    assert flow.row(5001).error == "the script chose REL_FAILURE: no such store"
    assert flow.sent() == []
    left_alone(flow, 5001)


# Time


@lanes
@pytest.mark.parametrize(("kind", "sent"), [thorough("script", 0), ("response", 1)])
def test_an_endless_loop_for_one_plan_of_ten_leaves_nine_delivered(
    make_flow: MakeFlow, kind: str, sent: int, fan_out: int
) -> None:
    flow = make_flow(
        10, fan_out=fan_out, lots=2, scripts__timeout_seconds=1, **for_one(kind, textwrap.dedent(ENDLESS))
    )

    outcome = flow.run()

    row = flow.row(5002)
    assert row.state is State.FAILED
    assert "stopped after 1 s (scripts.timeout_seconds)" in (row.error or "")
    assert outcome.endings["5002"] == "red"
    assert len(flow.sent(5002)) == sent
    left_alone(flow, 5002)
    delivered(flow, [5001, *range(5003, 5011)])


def test_one_python_process_serves_all_scripts_and_mappings_of_a_lot(make_flow: MakeFlow) -> None:
    note = "import os\n    attributes['{}'] = str(os.getpid())\n    "
    flow = make_flow(
        12,
        fan_out=0,
        lots=3,
        mapping=MAPPING,
        **scripts(
            script=f"def transform(plan, attributes):\n    {note.format('script')}return plan\n",
            response=f"def respond(request, response, attributes):\n    {note.format('response')}return 'continue'\n",
            post=f"def after(request, response, attributes):\n    {note.format('post')}return None\n",
        ),
    )

    outcome = flow.run()

    assert outcome.lots == [0, 1, 2]
    delivered(flow, range(5001, 5013))
    seen = [row.attributes for row in flow.rows().values()]
    processes = {one[kind] for one in seen for kind in ("script", "response", "post")}
    assert len(processes) == 3
    assert all(one["script"] == one["response"] == one["post"] for one in seen)


# The post script


POST_FAILS = "def after(request, response, attributes):\n    raise ValueError('boom')\n"
POST_RUNS = "def after(request, response, attributes):\n    attributes['posted'] = 'yes'\n"


@lanes
def test_a_failed_post_script_leaves_the_plan_done_with_a_warning_and_the_gate_green(
    make_flow: MakeFlow, fan_out: int
) -> None:
    flow = make_flow(2, fan_out=fan_out, **scripts(post=POST_FAILS))

    outcome = flow.run()

    assert outcome.gate == "open"
    delivered(flow, [5001, 5002])
    assert (flow.row(5001).error or "").startswith("the post script failed: ValueError: boom")
    assert outcome.report["table"].count("the post script failed") == 2


def test_clearing_a_red_post_script_runs_only_the_post_script(make_flow: MakeFlow) -> None:
    flow = make_flow(2, **scripts(script=PLAIN["script"], post=POST_FAILS))
    outcome = flow.run()
    endings = dict(outcome.endings)
    before = flow.happened(5001)
    flow.raw["post_script"] = POST_RUNS

    ending = outcome.clear(5001)

    assert endings == {"5001": "red", "5002": "red"}
    assert ending == "green"
    assert outcome.gate == "open"
    added = flow.happened(5001)[len(before) :]
    assert [what for what in added if what != "settings differ"] == ["done"]
    row = flow.row(5001)
    assert (row.error, row.attributes["posted"]) == (None, "yes")
    assert "log.script.error" not in row.attributes
    delivered(flow, [5001, 5002])


# do_nothing


@lanes
def test_a_plan_held_by_its_script_is_offered_again_with_the_same_key(
    make_flow: MakeFlow, fan_out: int
) -> None:
    flow = make_flow(2, fan_out=fan_out, **scripts(response=respond("return 'do_nothing', 'later'")))
    first = flow.run()
    held = flow.row(5001)
    left_alone(flow, 5001)
    flow.raw["erp"]["custom_response_script"] = respond("return 'continue'")

    second = flow.run()

    assert first.endings == ({"5001": "skipped", "5002": "skipped"} if fan_out else {})
    assert (held.state, held.error, first.gate) == (State.HELD, "later", "open")
    assert second.gate == "open"
    assert flow.states() == {"5001": "done", "5002": "done"}
    assert len(flow.keys(5001)) == 2
    assert len(set(flow.keys(5001))) == 1
    assert len(flow.erp.simulator.effects) == 2


@lanes
def test_do_nothing_passes_a_completed_plan_for_good(make_flow: MakeFlow, fan_out: int) -> None:
    flow = make_flow(
        2,
        status="completed",
        fan_out=fan_out,
        omnitron__cancel_status="completed",
        omnitron__next_state=None,
        omnitron__start_from="2025-01-01T00:00:00Z",
        **scripts(response=respond("return 'do_nothing', 'not ours'")),
    )
    first = flow.run()
    flow.raw["erp"]["custom_response_script"] = respond("return 'continue'")
    flow.last_query = None  # a person had it forgotten: the second run lists both plans again

    second = flow.run()

    assert first.endings == ({"5001": "skipped", "5002": "skipped"} if fan_out else {})
    assert (first.gate, second.gate) == ("open", "open")
    assert flow.states() == {"5001": "passed", "5002": "passed"}
    assert len(flow.sent()) == 2
    assert flow.written() == []
