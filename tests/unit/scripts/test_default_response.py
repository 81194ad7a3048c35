"""The shipped default response script: its word for every answer."""

from __future__ import annotations

import asyncio

import pytest

from include.order_cancel.scripts.default_response import DEFAULT_RESPONSE_SCRIPT
from include.order_cancel.scripts.process import Limits, ScriptProcess, ScriptResult

WORDS = {
    "continue": [200, 201, 202, 204, 206, 299],
    "auth_fail": [401],
    "do_nothing": [408, 425, 429, 500, 501, 502, 503, 504, 520, 599],
    "refused": [
        100,
        300,
        301,
        302,
        304,
        307,
        308,
        400,
        402,
        403,
        404,
        405,
        406,
        409,
        410,
        415,
        422,
        451,
        499,
        600,
    ],
}


def said(result: ScriptResult) -> str | None:
    return "refused" if result.refused else result.relation


@pytest.fixture(scope="module")
def answers() -> dict[str, ScriptResult]:
    async def ask() -> dict[str, ScriptResult]:
        statuses = [str(status) for known in WORDS.values() for status in known] + ["", "abc", "-200"]
        async with ScriptProcess(Limits()) as process:
            return {
                status: await process.run(
                    "response", DEFAULT_RESPONSE_SCRIPT, None, {"invokehttp.status.code": status}, response={}
                )
                for status in statuses
            }

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("word", "status"), [(word, status) for word, known in WORDS.items() for status in known]
)
def test_every_status_has_its_word(word: str, status: int, answers: dict[str, ScriptResult]) -> None:
    assert said(answers[str(status)]) == word


@pytest.mark.parametrize("status", [422, 302])
def test_a_refusal_has_a_reason(status: int, answers: dict[str, ScriptResult]) -> None:
    assert answers[str(status)].reason == f"the ERP answered {status}"


@pytest.mark.parametrize("status", ["", "abc", "-200"])
def test_no_status_is_a_refusal(status: str, answers: dict[str, ScriptResult]) -> None:
    assert answers[status].refused
    assert answers[status].relation is None
