"""Every bad script of the golden cases, each on one plan of a batch, in both lanes: its neighbours are delivered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from include.order_cancel.rows import State
from include.simulator import OmnitronSimulator, plans
from tests.harness import Flow
from tests.integration.conftest import SEED

FOLDER = Path(__file__).parents[1] / "cases" / "scripts" / "bad"
# A case about the document that it is given, which a flow gives otherwise.
BY_THEIR_INPUT = {"surrogates_in_the_input"}
GROUPS = 8
QUICK_GROUPS = {("plan lane", 0), ("bulk lane", 1)}
NEIGHBOURS = 10
FIRST = 5001

# Picks the plan's own script by its number; to each the session looks as if it had come first.
DISPATCHER = """
import json

SCRIPTS = json.loads({scripts!r})
dumps = json.dumps  # a script may patch the module's


class Reading:
    def process(self, inputStream):
        self.plan = json.loads(inputStream.read())


class FreshSession:
    def __init__(self, flow_file):
        self.flow_files = [flow_file]

    def get(self):
        return self.flow_files.pop() if self.flow_files else None

    def __getattr__(self, name):
        return getattr(session, name)


flowFile = session.get()
reading = Reading()
session.read(flowFile, reading)
script = SCRIPTS.get(str(reading.plan["pk"]))
if script is None:
    session.transfer(flowFile, REL_SUCCESS)
else:
    names = {{**globals(), "session": FreshSession(flowFile)}}
    exec(compile(script["text"], "script", "exec"), names)
    if script["plain"]:
        attributes = {{}}
        written = dumps(names["transform"](reading.plan, attributes), allow_nan=False)

        class Writing:
            def process(self, inputStream, outputStream):
                outputStream.write(written)

        session.write(flowFile, Writing())
        session.putAllAttributes(flowFile, attributes)
        session.transfer(flowFile, REL_SUCCESS)
"""


def bad_cases() -> dict[str, dict[str, Any]]:
    cases = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))}
    return {
        name: case for name, case in cases.items() if case["kind"] == "script" and name not in BY_THEIR_INPUT
    }


def text_of(case: dict[str, Any]) -> str:
    script = case["script"]
    return script if isinstance(script, str) else "\n".join(script)


@pytest.mark.parametrize(
    ("fan_out", "group"),
    [
        pytest.param(
            fan_out,
            group,
            id=f"{lane}, group {group}",
            marks=[] if (lane, group) in QUICK_GROUPS else pytest.mark.thorough,
        )
        for fan_out, lane in ((200, "plan lane"), (0, "bulk lane"))
        for group in range(GROUPS)
    ],
)
def test_a_bad_script_ends_its_own_plan_and_no_other(
    make_flow: Callable[..., Flow], fan_out: int, group: int
) -> None:
    cases = dict(list(bad_cases().items())[group::GROUPS])
    pks = {name: FIRST + NEIGHBOURS + place for place, name in enumerate(cases)}
    texts = {name: text_of(case) for name, case in cases.items()}
    scripts = {
        str(pks[name]): {"text": text, "plain": "def transform" in text} for name, text in texts.items()
    }
    flow = make_flow(
        omnitron=OmnitronSimulator(plans(SEED, NEIGHBOURS + len(cases))),
        fan_out=fan_out,
        lots=1,
        script=DISPATCHER.format(scripts=json.dumps(scripts)),
        scripts={"timeout_seconds": 2, "memory_mb": 256, "network": False},
    )

    flow.run()

    rows = flow.rows()
    expected = {
        name: "error" in case["expect"] or case["expect"].get("refused", False)
        for name, case in cases.items()
    }
    ended = {name: rows[str(pk)].state is State.FAILED for name, pk in pks.items()}
    differ = {
        name: (rows[str(pks[name])].state, rows[str(pks[name])].error)
        for name in cases
        if expected[name] != ended[name]
    }
    assert differ == {}
    assert all(rows[str(pks[name])].error for name, failed in expected.items() if failed)
    assert {rows[str(pk)].state for pk in range(FIRST, FIRST + NEIGHBOURS)} == {State.DONE}
    delivered = {int(call.pk) for call in flow.erp.simulator.calls() if call.pk is not None}
    assert delivered == {int(pk) for pk, row in rows.items() if row.state is State.DONE}
