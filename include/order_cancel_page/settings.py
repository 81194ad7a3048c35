"""A flow's settings: the form, what is wrong with it, what a change changes, earlier settings, export.

The browser writes the Variable, through Airflow's API as the user; nothing here does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import HTTPException, Request, Response
from pydantic import BaseModel, Field

from include.order_cancel.cli.hiding import without_secrets
from include.order_cancel.comparing import changes, recent, requests_before_and_after
from include.order_cancel.errors import OrderCancelError, Problem, SettingsError
from include.order_cancel.searching import Snapshot, has_snapshot, snapshots
from include.order_cancel.settings import FlowSettings, check_flow_name
from include.order_cancel_page import settings_form, shell
from include.order_cancel_page.door import Door, NoJournal, Right
from include.order_cancel_page.rights import door_of, needs, person_of, router
from include.order_cancel_page.trials import Trials

routes = router()

MOST_COMPARED = 100
COMPARE_SECONDS = 45.0


class Draft(BaseModel):
    """Settings that nobody has saved: a text, and the form's values that go into it where the form was used.

    `loaded`: the stored text that the person began with.
    """

    text: Annotated[str, Field(max_length=1_200_000)] = ""
    values: dict[str, Any] | None = None
    loaded: Annotated[str, Field(max_length=1_200_000)] = ""


class Comparison(BaseModel):
    """Settings to be tried on the last plans."""

    text: Annotated[str, Field(max_length=1_200_000)]
    plans: Annotated[int, Field(ge=1, le=MOST_COMPARED)] = 20


@routes.get("/flows/{flow}/settings")
@needs(Right.READ)
def show(request: Request, flow: str) -> Response:
    """The form; for somebody who may not change settings, to look at."""
    _known_flow(request, flow)
    return shell.page(
        request, "settings.html", flow=flow, form=settings_form.form(), editable=_may_edit(request, flow)
    )


@routes.get("/flows/{flow}/settings/stored")
@needs(Right.READ)
def stored(request: Request, flow: str) -> Response:
    """The settings as they are stored, what the form shows for them, and what is wrong with them."""
    text = _known_flow(request, flow)
    raw, unreadable = settings_form.readable(text)
    if not _may_edit(request, flow):
        text = None if unreadable else settings_form.text_of(without_secrets(raw))
    told = _problems(door_of(request), flow, text, unreadable) if text is not None else (unreadable, [])
    return shell.answer(
        {
            "text": text,
            "digest": _digest(text),
            "values": settings_form.values(raw if text is None else settings_form.readable(text)[0]),
            "problems": _listed(told[0]),
            "warnings": told[1],
        }
    )


@routes.get("/flows/{flow}/settings/export")
@needs(Right.READ)
def export(request: Request, flow: str) -> Response:
    """The settings as a file."""
    text = _known_flow(request, flow)
    raw, unreadable = settings_form.readable(text)
    if unreadable or text is None:
        raise HTTPException(404, f"{flow} has no settings that could be exported")
    content = settings_form.text_of(raw if _may_edit(request, flow) else without_secrets(raw)) + "\n"
    headers = {"Content-Disposition": f'attachment; filename="order_cancel_flow__{flow}.json"'}
    return Response(content, media_type="application/json", headers=headers)


@routes.post("/flows/{flow}/settings/check")
@needs(Right.CONFIGURE)
def check(request: Request, flow: str, draft: Draft) -> Response:
    """A draft as text and as the form shows it, every problem by field, and what it changes of what is stored.

    `others`: what somebody else has changed since the person began.
    """
    check_flow_name(flow)
    door = door_of(request)
    raw, problems = settings_form.readable(draft.text or None)
    if draft.values is not None:
        raw, problems = settings_form.assembled(raw, draft.values)
    text = draft.text if draft.values is None else settings_form.text_of(raw)
    wrong, warnings = _problems(door, flow, text, problems)
    now = door.settings_text(flow)
    before, _ = settings_form.readable(now)
    return shell.answer(
        {
            "text": text,
            "values": settings_form.values(raw),
            "problems": _listed(wrong),
            "warnings": warnings,
            "changes": [asdict(change) for change in changes(before, raw)],
            "others": [
                asdict(change) for change in changes(settings_form.readable(draft.loaded or None)[0], before)
            ],
            "stored": now,
        }
    )


@routes.post("/flows/{flow}/settings/compare")
@needs(Right.CONFIGURE)
def compare(request: Request, flow: str, given: Comparison) -> Response:
    """What the last plans' ERP requests would be by a draft, beside what the stored settings make of them."""
    door = door_of(request)
    after = door.checked(flow, given.text)
    try:
        before: FlowSettings | None = door.settings(flow)
    except SettingsError:
        before = None
    try:
        plans = recent(door.journal(), flow, given.plans)
    except NoJournal:
        plans = []
    with trials_of(request).one(person_of(request).name):
        compared = asyncio.run(requests_before_and_after(before, after, plans, COMPARE_SECONDS))
    differing = [
        {"row": outcome.row.id, "name": outcome.row.name, "lines": outcome.lines}
        for outcome in compared.outcomes
        if outcome.lines
    ]
    return shell.answer(
        {
            "compared": len(compared.outcomes),
            "left": compared.left,
            "differing": differing,
            "had_settings": before is not None,
        }
    )


@routes.get("/flows/{flow}/settings/history")
@needs(Right.READ)
def history(request: Request, flow: str) -> Response:
    """Settings that the flow has run with."""
    _known_flow(request, flow)
    return shell.page(
        request,
        "history.html",
        flow=flow,
        snapshots=_snapshots(request, flow),
        now=_digest_in_use(request, flow),
        editable=_may_edit(request, flow),
    )


@routes.get("/flows/{flow}/settings/history/{digest}")
@needs(Right.READ)
def earlier(request: Request, flow: str, digest: str) -> Response:
    """Earlier settings as one would type them, and what returning to them changes."""
    door = door_of(request)
    journal = door.journal()
    if not has_snapshot(journal, flow, digest):
        raise HTTPException(404, "the journal keeps no such settings of this flow")
    raw = settings_form.typed(journal.snapshot(digest), flow)
    now, _ = settings_form.readable(door.settings_text(flow))
    return shell.answer(
        {
            "text": settings_form.text_of(raw),
            "changes": [asdict(change) for change in changes(_expanded(door, flow, now), raw)],
        }
    )


def trials_of(request: Request) -> Trials:
    """What bounds trials of scripts and mappings."""
    trials: Trials = request.app.state.trials
    return trials


def _known_flow(request: Request, flow: str) -> str | None:
    """The stored text. A flow without one is nobody's but an editor's, who may be about to make it."""
    check_flow_name(flow)
    text = door_of(request).settings_text(flow)
    if text is None and not _may_edit(request, flow):
        raise HTTPException(404, f"there is no flow {flow}")
    return text


def _may_edit(request: Request, flow: str) -> bool:
    return person_of(request).may(Right.CONFIGURE, flow)


def _digest(text: str | None) -> str:
    """Tells one stored text from another."""
    return "" if text is None else hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _problems(
    door: Door, flow: str, text: str | None, known: list[Problem]
) -> tuple[list[Problem], list[str]]:
    """What is wrong, and what is allowed and probably not meant."""
    if known and not (text or "").strip():
        return known, []
    try:
        return known, list(door.checked(flow, text or "").warnings)
    except SettingsError as error:
        told = {problem.path for problem in known}
        return known + [problem for problem in error.problems if problem.path not in told], []


def _listed(problems: list[Problem]) -> list[dict[str, str]]:
    return [asdict(problem) for problem in problems]


def _snapshots(request: Request, flow: str) -> list[Snapshot]:
    try:
        return snapshots(door_of(request).journal(), flow)
    except NoJournal:
        return []


def _digest_in_use(request: Request, flow: str) -> str | None:
    try:
        return door_of(request).settings(flow).digest
    except SettingsError:
        return None


def _expanded(door: Door, flow: str, raw: dict[str, Any]) -> dict[str, Any]:
    """The settings now in the form in which earlier ones are kept, where they can be read."""
    try:
        return settings_form.typed(door.checked(flow, json.dumps(raw)).snapshot(), flow)
    except OrderCancelError:
        return raw
