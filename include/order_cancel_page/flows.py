"""The flows: schedule, whether they run, how the last run went, what is open."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request, Response

from include.order_cancel.adopting import others
from include.order_cancel.errors import SettingsError
from include.order_cancel.rows import State
from include.order_cancel.searching import RunSeen, last_runs, open_by_state
from include.order_cancel_page import shell
from include.order_cancel_page.door import Dag, Door, NoJournal, Right
from include.order_cancel_page.rights import allowed_flows, door_of, needs, person_of, router

routes = router()


@dataclass(frozen=True)
class Flow:
    """One flow as the list shows it."""

    name: str
    dag: Dag | None
    schedule: str | None
    problems: list[str]
    omnitron: str
    others: dict[str, int]
    last: RunSeen | None
    outcomes: dict[State, int]
    open: int
    may_act: bool
    may_configure: bool


@routes.get("/flows")
@needs(Right.SIGNED_IN)
def flows(request: Request) -> Response:
    """All flows that the person may see."""
    door, names, person = door_of(request), allowed_flows(request), person_of(request)
    dags = door.dags(names)
    lasts, outcomes, counts = _journal_facts(door, names)
    found = []
    for name in names:
        schedule, problems = _settings(door, name)
        omnitron, unclear = _omnitrons(door, name)
        open_plans = sum(counts.get(name, {}).values())
        rights = (person.may(Right.ACT, name), person.may(Right.CONFIGURE, name))
        found.append(
            Flow(
                name,
                dags.get(name),
                schedule,
                problems,
                omnitron,
                unclear,
                lasts.get(name),
                outcomes.get(name, {}),
                open_plans,
                *rights,
            )
        )
    may_create = person.may(Right.CONFIGURE, "new")
    of_index = door.index_problems() if may_create else []  # they may name flows that others may not see
    return shell.page(request, "flows.html", flows=found, may_create=may_create, index_problems=of_index)


def _journal_facts(
    door: Door, names: list[str]
) -> tuple[dict[str, RunSeen], dict[str, dict[State, int]], dict[str, dict[State, int]]]:
    try:
        journal = door.journal()
    except NoJournal:
        return {}, {}, {}
    lasts = last_runs(journal, names)
    outcomes: dict[str, dict[State, int]] = {}
    for name, run in lasts.items():
        of_run = outcomes.setdefault(name, {})
        for (state, _), number in journal.run_counts(run.id).items():
            of_run[state] = of_run.get(state, 0) + number
    return lasts, outcomes, open_by_state(journal, names)


def _omnitrons(door: Door, name: str) -> tuple[str, dict[str, int]]:
    """Whom the flow's Connection points to, and of which other Omnitrons it has plans that keep it from running."""
    try:
        settings = door.settings(name)
        identity = door.endpoint(settings.omnitron.conn_id).identity
        return identity, others(door.journal(), name, identity, lists_finished=not settings.writes_status)
    except (NoJournal, SettingsError):
        return "", {}


def _settings(door: Door, name: str) -> tuple[str | None, list[str]]:
    try:
        return door.settings(name).schedule, []
    except SettingsError as error:
        return None, [str(problem) for problem in error.problems]
