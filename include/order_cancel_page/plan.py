"""One plan's journey: every step, what was sent and answered, what a person may decide now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import HTTPException, Request, Response

from include.order_cancel.errors import OrderCancelError
from include.order_cancel.journal import Journal
from include.order_cancel.rows import Event, Row, State
from include.order_cancel.searching import PlaceInRun, places_of
from include.order_cancel_page import shell
from include.order_cancel_page.door import Right
from include.order_cancel_page.masking import Veil
from include.order_cancel_page.rights import door_of, needs, person_of, router

routes = router()
KINDS = {
    "document": "Plan as Omnitron shows it",
    "script": "After the script",
    "prepared": "After the mapping",
    "request": "Request to the ERP",
    "response": "Answer of the ERP",
}
_STEPS = frozenset({"script", "mapping", "write_to_erp", "write_to_omnitron", "post_script"})
_EDITABLE = frozenset({State.FAILED, State.HELD, State.IN_DOUBT, State.DEAD})


@dataclass(frozen=True)
class Step:
    """One line of the journey, with the address of its log in Airflow where it has one."""

    event: Event
    detail: str
    log: str | None


@dataclass(frozen=True)
class Shown:
    """One document of the plan's way, as this person may see it."""

    title: str
    at: float
    meta: dict[str, Any]
    content: Any


@routes.get("/flows/{flow}/plans/{row_id}")
@needs(Right.READ)
def plan(request: Request, flow: str, row_id: int) -> Response:
    """The whole journey of one generation of a plan, with links to the others."""
    journal = door_of(request).journal()
    row = row_of(journal, flow, row_id)
    events, bodies = journal.journey(row.id)
    may_act = person_of(request).may(Right.ACT, flow)
    document = next((_parsed(body.content) for body in bodies if body.kind == "document"), None)
    veil = Veil(clear=may_act, document=document)
    places = places_of(journal, row.id)
    dag = door_of(request).dags([flow]).get(flow)
    request_body = next((body for body in reversed(bodies) if body.kind == "request"), None)
    return shell.page(
        request,
        "plan.html",
        row=row,
        error=veil.text(row.error),
        generations=[other for other in journal.generations(flow, row.pk) if other.host == row.host],
        steps=[Step(e, veil.text(e.detail), _log(flow, e, places)) for e in events],
        bodies=[
            Shown(KINDS.get(body.kind, body.kind), body.at, veil.meta(body), veil.content(body))
            for body in bodies
        ],
        attributes=veil.value(row.attributes),
        may_act=may_act,
        paused=dag is None or dag.paused,
        actions=actions(row) if may_act else [],
        editable=veil.content(request_body) if may_act and request_body and _editable(row) else None,
        definite=row.outcome == "refused",
    )


def row_of(journal: Journal, flow: str, row_id: int) -> Row:
    """The row of this flow. Raises HTTPException where there is none: the right was checked for this flow only."""
    try:
        row = journal.row(row_id)
    except OrderCancelError:
        row = None
    if row is None or row.flow != flow:
        raise HTTPException(404, f"flow {flow} has no such plan")
    return row


def actions(row: Row) -> list[str]:
    """What a person may do with this row now, by name."""
    possible = []
    if not row.finished and row.state is not State.CHANGED:
        possible.append("retry")
    open_question = not row.finished and row.state is not State.CHANGED and not row.answer_stands
    if row.state in (State.IN_DOUBT, State.SENDING) or (
        open_question and row.outcome in ("unknown", "accepted")
    ):
        possible += ["arrived", "not-arrived"]
    if row.state is State.DEAD:
        possible.append("release")
    if row.may_be_resent:
        possible.append("resend")
    if not row.finished:
        possible.append("dismiss")
    return possible


def _editable(row: Row) -> bool:
    return row.state in _EDITABLE and not row.answer_stands


def _log(flow: str, event: Event, places: dict[int, PlaceInRun]) -> str | None:
    """Where Airflow shows the log of this step, relative to Airflow's own root."""
    place = places.get(event.run) if event.run is not None else None
    if place is None:
        return None
    run = f"dags/{shell.dag_id(flow)}/runs/{quote(place.run_key, safe='')}"
    if event.step == "get_data_from_omnitron":
        return f"{run}/tasks/get_data_from_omnitron"
    if place.lane == "bulk":
        return f"{run}/tasks/bulk/mapped/{place.map_index}"
    if place.lane != "plan":
        return None
    step = "write_to_erp" if event.step == "custom_response" else event.step
    return f"{run}/tasks/plan.{step}/mapped/{place.map_index}" if step in _STEPS else None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
