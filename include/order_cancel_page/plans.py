"""Plans: found among all, and as the tabs of a DAG run and a task instance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import HTTPException, Request, Response
from starlette.responses import RedirectResponse

from include.order_cancel.rows import FOR_A_PERSON, OPEN, Relation, Row, State
from include.order_cancel.searching import Page, Wanted, plan_at, runs_named, search
from include.order_cancel_page import shell
from include.order_cancel_page.door import Dag, NoJournal, Right
from include.order_cancel_page.masking import Veil
from include.order_cancel_page.rights import allowed_flows, door_of, flow_of_dag, needs, person_of, router

routes = router()
_SHOWN = 200
# Open plans, and those of them that wait for a person: what the overview counts, so the newest generations.
_OF_OPEN = {"open": OPEN, "person": FOR_A_PERSON}
_NOT_OURS = "this DAG carries no cancellation plans"


@routes.get("/plans")
@needs(Right.SIGNED_IN)
def plans(
    request: Request,
    number: str = "",
    flow: str = "",
    state: str = "",
    relation: str = "",
    since: str = "",
    until: str = "",
    error: str = "",
    before: str = "",
) -> Response:
    """A page of the plans that fit, of the flows that the person may see."""
    flows = allowed_flows(request)
    asked = {
        "number": number.strip(), "flow": flow, "state": state, "relation": relation,
        "since": since, "until": until, "error": error.strip(),
    }  # fmt: skip
    wanted = Wanted(
        flows=tuple(name for name in flows if flow in ("", name)),
        number=asked["number"],
        states=_states(state),
        relation=Relation(relation) if relation in list(Relation) else None,
        since=_day(since),
        until=_day(until, days=1),
        error=asked["error"],
        before=_place(before),
        newest=state in _OF_OPEN,
    )
    try:
        found, none_yet = search(door_of(request).journal(), wanted), False
    except NoJournal:
        found, none_yet = Page([], None), True
    following = {name: value for name, value in asked.items() if value}
    if found.after is not None:
        following["before"] = f"{found.after[0]!r}:{found.after[1]}"
    return shell.page(
        request,
        "plans.html",
        found=found,
        none_yet=none_yet,
        asked=asked,
        flows=flows,
        states=list(State),
        relations=list(Relation),
        following=following,
        continued=bool(before),
        **_for_rows(request, found.rows),
    )


def _for_rows(request: Request, rows: list[Row]) -> dict[str, Any]:
    person = person_of(request)
    seen = {row.flow for row in rows}
    acting = set(person.allowed(Right.ACT, seen))
    dags = door_of(request).dags(seen)
    return {
        "acting": acting,
        "paused": sorted(flow for flow in acting if _is_paused(dags.get(flow))),
        "error_of": lambda row: Veil(clear=row.flow in acting).text(row.error),
    }


def _is_paused(dag: Dag | None) -> bool:
    return dag is None or dag.paused


def _states(word: str) -> tuple[State, ...]:
    if word in _OF_OPEN:
        return tuple(_OF_OPEN[word])
    return (State(word),) if word in list(State) else ()


def _day(text: str, days: int = 0) -> float | None:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return (day + timedelta(days=days)).timestamp()


def _place(text: str) -> tuple[float, int] | None:
    moved, _, number = text.partition(":")
    try:
        return float(moved), int(number)
    except ValueError:
        return None


# The tabs


@routes.get("/run")
@needs(Right.READ, flow_of_dag)
def run(request: Request, run_id: str) -> Response:
    """The plans of one DAG run."""
    flow = flow_of_dag(request)
    if flow is None:
        raise HTTPException(404, _NOT_OURS)
    return _plans_of_run(request, flow, run_id)


@routes.get("/task")
@needs(Right.READ, flow_of_dag)
def task(request: Request, run_id: str, task_id: str = "", map_index: str = "-1") -> Response:
    """The plan of one task instance; of a task that is about many plans, the run's."""
    flow = flow_of_dag(request)
    if flow is None:
        raise HTTPException(404, _NOT_OURS)
    if task_id.startswith("plan.") and map_index.isdigit():
        journal = door_of(request).journal()
        for seen in reversed(runs_named(journal, flow, run_id)):
            row_id = plan_at(journal, seen.id, int(map_index))
            if row_id is not None:
                return RedirectResponse(f"flows/{flow}/plans/{row_id}", status_code=303)
    return _plans_of_run(request, flow, run_id)


def _plans_of_run(request: Request, flow: str, run_key: str) -> Response:
    journal = door_of(request).journal()
    found = runs_named(journal, flow, run_key)
    rows = journal.run_rows(found[-1].id, limit=_SHOWN + 1) if found else []
    counts: dict[State, int] = {}
    if found:
        for (state, _), number in journal.run_counts(found[-1].id).items():
            counts[state] = counts.get(state, 0) + number
    return shell.page(
        request,
        "run.html",
        flow=flow,
        run_key=run_key,
        known=bool(found),
        rows=rows[:_SHOWN],
        more=len(rows) > _SHOWN,
        counts=counts,
        **_for_rows(request, rows[:_SHOWN]),
    )
