"""The journal: one row per plan and generation, moved on by whoever holds its lease.

SQLite (one machine) and PostgreSQL, one code base on SQLAlchemy Core. Every writing transaction on SQLite begins with
`BEGIN IMMEDIATE`: with the default, two processes that read and then write lose each other's changes. All methods
block; `batch.Writer` gathers moves of many plans into one commit and keeps the event loop free.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from math import ceil
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Select,
    Table,
    and_,
    bindparam,
    case,
    create_engine,
    delete,
    event,
    func,
    insert,
    make_url,
    or_,
    select,
    union,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from include.order_cancel import schema
from include.order_cancel.errors import JournalDown, LeaseLost, OrderCancelError, RowBusy
from include.order_cancel.placing import (
    NO_PLAN,
    NO_TRANSACTION,
    NOT_WRITTEN,
    RELEASED,
    SHOWN_AGAIN,
    STOPPED_THE_RUN,
    TAKEN,
    Placing,
    is_compared,
    place,
    place_open,
    possibly_sent,
)
from include.order_cancel.rows import (
    FOR_A_PERSON,
    OPEN,
    RETRIED,
    ROW_FIELDS,
    Body,
    Event,
    Listed,
    Member,
    Move,
    Post,
    Relation,
    Row,
    Run,
    State,
)
from include.order_cancel.text import printable
from include.order_cancel.tokens import StoredToken

T = TypeVar("T")
# Raises where a transaction that has come so far, at that time, must not be made.
Check = Callable[[Connection, float], None]
Text = TypeVar("Text", str, str | None)

plans, bodies, events = schema.plans, schema.bodies, schema.events
runs, members = schema.runs, schema.members

ALIVE_SECONDS = 300.0
LOGIN_FAILED = "login_failed"  # the kind of a stop that says why a run did not begin
LEASE_SECONDS = 300.0
_MAPPING_SECONDS = 120.0
# What the database says, in part, and what helps.
_MENDS = {
    "is full": "free space on its disk",
    "no space left": "free space on its disk",
    "readonly": "let the user of Airflow's workers write to the file and to its folder",
    "read-only": "let it be written to",
    "lock timeout": "another process holds a lock; pg_stat_activity shows which",
    "statement timeout": "the database is too busy, or a lock is held; pg_stat_activity shows by whom",
    "is locked": "another process holds it; find and end it, a backup tool perhaps",
    "malformed": "restore it from its backup, and do not delete it: it is the memory of what was sent",
    "not a database": "restore it from its backup, and do not delete it: it is the memory of what was sent",
}
# One statement of `adopt`, `restored` or pruning; one of a migration, which may write a large table anew.
_MANY_ROWS_SECONDS = 600.0
_MIGRATION_SECONDS = 4 * 3600.0
_INCREMENTAL = 2  # what `PRAGMA auto_vacuum` says of a file that can give pages back
_CHUNK = 500  # SQLite takes a bounded number of parameters in one statement
_NEVER_CHANGED = frozenset(
    {"id", "host", "flow", "pk", "generation", "created_at", "created_run", "key_host", "key_generation"}
)
_MUTABLE = tuple(name for name in ROW_FIELDS if name not in _NEVER_CHANGED)
_MOVED = tuple(name for name in _MUTABLE if name != "fence")
_MOVE = (
    update(plans)
    .where(plans.c.id == bindparam("_id"), plans.c.fence == bindparam("_fence"))
    .values({name: bindparam(name) for name in _MOVED})
)
_BODY = ("plan_id", "kind", "content", "meta", "at")
_EVENT = ("plan_id", "run_id", "at", "step", "what", "detail", "milliseconds")
_moved_values = attrgetter(*_MOVED)
_ATTRIBUTES = _MOVED.index("attributes")


def _happened(*whats: str) -> ColumnElement[bool]:
    return select(events.c.id).where(events.c.plan_id == plans.c.id, events.c.what.in_(whats)).exists()


# Whose turn it is, before the age: what stops runs is last, and what fails before that, so that nothing waits for it.
_CLASS = case(
    (plans.c.attempts == 0, 0),
    (_happened(STOPPED_THE_RUN), 2),
    (or_(plans.c.state == State.IN_DOUBT, _happened(State.FAILED, State.DEAD)), 1),
    else_=0,
)
_TURN = (
    _CLASS,
    case((_CLASS == 0, 0.0), else_=plans.c.next_attempt_at),
    case((_CLASS == 0, 0), else_=plans.c.attempts),
)

# The home of a run that stands for a restore of the journal.
RESTORES = "restores"
_NOT_KEPT = "not kept"  # stands beside the counts
_MADE_BEFORE = "it is not known whether the ERP took it: it was made before the journal was restored"


class OnTheWire(RowBusy):
    """An earlier task's request may still be under way; the row can be had in so many `seconds`."""

    def __init__(self, message: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(message)


class ForeignRun(OrderCancelError):
    """Under this number the journal knows no run, or another one than the task's own; nothing was done."""


class Journal:
    """The rows of all flows in one database. `lease_seconds`: how long a task may work on a row without a commit."""

    def __init__(self, engine: Engine, lease_seconds: float = LEASE_SECONDS) -> None:
        self.lease_seconds = lease_seconds
        self._reader = engine
        self._writer = engine.execution_options(writing=True)
        self._sqlite = engine.dialect.name == "sqlite"
        self._taken, self._count_again_at = 0, 100
        self._restores: dict[int, datetime | None] = {}
        self._compiled: dict[tuple[str, ...], Any] = {}

    @classmethod
    def open(cls, url: str) -> Journal:
        """Open the database at an SQLAlchemy URL and bring it to the newest schema.

        A new SQLite file can be read by its owner only. Raises JournalDown where it cannot be reached.
        """
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            with _reachable(parsed):
                _create_private(parsed.database)
        if parsed.get_backend_name() == "sqlite":
            options = {"connect_args": {"timeout": 60.0, "check_same_thread": False}}
            engine = create_engine(parsed, hide_parameters=True, **options)
            _prepare_sqlite(engine)
        else:
            engine = _postgres().engine(parsed)
        journal = cls(engine)
        journal._migrate()
        return journal

    def close(self) -> None:
        """Give the connections back."""
        self._reader.dispose()

    def _migrate(self) -> None:
        with self._reading() as connection:
            if schema.version(connection) == schema.HEAD:
                return
        with _reachable(self._reader.url), self._writer.connect() as connection:
            self._check_foreign_keys(connection, "OFF")
            try:
                with connection.begin(), self._patient(connection, _MIGRATION_SECONDS):
                    schema.migrate(connection)
            finally:
                self._check_foreign_keys(connection, "ON")

    def _check_foreign_keys(self, connection: Connection, word: str) -> None:
        if self._sqlite:
            connection.connection.execute(f"PRAGMA foreign_keys={word}")

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _reachable(self._reader.url), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with _reachable(self._reader.url), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[tuple[Connection, float]]:
        """A writing transaction and the time by the journal's clock, for modules with questions of their own.

        Its statements may change very many rows, so they may take longer than others.
        """
        with self._writing() as connection, self._patient(connection, _MANY_ROWS_SECONDS):
            yield connection, self._now(connection)

    @contextmanager
    def _patient(self, connection: Connection, seconds: float) -> Iterator[None]:
        if self._sqlite:
            yield
        else:
            with _postgres().patient(connection, seconds):
                yield

    def _now(self, connection: Connection) -> float:
        if self._sqlite:  # one machine, one clock
            return time.time()
        return float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())

    def now(self) -> float:
        """The journal's clock, in seconds since the epoch: the one by which leases and deadlines are kept."""
        with self._reading() as connection:
            return self._now(connection)

    # Settings

    def save_snapshot(self, flow: str, digest: str, settings: Mapping[str, Any]) -> None:
        """Keep a flow's settings, script files' content included; the same settings are kept once."""
        with self._writing() as connection:
            values = {
                "digest": digest,
                "flow": flow,
                "settings": json.dumps(settings, ensure_ascii=False),
                "created_at": self._now(connection),
            }
            connection.execute(self._insert_new(schema.snapshots), values)

    def snapshot(self, digest: str) -> dict[str, Any]:
        """The settings kept under `digest`. Raises OrderCancelError where there are none."""
        with self._reading() as connection:
            question = select(schema.snapshots.c.settings).where(schema.snapshots.c.digest == digest)
            found = connection.execute(question).scalar()
        if found is None:
            raise OrderCancelError(f"the journal holds no settings {digest[:12]}")
        settings: dict[str, Any] = json.loads(found)
        return settings

    def note_acceptance(self, digest: str) -> None:
        """The ERP has accepted a plan under these settings."""
        table = schema.snapshots
        with self._writing() as connection:
            first = update(table).where(table.c.digest == digest, table.c.accepted_at.is_(None))
            connection.execute(first.values(accepted_at=self._now(connection)))

    def may_reject(self, digest: str, most: int) -> bool:
        """Whether one more plan may be rejected under these settings, which is counted.

        Until the ERP has accepted one under them at most `most` may: a wrong mapping is refused for every plan.
        """
        table = schema.snapshots
        with self._writing() as connection:
            allowed = or_(table.c.accepted_at.is_not(None), table.c.rejected < most)
            one_more = update(table).where(table.c.digest == digest, allowed)
            return connection.execute(one_more.values(rejected=table.c.rejected + 1)).rowcount == 1

    def overtaken(self, run: Run) -> bool:
        """Whether a later run of the flow has begun."""
        with self._reading() as connection:
            later = select(runs.c.id).where(runs.c.flow == run.flow, runs.c.id > run.id)
            return connection.execute(later.where(runs.c.home != RESTORES).limit(1)).first() is not None

    # Runs

    def begin_run(
        self,
        flow: str,
        run_key: str,
        home: str,
        host: str,
        params: Mapping[str, Any],
        check: Check | None = None,
    ) -> Run:
        """The run of this name in this Airflow home; the same one when it is asked for again.

        Raises what `check` raises; of a flow one run at a time is checked and begun.
        """
        with self._writing() as connection:
            now = self._in_turn(connection, f"runs of {flow}")
            if check is not None:
                check(connection, now)
            latest = (
                select(runs.c.next_turn_at).where(runs.c.flow == flow).order_by(runs.c.id.desc()).limit(1)
            )
            values = {
                "flow": flow,
                "run_key": run_key,
                "home": home,
                "host": host,
                "params": json.dumps(params),
                "snapshot": "",
                "started_at": now,
                "committed": False,
                "counts": "{}",
                "alive_until": now + ALIVE_SECONDS,
                "next_turn_at": connection.execute(latest).scalar() or 0.0,
            }
            connection.execute(self._insert_new(runs), values)
            question = select(runs).where(runs.c.flow == flow, runs.c.run_key == run_key, runs.c.home == home)
            return _run(connection.execute(question).one())

    def run(self, run_id: int) -> Run:
        """The run with this number. Raises ForeignRun where there is none."""
        with self._reading() as connection:
            found = connection.execute(select(runs).where(runs.c.id == run_id)).one_or_none()
        if found is None:
            raise ForeignRun(
                f"the journal knows no run {run_id}: was it replaced or pruned? Nothing was done; trigger a new run"
            )
        return _run(found)

    def set_snapshot(self, run_id: int, digest: str) -> None:
        """Tie the run to the settings that its plans' first attempts use, and begin its listing as `begin_listing`."""
        with self._writing() as connection:
            connection.execute(update(runs).where(runs.c.id == run_id).values(snapshot=digest))
            self._unlist(connection, run_id)

    def stay_alive(self, run_id: int) -> None:
        """Say that this run still works: other runs leave its plans alone for the next ALIVE_SECONDS."""
        with self._writing() as connection:
            self._keep_alive(connection, run_id, self._now(connection))

    def _keep_alive(self, connection: Connection, run_id: int, now: float) -> None:
        connection.execute(update(runs).where(runs.c.id == run_id).values(alive_until=now + ALIVE_SECONDS))

    def take_turn(self, run_id: int, interval: float) -> float:
        """A turn to send, `interval` seconds after the one given out last in this run. Returns the wait in seconds."""
        with self._writing() as connection:
            now = self._now(connection)
            last = connection.execute(
                self._locked(select(runs.c.next_turn_at).where(runs.c.id == run_id))
            ).scalar_one()
            turn = max(now, last)
            connection.execute(update(runs).where(runs.c.id == run_id).values(next_turn_at=turn + interval))
        return float(turn - now)

    def finish_run(self, run_id: int) -> None:
        """End the run's claim on the plans that it has not come to."""
        with self._writing() as connection:
            now = self._now(connection)
            connection.execute(
                update(runs).where(runs.c.id == run_id).values(alive_until=0.0, finished_at=now)
            )

    # Membership

    def begin_listing(self, run: Run) -> None:
        """The run's list is read (once more): nothing that an earlier reading showed counts as listed any more."""
        with self._writing() as connection:
            self._unlist(connection, run.id)

    def _unlist(self, connection: Connection, run_id: int) -> None:
        if not self._is_frozen(connection, run_id):
            connection.execute(update(members).where(members.c.run_id == run_id).values(listed=False))

    def _is_frozen(self, connection: Connection, run_id: int) -> bool:
        """Whether another task of the run (a retry, of one that slept) has committed its membership."""
        frozen = select(runs.c.committed).where(runs.c.id == run_id)
        return bool(connection.execute(self._locked(frozen)).scalar_one())

    def take_page(self, run: Run, page: Sequence[Listed], placing: Placing) -> Counter[str]:
        """Take one page of listed plans into the run, each once; rows and membership in one commit.

        Returns how many were taken and how many were left, by what `placing.place` says, and `elsewhere`: plans that
        another live run has. Once the membership is frozen nothing is taken.
        """
        counts: Counter[str] = Counter()
        with self._writing() as connection:
            now = self._now(connection)
            self._keep_alive(connection, run.id, now)
            if self._is_frozen(connection, run.id):
                return counts
            known = self._newest(connection, run, [listed.pk for listed in page])
            documents = self._compared_documents(connection, page, known)
            self._note_sightings(connection, run, page, known, now)
            known |= self._added(connection, run, [one for one in page if one.pk not in known], now)
            busy = self._claimed_elsewhere(connection, run.id, known.values(), now)
            busy |= self._leased_elsewhere(connection, run.id, known.values(), now)
            moves: list[Move] = []
            taken: list[dict[str, Any]] = []
            for listed in page:
                row = known[listed.pk]
                what, move = "elsewhere", None
                if row.id not in busy:
                    what, move = place(row, listed, run, placing, now, documents.get(row.id))
                counts[what] += 1
                if move is not None:
                    moves.append(move)
                if what in TAKEN:
                    # What a person names by its number may have left the flow: it is looked at before it is sent.
                    shown = what == "new" or not placing.named
                    taken.append(
                        _membership(run, row, listed=shown, lane="none" if what == "changed" else "")
                    )
            self._write_moves(connection, moves, now)
            self._join(connection, run, taken)
        self._keep_statistics(len(page))
        return counts

    def looked_up(self, run: Run, pks: Sequence[str]) -> tuple[dict[str, Row], set[int]]:
        """The newest generation of these plans by number, and the ids of those that another live run has.

        As `take_page` finds them, but nothing is locked or written.
        """
        with self._reading() as connection:
            now = self._now(connection)
            rows = self._newest(connection, run, pks, lock=False)
            busy = self._claimed_elsewhere(connection, run.id, rows.values(), now)
            return rows, busy | self._leased_elsewhere(connection, run.id, rows.values(), now)

    def restored_before(self, run: Run) -> datetime | None:
        """Plans that were made before may have been sent under a journal that was lost; None: it never was."""
        with self._reading() as connection:
            return self._restored_before(connection, run)

    def _note_sightings(
        self,
        connection: Connection,
        run: Run,
        page: Sequence[Listed],
        known: Mapping[str, Row],
        now: float,
    ) -> None:
        """Let the journeys of open plans that Omnitron had not, or whose transaction it had not, say it shows them."""
        tried = {row.id: row for row in known.values() if row.attempts and not row.finished}
        absent: set[tuple[int, str]] = set()
        for part in _chunks(sorted(tried)):
            absences = (events.c.plan_id.in_(part), events.c.what.in_([*SHOWN_AGAIN, *SHOWN_AGAIN.values()]))
            question = select(events.c.plan_id, events.c.what).where(*absences).order_by(events.c.id)
            for plan_id, what in connection.execute(question):
                gone = NO_PLAN if what in (NO_PLAN, SHOWN_AGAIN[NO_PLAN]) else NO_TRANSACTION
                (absent.add if what == gone else absent.discard)((plan_id, gone))
        in_transaction = {known[one.pk].id for one in page if one.pk in known and one.transaction_pk}
        self._write_events(
            connection,
            [
                (plan_id, Event("get_data_from_omnitron", SHOWN_AGAIN[gone], "by a listing", run=run.id))
                for plan_id, gone in sorted(absent)
                if gone == NO_PLAN or plan_id in in_transaction
            ],
            now,
        )

    def _compared_documents(
        self, connection: Connection, page: Sequence[Listed], known: Mapping[str, Row]
    ) -> dict[int, str]:
        compared = [known[one.pk].id for one in page if one.pk in known and is_compared(known[one.pk], one)]
        found = self._newest_bodies(connection, compared, "document")
        return {plan_id: body.content for plan_id, body in found.items()}

    def _keep_statistics(self, rows: int) -> None:
        """PostgreSQL plans by what it last counted: a table that grew from nothing is read whole for each page."""
        self._taken += rows
        if not self._sqlite and self._taken >= self._count_again_at:
            self._count_again_at = 10 * self._taken
            with self._writing() as connection:
                connection.exec_driver_sql(f"ANALYZE {plans.name}, {members.name}")

    def take_open(self, run: Run, placing: Placing, pks: Sequence[str] | None = None) -> Counter[str]:
        """Take the rows that earlier runs left open and this run's listing did not show (all, or those of `pks`).

        Returns counts as `take_page` does. Once the membership is frozen nothing is taken.
        """
        counts: Counter[str] = Counter()
        mine = select(members.c.plan_id).where(members.c.run_id == run.id)
        question = select(plans).where(
            plans.c.flow == run.flow,
            plans.c.host == run.host,
            plans.c.state.in_(RETRIED),
            plans.c.id.not_in(mine),
        )
        if pks is not None:
            question = question.where(plans.c.pk.in_(pks))
        last = 0
        while True:
            part = question.where(plans.c.id > last).order_by(plans.c.id).limit(_CHUNK)
            with self._writing() as connection:
                now = self._now(connection)
                if self._is_frozen(connection, run.id):
                    return counts
                rows = [_row(found) for found in connection.execute(self._locked(part))]
                busy = self._claimed_elsewhere(connection, run.id, rows, now)
                taken = []
                for row in rows:
                    what = "elsewhere" if row.id in busy else place_open(row, placing, now)
                    counts[what] += 1
                    if what == "again":
                        taken.append(_membership(run, row, listed=False))
                self._join(connection, run, taken)
            if len(rows) < _CHUNK:
                return counts
            last = rows[-1].id

    def begin_generations(self, run: Run, pks: Sequence[str], reason: str) -> list[str]:
        """Begin a new generation of finished or changed plans, on a person's word. Returns the plans not to be had.

        The new row takes over the newest document, where retention has left it; its key differs, so the ERP cannot
        take it for a repeat.
        """
        left: list[str] = []
        with self._writing() as connection:
            now = self._now(connection)
            known = self._newest(connection, run, pks)
            for pk in pks:
                row = known.get(pk)
                if row is not None and row.created_run == run.id and row.sent_again:
                    continue  # this run's task was repeated
                if row is None or not row.may_be_resent:
                    left.append(pk)
                    continue
                self._begin_generation(connection, run, row, reason, now)
        return left

    def _begin_generation(
        self, connection: Connection, run: Run | None, row: Row, reason: str, now: float
    ) -> None:
        listed = Listed(
            row.pk,
            "",
            row.digest,
            row.order_number,
            row.order_pk,
            row.amount,
            row.currency,
            row.plan_type,
            row.plan_date,
            row.transaction_pk,
        )
        last = (
            select(bodies)
            .where(bodies.c.plan_id == row.id, bodies.c.kind == "document")
            .order_by(bodies.c.id.desc())
        )
        document = connection.execute(last.limit(1)).one_or_none()
        values = _new_values(row.host, row.flow, listed, now, run.id if run is not None else None)
        values["generation"] = row.generation + 1
        if document is None:
            values["digest"] = ""  # it was pruned: the plan is read again from Omnitron before it is sent
        new_id = connection.execute(insert(plans).values(values).returning(plans.c.id)).scalar_one()
        if document is not None:
            self._write_bodies(connection, [(new_id, Body("document", document.content))], now)
        if (
            row.state is State.DEAD
        ):  # or a task of an older run, or a person, could take it up besides the new one
            row.state, row.error = State.DISMISSED, f"sent again as generation {row.generation + 1}"
            row.fence += 1
            connection.execute(update(plans).where(plans.c.id == row.id).values(fence=row.fence))
            over = Event("resend", "dismissed, was dead", row.error, at=now)
            self._write_moves(connection, [Move(row, events=[over])], now)
        began = Event(
            "resend", f"generation {row.generation + 1}", reason, run=run.id if run is not None else None
        )
        self._write_events(connection, [(new_id, began)], now)

    def forget_listing(self, run: Run) -> None:
        """Undo what this run's listing brought: its membership, and the rows that no run has tried."""
        with self._writing() as connection:
            connection.execute(delete(members).where(members.c.run_id == run.id))
            untried = (
                plans.c.created_run == run.id,
                plans.c.attempts == 0,
                plans.c.state == State.FETCHED,
                plans.c.id.not_in(select(members.c.plan_id)),
            )
            fresh = select(plans.c.id).where(*untried)
            for table in (events, bodies):
                connection.execute(delete(table).where(table.c.plan_id.in_(fresh)))
            connection.execute(delete(plans).where(*untried))
            connection.execute(
                update(plans).where(plans.c.claim_run == run.id, plans.c.owner == "").values(claim_run=None)
            )

    def size(self, run: Run) -> tuple[int, str | None]:
        """How many plans the run may send so far, and when the oldest of them was made, as Omnitron writes it.

        What is in doubt or changed waits for a word about it, and is no sign of a wrong filter.
        """
        with self._reading() as connection:
            of_run = select(func.count(), func.min(plans.c.plan_date)).join(
                members, members.c.plan_id == plans.c.id
            )
            number, oldest = connection.execute(
                of_run.where(members.c.run_id == run.id, plans.c.state.not_in(FOR_A_PERSON))
            ).one()
            return number, oldest

    def commit_run(
        self,
        run: Run,
        *,
        fan_out: int,
        lots: int,
        counts: Mapping[str, int],
        queried_at: float | None,
        not_kept: Sequence[str] = (),
        limit: int | None = None,
        lot_size: int = 1,
        check: Check | None = None,
    ) -> list[int]:
        """Freeze the membership: whose turn it is, lanes, lots. Returns the lots' numbers, none for a small batch.

        Plans that were never tried come first, then those that failed, then those that stopped a run; the older first.
        A larger batch gets one lot for each `lot_size` plans that it begins, at most `lots`. Where another task of the
        run was quicker (a retry, of one that slept), all stays as that one left it, the time of its question too.
        `not_kept`: see `Run`. Raises what `check` raises.
        """
        with self._writing() as connection:
            if self._is_frozen(connection, run.id):
                return self._lots(connection, run.id)
            if check is not None:
                check(connection, self._now(connection))
            in_run = (members.c.run_id == run.id, members.c.lane != "none")
            size = connection.execute(select(func.count()).where(*in_run)).scalar_one()
            size = size if limit is None else min(size, limit)
            bulk = size > fan_out
            parts = min(lots, ceil(size / lot_size)) if bulk else 1
            turn = (*_TURN, plans.c.plan_date, plans.c.id)
            place = func.row_number().over(order_by=turn) - 1
            by_turn = (
                select(members.c.id, place.label("position"))
                .join(plans, plans.c.id == members.c.plan_id)
                .where(*in_run)
                .subquery()
            )
            connection.execute(
                update(members)
                .where(members.c.id == by_turn.c.id)
                .values(
                    position=by_turn.c.position,
                    lane="bulk" if bulk else "plan",
                    lot=by_turn.c.position % parts,
                )
            )
            if limit is not None:
                self._drop_members(connection, run, and_(*in_run, members.c.position >= limit))
            told = {**counts, _NOT_KEPT: list(not_kept)} if not_kept else dict(counts)
            values = {"committed": True, "counts": json.dumps(told), "queried_at": queried_at}
            connection.execute(update(runs).where(runs.c.id == run.id).values(**values))
        return list(range(parts)) if bulk else []

    def lots(self, run_id: int) -> list[int]:
        """The numbers of the run's lots."""
        with self._reading() as connection:
            return self._lots(connection, run_id)

    def _lots(self, connection: Connection, run_id: int) -> list[int]:
        in_lots = select(members.c.lot).where(members.c.run_id == run_id, members.c.lane == "bulk")
        return sorted(connection.execute(in_lots.distinct()).scalars())

    def lot(self, run_id: int, lot: int) -> list[Member]:
        """The members of one lot, in order."""
        return self._members(
            select(members).where(members.c.run_id == run_id, members.c.lane == "bulk", members.c.lot == lot)
        )

    def open_members(self, run_id: int, fan_out: int) -> list[Member]:
        """The members that get tasks of their own, moved to the lane `plan` where a lot left them open.

        At most `fan_out` of those whose plan failed, is in doubt or was not come to, or whose post script failed; the
        same ones when asked again.
        """
        with self._writing() as connection:
            had = connection.execute(
                select(func.count()).where(members.c.run_id == run_id, members.c.lane == "plan")
            ).scalar_one()
            if not had:
                left = (
                    select(members.c.id)
                    .join(plans, plans.c.id == members.c.plan_id)
                    .where(
                        members.c.run_id == run_id,
                        members.c.lane == "bulk",
                        or_(
                            plans.c.state.in_(RETRIED)
                            & (plans.c.relation.is_(None) | (plans.c.relation != Relation.DO_NOTHING)),
                            (plans.c.state == State.DONE) & (plans.c.post == Post.FAILED),
                        ),
                    )
                    .order_by(members.c.position)
                    .limit(fan_out)
                )
                chosen = list(connection.execute(left).scalars())
                for part in _chunks(chosen):
                    connection.execute(update(members).where(members.c.id.in_(part)).values(lane="plan"))
        return self._members(select(members).where(members.c.run_id == run_id, members.c.lane == "plan"))

    def member(self, member_id: int) -> Member:
        """The member with this number. Raises OrderCancelError where there is none."""
        found = self._members(select(members).where(members.c.id == member_id))
        if not found:
            raise OrderCancelError(
                f"the journal knows no member {member_id}; clear get_data_from_omnitron as well"
            )
        return found[0]

    def run_rows(
        self, run_id: int, states: Iterable[State] | None = None, limit: int | None = None
    ) -> list[Row]:
        """The rows of a run in their order, all or those in `states`."""
        question = (
            select(plans)
            .join(members, members.c.plan_id == plans.c.id)
            .where(members.c.run_id == run_id)
            .order_by(members.c.position)
            .limit(limit)
        )
        if states is not None:
            question = question.where(plans.c.state.in_(list(states)))
        return self._rows(question)

    def warned(self, run_id: int, limit: int) -> list[Row]:
        """The plans of a run that are over with a warning: a post script failed, or Omnitron lost the plan."""
        lost = select(events.c.id).where(
            events.c.plan_id == plans.c.id, events.c.run_id == run_id, events.c.what == NOT_WRITTEN
        )
        failed = (plans.c.state == State.DONE) & (plans.c.post == Post.FAILED)
        return self._rows(
            select(plans)
            .join(members, members.c.plan_id == plans.c.id)
            .where(members.c.run_id == run_id, plans.c.state.in_((State.DONE, State.REJECTED)))
            .where(or_(failed, lost.exists()))
            .order_by(members.c.position)
            .limit(limit)
        )

    def only_refusals(self, run_id: int) -> int | None:
        """How many plans the ERP has refused in this run so far; None once it has taken one, or left one alone.

        An answer that tells nothing of the plan (no outcome, not done, an old token) counts neither way.
        """
        sent = select(events.c.id).where(
            events.c.plan_id == plans.c.id, events.c.run_id == run_id, events.c.what == "sending"
        )
        question = (
            select(plans.c.relation, plans.c.outcome, func.count())
            .join(members, members.c.plan_id == plans.c.id)
            .where(members.c.run_id == run_id, plans.c.attempt_run == run_id, sent.exists())
            .group_by(plans.c.relation, plans.c.outcome)
        )
        refused = 0
        for relation, outcome, number in self.ask(question):
            if relation == Relation.FAILURE or (relation is None and outcome == "refused"):
                refused += number
            elif relation is not None or outcome == "accepted":
                return None
        return refused

    def absent_since(self, plan_id: int, gone: str) -> float | None:
        """When Omnitron first said `gone` (NO_PLAN, NO_TRANSACTION) of a plan, since it last showed what that is about.

        None where it has not.
        """
        about = (events.c.plan_id == plan_id, events.c.what.in_((gone, SHOWN_AGAIN[gone])))
        since: float | None = None
        for what, at in self.ask(select(events.c.what, events.c.at).where(*about).order_by(events.c.id)):
            since = None if what != gone else at if since is None else since
        return since

    def times(self, plan_id: int, what: str) -> int:
        """How often this has happened to a plan."""
        question = select(func.count()).where(events.c.plan_id == plan_id, events.c.what == what)
        return int(self.ask(question)[0][0])

    def run_counts(self, run_id: int) -> Counter[tuple[State, str]]:
        """How many of a run's plans are in which state with which relation."""
        with self._reading() as connection:
            question = (
                select(plans.c.state, plans.c.relation, func.count())
                .join(members, members.c.plan_id == plans.c.id)
                .where(members.c.run_id == run_id)
                .group_by(plans.c.state, plans.c.relation)
            )
            return Counter(
                {(State(s), relation or ""): number for s, relation, number in connection.execute(question)}
            )

    def _members(self, question: Select[Any]) -> list[Member]:
        with self._reading() as connection:
            found = connection.execute(question.order_by(members.c.position, members.c.id))
            return [Member(**member._mapping) for member in found]

    def _rows(self, question: Select[Any]) -> list[Row]:
        with self._reading() as connection:
            return [_row(found) for found in connection.execute(question)]

    def _added(
        self, connection: Connection, run: Run, unknown: Sequence[Listed], now: float
    ) -> dict[str, Row]:
        if not unknown:
            return {}
        fresh = sorted(unknown, key=lambda listed: listed.pk)
        before = self._restored_before(connection, run)
        doubtful = {listed.pk for listed in fresh if possibly_sent(listed, before)}
        connection.execute(
            self._insert_new(plans),
            [
                _new_values(run.host, run.flow, listed, now, run.id, doubtful=listed.pk in doubtful)
                for listed in fresh
            ],
        )
        inserted = self._newest(connection, run, [listed.pk for listed in fresh])
        mine = [listed for listed in fresh if inserted[listed.pk].created_run == run.id]
        self._write_bodies(
            connection, [(inserted[listed.pk].id, Body("document", listed.document)) for listed in mine], now
        )
        fetched = Event("get_data_from_omnitron", "fetched", run=run.id)
        self._write_events(connection, [(inserted[listed.pk].id, fetched) for listed in mine], now)
        doubt = Event("get_data_from_omnitron", "in doubt", _MADE_BEFORE, run=run.id)
        in_doubt = [(inserted[listed.pk].id, doubt) for listed in mine if listed.pk in doubtful]
        self._write_events(connection, in_doubt, now)
        return inserted

    def _restored_before(self, connection: Connection, run: Run) -> datetime | None:
        """Plans made before may have been sent under a journal that was lost; None: it never was. See `restoring`."""
        if run.id not in self._restores:
            question = (
                select(runs.c.params)
                .where(runs.c.flow == run.flow, runs.c.home == RESTORES)
                .order_by(runs.c.id.desc())
                .limit(1)
            )
            found = connection.execute(question).scalar()
            self._restores[run.id] = datetime.fromisoformat(json.loads(found)["before"]) if found else None
        return self._restores[run.id]

    def _newest(
        self, connection: Connection, run: Run, pks: Sequence[str], *, lock: bool = True
    ) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for part in _chunks(list(pks)):
            question = select(plans).where(
                plans.c.host == run.host, plans.c.flow == run.flow, plans.c.pk.in_(part)
            )
            question = question.order_by(plans.c.id)
            for record in connection.execute(self._locked(question) if lock else question):
                if record.pk not in found or record.generation > found[record.pk].generation:
                    found[record.pk] = _row(record)
        return found

    def _claimed_elsewhere(
        self, connection: Connection, run_id: int, rows: Iterable[Row], now: float
    ) -> set[int]:
        claimed = {
            row.id: row.claim_run for row in rows if row.claim_run not in (None, run_id) and not row.finished
        }
        if not claimed:
            return set()
        question = select(runs.c.id).where(runs.c.id.in_(set(claimed.values())), runs.c.alive_until > now)
        alive = set(connection.execute(question).scalars())
        return {row_id for row_id, claim in claimed.items() if claim in alive}

    def _leased_elsewhere(
        self, connection: Connection, run_id: int, rows: Iterable[Row], now: float
    ) -> set[int]:
        leased = {row.id: _lessee(row) for row in rows if row.owner and row.lease_until > now}
        others = {lessee for lessee in leased.values() if lessee != run_id}
        if not others:
            return set()
        question = select(runs.c.id).where(runs.c.id.in_(others), runs.c.alive_until == 0.0)
        mine_or_ended = {run_id, *connection.execute(question).scalars()}
        return {row_id for row_id, lessee in leased.items() if lessee not in mine_or_ended}

    def _join(self, connection: Connection, run: Run, taken: list[dict[str, Any]]) -> None:
        if not taken:
            return
        joining = (sqlite if self._sqlite else postgresql).insert(members)
        shown = {name: joining.excluded[name] for name in ("listed", "lane")}
        once = [members.c.run_id, members.c.plan_id]
        connection.execute(joining.on_conflict_do_update(index_elements=once, set_=shown), taken)
        for part in _chunks([member["plan_id"] for member in taken if member["lane"] != "none"]):
            connection.execute(update(plans).where(plans.c.id.in_(part)).values(claim_run=run.id))

    def _drop_members(self, connection: Connection, run: Run, which: ColumnElement[bool]) -> None:
        of_them = select(members.c.plan_id).where(which)
        released = and_(events.c.plan_id.in_(of_them), events.c.run_id == run.id, events.c.what == RELEASED)
        back = select(events.c.plan_id).where(released)
        connection.execute(
            update(plans).where(plans.c.id.in_(back), plans.c.state == State.FAILED).values(state=State.DEAD)
        )
        connection.execute(delete(events).where(released))
        connection.execute(
            update(plans).where(plans.c.id.in_(of_them), plans.c.claim_run == run.id).values(claim_run=None)
        )
        connection.execute(delete(members).where(which))

    # Leases and moves

    def claim(self, plan_ids: Sequence[int], run_id: int, owner: str) -> tuple[list[Row], dict[int, RowBusy]]:
        """Lease the rows to `owner` for `lease_seconds`, each with a fence of its own.

        A row leased or claimed by another live run is not had: the second value says why, by row. A later try of
        the same run takes over at once, except a row whose request may still be on the wire (OnTheWire).
        """
        had: list[Row] = []
        refused: dict[int, RowBusy] = {}
        with self._writing() as connection:
            now = self._now(connection)
            for part in _chunks(list(plan_ids)):
                question = self._locked(select(plans).where(plans.c.id.in_(part)).order_by(plans.c.id))
                rows = [_row(found) for found in connection.execute(question)]
                elsewhere = self._claimed_elsewhere(connection, run_id, rows, now)
                elsewhere |= self._leased_elsewhere(connection, run_id, rows, now)
                for row in rows:
                    why = _why_busy(row, row.id in elsewhere, self._wire_seconds_left(row, now))
                    if why is not None:
                        refused[row.id] = why
                        continue
                    row.fence += 1
                    row.owner, row.lease_until, row.claim_run = (
                        f"{run_id}:{owner}",
                        now + self.lease_seconds,
                        run_id,
                    )
                    had.append(row)
            if had:
                connection.execute(
                    update(plans)
                    .where(plans.c.id == bindparam("_id"))
                    .values(
                        fence=bindparam("fence"),
                        owner=bindparam("owner"),
                        lease_until=bindparam("lease_until"),
                        claim_run=bindparam("claim_run"),
                    ),
                    [
                        {
                            "_id": row.id,
                            "fence": row.fence,
                            "owner": row.owner,
                            "lease_until": row.lease_until,
                            "claim_run": row.claim_run,
                        }
                        for row in had
                    ],
                )
        return had, refused

    def claim_one(self, plan_id: int, run_id: int, owner: str) -> Row:
        """Lease one row. Raises RowBusy where another live task has it, OnTheWire where a request may be under way."""
        had, refused = self.claim([plan_id], run_id, owner)
        if refused:
            raise refused[plan_id]
        if not had:
            raise OrderCancelError(f"the journal knows no row {plan_id}")
        return had[0]

    def give_back(self, row: Row) -> None:
        """End a lease under which nothing was done; the row stays as it was."""
        with self._writing() as connection:
            held = (plans.c.id == row.id, plans.c.fence == row.fence)
            connection.execute(update(plans).where(*held).values(owner="", lease_until=0.0, claim_run=None))

    def apply(self, moves: Sequence[Move]) -> list[LeaseLost | None]:
        """Write the moves in one commit. A move whose fence is old is refused: its place holds the error.

        Moves of a commit that failed may be given again: what was written all the same is not written twice. A
        request's deadline counts from here: whoever sends must have looked at a clock before this commit began, and
        send nothing once too much time is over since.
        """
        with self._writing() as connection:
            now = self._now(connection)
            good = self._written_before(connection, moves)
            moves_now = [move for move in moves if move.row.id not in good] if good else moves
            for move in moves_now:
                move.tried.append(now)
                if move.row.owner:
                    move.row.lease_until = now + self.lease_seconds
                if move.wire_seconds:
                    self._set_deadline(move.row, now, move.wire_seconds)
            good |= self._write_moves(connection, moves_now, now)
        return [
            None
            if move.row.id in good
            else LeaseLost(f"plan {move.row.name}: another task has taken this plan over; this one stops")
            for move in moves
        ]

    def _written_before(self, connection: Connection, moves: Sequence[Move]) -> set[int]:
        """The rows of the moves that an earlier try has written, though its end was not heard of."""
        tried = {move.row.id: set(move.tried) for move in moves if move.tried}
        written: set[int] = set()
        if tried:
            self._held(connection, [move.row for move in moves])  # the earlier try may be ending only now
        for part in _chunks(list(tried)):
            moved = select(plans.c.id, plans.c.updated_at).where(plans.c.id.in_(part))
            written |= {row_id for row_id, at in connection.execute(moved) if at in tried[row_id]}
        return written

    def _set_deadline(self, row: Row, now: float, wire_seconds: float) -> None:
        row.request_deadline = now + wire_seconds
        if self._sqlite and (boot := _boot_id()):
            row.boot, row.boot_began = boot, now - time.monotonic()

    def wire_seconds_left(self, row: Row, settling: float = 0.0) -> float:
        """For how many more seconds the row's last request may be on the wire, and `settling` seconds longer; then 0.

        In a journal that is a file the clock that counts is the machine's own since its start: all its processes see
        the same, and nobody sets it. A start of the machine has ended every request from before.
        """
        with self._reading() as connection:
            return self._wire_seconds_left(row, self._now(connection), settling)

    def _wire_seconds_left(self, row: Row, now: float, settling: float = 0.0) -> float:
        if not row.request_deadline:
            return 0.0
        if self._sqlite and row.boot and (boot := _boot_id()):
            if row.boot != boot:
                return max(0.0, settling - time.monotonic())
            now = row.boot_began + time.monotonic()
        return max(0.0, row.request_deadline + settling - now)

    def _held(self, connection: Connection, rows: Sequence[Row]) -> dict[int, int]:
        fences: dict[int, int] = {}
        for part in _chunks([row.id for row in rows]):
            question = self._locked(
                select(plans.c.id, plans.c.fence).where(plans.c.id.in_(part)).order_by(plans.c.id)
            )
            fences.update((row_id, fence) for row_id, fence in connection.execute(question))
        return fences

    def _write_moves(self, connection: Connection, moves: Sequence[Move], now: float) -> set[int]:
        """Write what holds its row, and nothing of what has lost it. Returns the written rows' ids."""
        in_order = sorted(moves, key=lambda move: move.row.id)  # or two tasks could wait for each other
        written = self._many(
            connection, _MOVE, (*_MOVED, "_id", "_fence"), [_move_values(move.row, now) for move in in_order]
        )
        if written != len(moves):
            held = self._held(connection, [move.row for move in moves])
            moves = [move for move in moves if held.get(move.row.id) == move.row.fence]
        self._write_bodies(connection, [(move.row.id, body) for move in moves for body in move.bodies], now)
        self._write_events(
            connection, [(move.row.id, happened) for move in moves for happened in move.events], now
        )
        return {move.row.id for move in moves}

    def _write_bodies(self, connection: Connection, written: Sequence[tuple[int, Body]], now: float) -> None:
        values = [
            (plan_id, body.kind, _clean(body.content), json.dumps(body.meta) if body.meta else "{}", now)
            for plan_id, body in written
        ]
        self._many(connection, insert(bodies), _BODY, values)

    def _write_events(self, connection: Connection, written: Sequence[tuple[int, Event]], now: float) -> None:
        values = [
            (plan_id, e.run, e.at or now, e.step, str(e.what), _clean(e.detail), e.milliseconds)
            for plan_id, e in written
        ]
        self._many(connection, insert(events), _EVENT, values)

    def _many(
        self, connection: Connection, statement: Any, names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
    ) -> int:
        """Execute a statement for many rows of plain values: compiled once, a third of the cost of Core's own way.

        Returns how many rows of the table it touched.
        """
        if not rows:
            return 0
        if names not in self._compiled:
            self._compiled[names] = statement.compile(dialect=connection.dialect, column_keys=list(names))
        compiled = self._compiled[names]
        if not compiled.positional:
            named = [dict(zip(names, row, strict=True)) for row in rows]
            return connection.exec_driver_sql(compiled.string, named).rowcount
        if compiled.positiontup != list(names):
            pick = itemgetter(*(names.index(name) for name in compiled.positiontup))
            rows = [pick(row) for row in rows]
        return connection.exec_driver_sql(compiled.string, list(rows)).rowcount

    # A person's word

    def resolve(self, plan_id: int, *, arrived: bool, who: str, reason: str = "") -> Row:
        """Settle a plan of which it is not known whether the ERP has it; gives the row back as it is now.

        Arrived: its write-back is due. Not arrived: it is sent again, with the same key. Raises RowBusy where
        a live task works on it, OrderCancelError where nothing is in doubt.
        """
        with self._writing() as connection:
            row, now = self._for_a_person(connection, plan_id)
            if not _in_doubt(row):
                raise OrderCancelError(f"plan {row.name} is {row.state}: its outcome is not in doubt")
            if arrived:
                row.state, row.relation, row.outcome = State.ANSWERED, Relation.CONTINUE, "accepted"
                row.error = None
            else:
                row.state, row.relation, row.outcome = State.FAILED, None, "not_arrived"
                row.progress = "request" if row.key else ""  # bytes may have left under the key: they stay
                row.error = f"{who} says that it did not arrive; it is sent again with the same key"
            row.next_attempt_at = row.request_deadline = 0.0
            what = "resolved: arrived" if arrived else "resolved: not arrived"
            self._moved_by(connection, row, what, f"{who}: {reason}" if reason else who, now)
            return row

    def dismiss(self, plan_id: int, *, who: str, reason: str) -> Row:
        """Take a plan that is not finished out of the flow for good; gives the row back as it is now.

        Raises RowBusy where a live task works on it, OrderCancelError where it is finished.
        """
        with self._writing() as connection:
            row, now = self._for_a_person(connection, plan_id)
            if row.finished:
                raise OrderCancelError(f"plan {row.name} is {row.state} already, which is final")
            what = f"dismissed, was {row.state}"
            row.state = State.DISMISSED
            row.error = printable(f"dismissed by {who}: {reason}", 4000)
            row.next_attempt_at = row.request_deadline = 0.0
            self._moved_by(connection, row, what, f"{who}: {reason}", now)
            return row

    def resend(self, plan_id: int, *, who: str, reason: str) -> Row:
        """Begin a new generation of a plan that is finished, changed or dead; gives the new row back.

        Raises RowBusy where a live task works on it, OrderCancelError where it is open or not the newest.
        """
        with self._writing() as connection:
            row, now = self._for_a_person(connection, plan_id)
            if not row.may_be_resent:
                mend = "`resolve` it first" if _in_doubt(row) else "the next run takes it up by itself"
                raise OrderCancelError(f"plan {row.name} is {row.state}: it is not over; {mend}")
            of_plan = (plans.c.host == row.host, plans.c.flow == row.flow, plans.c.pk == row.pk)
            newest = select(plans).where(*of_plan).order_by(plans.c.generation.desc()).limit(1)
            if _row(connection.execute(newest).one()).generation != row.generation:
                raise OrderCancelError(f"plan {row.name} has a newer generation than {row.generation}")
            self._begin_generation(connection, None, row, printable(f"{who}: {reason}", 4000), now)
            return _row(connection.execute(newest).one())

    def release(self, plan_id: int, *, who: str, reason: str = "") -> Row:
        """Let the next run try a dead plan once more; gives the row back as it is now.

        Raises OrderCancelError where it is not dead.
        """
        with self._writing() as connection:
            row, now = self._for_a_person(connection, plan_id)
            if row.state is not State.DEAD:
                raise OrderCancelError(f"plan {row.name} is {row.state}: only a dead one is released")
            row.state, row.next_attempt_at = State.FAILED, 0.0
            self._moved_by(connection, row, "released", f"{who}: {reason}" if reason else who, now)
            return row

    def edit_request(
        self, plan_id: int, content: str, *, who: str, reason: str, despite_doubt: bool = False
    ) -> Row:
        """Let the next run send this body instead of the last one, under a new key; gives the row back as it is now.

        Its method stays; it goes to the address that the settings name by then. Raises OrderCancelError where there
        is no body to edit, or where the ERP has not refused the last one and `despite_doubt` does not say that it may
        act twice.
        """
        with self._writing() as connection:
            row, now = self._for_a_person(connection, plan_id)
            if row.state not in (State.FAILED, State.HELD, State.IN_DOUBT, State.DEAD):
                raise OrderCancelError(f"plan {row.name} is {row.state}: its request cannot be edited")
            if row.answer_stands:
                raise OrderCancelError(
                    f"plan {row.name}: the ERP's answer stands; only Omnitron has to be told"
                )
            if row.outcome != "refused" and not despite_doubt:
                raise OrderCancelError(
                    f"plan {row.name}: the ERP has not definitely refused the last request; another one under a new "
                    "key may be carried out besides it"
                )
            last = (
                select(bodies)
                .where(bodies.c.plan_id == row.id, bodies.c.kind == "request")
                .order_by(bodies.c.id.desc())
            )
            found = connection.execute(last.limit(1)).one_or_none()
            if found is None or not found.content:
                raise OrderCancelError(f"plan {row.name}: the journal holds no request body to edit")
            meta, old_key = json.loads(found.meta), row.key
            row.body_number += 1
            row.key = idempotency_key(row)
            headers = {n: row.key if v == old_key else v for n, v in meta.get("headers", {}).items()}
            row.state, row.progress, row.relation, row.outcome = State.PREPARED, "request", None, ""
            row.error, row.next_attempt_at, row.request_deadline = None, 0.0, 0.0
            meta |= {"key": row.key, "headers": headers, "edited_by": who}
            if despite_doubt:
                meta["despite_doubt"] = True  # and so it stays, whatever is edited later
            body = Body("request", content, meta)
            risk = ", though the last request was not refused" if despite_doubt else ""
            event = Event("person", f"request edited{risk}", printable(f"{who}: {reason}", 4000), at=now)
            self._write_moves(connection, [Move(row, bodies=[body], events=[event])], now)
            return row

    def _for_a_person(self, connection: Connection, plan_id: int) -> tuple[Row, float]:
        """The row, out of any earlier task's hands: the moves of such a task are refused from here on."""
        now = self._now(connection)
        found = connection.execute(self._locked(select(plans).where(plans.c.id == plan_id))).one_or_none()
        if found is None:
            raise OrderCancelError(f"the journal knows no row {plan_id}")
        row = _row(found)
        leased = row.lease_until - now if row.owner else 0.0
        sending = row.state is State.SENDING and bool(row.owner)
        wait = max(leased, self._wire_seconds_left(row, now) if sending else 0.0)
        if wait > 0:
            raise RowBusy(f"plan {row.name}: a task works on it; try again after it, or in {wait:.0f} s")
        connection.execute(update(plans).where(plans.c.id == plan_id).values(fence=row.fence + 1))
        row.fence, row.owner, row.lease_until, row.claim_run = row.fence + 1, "", 0.0, None
        return row, now

    def _moved_by(self, connection: Connection, row: Row, what: str, detail: str, now: float) -> None:
        event = Event("person", what, printable(detail, 4000), at=now)
        self._write_moves(connection, [Move(row, events=[event])], now)

    # Looking

    def ask(self, question: Select[Any]) -> list[Any]:
        """The records that another module's question finds; `searching` asks most of them."""
        with self._reading() as connection:
            return list(connection.execute(question))

    def ask_rows(self, question: Select[Any]) -> list[Row]:
        """The rows that another module's question about `plans` finds."""
        return self._rows(question)

    def row(self, plan_id: int) -> Row:
        """The row with this number. Raises OrderCancelError where there is none."""
        found = self._rows(select(plans).where(plans.c.id == plan_id))
        if not found:
            raise OrderCancelError(f"the journal knows no row {plan_id}")
        return found[0]

    def knows(self, flow: str) -> bool:
        """Whether there is a plan or a run of the flow."""
        questions = (select(table.c.id).where(table.c.flow == flow).limit(1) for table in (runs, plans))
        with self._reading() as connection:
            return any(connection.execute(question).first() for question in questions)

    def flows(self) -> list[str]:
        """The names of all flows that the journal knows. It reads every plan: `knows` asks for one."""
        names = union(select(plans.c.flow), select(runs.c.flow))
        with self._reading() as connection:
            return sorted(connection.execute(names).scalars())

    def generations(self, flow: str, pk: str) -> list[Row]:
        """Every generation of a plan in a flow, the oldest first."""
        return self._rows(
            select(plans)
            .where(plans.c.flow == flow, plans.c.pk == pk)
            .order_by(plans.c.host, plans.c.generation)
        )

    def find(
        self, flow: str, states: Iterable[State] | None = None, *, all_generations: bool = False
    ) -> list[Row]:
        """The plans of a flow by number, the newest generation of each or all, in `states` or in any."""
        question = select(plans).where(plans.c.flow == flow).order_by(plans.c.id)
        if not all_generations:
            question = question.where(schema.is_newest())
        if states is not None:
            question = question.where(plans.c.state.in_(list(states)))
        return self._rows(question)

    def body(self, plan_id: int, kind: str) -> Body | None:
        """The newest body of this kind, or None."""
        found = self.bodies([plan_id], kind)
        return found.get(plan_id)

    def bodies(self, plan_ids: Sequence[int], kind: str) -> dict[int, Body]:
        """The newest body of this kind for each of the rows that has one."""
        with self._reading() as connection:
            return self._newest_bodies(connection, plan_ids, kind)

    def _newest_bodies(self, connection: Connection, plan_ids: Sequence[int], kind: str) -> dict[int, Body]:
        newest: dict[int, Body] = {}
        for part in _chunks(list(plan_ids)):
            last = (
                select(func.max(bodies.c.id))
                .where(bodies.c.plan_id.in_(part), bodies.c.kind == kind)
                .group_by(bodies.c.plan_id)
            )
            question = select(bodies).where(bodies.c.id.in_(last))
            newest.update((found.plan_id, _body(found)) for found in connection.execute(question))
        return newest

    def journey(self, plan_id: int) -> tuple[list[Event], list[Body]]:
        """All that happened to a row and all its bodies, in order."""
        with self._reading() as connection:
            happened = connection.execute(
                select(events).where(events.c.plan_id == plan_id).order_by(events.c.id)
            )
            events_found = [
                Event(e.step, e.what, e.detail, e.milliseconds, at=e.at, run=e.run_id) for e in happened
            ]
            written = connection.execute(
                select(bodies).where(bodies.c.plan_id == plan_id).order_by(bodies.c.id)
            )
            return events_found, [_body(found) for found in written]

    # Order transactions

    def of_transaction(self, host: str, flow: str, transaction: str) -> list[Row]:
        """The newest generation of each plan of an order transaction, by plan number."""
        rows = self._rows(
            select(plans)
            .where(plans.c.host == host, plans.c.flow == flow, plans.c.transaction_pk == transaction)
            .order_by(plans.c.generation)
        )
        newest = {row.pk: row for row in rows}
        return sorted(newest.values(), key=lambda row: (len(row.pk), row.pk))

    def carried(self, host: str, flow: str, pks: Sequence[str]) -> list[Row]:
        """The newest generation of these plans in the flow, and in every other that carries completed plans."""
        newest: dict[tuple[str, str], Row] = {}
        for part in _chunks(list(pks)):
            question = select(plans).where(
                plans.c.host == host,
                plans.c.flow.in_(select(schema.snapshots.c.flow)),  # all flows: the index begins with them
                plans.c.pk.in_(part),
            )
            newest |= {(row.flow, row.pk): row for row in self._rows(question.order_by(plans.c.generation))}
        others = {row.snapshot for row in newest.values() if row.flow != flow}
        takes = {digest: self.snapshot(digest)["omnitron"]["cancel_status"] for digest in others if digest}
        return [
            row
            for row in newest.values()
            if row.flow == flow or takes.get(row.snapshot, "completed") in ("completed", "order_transaction")
        ]

    def last_of_transactions(self, run_id: int, whats: Sequence[str]) -> list[tuple[str, str]]:
        """Which of these things happened last in the run to each order transaction of its plans, and the details."""
        question = (
            select(plans.c.transaction_pk, events.c.what, events.c.detail)
            .join(members, members.c.plan_id == plans.c.id)
            .join(events, events.c.plan_id == plans.c.id)
            .where(
                members.c.run_id == run_id,
                plans.c.transaction_pk.is_not(None),
                events.c.run_id == run_id,
                events.c.what.in_(whats),
            )
            .order_by(events.c.id)
        )
        return list({pk: (what, detail) for pk, what, detail in self.ask(question)}.values())

    def known_transactions(self, host: str, flow: str, pks: Sequence[str]) -> set[str]:
        """Which of these order transactions are mapped or settled for good."""
        table, known = schema.transactions, set[str]()
        with self._reading() as connection:
            for part in _chunks(list(pks)):
                question = select(table.c.pk).where(
                    table.c.host == host,
                    table.c.flow == flow,
                    table.c.pk.in_(part),
                    table.c.state != "mapping",
                )
                known.update(connection.execute(question).scalars())
        return known

    def note_transactions(self, host: str, flow: str, pks: Sequence[str], state: str) -> None:
        """Remember order transactions as `mapped` or `settled`."""
        table = schema.transactions
        with self._writing() as connection:
            now = self._now(connection)
            values = [{"host": host, "flow": flow, "pk": pk, "state": state, "at": now} for pk in pks]
            if values:
                note = self._insert_new(table, or_replace={"state": state, "at": now})
                connection.execute(note, values)

    def claim_transaction(self, host: str, flow: str, pk: str) -> float | None:
        """When the caller has got the right to map this order transaction: no task of any flow has it for two minutes.

        None where another has. One that a rejected plan had settled may be mapped after all: a person has sent that
        plan again.
        """
        table = schema.transactions
        with self._writing() as connection:
            now = self._one_by_one(connection, host, pk)
            one = (table.c.host == host, table.c.pk == pk)
            given_up = (table.c.state == "mapping") & (table.c.at < now - _MAPPING_SECONDS)
            connection.execute(delete(table).where(*one, given_up))
            connection.execute(delete(table).where(*one, table.c.flow == flow, table.c.state == "settled"))
            elsewhere = select(table.c.flow).where(*one, table.c.flow != flow, table.c.state == "mapping")
            if connection.execute(elsewhere).first() is not None:
                return None
            values = {"host": host, "flow": flow, "pk": pk, "state": "mapping", "at": now}
            claimed = connection.execute(self._insert_new(table).returning(table.c.at), values)
            return claimed.scalar_one_or_none()

    def keep_transaction(self, host: str, flow: str, pk: str, claimed_at: float) -> bool:
        """Whether the claim of then still holds; two minutes begin anew for it."""
        table = schema.transactions
        with self._writing() as connection:
            now = self._one_by_one(connection, host, pk)
            mine = (table.c.host == host, table.c.flow == flow, table.c.pk == pk, table.c.state == "mapping")
            held = and_(*mine, table.c.at == claimed_at, table.c.at >= now - _MAPPING_SECONDS)
            return connection.execute(update(table).where(held).values(at=now)).rowcount == 1

    def _one_by_one(self, connection: Connection, host: str, pk: str) -> float:
        """Let one task at a time claim a transaction, of whatever flow; gives the time."""
        return self._in_turn(connection, f"{host} {pk}")

    def _in_turn(self, connection: Connection, what: str) -> float:
        """Let one transaction at a time go on with `what`; gives the time."""
        if not self._sqlite:
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(what, 0))))
        return self._now(connection)

    def free_transaction(self, host: str, flow: str, pk: str) -> None:
        """Give the claim of `claim_transaction` back: the mapping was not made."""
        table = schema.transactions
        with self._writing() as connection:
            connection.execute(
                delete(table).where(
                    table.c.host == host, table.c.flow == flow, table.c.pk == pk, table.c.state == "mapping"
                )
            )

    # A stopped run

    def stop(self, run_id: int, reason: str, kind: str = "") -> None:
        """Tell all tasks of the run to send nothing more; the first reason stays. `kind`: the alert's event, if any."""
        with self._writing() as connection:
            values = {"run_id": run_id, "reason": reason, "at": self._now(connection), "kind": kind}
            connection.execute(self._insert_new(schema.stops), values)

    def stopped(self, run_id: int) -> str | None:
        """Why the run sends nothing more, or None."""
        with self._reading() as connection:
            question = select(schema.stops.c.reason).where(schema.stops.c.run_id == run_id)
            return connection.execute(question).scalar()

    def stop_kind(self, run_id: int) -> str:
        """The alert's event that the run's stop is, or nothing."""
        with self._reading() as connection:
            question = select(schema.stops.c.kind).where(schema.stops.c.run_id == run_id)
            return connection.execute(question).scalar() or ""

    def go_on(self, run_id: int) -> None:
        """Lift a stop: a person cleared a task of the run, or its login succeeded again."""
        with self._writing() as connection:
            connection.execute(delete(schema.stops).where(schema.stops.c.run_id == run_id))

    def note_failed_login(self, flow: str, home: str, run_key: str, reason: str) -> None:
        """Keep why the login of a run failed last; the journal need not know the run."""
        with self._writing() as connection:
            number, now = _number_of_login(flow, home, run_key), self._now(connection)
            newest = {"reason": _clean(reason), "at": now, "kind": LOGIN_FAILED}
            new = self._insert_new(schema.stops, or_replace=newest)
            connection.execute(new, {"run_id": number, **newest})

    def failed_login(self, flow: str, home: str, run_key: str) -> str | None:
        """Why the login of this run failed, None where nothing is known of it."""
        return self.stopped(_number_of_login(flow, home, run_key))

    # Watching

    def succeed(self, run_id: int) -> None:
        """The run's gate has opened."""
        with self._writing() as connection:
            now = self._now(connection)
            connection.execute(update(runs).where(runs.c.id == run_id).values(succeeded_at=now))

    def silent_since(self, flow: str) -> float:
        """When a gate of the flow last opened; else when its first run began; else when this was first asked."""
        table = schema.alerts
        with self._writing() as connection:
            question = select(func.max(runs.c.succeeded_at), func.min(runs.c.started_at))
            succeeded, began = connection.execute(question.where(runs.c.flow == flow)).one()
            if (since := succeeded or began) is not None:
                return float(since)
            first = {"flow": flow, "event": "watched", "key": "", "target": "", "at": self._now(connection)}
            connection.execute(self._insert_new(table), first)
            asked = select(table.c.at).where(table.c.flow == flow, table.c.event == "watched")
            return float(connection.execute(asked).scalar_one())

    def open_plans(self, flow: str) -> tuple[int, float]:
        """How many plans of the flow are open, and the age of the oldest in seconds."""
        with self._reading() as connection:
            question = select(func.count(), func.min(plans.c.created_at)).where(
                plans.c.flow == flow, plans.c.state.in_(OPEN), schema.is_newest()
            )
            number, oldest = connection.execute(question).one()
            return number, 0.0 if oldest is None else self._now(connection) - oldest

    def remember_alerts(self, flow: str, event: str, keys: Sequence[str], target: str) -> list[str]:
        """Those of the keys of which `target` was not told yet; from now on it was."""
        new = self._insert_new(schema.alerts).returning(schema.alerts.c.key)
        with self._writing() as connection:
            same = {"flow": flow, "event": event, "target": target, "at": self._now(connection)}
            found = [
                connection.execute(new, {**same, "key": key}).scalar_one_or_none() for key in sorted(keys)
            ]
            return [key for key in found if key is not None]

    def forget_alerts(
        self, flow: str, event: str, keys: Sequence[str], target: str, *, others: bool = False
    ) -> None:
        """`target` was not told of these keys after all; `others`: of all but these."""
        table = schema.alerts
        with self._writing() as connection:
            told = (table.c.flow == flow, table.c.event == event, table.c.target == target)
            gone = set(connection.execute(select(table.c.key).where(*told)).scalars())
            gone = gone - set(keys) if others else gone & set(keys)
            for part in _chunks(sorted(gone)):
                connection.execute(delete(table).where(*told, table.c.key.in_(part)))

    # Tokens, as tokens.TokenStore wants them

    def token_read(self, key: str) -> StoredToken | None:
        """The stored token of a Connection, encrypted, or None."""
        table = schema.tokens
        with self._reading() as connection:
            found = connection.execute(
                select(table).where(table.c.key == key, table.c.version > 0)
            ).one_or_none()
            if found is None:
                return None
            now = self._now(connection)
        left = None if found.ends_at is None else found.ends_at - now
        return StoredToken(found.version, bytes(found.secret), left, found.trusted_until > now)

    def token_claim(self, key: str, seen_version: int, owner: str, seconds: float) -> bool:
        """Whether `owner` may fetch the version after `seen_version` now; nobody else may for `seconds`."""
        table = schema.tokens
        with self._writing() as connection:
            now = self._now(connection)
            nothing = {"key": key, "version": 0, "secret": b"", "fetching": "", "fetching_until": 0.0}
            connection.execute(self._insert_new(table), nothing)
            free = or_(table.c.fetching == "", table.c.fetching == owner, table.c.fetching_until < now)
            claimed = connection.execute(
                update(table)
                .where(table.c.key == key, table.c.version == seen_version, free)
                .values(fetching=owner, fetching_until=now + seconds)
            )
            return claimed.rowcount == 1

    def token_write(
        self, key: str, version: int, secret: bytes, owner: str, seconds: float | None = None
    ) -> None:
        """Store the fetched token, to be replaced in so many seconds by the journal's clock.

        Refused without a word where the claim has passed to another.
        """
        table = schema.tokens
        with self._writing() as connection:
            values = {
                "version": version,
                "secret": secret,
                "fetching": "",
                "fetching_until": 0.0,
                "ends_at": None if seconds is None else self._now(connection) + seconds,
                "trusted_until": 0.0,
            }
            mine = (table.c.key == key, table.c.fetching == owner, table.c.version < version)
            connection.execute(update(table).where(*mine).values(values))

    def token_trust(self, key: str, version: int, seconds: float) -> None:
        """Let everybody know for so many seconds that this version is valid, whatever it is answered with."""
        table = schema.tokens
        with self._writing() as connection:
            until = self._now(connection) + seconds
            same = (table.c.key == key, table.c.version == version)
            connection.execute(update(table).where(*same).values(trusted_until=until))

    def token_release(self, key: str, owner: str) -> None:
        """Give the claim back: fetching failed."""
        table = schema.tokens
        with self._writing() as connection:
            connection.execute(
                update(table)
                .where(table.c.key == key, table.c.fetching == owner)
                .values(fetching="", fetching_until=0.0)
            )

    # Rests, as resting.RestStore wants them

    def rest_read(self, host: str) -> float:
        """For how many more seconds the host wants to be left alone, 0 where it does not."""
        table = schema.rests
        with self._reading() as connection:
            until = connection.execute(select(table.c.until).where(table.c.host == host)).scalar()
            return 0.0 if until is None else max(0.0, float(until - self._now(connection)))

    def rest_write(self, host: str, seconds: float) -> None:
        """Keep that it wants to be left alone for so many seconds from now on; an earlier, longer wish stands."""
        table = schema.rests
        with self._writing() as connection:
            until = self._now(connection) + seconds
            connection.execute(self._insert_new(table), {"host": host, "until": until})
            shorter = (table.c.host == host) & (table.c.until < until)
            connection.execute(update(table).where(shorter).values(until=until))

    def _insert_new(self, table: Table, or_replace: dict[str, Any] | None = None) -> Any:
        new = (sqlite if self._sqlite else postgresql).insert(table)
        if or_replace is None:
            return new.on_conflict_do_nothing()
        return new.on_conflict_do_update(index_elements=list(table.primary_key), set_=or_replace)

    def _locked(self, question: Select[Any]) -> Select[Any]:
        """Lock what is read; always in the order of the ids, or two tasks could wait for each other."""
        return question if self._sqlite else question.with_for_update()

    def free(self, question: Select[Any]) -> Select[Any]:
        """Lock what is read and pass over what somebody else has locked."""
        return question if self._sqlite else question.with_for_update(skip_locked=True)

    def release_pages(self, most: int) -> int:
        """Give at most so many free pages of an SQLite file back to the disk. Returns how many that were."""
        if not self._sqlite:
            return 0
        with _reachable(self._reader.url), self._writer.connect() as connection:
            raw = connection.connection
            before = raw.execute("PRAGMA freelist_count").fetchone()[0]
            if before == 0 or raw.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:
                return 0
            # `execute` would take one step of this statement, which is one page: it has no columns to fetch.
            raw.cursor().executescript(f"PRAGMA incremental_vacuum({int(most)})")
            raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            return int(before - raw.execute("PRAGMA freelist_count").fetchone()[0])


def _create_private(path: str | None) -> None:
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _postgres() -> Any:
    from include.order_cancel import postgres  # noqa: PLC0415  (its driver need not be loaded for a file)

    return postgres


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        # The first one counts for a new file only, and must come first: it lets pruning give pages back.
        for pragma in ("auto_vacuum=INCREMENTAL", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("writing")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


@contextmanager
def _reachable(url: URL) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _down(url, "cannot be used", str(error)) from None
    except PoolTimeout as error:
        raise _down(url, "cannot be used", str(error).splitlines()[0]) from None
    except OperationalError as error:
        raise _down(url, "cannot be used", _cause(error)) from None
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _down(url, "has lost its connection", _cause(error)) from None
        if type(error) is DatabaseError:  # no more is known: sqlite3's word for a file that is no database
            raise _down(url, "cannot be used", _cause(error)) from None
        raise


def _down(url: URL, what: str, why: str) -> JournalDown:
    where = f"{url.host}:{url.port or 5432}/{url.database}" if url.host else url.database
    mend = next((f"; {mend}" for sign, mend in _MENDS.items() if sign in why.lower()), "")
    return JournalDown(f"the journal {what}: {why} ({where}{mend})")


def _cause(error: DBAPIError) -> str:
    return (
        str(error.orig).strip().splitlines()[0]
        if error.orig and str(error.orig).strip()
        else "no reason given"
    )


def _chunks(items: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]


def idempotency_key(row: Row) -> str:
    """The key under which the ERP can recognise this request: host, flow, plan, generation and body number.

    Host and generation are those that the row was made with: another name for Omnitron changes no key.
    """
    host, generation = row.key_host or row.host, row.key_generation or row.generation
    parts = json.dumps([host, row.flow, row.pk, generation, row.body_number])
    return hashlib.sha256(parts.encode()).hexdigest()[:40]


def _lessee(row: Row) -> int:
    return int(row.owner.partition(":")[0])


@functools.cache
def _boot_id() -> str:
    """Which start of the machine this is, for all its processes and containers; "" where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _why_busy(row: Row, elsewhere: bool, on_the_wire: float) -> RowBusy | None:
    # A task that gave its lease back has nothing on the wire; one that died has not.
    if row.state is State.SENDING and row.owner and on_the_wire > 0:
        return OnTheWire(
            f"plan {row.name}: an earlier task's request may still be under way for {on_the_wire:.0f} s",
            on_the_wire,
        )
    if elsewhere:
        return RowBusy(
            f"plan {row.name}: another run (number {row.claim_run} in the journal) is working on it"
        )
    return None


def _in_doubt(row: Row) -> bool:
    """Whether only a person can say if the ERP has the plan: nobody knows, or its answer led to nothing."""
    if row.answer_stands or row.finished or row.state is State.CHANGED:
        return False
    return row.state in (State.IN_DOUBT, State.SENDING) or row.outcome in ("unknown", "accepted")


def _membership(run: Run, row: Row, *, listed: bool, lane: str = "") -> dict[str, Any]:
    return {"run_id": run.id, "plan_id": row.id, "position": 0, "lane": lane, "lot": 0, "listed": listed}


def _new_values(
    host: str, flow: str, listed: Listed, now: float, run_id: int | None, *, doubtful: bool = False
) -> dict[str, Any]:
    row = Row(
        id=0,
        host=host,
        flow=flow,
        pk=listed.pk,
        generation=1,
        state=State.IN_DOUBT if doubtful else State.FETCHED,
        outcome="unknown" if doubtful else "",
        error=_MADE_BEFORE if doubtful else None,
        order_number=listed.order_number,
        order_pk=listed.order_pk,
        amount=listed.amount,
        currency=listed.currency,
        plan_type=listed.plan_type,
        plan_date=listed.plan_date,
        digest=listed.digest,
        transaction_pk=listed.transaction_pk,
        created_run=run_id,
        created_at=now,
        updated_at=now,
    )
    values = {name: getattr(row, name) for name in ROW_FIELDS if name != "id"}
    values["attributes"] = "{}"
    return values


def _move_values(row: Row, now: float) -> tuple[Any, ...]:
    row.updated_at = now
    row.pruned = 0  # what the move brings is pruned in its turn
    row.error = _clean(row.error)
    row.erp_reference = _clean(row.erp_reference[:255]) if row.erp_reference else None
    values = _moved_values(row)
    attributes = json.dumps(row.attributes) if row.attributes else "{}"
    plain = [str(value) if isinstance(value, StrEnum) else value for value in values]
    plain[_ATTRIBUTES] = attributes
    return (*plain, row.id, row.fence)


def _clean(value: Text) -> Text:
    """Text as both databases can keep it: PostgreSQL takes no NUL, neither of them half a surrogate pair."""
    if value is None or (value.isascii() and "\0" not in value):
        return value
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _row(found: Any) -> Row:
    row = Row(*found)
    row.state = State(row.state)
    row.relation = Relation(row.relation) if row.relation else None
    row.post = Post(row.post)
    attributes: Any = row.attributes
    row.attributes = json.loads(attributes) if attributes != "{}" else {}
    return row


def _number_of_login(flow: str, home: str, run_key: str) -> int:
    """Under which number the stop of a run is kept whose login failed: below 0, where no run has its number."""
    digest = hashlib.sha256(json.dumps([flow, home, run_key]).encode()).digest()
    return -1 - (int.from_bytes(digest[:8], "big") >> 1)


def _run(found: Any) -> Run:
    values = {
        name: value for name, value in found._mapping.items() if name not in ("alive_until", "next_turn_at")
    }
    values["params"], values["counts"] = json.loads(values["params"]), json.loads(values["counts"])
    return Run(**values, not_kept=tuple(values["counts"].pop(_NOT_KEPT, ())))


def _body(found: Any) -> Body:
    return Body(found.kind, found.content, json.loads(found.meta), at=found.at)
