"""What the journal holds of one plan, as plain values: its state, what is known of the ERP's answer, its lease."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a plan stands. Finished states are final: only a person begins a new generation."""

    FETCHED = "fetched"
    PREPARED = "prepared"
    SENDING = "sending"
    ANSWERED = "answered"
    WRITTEN_BACK = "written_back"
    DONE = "done"
    REJECTED = "rejected"
    PASSED = "passed"
    LEFT = "left"
    DISMISSED = "dismissed"
    HELD = "held"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    DEAD = "dead"
    CHANGED = "changed"


FINISHED = frozenset({State.DONE, State.REJECTED, State.PASSED, State.LEFT, State.DISMISSED})
ON_THE_WAY = frozenset({State.FETCHED, State.PREPARED, State.SENDING, State.ANSWERED, State.WRITTEN_BACK})
WAITING = frozenset({State.HELD, State.FAILED, State.IN_DOUBT, State.DEAD, State.CHANGED})
# An open plan: its newest generation (`schema.is_newest`) is not finished, whether on the way or waiting.
OPEN = ON_THE_WAY | WAITING
# Open, and no run goes on with it before a person has said something, except by `erp.in_doubt` in doubt.
FOR_A_PERSON = frozenset({State.IN_DOUBT, State.DEAD, State.CHANGED})
# What a run takes up again without a person's word.
RETRIED = ON_THE_WAY | {State.HELD, State.FAILED, State.IN_DOUBT}


class Relation(StrEnum):
    """What the ERP's answer means; the five words of the Custom Response Script.

    `UNKNOWN` stands in no row: such a plan is in doubt, and `erp.in_doubt` decides.
    """

    CONTINUE = "continue"
    FAILURE = "failure"
    DO_NOTHING = "do_nothing"
    AUTH_FAIL = "auth_fail"
    UNKNOWN = "unknown"


class Post(StrEnum):
    """What became of the post script of a plan; its failure never undoes the plan."""

    NONE = ""
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True)
class Row:
    """One generation of one plan in one flow.

    `outcome` is the class of the ERP's last answer (`accepted`, `refused`, `not_done`, `unknown`, `auth_fail`),
    `not_arrived` where a lookup or a person says so, or empty where nothing was sent. `fence` rises with every lease:
    moves that carry an older one are refused. `pruned`: what retention has taken since the last move, 0 nothing, 1 the
    bodies, 2 the journey too. `key_host`, `key_generation`: what the row was called when it was made, where it was
    renamed; keys are made of it. Times are seconds since the epoch, of the journal's clock. `boot`, `boot_began`: in a
    journal that is a file, which start of the machine `request_deadline` counts from, and when that was; see
    `Journal.wire_seconds_left`.
    """

    id: int
    host: str
    flow: str
    pk: str
    generation: int
    state: State
    order_number: str | None = None
    order_pk: str | None = None
    amount: str | None = None
    currency: str | None = None
    plan_type: str | None = None
    plan_date: str | None = None
    digest: str = ""
    transaction_pk: str | None = None
    relation: Relation | None = None
    outcome: str = ""
    http_status: int | None = None
    erp_reference: str | None = None
    error: str | None = None
    progress: str = ""
    body_number: int = 1
    key: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    post: Post = Post.NONE
    attempts: int = 0
    next_attempt_at: float = 0.0
    attempt_run: int | None = None
    snapshot: str = ""
    request_deadline: float = 0.0
    created_run: int | None = None
    claim_run: int | None = None
    owner: str = ""
    lease_until: float = 0.0
    fence: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0
    pruned: int = 0
    boot: str = ""
    boot_began: float = 0.0
    key_host: str | None = None
    key_generation: int | None = None

    @property
    def name(self) -> str:
        """`<order number> / <plan pk>`: how a person calls this plan."""
        return f"{self.order_number or '-'} / {self.pk}"

    @property
    def finished(self) -> bool:
        """Whether nothing will be sent for this row any more."""
        return self.state in FINISHED

    @property
    def may_be_resent(self) -> bool:
        """Whether a person may begin a new generation of it: nothing more happens to this one by itself."""
        return self.finished or self.state in (State.CHANGED, State.DEAD)

    @property
    def at_rest(self) -> bool:
        """Whether no task is expected to move this row on in this run."""
        return self.state not in ON_THE_WAY

    @property
    def sent_again(self) -> bool:
        """Whether a person began this generation; rows of two names that turned out to be one are numbered on, too."""
        return (self.key_generation or self.generation) > 1

    @property
    def answer_stands(self) -> bool:
        """Whether the ERP's word is known and final, so that only Omnitron has still to be told."""
        return self.relation in (Relation.CONTINUE, Relation.FAILURE)


ROW_FIELDS = tuple(f.name for f in fields(Row))


@dataclass(frozen=True, slots=True)
class Listed:
    """A plan as Omnitron showed it: what the journal keeps in columns, and the document itself as JSON."""

    pk: str
    document: str
    digest: str
    order_number: str | None = None
    order_pk: str | None = None
    amount: str | None = None
    currency: str | None = None
    plan_type: str | None = None
    plan_date: str | None = None
    transaction_pk: str | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """One document of a plan's way: `document`, `script`, `prepared`, `request` or `response`."""

    kind: str
    content: str
    meta: dict[str, Any] = field(default_factory=dict)
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a plan: in which step, what, and how long it took in milliseconds."""

    step: str
    what: str
    detail: str = ""
    milliseconds: float | None = None
    at: float = 0.0
    run: int | None = None


@dataclass(slots=True)
class Move:
    """A row's new values with all that goes into the same commit.

    `wire_seconds`: how long a request may be on the wire from this commit on; 0 where none is sent. `tried`: when it
    was tried to commit it, by the journal's clock.
    """

    row: Row
    bodies: list[Body] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    wire_seconds: float = 0.0
    tried: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a flow: what narrows it, the settings it began with, and up to when it knows what Omnitron holds.

    `not_kept`: what was shown to it and is in no row, in words; for that its gate is closed.
    """

    id: int
    flow: str
    run_key: str
    host: str
    home: str
    params: dict[str, Any]
    snapshot: str
    started_at: float
    committed: bool
    counts: dict[str, int]
    queried_at: float | None
    finished_at: float | None
    succeeded_at: float | None = None
    not_kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """A row's place in a run. `lane` is `plan` or `bulk`; `listed`: Omnitron showed it in this run's listing."""

    id: int
    run_id: int
    plan_id: int
    position: int
    lane: str
    lot: int
    listed: bool
