"""The command `test`: a flow's scripts and mapping on one document, without Omnitron or ERP; golden cases."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from include.order_cancel import trying
from include.order_cancel.cases import run_cases
from include.order_cancel.cli import places
from include.order_cancel.cli.output import Said, UsageError, counted, pretty
from include.order_cancel.errors import OrderCancelError
from include.order_cancel.scripts.default_response import DEFAULT_RESPONSE_SCRIPT
from include.order_cancel.scripts.process import ScriptProcess
from include.order_cancel.settings import FlowSettings, Source
from include.order_cancel.trying import Given, Kind, Tried


def script(given: argparse.Namespace) -> Said:
    """The Script Step on a plan document."""
    settings = places.settings(given.flow, given.file)
    text = _text(settings.script, "script", given.flow)
    return _said(
        settings, "script", text, Given(places.document(given.input), attributes=_attributes(given, settings))
    )


def mapping(given: argparse.Namespace) -> Said:
    """The Mapping Step on a document, with the document after every operation."""
    settings = places.settings(given.flow, given.file)
    text = _text(settings.mapping, "mapping", given.flow)
    return _said(
        settings,
        "mapping",
        text,
        Given(places.document(given.input), attributes=_attributes(given, settings)),
    )


def response(given: argparse.Namespace) -> Said:
    """The Custom Response Script, the shipped one where none is given, on an ERP answer."""
    settings = places.settings(given.flow, given.file)
    source = settings.erp.custom_response_script
    if source is None and settings.erp.custom_response:
        text = DEFAULT_RESPONSE_SCRIPT
    else:
        text = _text(source, "erp.custom_response_script", given.flow)
    body = places.text(given.input)
    request = places.document(given.request) if given.request else None
    attributes = trying.answer_attributes(settings, text, body, request, _attributes(given, settings))
    return _said(
        settings, "response", text, Given(body, request, trying.json_or_text(body), attributes=attributes)
    )


def post(given: argparse.Namespace) -> Said:
    """The Post Script Step on an ERP answer; or on an object that holds request_data and response_data."""
    settings = places.settings(given.flow, given.file)
    text = _text(settings.post_script, "post_script", given.flow)
    answer = trying.json_or_text(places.text(given.input))
    request = places.document(given.request) if given.request else None
    if request is None and isinstance(answer, dict) and {"request_data", "response_data"} <= answer.keys():
        request, answer = answer["request_data"], answer["response_data"]
    return _said(settings, "post", text, Given(None, request, answer, _attributes(given, settings)))


def cases(given: argparse.Namespace) -> Said:
    """Every golden case below a folder."""
    try:
        outcomes = run_cases(given.folder)
    except FileNotFoundError:
        raise UsageError(f"there is no folder {given.folder}") from None
    if not outcomes:
        raise OrderCancelError(
            f"{given.folder} holds no case; a case is a JSON file with `kind` and `expect`"
        )
    lines = []
    for outcome in outcomes:
        lines.append(f"{'ok' if outcome.passed else 'FAILED':<7}{outcome.name}")
        lines += [f"       {problem}" for problem in outcome.problems]
    failed = sum(not outcome.passed for outcome in outcomes)
    lines.append(f"{counted(len(outcomes), 'case')}, {failed} failed")
    return Said("\n".join(lines), 1 if failed else 0)


def _text(source: Source | None, path: str, flow: str) -> str:
    if source is None:
        raise OrderCancelError(f"flow {flow} has none to test: `{path}` is not set")
    return source.text


def _attributes(given: argparse.Namespace, settings: FlowSettings) -> dict[str, str]:
    added = {}
    for pair in given.attribute or []:
        name, sign, value = pair.partition("=")
        if not name or not sign:
            raise UsageError(f"--attribute takes name=value, not {pair!r}")
        added[name] = value
    return trying.attributes(settings, added)


def _said(settings: FlowSettings, kind: Kind, text: str, given: Given) -> Said:
    tried = asyncio.run(_tried(settings, kind, text, given))
    return Said(pretty(_shown(kind, tried)), 0 if tried.error is None else 1)


async def _tried(settings: FlowSettings, kind: Kind, text: str, given: Given) -> Tried:
    async with ScriptProcess(trying.limits(settings)) as process:
        return await trying.attempt(process, kind, text, given)


def _shown(kind: Kind, tried: Tried) -> dict[str, Any]:
    shown: dict[str, Any] = {"result_data": tried.result, "attributes": dict(tried.attributes)}
    if tried.error is not None:
        return {**shown, "log": tried.log, "error": tried.error}
    if kind == "mapping":
        return {**shown, "steps": [{"operation": name, "document": after} for name, after in tried.steps]}
    told = {"relation": tried.relation, "reason": tried.reason} if kind == "response" else {}
    return {**shown, "log": tried.log, **told}
