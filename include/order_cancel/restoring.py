"""A journal that is older than the flow: restored from a backup, or lost and begun anew.

Such a journal takes plans for unsent that the ERP may have taken meanwhile. Two times are kept elsewhere, by Airflow:
the last query time, and when the newest run began. Where one of them is later than all that the journal knows, no run
begins until a person has said `restored`. From then
on a plan counts as in doubt, and `erp.in_doubt` decides, where the journal shows it open or not at all and it is older
than the restore.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import func, insert, select, update

from include.order_cancel import schema
from include.order_cancel.errors import OrderCancelError
from include.order_cancel.journal import RESTORES, Journal
from include.order_cancel.placing import CLOCKS_DIFFER
from include.order_cancel.rows import Event, Move, Row, State

plans, runs = schema.plans, schema.runs
# What an edited Variable may be ahead: a moment in the future was not written by a run.
_AHEAD_SECONDS = 3600.0
_ROUNDING_SECONDS = 0.001
_AT_ONCE = 500
_MAY_BE_SENT = (
    State.FETCHED,
    State.PREPARED,
    State.ANSWERED,
    State.HELD,
    State.FAILED,
    State.DEAD,
)
_JUDGED_FIRST = (State.ANSWERED, State.FAILED, State.DEAD)


class JournalBehind(OrderCancelError):
    """The flow has asked Omnitron later than the journal knows: it is an older copy, or a new one."""


def check_not_behind(
    journal: Journal, flow: str, last_query: datetime | None, last_begun: datetime | None = None
) -> None:
    """Raises JournalBehind where one of the times that Airflow keeps is later than all that the journal knows.

    Runs that find nothing new send again what earlier ones left open, and do not move the last query time:
    `last_begun`, when the newest run began by the journal's clock, tells of them.
    """
    times = [func.max(time) for time in (runs.c.queried_at, runs.c.started_at, runs.c.finished_at)]
    asked, begun, ended = journal.ask(select(*times).where(runs.c.flow == flow))[0]
    at_work = max((time for time in (begun, ended) if time is not None), default=None)
    now = journal.now()
    if last_query is not None and _is_later(last := last_query.timestamp(), asked, now):
        variable = f"order_cancel_last_run__{flow}"
        raise _behind(
            flow, f"the flow asked Omnitron last at {_iso(last)}, says the Variable {variable}", asked
        )
    if last_begun is not None and _is_later(last := last_begun.timestamp(), at_work, now):
        variable = f"order_cancel_last_begun__{flow}"
        raise _behind(
            flow, f"the flow's newest run began at {_iso(last)}, says the Variable {variable}", at_work
        )


def _is_later(last: float, newest: float | None, now: float) -> bool:
    edited = last > now + _AHEAD_SECONDS
    return not edited and (newest is None or last > newest + _ROUNDING_SECONDS)


def _behind(flow: str, what: str, newest: float | None) -> JournalBehind:
    known = "nothing of this flow" if newest is None else f"nothing after {_iso(newest)}"
    return JournalBehind(
        f"{what}, but the journal knows {known}: it is an older copy, or a new one, and what was sent since would be "
        f"sent again. Nothing is. Run `python -m include.order_cancel restored --flow {flow}`: then what may have been "
        "sent counts as in doubt. If only the Variable was edited, delete it or set it back"
    )


def note_restore(journal: Journal, flow: str, who: str, before: datetime | None = None) -> int:
    """Count what the ERP may have taken as in doubt; gives the number of open plans that are now.

    `before`: plans that Omnitron made earlier, and that the journal does not know, count as in doubt when they are
    listed; by default those made until now. No task of the flow may be running. Repeated, it marks what is left.
    """
    rows = [row for row in journal.find(flow, _MAY_BE_SENT) if not _is_answered(row)]
    marked = 0
    for first in range(0, len(rows), _AT_ONCE):
        marked += _doubt(journal, rows[first : first + _AT_ONCE], f"{who}: the journal was restored")
    with journal.transaction() as (connection, now):
        moment = datetime.fromtimestamp(now, UTC) if before is None else before.astimezone(UTC)
        values = {
            "flow": flow,
            "run_key": f"restored {_iso(now)} by {who}",
            "home": RESTORES,
            "host": "",
            "params": json.dumps({"before": moment.isoformat()}),
            "snapshot": "",
            "started_at": now,
            "finished_at": now,
            "queried_at": now + CLOCKS_DIFFER.total_seconds(),
            "committed": True,
            "counts": "{}",
            "alive_until": 0.0,
            "next_turn_at": 0.0,
        }
        connection.execute(insert(runs), values)
    return marked


def _is_answered(row: Row) -> bool:
    """Whether nothing more is sent for it before its answer, which is no refusal, has been judged (again)."""
    return row.answer_stands or (row.state in _JUDGED_FIRST and row.outcome in ("accepted", "unknown"))


def _doubt(journal: Journal, rows: Sequence[Row], why: str) -> int:
    with journal.transaction() as (connection, _):
        ids = [row.id for row in rows]
        taken = update(plans).where(plans.c.id.in_(ids))
        connection.execute(taken.values(fence=plans.c.fence + 1))  # a task that holds one still has lost it
    moves = []
    for row in rows:
        row.fence += 1
        if row.progress != "request" or row.outcome == "refused":
            if row.outcome == "refused":
                row.body_number += 1  # as the next attempt would have: under this key it may have been taken
            row.progress, row.key, row.relation = "", None, None
        row.state, row.outcome = State.IN_DOUBT, "unknown"
        row.error = "it is not known whether the ERP took it: the journal was restored from an older copy"
        row.owner, row.lease_until, row.claim_run, row.next_attempt_at = "", 0.0, None, 0.0
        moves.append(Move(row, events=[Event("person", "in doubt", why)]))
    return sum(lost is None for lost in journal.apply(moves))


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
