"""Retention: the journal gives up what a flow keeps no longer, in short transactions, and still knows every plan.

First go the bodies of finished plans (documents, requests, answers) with the attributes that scripts set. Later their
journey goes: events, error texts and membership in runs. What remains of a plan is one row: which plan it was, what
became of it, under which key and reference. A plan that is not over, that a task holds, or that belongs to a live run
is left whole.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from enum import IntEnum

from sqlalchemy import Connection, delete, func, select, update

from include.order_cancel import schema
from include.order_cancel.journal import LOGIN_FAILED, RESTORES, Journal
from include.order_cancel.rows import FINISHED
from include.order_cancel.settings_model import Retention

plans, bodies, events = schema.plans, schema.bodies, schema.events
runs, members = schema.runs, schema.members

BATCH = 500
_PAUSE_SECONDS = 0.05  # between two transactions, for the flows that wait to write
_DAY = 86_400.0


class Pruned(IntEnum):
    """What is gone of a row; a move brings it back to NOTHING."""

    NOTHING = 0
    BODIES = 1
    JOURNEY = 2


def prune_flow(
    journal: Journal,
    flow: str,
    retention: Retention,
    *,
    batch: int = BATCH,
    pause: Callable[[float], None] = time.sleep,
) -> Counter[str]:
    """Take from a flow's plans what is older than its settings keep it. Returns how many plans and runs were pruned."""
    done: Counter[str] = Counter()
    now = journal.now()
    rows_before = now - retention.rows_days * _DAY
    bodies_before = max(now - retention.bodies_days * _DAY, rows_before)

    def repeat(what: str, one_batch: Callable[[], int]) -> None:
        while (number := one_batch()) > 0:
            done[what] += number
            pause(_PAUSE_SECONDS)

    repeat("bodies", lambda: _prune_bodies(journal, flow, bodies_before, batch))
    repeat("rows", lambda: _prune_journeys(journal, flow, rows_before, batch))
    repeat("runs", lambda: _prune_runs(journal, flow, rows_before, batch))
    with journal.transaction() as (connection, _):
        connection.execute(
            delete(schema.alerts).where(schema.alerts.c.flow == flow, schema.alerts.c.at < rows_before)
        )
        old_logins = schema.stops.c.kind == LOGIN_FAILED, schema.stops.c.at < rows_before
        connection.execute(delete(schema.stops).where(*old_logins))
    return done


def give_space_back(
    journal: Journal, *, pages: int = 1000, pause: Callable[[float], None] = time.sleep
) -> int:
    """Return free pages of an SQLite file to the disk, a few at a time, and how many; PostgreSQL does it by itself."""
    given = 0
    while (number := journal.release_pages(pages)) > 0:
        given += number
        pause(_PAUSE_SECONDS)
    return given


def _prune_bodies(journal: Journal, flow: str, before: float, batch: int) -> int:
    with journal.transaction() as (connection, now):
        found = _prunable(journal, connection, flow, Pruned.BODIES, before, batch, now)
        if found:
            connection.execute(delete(bodies).where(bodies.c.plan_id.in_(found)))
            connection.execute(
                update(plans).where(plans.c.id.in_(found)).values(pruned=Pruned.BODIES, attributes="{}")
            )
        return len(found)


def _prune_journeys(journal: Journal, flow: str, before: float, batch: int) -> int:
    with journal.transaction() as (connection, now):
        found = _prunable(journal, connection, flow, Pruned.JOURNEY, before, batch, now)
        if found:
            connection.execute(delete(events).where(events.c.plan_id.in_(found)))
            connection.execute(delete(members).where(members.c.plan_id.in_(found)))
            connection.execute(
                update(plans).where(plans.c.id.in_(found)).values(pruned=Pruned.JOURNEY, error=None)
            )
        return len(found)


def _prunable(
    journal: Journal, connection: Connection, flow: str, to: Pruned, before: float, batch: int, now: float
) -> list[int]:
    """The oldest rows that are over, lie untouched since `before` and are in nobody's hands; locked."""
    live = (
        select(members.c.id)
        .join(runs, runs.c.id == members.c.run_id)
        .where(members.c.plan_id == plans.c.id, runs.c.alive_until > now)
    )
    question = (
        select(plans.c.id)
        .where(
            plans.c.flow == flow,
            plans.c.pruned == to - 1,
            plans.c.updated_at < before,
            plans.c.state.in_(FINISHED),
            plans.c.lease_until <= now,
            ~live.exists(),
        )
        .order_by(plans.c.updated_at, plans.c.id)
        .limit(batch)
    )
    return list(connection.execute(journal.free(question)).scalars())


def _prune_runs(journal: Journal, flow: str, before: float, batch: int) -> int:
    """Runs that began before `before` and have no plan left, except those that other modules still ask for."""
    with journal.transaction() as (connection, now):
        has_members = select(members.c.id).where(members.c.run_id == runs.c.id).exists()
        question = (
            select(runs.c.id)
            .where(
                runs.c.flow == flow,
                runs.c.started_at < before,
                runs.c.alive_until <= now,
                runs.c.id.not_in(_runs_to_keep(connection, flow)),
                ~has_members,
            )
            .order_by(runs.c.id)
            .limit(batch)
        )
        found = list(connection.execute(journal.free(question)).scalars())
        if found:
            connection.execute(delete(schema.stops).where(schema.stops.c.run_id.in_(found)))
            connection.execute(delete(runs).where(runs.c.id.in_(found)))
        return len(found)


def _runs_to_keep(connection: Connection, flow: str) -> set[int]:
    """The flow's runs that are asked for at any age.

    The one that asked Omnitron last: `restoring.check_not_behind` compares its time with the last query time. That is
    the latest time, not the newest run: a run for named plans asks for no list. The last restore, which says what
    counts as in doubt. The last run on each Omnitron, which says when the flow ran last, and where. The last success,
    which `no_success` counts from.
    """
    of_flow, real = runs.c.flow == flow, runs.c.home != RESTORES
    latest_asked = select(runs.c.id).where(of_flow, runs.c.queried_at.is_not(None))
    latest_success = select(runs.c.id).where(of_flow, runs.c.succeeded_at.is_not(None))
    questions = (
        latest_asked.order_by(runs.c.queried_at.desc(), runs.c.id.desc()).limit(1),
        latest_success.order_by(runs.c.succeeded_at.desc(), runs.c.id.desc()).limit(1),
        select(func.max(runs.c.id)).where(of_flow, ~real),
        select(func.max(runs.c.id)).where(of_flow, real).group_by(runs.c.host),
    )
    return {found for question in questions for found in connection.execute(question).scalars() if found}


def in_words(done: Counter[str]) -> str:
    """What `prune_flow` did, for people."""
    return (
        f"the documents and answers of {done['bodies']} plans, the journeys of {done['rows']} plans and "
        f"{done['runs']} runs are gone"
    )
