"""Mappings that are asked for side by side: they share writes to the script process, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from include.order_cancel.errors import MappingFailed
from include.order_cancel.scripts import process as process_module
from include.order_cancel.scripts.process import Limits, ScriptProcess

SHIFT = '{"operation": "shift", "spec": {"pk": "plan"}}'
ENDLESS = json.dumps({"operation": "shift", "spec": {"*a" * 12 + "b": "x"}})


def side_by_side(
    calls: Callable[[ScriptProcess], list[Awaitable[Any]]], limits: Limits | None = None
) -> tuple[list[Any], int]:
    """What became of each call, and how many processes that took."""

    async def within() -> tuple[list[Any], int]:
        async with ScriptProcess(limits or Limits()) as process:
            return await asyncio.gather(*calls(process), return_exceptions=True), process.starts

    return asyncio.run(within())


def told(results: list[Any]) -> list[Any]:
    """Failures as their texts."""
    return [str(result) if isinstance(result, MappingFailed) else result for result in results]


def test_each_of_many_mappings_side_by_side_gets_its_own_result() -> None:
    results, starts = side_by_side(lambda process: [process.map(SHIFT, {"pk": pk}) for pk in range(500)])

    assert (results, starts) == ([{"plan": pk} for pk in range(500)], 1)


def test_answers_larger_than_the_socket_s_buffer_come_through() -> None:
    texts = [character * 200_000 for character in "abcdefgh"]

    results, starts = side_by_side(lambda process: [process.map(SHIFT, {"pk": text}) for text in texts])

    assert (results, starts) == ([{"plan": text} for text in texts], 1)


def test_a_document_that_maps_to_nothing_fails_alone() -> None:
    results, starts = side_by_side(
        lambda process: [process.map(SHIFT, document) for document in ({"pk": 1}, {"other": 2}, {"pk": 3})]
    )

    assert told(results) == [
        {"plan": 1},
        "the mapping produced nothing: step 1 (shift) matched no part of the document",
        {"plan": 3},
    ]
    assert starts == 1


def test_a_mapping_that_does_not_compile_fails_each_of_its_documents_and_no_other() -> None:
    results, starts = side_by_side(
        lambda process: [process.map(spec, {"pk": 1}) for spec in ("{", "{", SHIFT)]
    )

    assert [isinstance(result, MappingFailed) for result in results] == [True, True, False]
    assert starts == 1


def test_a_document_that_overruns_fails_alone() -> None:
    results, starts = side_by_side(
        lambda process: [
            process.map(SHIFT, {"pk": 1}),
            process.map(ENDLESS, {"a" * 400: 1}),
            process.map(SHIFT, {"pk": 3}),
        ],
        Limits(timeout_seconds=0.5),
    )

    assert told(results) == [{"plan": 1}, "stopped after 0.5 s (scripts.timeout_seconds)", {"plan": 3}]
    assert starts == 2


def test_a_document_beyond_the_memory_fails_alone() -> None:
    results, starts = side_by_side(
        lambda process: [
            process.map(SHIFT, {"pk": 1}),
            process.map(SHIFT, {"pk": ["x" * 1000] * 50_000}),
            process.map(SHIFT, {"pk": 3}),
        ],
        Limits(memory_mb=16),
    )

    told_why = "the document needs more memory than scripts.memory_mb allows"
    assert told(results) == [{"plan": 1}, told_why, {"plan": 3}]
    assert starts == 2


def test_a_process_killed_in_the_middle_fails_the_document_it_had() -> None:
    async def within() -> list[Any]:
        async with ScriptProcess(Limits()) as process:
            assert await process.map(SHIFT, {"pk": 0}) == {"plan": 0}
            calls = [process.map(ENDLESS, {"a" * 400: 1}), *(process.map(SHIFT, {"pk": pk}) for pk in (1, 2))]
            tasks = [asyncio.ensure_future(call) for call in calls]
            await asyncio.wait(tasks, timeout=0.2)
            os.kill(process_id(process), signal.SIGKILL)
            return await asyncio.gather(*tasks, return_exceptions=True)

    first, *others = asyncio.run(within())

    assert isinstance(first, MappingFailed)
    assert "SIGKILL" in str(first)
    assert others == [{"plan": 1}, {"plan": 2}]


def test_closing_ends_what_still_waits() -> None:
    async def within() -> list[Any]:
        process = ScriptProcess(Limits())
        tasks = [asyncio.ensure_future(process.map(ENDLESS, {"a" * 400: 1})) for _ in range(3)]
        await asyncio.wait(tasks, timeout=0.2)
        await process.close()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in asyncio.run(within())] == [asyncio.CancelledError] * 3


def process_id(process: ScriptProcess) -> int:
    """The process that a test may kill."""
    running = process._running
    assert isinstance(running, process_module._Running)
    return running.process.pid
