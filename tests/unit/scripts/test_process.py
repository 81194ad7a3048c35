"""The script process from its parent's side: starts, deadlines, replacement, what a script cannot reach."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.order_cancel.errors import MappingFailed, PlanFailed, ScriptFailed
from include.order_cancel.scripts import process as process_module
from include.order_cancel.scripts.process import Limits, ScriptProcess, ScriptRunFailed
from tests.shares import examples

CASES = Path(__file__).parents[2] / "cases" / "scripts"
ECHO = "def transform(plan, attributes):\n    return plan\n"
ENDLESS = "def transform(plan, attributes):\n    while True:\n        pass\n"
SORT = '{"operation": "sort"}'


def run(call: Callable[[ScriptProcess], Awaitable[Any]], limits: Limits | None = None) -> Any:
    async def within() -> Any:
        async with ScriptProcess(limits or Limits()) as process:
            return await call(process)

    return asyncio.run(within())


async def failure(call: Awaitable[Any]) -> str:
    with pytest.raises(PlanFailed) as caught:
        await call
    return str(caught.value)


def test_nothing_starts_before_the_first_call() -> None:
    async def call(process: ScriptProcess) -> int:
        return process.starts

    assert run(call) == 0


def test_many_calls_of_every_kind_cost_one_start() -> None:
    async def call(process: ScriptProcess) -> int:
        for number in range(100):
            assert (await process.run("script", ECHO, {"pk": number}, {})).result == {"pk": number}
            assert await process.map(SORT, {"b": 1, "a": number}) == {"a": number, "b": 1}
        return process.starts

    assert run(call) == 1


def test_ordinary_scripts_do_not_cost_a_second_start() -> None:
    async def call(process: ScriptProcess) -> int:
        for path in sorted(CASES.glob("*.json")) * 2:
            case = json.loads(path.read_text("utf-8"))
            sides = {side: case.get(side) for side in ("request", "response")}
            text, attributes = "\n".join(case["script"]), case.get("attributes", {})
            await process.run(case["kind"], text, case.get("input"), attributes, **sides)
        return process.starts

    assert run(call) == 1


def test_calls_side_by_side_are_served_one_after_another() -> None:
    async def call(process: ScriptProcess) -> tuple[list[Any], int]:
        results = await asyncio.gather(*(process.run("script", ECHO, number, {}) for number in range(50)))
        return [result.result for result in results], process.starts

    assert run(call) == (list(range(50)), 1)


def test_a_call_that_overruns_fails_alone() -> None:
    async def call(process: ScriptProcess) -> tuple[list[Any], int]:
        calls = [process.run("script", text, 1, {}) for text in (ECHO, ENDLESS, ECHO)]
        return await asyncio.gather(*calls, return_exceptions=True), process.starts

    (first, overran, last), starts = run(call, Limits(timeout_seconds=0.5))

    assert (first.result, last.result, starts) == (1, 1, 2)
    assert isinstance(overran, ScriptFailed)
    assert str(overran) == "stopped after 0.5 s (scripts.timeout_seconds)"


def test_a_mapping_that_overruns_is_a_mapping_failure() -> None:
    spec = json.dumps({"operation": "shift", "spec": {"*a" * 12 + "b": "x"}})

    async def call(process: ScriptProcess) -> tuple[str, Any]:
        with pytest.raises(MappingFailed) as caught:
            await process.map(spec, {"a" * 400: 1})
        return str(caught.value), await process.map(SORT, {"a": 1})

    assert run(call, Limits(timeout_seconds=0.5)) == (
        "stopped after 0.5 s (scripts.timeout_seconds)",
        {"a": 1},
    )


def test_a_trace_shows_every_step() -> None:
    spec = json.dumps(
        [{"operation": "shift", "spec": {"a": "b"}}, {"operation": "default", "spec": {"c": 1}}]
    )

    assert run(lambda process: process.trace(spec, {"a": 2})) == [
        ("shift", {"b": 2}),
        ("default", {"b": 2, "c": 1}),
    ]


def test_a_cancelled_call_leaves_the_process_fit_for_the_next() -> None:
    async def call(process: ScriptProcess) -> Any:
        await process.run("script", ECHO, 1, {})
        task = asyncio.create_task(process.run("script", ENDLESS, 2, {}))
        done, _ = await asyncio.wait([task], timeout=0.2)
        assert not done
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return (await process.run("script", ECHO, 3, {})).result

    assert run(call) == 3


def test_a_process_killed_from_outside_between_calls_is_replaced_unnoticed() -> None:
    async def call(process: ScriptProcess) -> tuple[Any, int]:
        await process.run("script", ECHO, 1, {})
        running = process._running
        assert running is not None
        running.process.kill()
        running.process.wait()
        return (await process.run("script", ECHO, 2, {})).result, process.starts

    assert run(call) == (2, 2)


def test_a_closed_process_may_be_used_again() -> None:
    async def call(process: ScriptProcess) -> tuple[Any, int]:
        await process.run("script", ECHO, 1, {})
        await process.close()
        return (await process.run("script", ECHO, 2, {})).result, process.starts

    assert run(call) == (2, 2)


def test_an_interpreter_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "child.py"
    broken.write_text("raise SystemExit('no such luck')", "utf-8")
    monkeypatch.setattr(process_module, "_CHILD", broken)

    told = run(lambda process: failure(process.run("script", ECHO, 1, {})))

    assert told == "the process for scripts and mappings did not start: exit code 1 no such luck"


def test_a_failure_carries_what_the_script_had_said_by_then() -> None:
    text = "flowFile = session.get()\nprint('so far')\nsession.putAttribute(flowFile, 'a', 'b')\n1 / 0\n"

    async def call(process: ScriptProcess) -> ScriptRunFailed:
        with pytest.raises(ScriptRunFailed) as caught:
            await process.run("script", text, {}, {"in": "1"})
        return caught.value

    error = run(call)

    assert error.log == ["so far"]
    assert error.attributes == {
        "in": "1",
        "a": "b",
        "log.script.error": "ZeroDivisionError: division by zero (line 4)",
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud83d", {1, 2}, object(), {"a": b"x"}])
def test_what_is_not_json_does_not_go_in(value: Any) -> None:
    async def call(process: ScriptProcess) -> list[str]:
        return [
            await failure(process.run("script", ECHO, value, {})),
            await failure(process.run("post", ECHO, None, {}, request=value)),
            await failure(process.map(SORT, value)),
        ]

    assert all("is not JSON" in told for told in run(call))


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("import json\ndocument = json.loads(input_text)\noutputStream.write(str(len(document)))", 50_000),
        ("def transform(plan, attributes):\n    return len(plan)", 50_000),
        (ECHO, "the output is larger than 16 MB"),
    ],
)
def test_fifty_megabytes_end_in_a_result_or_a_clear_error(text: str, outcome: Any) -> None:
    document = ["x" * 1000] * 50_000

    async def call(process: ScriptProcess) -> tuple[Any, Any]:
        try:
            seen: Any = (await process.run("script", text, document, {})).result
        except ScriptFailed as error:
            seen = str(error)
        return seen, (await process.run("script", ECHO, "next", {})).result

    assert run(call) == (outcome, "next")


def test_a_document_beyond_the_memory_is_a_clear_error() -> None:
    document = ["x" * 1000] * 50_000

    async def call(process: ScriptProcess) -> list[Any]:
        return [
            await failure(process.run("script", ECHO, document, {})),
            await failure(process.map(SORT, document)),
            (await process.run("script", ECHO, "next", {})).result,
        ]

    told = "the document needs more memory than scripts.memory_mb allows"
    assert run(call, Limits(memory_mb=16)) == [told, told, "next"]


BAD = sorted(
    path for path in (CASES / "bad").glob("*.json") if "timeout_seconds" not in path.read_text("utf-8")
)


def test_after_every_bad_script_the_next_plan_is_as_ever() -> None:
    async def call(process: ScriptProcess) -> list[str]:
        harmed = []
        for path in BAD:
            case = json.loads(path.read_text("utf-8"))
            with suppress(ScriptFailed):
                await process.run(case["kind"], "\n".join(case["script"]), case.get("input"), {})
            after = await process.run("script", PROBE, {"pk": 1}, {})
            if after.result != {"pk": 1, "state": CLEAN} or after.log:
                harmed.append(f"{path.name}: {after}")
        return harmed

    assert run(call, Limits(memory_mb=64)) == []


# What a fresh process looks like to a script.
PROBE = """
import builtins, decimal, json, os, signal, sys, threading

def transform(plan, attributes):
    state = [
        threading.active_count(), sys.getrecursionlimit(), sys.gettrace() is None, signal.alarm(0),
        len([1, 2]), sorted([2, 1]), json.loads("1"), hasattr(json, "kept"), decimal.getcontext().prec,
        dict(os.environ), attributes,
    ]
    return {"pk": plan["pk"], "state": json.loads(json.dumps(state))}
"""
CLEAN = [1, 1000, True, 0, 2, [1, 2], 1, False, 28, {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}, {}]


@pytest.mark.parametrize(
    "text", ["x" * 100, "\\x00" * 8, "\\xff" * 64, "\\x00\\x00\\x00\\x02\\x00\\x00\\x00\\x00{}"]
)
def test_garbage_on_the_wire_fails_that_call_only(text: str) -> None:
    script = f"""
import os, stat
session.get()
for descriptor in range(3, 4096):
    try:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            os.write(descriptor, b"{text}")
    except OSError:
        pass
"""

    async def call(process: ScriptProcess) -> tuple[str, Any]:
        told = await failure(process.run("script", script, {}, {}))
        return told, (await process.run("script", ECHO, "next", {})).result

    told, after = run(call)

    assert "ended or broke its own process" in told
    assert after == "next"


def test_an_answer_given_in_advance_is_not_taken_for_the_next_plan() -> None:
    script = """
import json, os, stat, struct, threading
session.get()
forged = json.dumps({"id": "1", "spent": None, "error": None, "attributes": {}, "relation": "continue",
                     "reason": None, "refused": False, "log": []}).encode()
late = threading.Thread(target=lambda: [
    os.write(descriptor, struct.pack(">II", len(forged), 0) + forged)
    for descriptor in range(3, 4096)
    if os.path.exists("/proc/self/fd/%d" % descriptor) and stat.S_ISSOCK(os.fstat(descriptor).st_mode)
])
late.start()
late.join()
"""

    async def call(process: ScriptProcess) -> tuple[str, Any]:
        told = await failure(process.run("response", script, None, {}, response={}))
        return told, (await process.run("script", ECHO, "next", {})).result

    told, after = run(call)

    assert "ended or broke its own process" in told
    assert after == "next"


SECRET = "canary-4711-secret"
SPY = """
import gc, json, os, sys

def transform(plan, attributes):
    found = []

    def look(what, get):
        try:
            found.append([what, repr(get())])
        except BaseException as error:
            found.append([what, "refused: %s" % error])

    look("environment", lambda: dict(os.environ))
    look("bytes of the environment", lambda: os.environb)
    look("own /proc", lambda: open("/proc/self/environ", "rb").read())
    look("arguments", lambda: [sys.argv, open("/proc/self/cmdline", "rb").read()])
    for descriptor in range(0, 256):
        look("descriptor %d" % descriptor, lambda: os.pread(descriptor, 4096, 0))
    own = "/proc/self/fd/"
    look("descriptors", lambda: [os.readlink(own + name) for name in os.listdir(own)])
    frame = sys._getframe()
    while frame:
        look("frame", lambda: [dict(frame.f_locals), dict(frame.f_globals)])
        frame = frame.f_back
    look("gc", lambda: [repr(thing) for thing in gc.get_objects() if isinstance(thing, (dict, list, tuple))])
    look("airflow", lambda: __import__("airflow"))
    look("the bridge", lambda: __import__("include.order_cancel.airflow_bridge"))
    parent = os.getppid()
    for name in ("environ", "cmdline", "mem", "maps", "stat", "fd/0"):
        look("parent's " + name, lambda: open("/proc/%d/%s" % (parent, name), "rb").read(4096))
    look("parent by a link", lambda: open("/proc/self/../%d/environ" % parent, "rb").read())
    look("parent by descriptor", lambda: os.read(os.open("/proc/%d/environ" % parent, os.O_RDONLY), 4096))
    return found
"""


@contextmanager
def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ERP_PASSWORD", SECRET)
    monkeypatch.setenv("AIRFLOW_CONN_ERP", f"http://user:{SECRET}@erp.example")
    with tempfile.TemporaryFile() as file:
        file.write(SECRET.encode())
        file.flush()
        os.set_inheritable(file.fileno(), True)
        yield


def test_no_secret_of_the_parent_is_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def call(process: ScriptProcess) -> list[list[str]]:
        held = {"connection": {"password": SECRET}}
        with planted(monkeypatch):
            found: list[list[str]] = (await process.run("script", SPY, {"pk": 1}, {})).result
        assert held
        return found

    found = run(call)
    seen = dict(found)

    assert SECRET not in json.dumps(found)
    assert seen["environment"] == "{'PATH': '/usr/bin:/bin', 'LANG': 'C.UTF-8'}"
    assert "not 'airflow'" in seen["airflow"]
    assert "refused" in seen["the bridge"]
    assert all(
        "cannot look into other processes" in told for what, told in found if what.startswith("parent")
    )


def test_the_child_holds_no_descriptor_but_its_own() -> None:
    text = """
import os, stat
def transform(plan, attributes):
    kinds = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            mode = os.fstat(int(name)).st_mode
        except OSError:
            continue
        kinds[name] = "socket" if stat.S_ISSOCK(mode) else "file" if stat.S_ISREG(mode) else "device"
    return sorted(kinds.values())
"""  # the files: stderr, and the process's own /proc/self/statm
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    try:
        kinds = run(lambda process: process.run("script", text, {}, {})).result
    finally:
        os.close(reader)
        os.close(writer)

    assert kinds == ["device", "device", "file", "file", "socket"]


def wait_for_end(pid: int) -> bool:
    """Whether the process has ended, waited for up to ten seconds."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 10)[0])
    finally:
        os.close(descriptor)


def test_the_child_dies_with_its_parent() -> None:
    parent_text = f"""
import asyncio
from include.order_cancel.scripts.process import Limits, ScriptProcess

async def main():
    process = ScriptProcess(Limits())
    await process.run("script", {ECHO!r}, 1, {{}})
    print(process._running.process.pid, flush=True)
    await process.run("script", {ENDLESS!r}, 1, {{}})

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", parent_text], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()

    assert wait_for_end(child)


def test_a_stray_that_left_the_group_is_found_by_its_mark() -> None:
    text = "import sys; print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", text],
        env={process_module._MARK: "mark-of-this-test"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as stray:
        assert stray.stdout is not None
        stray.stdout.readline()

        process_module._end_strays("mark-of-this-test")

        assert stray.wait(10) == -signal.SIGKILL


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
lines = st.sampled_from(
    [
        "flowFile = session.get()",
        "session.transfer(flowFile, REL_SUCCESS)",
        "session.transfer(flowFile, REL_FAILURE)",
        "session.remove(flowFile)",
        "session.putAttribute(flowFile, 'a', input_text)",
        "session.putAttribute(flowFile, 'a', flowFile.getAttribute('b'))",
        "outputStream.write(input_text)",
        "outputStream.write(inputStream.read(3))",
        "outputStream.write('NaN')",
        "session.write(flowFile, lambda i, o: o.write(i.read()))",
        "flowFile = session.create()",
        "raise ValueError(input_text)",
        "print(input_text)",
        "del session",
        "log.info('{}', input_text)",
        "x = (",
        "flowFile.attributes['a'] = 1",
        "flowFile.content = None",
    ]
)


@pytest.mark.hypothesis
def test_no_script_and_no_document_gives_anything_but_a_result_or_a_failure() -> None:
    with asyncio.Runner() as runner:
        process = ScriptProcess(Limits(timeout_seconds=20))

        @examples(300)
        @given(
            kind=st.sampled_from(["script", "response", "post"]),
            text=st.lists(lines, max_size=5).map("\n".join) | st.text(max_size=40),
            document=json_values,
            attributes=st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
        )
        def holds(kind: Any, text: str, document: Any, attributes: dict[str, str]) -> None:
            call = process.run(kind, text, document, attributes, request=document, response=document)
            try:
                result = runner.run(call)
            except ScriptRunFailed as error:
                said, attributes = str(error), error.attributes
            else:
                said, attributes = json.dumps(result.result, allow_nan=False), result.attributes

            assert said
            assert all(isinstance(value, str) for value in attributes.values())

        try:
            holds()
        finally:
            runner.run(process.close())


@pytest.mark.hypothesis
def test_no_mapping_and_no_document_gives_anything_but_a_result_or_a_failure() -> None:
    with asyncio.Runner() as runner:
        process = ScriptProcess(Limits(timeout_seconds=20))

        @examples(100)
        @given(spec=st.text(max_size=20) | json_values.map(json.dumps), document=json_values)
        def holds(spec: str, document: Any) -> None:
            try:
                said = json.dumps(runner.run(process.map(spec, document)), allow_nan=False)
            except MappingFailed as error:
                said = str(error)

            assert said

        try:
            holds()
        finally:
            runner.run(process.close())
