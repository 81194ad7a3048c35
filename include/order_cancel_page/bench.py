"""The test bench: a script or mapping on one document, in the script process, and all that came of it.

Its input is pasted, taken from the journal, or read from Omnitron with the flow's Connection. Nothing is written and
nothing is sent to the ERP.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Annotated, Any

from fastapi import HTTPException, Request, Response
from pydantic import BaseModel, Field

from include.order_cancel import omnitron, trying
from include.order_cancel.cases import as_case
from include.order_cancel.errors import OrderCancelError, SettingsError
from include.order_cancel.http import Endpoint
from include.order_cancel.resting import Store
from include.order_cancel.rows import Row
from include.order_cancel.scripts import strict_json
from include.order_cancel.scripts.default_response import DEFAULT_RESPONSE_SCRIPT
from include.order_cancel.scripts.process import ScriptProcess
from include.order_cancel.searching import Wanted, search
from include.order_cancel.settings import FlowSettings, check_flow_name
from include.order_cancel.tokens import MemoryStore
from include.order_cancel.trying import SOURCES, Given, Kind, Tried
from include.order_cancel_page import marking, shell
from include.order_cancel_page.door import Door, NoJournal, Right
from include.order_cancel_page.rights import door_of, needs, person_of, router
from include.order_cancel_page.settings import trials_of

routes = router()

LONGEST_CALL_SECONDS = 30.0
_FETCH_SECONDS = 30.0
_SHOWN = 30
_TITLES: dict[Kind, str] = {
    "script": "Script",
    "mapping": "Mapping",
    "response": "Custom response script",
    "post": "Post script",
}

Text = Annotated[str, Field(max_length=1_000_000)]


class Trial(BaseModel):
    """What is tried: a script or mapping, its input as text, attributes; `request`: the body that was sent."""

    kind: Kind
    text: Annotated[str, Field(max_length=300_000)]
    input: Text
    request: Text = ""
    attributes: Annotated[dict[str, str], Field(max_length=200)] = {}


class Wish(BaseModel):
    """The number of a plan at Omnitron; empty: the first one that the flow's listing shows."""

    pk: Annotated[str, Field(max_length=64)] = ""


@routes.get("/flows/{flow}/bench")
@needs(Right.CONFIGURE)
def show(request: Request, flow: str) -> Response:
    """The bench."""
    check_flow_name(flow)
    return shell.page(
        request,
        "bench.html",
        flow=flow,
        kinds=[(kind, title, SOURCES[kind]) for kind, title in _TITLES.items()],
        shipped=DEFAULT_RESPONSE_SCRIPT,
    )


@routes.post("/flows/{flow}/bench/try")
@needs(Right.CONFIGURE)
def attempt(request: Request, flow: str, trial: Trial) -> Response:
    """Run it once. Documents come as text: a browser would write some numbers in another way."""
    answers = trial.kind in ("response", "post")
    settings = _settings(door_of(request), flow)
    given = _given(settings, trial)
    with trials_of(request).one(person_of(request).name):
        tried = asyncio.run(_attempt(settings, trial, given))
    return shell.answer(
        {
            "result_data": None if tried.raised or answers else shell.pretty_json(tried.result),
            "attributes": dict(tried.attributes),
            "log": tried.log,
            "relation": tried.relation,
            "reason": tried.reason,
            "steps": [
                {"operation": operation, "document": shell.pretty_json(document)}
                for operation, document in tried.steps
            ],
            "error": tried.error,
            "lines": marking.lines(trial.kind, trial.text, tried.error) if tried.error else [],
            "case": shell.pretty_json(as_case(trial.kind, trial.text, given, tried)),
        }
    )


@routes.get("/flows/{flow}/bench/plans")
@needs(Right.CONFIGURE)
def plans(request: Request, flow: str) -> dict[str, Any]:
    """The plans that moved last, to choose one from."""
    try:
        found = search(door_of(request).journal(), Wanted((flow,)), _SHOWN).rows
    except NoJournal:
        found = []
    return {"plans": [{"row": row.id, "name": row.name, "state": row.state} for row in found]}


@routes.get("/flows/{flow}/bench/plans/{row_id}")
@needs(Right.CONFIGURE)
def plan(request: Request, flow: str, row_id: int) -> Response:
    """What the journal keeps of one plan, as input for each kind of trial."""
    journal = door_of(request).journal()
    row = _row_of(door_of(request), flow, row_id)
    kept = {kind: journal.body(row.id, kind) for kind in ("document", "script", "request", "response")}
    texts = {kind: None if body is None else body.content for kind, body in kept.items()}
    answer = kept["response"]
    status = {} if answer is None else {"invokehttp.status.code": str(answer.meta.get("status", ""))}
    return shell.answer({"name": row.name, "bodies": texts, "answer_attributes": status})


@routes.post("/flows/{flow}/bench/live")
@needs(Right.CONFIGURE)
def live(request: Request, flow: str, wish: Wish) -> Response:
    """A plan as Omnitron shows it now, read with the stored settings' Connection."""
    door = door_of(request)
    settings = door.settings(flow)
    endpoint = door.endpoint(settings.omnitron.conn_id)
    with trials_of(request).one(person_of(request).name):
        document = asyncio.run(_from_omnitron(settings, endpoint, _store(door), wish.pk.strip()))
    if document is None:
        raise HTTPException(404, f"Omnitron knows no plan {wish.pk}" if wish.pk else "the listing is empty")
    return shell.answer({"document": shell.pretty_json(document)})


def _settings(door: Door, flow: str) -> FlowSettings:
    """The flow's settings; while they are not valid, those of a flow with nothing set."""
    check_flow_name(flow)
    try:
        return door.settings(flow)
    except SettingsError:
        nothing = {
            "omnitron": {"channel_type": "any", "cancel_status": "waiting", "next_state": "approved"},
            "erp": {"cancellation_api_url": "/"},
        }
        return door.checked(flow, json.dumps(nothing))


def _given(settings: FlowSettings, trial: Trial) -> Given:
    added = trying.attributes(settings, trial.attributes)
    if trial.kind in ("script", "mapping"):
        return Given(_document(trial.input, "the input"), attributes=added)
    sent = _document(trial.request, "the request") if trial.request.strip() else None
    answer = trying.json_or_text(trial.input)
    if trial.kind == "response":
        added = trying.answer_attributes(settings, trial.text, trial.input, sent, added)
    return Given(None, sent, answer, added)


def _document(text: str, what: str) -> Any:
    try:
        return strict_json.loads(text)
    except strict_json.NotJson as error:
        raise HTTPException(422, f"{what} is not JSON: {error}") from None


async def _attempt(settings: FlowSettings, trial: Trial, given: Given) -> Tried:
    limits = trying.limits(settings)
    bounded = replace(limits, timeout_seconds=min(limits.timeout_seconds, LONGEST_CALL_SECONDS))
    async with ScriptProcess(bounded) as process:
        return await trying.attempt(process, trial.kind, trial.text, given)


def _row_of(door: Door, flow: str, row_id: int) -> Row:
    try:
        row = door.journal().row(row_id)
    except OrderCancelError:
        row = None
    if row is None or row.flow != flow:
        raise HTTPException(404, f"flow {flow} has no such plan")
    return row


def _store(door: Door) -> Store:
    try:
        return door.journal()
    except NoJournal:
        return MemoryStore()


async def _from_omnitron(
    settings: FlowSettings, endpoint: Endpoint, store: Store, pk: str
) -> dict[str, Any] | None:
    try:
        async with (
            asyncio.timeout(_FETCH_SECONDS),
            omnitron.connect(endpoint, settings.omnitron, store, timeout_seconds=_FETCH_SECONDS) as system,
        ):
            if pk:
                return await system.plan(pk)
            async for page in system.list_plans():
                for document in page:
                    return document
            return None
    except TimeoutError:
        raise HTTPException(504, f"Omnitron gave no answer within {_FETCH_SECONDS:g} s") from None
