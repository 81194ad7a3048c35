"""Finding plans among very many, page by page; and what the page's overview counts.

Every question follows an index that hands plans out in the order in which they moved. Such an index does so for one
state of one flow, or for one flow's plans that are pruned alike: each is asked for its newest plans, and one
statement merges the answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    and_,
    case,
    cast,
    func,
    select,
    text,
    true,
    tuple_,
    union,
    union_all,
)

from include.order_cancel import schema
from include.order_cancel.journal import RESTORES, Journal
from include.order_cancel.pruning import Pruned
from include.order_cancel.rows import OPEN, Relation, Row, State

plans, runs, members = schema.plans, schema.runs, schema.members

PAGE = 50
_RARE = frozenset(
    {Relation.FAILURE, Relation.DO_NOTHING, Relation.AUTH_FAIL}
)  # these have an index of their own
_NEWEST_FIRST = (plans.c.updated_at.desc(), plans.c.id.desc())
# Of more states than these, which are all that are open, it is quicker to look through all plans, the newest first.
_MANY_STATES = 10


@dataclass(frozen=True)
class Wanted:
    """What is looked for; empty fields do not narrow. `number`: an order's or a plan's, whole. Times: last moved.

    `newest`: no older generations.
    """

    flows: tuple[str, ...]
    number: str = ""
    states: tuple[State, ...] = ()
    relation: Relation | None = None
    since: float | None = None
    until: float | None = None
    error: str = ""
    before: tuple[float, int] | None = None
    newest: bool = False


@dataclass(frozen=True)
class Page:
    """Some plans, the last moved first, and where the next page begins: None on the last one."""

    rows: list[Row]
    after: tuple[float, int] | None


def search(journal: Journal, wanted: Wanted, limit: int = PAGE) -> Page:
    """One page of the plans that are wanted."""
    branches, common = list(_branches(journal, wanted)), _common(wanted)
    if not branches:
        return Page([], None)
    if len(branches) == 1:
        rows = journal.ask_rows(_newest_of(select(plans), branches[0], common, limit + 1))
    else:
        rows = journal.ask_rows(_merged(branches, common, limit + 1, either=bool(wanted.number)))
    last = rows[limit - 1] if len(rows) > limit else None
    return Page(rows[:limit], None if last is None else (last.updated_at, last.id))


def _merged(
    branches: Sequence[ColumnElement[bool]],
    common: Sequence[ColumnElement[bool]],
    limit: int,
    *,
    either: bool,
) -> Select[Any]:
    """The newest plans of all branches; with `either` a plan may be in two of them."""
    place = select(plans.c.updated_at, plans.c.id)
    parts = [_newest_of(place, branch, common, limit).subquery() for branch in branches]
    together = union if either else union_all
    merged = together(*(select(part.c.updated_at, part.c.id) for part in parts)).subquery()
    newest = (
        select(merged.c.id).order_by(merged.c.updated_at.desc(), merged.c.id.desc()).limit(limit).subquery()
    )
    return select(plans).join(newest, plans.c.id == newest.c.id).order_by(*_NEWEST_FIRST)


def _branches(journal: Journal, wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    """Conditions that an index answers in order; together they are all that is wanted."""
    states = _possible(wanted)
    if wanted.number:
        yield and_(plans.c.order_number == wanted.number, plans.c.flow.in_(wanted.flows), _in(states))
        for host in hosts(journal):
            number = and_(plans.c.host == host, plans.c.flow.in_(wanted.flows), plans.c.pk == wanted.number)
            yield and_(number, _in(states))
        return
    for flow in wanted.flows:
        if wanted.error:
            yield and_(plans.c.flow == flow, plans.c.error.is_not(None), _in(states))
        elif wanted.relation in _RARE:
            yield and_(plans.c.flow == flow, text("relation <> 'continue'"), _in(states))
        elif len(states) > _MANY_STATES:
            for pruned in Pruned:
                yield and_(plans.c.flow == flow, plans.c.pruned == pruned, _in(states))
        else:
            for state in states:
                yield and_(plans.c.flow == flow, plans.c.state == state)


def _possible(wanted: Wanted) -> tuple[State, ...]:
    return wanted.states or tuple(State)


def _in(states: Sequence[State]) -> ColumnElement[bool]:
    return plans.c.state.in_(states) if len(states) < len(State) else true()  # the index alone answers


def _newest_of(
    question: Select[Any], branch: ColumnElement[bool], common: Sequence[ColumnElement[bool]], limit: int
) -> Select[Any]:
    """The newest plans of one branch."""
    return question.where(branch, *common).order_by(*_NEWEST_FIRST).limit(limit)


def _common(wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.relation is not None:
        conditions.append(plans.c.relation == wanted.relation)
    if wanted.since is not None:
        conditions.append(plans.c.updated_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(plans.c.updated_at < wanted.until)
    if wanted.error:
        conditions.append(_often(plans.c.error.icontains(wanted.error, autoescape=True)))
    if wanted.newest:
        conditions.append(schema.is_newest())
    if wanted.before is not None:
        conditions.append(tuple_(plans.c.updated_at, plans.c.id) < wanted.before)
    return conditions


def _often(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """The same condition, of which PostgreSQL assumes that every third plan meets it.

    It takes a pattern to be met so rarely that it would read all of a flow's errors and sort them.
    """
    return case((condition, 1), else_=0) > 0


class Asked(Protocol):
    """The journal, or one transaction of it."""

    def ask(self, question: Select[Any]) -> list[Any]:
        """The records that the question finds."""


def hosts(journal: Asked, flow: str | None = None) -> list[str]:
    """The Omnitron hosts that the journal, or one flow of it, knows, each found by a step along the index."""
    found: list[str] = []
    while True:
        question = select(func.min(plans.c.host))
        if flow is not None:
            question = question.where(plans.c.flow == flow)
        if found:
            question = question.where(plans.c.host > found[-1])
        ((host,),) = journal.ask(question)
        if host is None:
            return found
        found.append(host)


def narrowed(wanted: Wanted, after: tuple[float, int]) -> Wanted:
    """The same search from another place on."""
    return replace(wanted, before=after)


# Runs


@dataclass(frozen=True)
class RunSeen:
    """A run as the page shows it: its name in Airflow, when it began and ended, its settings."""

    id: int
    flow: str
    run_key: str
    started_at: float
    finished_at: float | None


def last_runs(journal: Journal, flows: Sequence[str]) -> dict[str, RunSeen]:
    """The last run of each flow. A restore is none."""
    real = and_(runs.c.flow.in_(flows), runs.c.home != RESTORES)
    last = select(func.max(runs.c.id)).where(real).group_by(runs.c.flow)
    return {run.flow: run for run in _runs(journal, runs.c.id.in_(last))}


def runs_named(journal: Journal, flow: str, run_key: str) -> list[RunSeen]:
    """The runs of this name; more than one where several Airflows share the journal."""
    return _runs(journal, and_(runs.c.flow == flow, runs.c.run_key == run_key))


def _runs(journal: Journal, condition: ColumnElement[bool]) -> list[RunSeen]:
    columns = (runs.c.id, runs.c.flow, runs.c.run_key, runs.c.started_at, runs.c.finished_at)
    return [RunSeen(*record) for record in journal.ask(select(*columns).where(condition).order_by(runs.c.id))]


def plan_at(journal: Journal, run_id: int, map_index: int) -> int | None:
    """The row that has this index of the mapped group `plan`, or None."""
    question = (
        select(members.c.plan_id)
        .where(members.c.run_id == run_id, members.c.lane == "plan")
        .order_by(members.c.position, members.c.id)
        .offset(map_index)
        .limit(1)
    )
    found = journal.ask(question)
    return found[0][0] if found else None


@dataclass(frozen=True)
class PlaceInRun:
    """Where a plan was in a run: the mapped index of group `plan`, or of `bulk`; None: nowhere."""

    run_key: str
    lane: str
    map_index: int


def places_of(journal: Journal, plan_id: int) -> dict[int, PlaceInRun]:
    """The plan's place in each of its runs, by the run's number."""
    other = members.alias()
    earlier = (
        select(func.count())
        .where(
            other.c.run_id == members.c.run_id, other.c.lane == "plan", other.c.position < members.c.position
        )
        .scalar_subquery()
    )
    question = (
        select(runs.c.id, runs.c.run_key, members.c.lane, members.c.lot, earlier)
        .join(runs, runs.c.id == members.c.run_id)
        .where(members.c.plan_id == plan_id)
    )
    return {
        run_id: PlaceInRun(run_key, lane, index if lane == "plan" else lot)
        for run_id, run_key, lane, lot, index in journal.ask(question)
    }


# Counts


def counts_by_state(journal: Journal, flows: Sequence[str]) -> dict[str, dict[State, int]]:
    """How many plans of each flow are in which state, every generation counted."""
    question = (
        select(plans.c.flow, plans.c.state, func.count())
        .where(plans.c.flow.in_(flows))
        .group_by(plans.c.flow, plans.c.state)
    )
    found: dict[str, dict[State, int]] = {flow: {} for flow in flows}
    for flow, state, number in journal.ask(question):
        found[flow][State(state)] = number
    return found


def open_by_state(journal: Journal, flows: Sequence[str]) -> dict[str, dict[State, int]]:
    """How many plans of each flow are open in which state."""
    question = (
        select(plans.c.flow, plans.c.state, func.count())
        .where(plans.c.flow.in_(flows), plans.c.state.in_(OPEN), schema.is_newest())
        .group_by(plans.c.flow, plans.c.state)
    )
    found: dict[str, dict[State, int]] = {flow: {} for flow in flows}
    for flow, state, number in journal.ask(question):
        found[flow][State(state)] = number
    return found


def oldest_open(journal: Journal, flows: Sequence[str]) -> float | None:
    """When the oldest open plan was first seen."""
    of_flows = (plans.c.flow.in_(flows), plans.c.state.in_(OPEN), schema.is_newest())
    question = select(func.min(plans.c.created_at)).where(*of_flows)
    ((moment,),) = journal.ask(question)
    return None if moment is None else float(moment)


def by_day(journal: Journal, flows: Sequence[str], since: float) -> list[tuple[int, State, str, int]]:
    """Plans by the day (since the epoch, UTC) on which they last moved, their state and the ERP's last outcome."""
    day = cast(func.floor(plans.c.updated_at / 86400.0), Integer)
    question = (
        select(day, plans.c.state, plans.c.outcome, func.count())
        .where(plans.c.flow.in_(flows), plans.c.state.in_(tuple(State)), plans.c.updated_at >= since)
        .group_by(day, plans.c.state, plans.c.outcome)
    )
    return [(found, State(state), outcome, number) for found, state, outcome, number in journal.ask(question)]


@dataclass(frozen=True)
class Snapshot:
    """Settings that a flow has run with: their digest, and when the first run did."""

    digest: str
    created_at: float


def snapshots(journal: Journal, flow: str, limit: int = 100) -> list[Snapshot]:
    """The newest settings that the journal keeps of a flow, the newest first."""
    kept = schema.snapshots
    question = select(kept.c.digest, kept.c.created_at).where(kept.c.flow == flow)
    newest = question.order_by(kept.c.created_at.desc(), kept.c.digest).limit(limit)
    return [Snapshot(found.digest, found.created_at) for found in journal.ask(newest)]


def has_snapshot(journal: Journal, flow: str, digest: str) -> bool:
    """Whether these settings were ever the flow's."""
    kept = schema.snapshots
    return bool(journal.ask(select(kept.c.digest).where(kept.c.flow == flow, kept.c.digest == digest)))
