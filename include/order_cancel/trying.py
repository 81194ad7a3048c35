"""Scripts and mappings on trial: one call on one document, without Omnitron or ERP, and all that came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from include.order_cancel import exact_json
from include.order_cancel.erp import classify
from include.order_cancel.errors import PlanFailed
from include.order_cancel.http import Answer
from include.order_cancel.rows import Relation
from include.order_cancel.scripts.process import Limits, ScriptProcess, ScriptResult
from include.order_cancel.settings import FlowSettings

Kind = Literal["script", "mapping", "response", "post"]
# Where in the settings each kind's text stands.
SOURCES: dict[Kind, str] = {
    "script": "script",
    "mapping": "mapping",
    "response": "erp.custom_response_script",
    "post": "post_script",
}


@dataclass(frozen=True)
class Given:
    """What goes in: `document` for a script or a mapping, `request` and `response` for the others."""

    document: Any = None
    request: Any = None
    response: Any = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tried:
    """What came out; `error` says why a plan would have failed. `steps`: the document after each operation.

    `raised`: there is no result, since the script or the mapping broke off.
    """

    result: Any = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    relation: str | None = None
    reason: str | None = None
    refused: bool = False
    steps: list[tuple[str, Any]] = field(default_factory=list)
    error: str | None = None
    raised: bool = False


async def attempt(process: ScriptProcess, kind: Kind, text: str, given: Given) -> Tried:
    """One call. Whatever fails is told in the answer."""
    if kind == "mapping":
        return await _mapping(process, text, given)
    try:
        result = await process.run(
            kind, text, given.document, given.attributes, request=given.request, response=given.response
        )
    except PlanFailed as error:
        made, said = getattr(error, "attributes", {}), getattr(error, "log", [])
        return Tried(attributes=made, log=said, error=str(error), raised=True)
    return Tried(
        result.result,
        result.attributes,
        result.log,
        result.relation,
        result.reason,
        result.refused,
        error=_why_failed(kind, result),
    )


async def _mapping(process: ScriptProcess, text: str, given: Given) -> Tried:
    steps: list[tuple[str, Any]] = []
    try:
        steps = await process.trace(text, given.document)
        return Tried(await process.map(text, given.document), given.attributes, steps=steps)
    except PlanFailed as error:
        return Tried(steps=steps, error=str(error), raised=True)


def _why_failed(kind: Kind, result: ScriptResult) -> str | None:
    if result.refused:
        return "the script chose REL_FAILURE" + (f": {result.reason}" if result.reason else "")
    if kind == "response" and result.relation not in list(Relation):
        told = f"the unknown relation {result.relation!r}" if result.relation else "no relation"
        return f"the script gave {told}; known are {', '.join(Relation)}"
    return None


def attributes(settings: FlowSettings, added: Mapping[str, str]) -> dict[str, str]:
    """The attributes of a plan that sets out, and those of a trial's own."""
    return {"channel_type": settings.omnitron.channel_type, **added}


def answer_attributes(
    settings: FlowSettings, text: str, body: str, request: Any, given: Mapping[str, str]
) -> dict[str, str]:
    """What a response script finds in its attributes: those of an answer of status 200, over them the trial's own."""
    told = {
        "invokehttp.status.code": "200",
        "invokehttp.status.message": "OK",
        "invokehttp.response.body": body,
        "invokehttp.request.url": settings.erp.cancellation_api_url,
        "request_data": "" if request is None else exact_json.dumps(request, ensure_ascii=False),
        **({"rejected_count": "0"} if "rejected_count" in text else {}),
        **given,
    }
    code = told["invokehttp.status.code"]
    status = int(code) if code.isascii() and code.isdigit() and len(code) == 3 else 0
    answer = Answer(status, "", {}, body.encode("utf-8", "replace"), "", 0.0)
    return {"answer.meaning": classify(answer, settings.erp), **told}


def limits(settings: FlowSettings) -> Limits:
    """What one call may use, by the settings."""
    return Limits(**settings.scripts.model_dump())


def json_or_text(text: str) -> Any:
    """An answer's body as scripts get it."""
    try:
        return exact_json.loads(text)
    except (ValueError, RecursionError):
        return text
