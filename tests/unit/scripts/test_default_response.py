"""The shipped default response script: its word for every meaning of an answer."""

from __future__ import annotations

import asyncio

import pytest

from include.order_cancel.scripts.default_response import DEFAULT_RESPONSE_SCRIPT
from include.order_cancel.scripts.process import Limits, ScriptProcess, ScriptResult

WORDS = {
    "accepted": "continue",
    "auth_fail": "auth_fail",
    "unknown": "unknown",
    "not_done": "refused",
    "refused": "refused",
    "": "refused",
    "anything": "refused",
}


def said(result: ScriptResult) -> str | None:
    return "refused" if result.refused else result.relation


@pytest.fixture(scope="module")
def answers() -> dict[str, ScriptResult]:
    async def ask() -> dict[str, ScriptResult]:
        async with ScriptProcess(Limits()) as process:
            return {
                meaning: await process.run(
                    "response",
                    DEFAULT_RESPONSE_SCRIPT,
                    None,
                    {"invokehttp.status.code": "500", "answer.meaning": meaning},
                    response={},
                )
                for meaning in WORDS
            }

    return asyncio.run(ask())


@pytest.mark.parametrize(("meaning", "word"), WORDS.items())
def test_every_meaning_has_its_word(meaning: str, word: str, answers: dict[str, ScriptResult]) -> None:
    assert said(answers[meaning]) == word


@pytest.mark.parametrize("meaning", ["unknown", "refused", "not_done"])
def test_what_is_not_accepted_has_a_reason(meaning: str, answers: dict[str, ScriptResult]) -> None:
    assert answers[meaning].reason == "the ERP answered 500"


def test_no_answer_at_all_is_no_acceptance(answers: dict[str, ScriptResult]) -> None:
    assert answers[""].refused
    assert answers[""].relation is None
