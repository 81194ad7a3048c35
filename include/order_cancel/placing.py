"""What is done with a plan that a run meets and the journal knows already: pure rules, no database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from include.order_cancel import exact_json
from include.order_cancel.omnitron import earliest, same_content
from include.order_cancel.rows import Body, Event, Listed, Move, Relation, Row, Run, State

TAKEN = frozenset({"new", "again", "repeated", "changed"})
_MAY_TAKE_NEW_DOCUMENT = frozenset({State.FETCHED, State.PREPARED, State.HELD, State.FAILED})
CLOCKS_DIFFER = timedelta(minutes=15)  # Omnitron's and the journal's
_STEP = "get_data_from_omnitron"
LISTED_AGAIN = "listed again"
RELEASED = "released"
# What a plan's journey says once Omnitron has no such plan, or no such order transaction, and once it shows it again.
NO_PLAN, NO_TRANSACTION = "not in Omnitron", "its transaction is not in Omnitron"
SHOWN_AGAIN = {NO_PLAN: "shown again", NO_TRANSACTION: "its transaction is shown again"}
# A plan to whose own request a system gave an answer that stopped the run.
STOPPED_THE_RUN = "stopped the run"
# Omnitron has no such plan, and the ERP's word about it could not be written there.
NOT_WRITTEN = "not written, the plan is gone"


@dataclass(frozen=True)
class Placing:
    """How a listed plan that the journal knows already is taken.

    repeat_done / repeat_rejected: Omnitron lists a finished plan because its write-back did not take: repeat it.
    ignore_backoff: also rows whose next attempt is not due. named: a person asked for this plan by its number.
    """

    repeat_done: bool = False
    repeat_rejected: bool = False
    ignore_backoff: bool = False
    named: bool = False


def taken_before(row: Row) -> str:
    """What a person must know who lets a dead plan be sent anew: the ERP may have it. Empty where it has not.

    Unlike a finished plan, a dead one does not look as if it had been booked.
    """
    if row.state is not State.DEAD or row.outcome not in ("accepted", "unknown"):
        return ""
    reference = f" under {row.erp_reference}" if row.erp_reference else ""
    taken = f"the ERP has taken it{reference}" if row.outcome == "accepted" else "the ERP may have taken it"
    return (
        f"{taken}, and would book it a second time: only what follows its answer had failed. Where that is not meant, "
        "`dismiss` the new generation before the next run. A dead plan is tried on, without a second booking, by the "
        "Param plan_ids"
    )


def possibly_sent(listed: Listed, before: datetime | None) -> bool:
    """Whether a plan that the journal does not know may have been sent under one that was lost.

    `before`: plans that Omnitron made earlier may, and those without a readable date; None: the journal was never
    restored. A date without an offset may be any shop's local time.
    """
    if before is None:
        return False
    made = earliest(listed.plan_date)
    return made is None or made < before + CLOCKS_DIFFER


def is_compared(row: Row, listed: Listed) -> bool:
    """Whether `place` needs the document that the journal has.

    The digests leave out what a line's status says, which counts until something was sent. And they differ between a
    listing and one plan's page, which may show more.
    """
    return row.digest != listed.digest or row.state in (*_MAY_TAKE_NEW_DOCUMENT, State.IN_DOUBT, State.DEAD)


def place(
    row: Row, listed: Listed, run: Run, placing: Placing, now: float, known: str | None = None
) -> tuple[str, Move | None]:
    """Say what becomes of a listed plan in this run, and how its row moves for it.

    `new`, `again` (tried before), `repeated` (only the write-back), `changed` (finished, but shows other content)
    are taken; `known` (finished), `resting` (not due yet) and `dead` are not.
    `known`: the document that the journal has; None where there is none, or where it is this one.
    """
    if row.created_run == run.id and row.attempts == 0:
        unsent = row.state in (*_MAY_TAKE_NEW_DOCUMENT, State.IN_DOUBT) and not row.progress
        return "new", _refreshed(row, listed, run) if unsent and _is_newer(row, listed, known) else None
    if row.finished:
        return _place_finished(row, listed, run, placing, known)
    if row.state is State.CHANGED:
        return "changed", _changed_once_more(row, listed, run) if _is_other(row, listed, known) else None
    if row.state is State.DEAD and not placing.named:
        return "dead", None
    if not (placing.ignore_backoff or placing.named) and row.next_attempt_at > now:
        return "resting", None
    if row.state is not State.DEAD:
        return _place_open_again(row, listed, run, known)
    row.state = State.FAILED
    what, move = _place_open_again(row, listed, run, known)
    move = move or Move(row)
    move.events.insert(0, Event(_STEP, RELEASED, "named by a person", run=run.id))
    return what, move


def _is_newer(row: Row, listed: Listed, known: str | None) -> bool:
    """Whether the listing shows anything else than the journal's document."""
    return row.digest != listed.digest or known not in (None, listed.document)


def _is_other(row: Row, listed: Listed, known: str | None) -> bool:
    """Whether the plan says something else than what was sent."""
    if row.digest == listed.digest:
        return False
    return known is None or not same_content(exact_json.loads(known), exact_json.loads(listed.document))


def _place_open_again(row: Row, listed: Listed, run: Run, known: str | None) -> tuple[str, Move | None]:
    """A plan that was tried before: the newest content counts where nothing of the older one may have left."""
    if row.answer_stands or row.state not in _MAY_TAKE_NEW_DOCUMENT:
        return "again", _attached(row, listed, run)
    if row.outcome in ("unknown", "accepted") and row.relation is not Relation.DO_NOTHING:
        return "again", _attached(row, listed, run)  # what was sent is not settled yet: it must not change
    if row.progress == "request" and row.outcome != "refused":
        if _is_other(row, listed, known):
            return _changed(row, listed, run, "Omnitron shows other content than what was sent")
        return "again", _attached(row, listed, run)
    newer = _is_newer(row, listed, known)
    return "again", (_refreshed if newer else _attached)(row, listed, run)


def place_open(row: Row, placing: Placing, now: float) -> str:
    """Say what becomes of a row that earlier runs left open and this run's listing did not show."""
    waits = row.next_attempt_at > now and not (placing.ignore_backoff or placing.named)
    return "resting" if waits else "again"


def _place_finished(
    row: Row, listed: Listed, run: Run, placing: Placing, known: str | None
) -> tuple[str, Move | None]:
    if listed.transaction_pk is not None:
        row.transaction_pk, row.order_pk = listed.transaction_pk, listed.order_pk
    if row.digest and _is_other(row, listed, known):
        return _changed(row, listed, run, "Omnitron shows other content than what was sent")
    read_by_itself = bool(row.digest) and row.digest != listed.digest
    row.digest = listed.digest if read_by_itself else row.digest
    if row.state is State.PASSED and placing.named:
        return "again", _replayed(row, listed, run)
    if row.state is State.LEFT:
        return _changed(
            row, listed, run, "it had left the flow's status without being sent, and is back in it"
        )
    due = (row.state is State.DONE and placing.repeat_done) or (
        row.state is State.REJECTED and placing.repeat_rejected
    )
    finished_meanwhile = row.updated_at >= (run.queried_at or run.started_at)
    if not due or finished_meanwhile:
        return "known", Move(row) if read_by_itself else None
    row.state = State.ANSWERED
    return "repeated", Move(
        row, events=[Event(_STEP, LISTED_AGAIN, "the write-back did not take", run=run.id)]
    )


def _replayed(row: Row, listed: Listed, run: Run) -> Move:
    replayed = Event(_STEP, "replayed", "named by a person", run=run.id)
    row.state, row.relation = State.HELD, Relation.DO_NOTHING
    if not row.pruned:
        return Move(row, events=[replayed])
    row.outcome, row.progress = (
        "refused",
        "",
    )  # the bytes that were sent are gone: what follows is another request
    return Move(row, bodies=[Body("document", listed.document)], events=[replayed])


def _changed(row: Row, listed: Listed, run: Run, why: str) -> tuple[str, Move]:
    row.error = f"was {row.state}; {why}; nothing is sent: `resend` or `dismiss` it"
    row.state, row.digest = State.CHANGED, listed.digest
    happened = Event(_STEP, "changed", row.error, run=run.id)
    return "changed", Move(row, bodies=[Body("document", listed.document)], events=[happened])


def _changed_once_more(row: Row, listed: Listed, run: Run) -> Move:
    """What a person decides is decided of what Omnitron shows now."""
    row.digest = listed.digest
    happened = Event(_STEP, "changed", "Omnitron shows yet another content", run=run.id)
    return Move(row, bodies=[Body("document", listed.document)], events=[happened])


def _attached(row: Row, listed: Listed, run: Run) -> Move | None:
    """A plan that was first named by its number now shows whose transaction it is part of."""
    place = (listed.transaction_pk, listed.order_pk)
    if listed.transaction_pk is None or place == (row.transaction_pk, row.order_pk):
        return None
    row.transaction_pk, row.order_pk = place
    found = Event(_STEP, "found in a transaction", f"transaction {listed.transaction_pk}", run=run.id)
    return Move(row, events=[found])


def _refreshed(row: Row, listed: Listed, run: Run) -> Move:
    row.digest, row.amount, row.progress = listed.digest, listed.amount, ""
    row.transaction_pk = listed.transaction_pk or row.transaction_pk
    row.order_pk = listed.order_pk or row.order_pk
    changed = Event(_STEP, "new content", "Omnitron shows other content than before", run=run.id)
    return Move(row, bodies=[Body("document", listed.document)], events=[changed])
