"""What must hold at every commit and at every request, and when all is over. A breach is noted, not raised."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from include.order_cancel.http import Request
from include.order_cancel.rows import State
from tests.chaos.simulation.world import ORDERS_GROW, Process, World

S = State
TIME_LIMIT = 20.0  # `erp.timeout_seconds` of all histories
# How old what is sent may be: `omnitron.look_again_seconds`, the tries in place and their waits.
LISTING_AGE = 600.0 + 300.0
FINAL = frozenset({S.DONE, S.REJECTED, S.PASSED, S.LEFT, S.DISMISSED})
_FIRST = {S.FETCHED, S.PREPARED, S.SENDING, S.FAILED, S.DEAD, S.HELD, S.LEFT, S.DISMISSED}
_TOLD = {S.ANSWERED, S.WRITTEN_BACK, S.DONE, S.REJECTED}
# Once it is known that the ERP has nothing, a plan is looked at in Omnitron before it is sent again.
_SEEN_TO_DIFFER = {S.LEFT, S.CHANGED}
# From a committed state to the next committed one. To stay is always allowed.
LEGAL: dict[State, set[State]] = {
    S.FETCHED: _FIRST,
    S.PREPARED: {*_FIRST, S.CHANGED},
    S.SENDING: {S.PREPARED, S.ANSWERED, S.IN_DOUBT, S.HELD, S.FAILED, S.DEAD, S.DISMISSED, *_SEEN_TO_DIFFER},
    S.ANSWERED: {
        *_TOLD,
        S.SENDING,
        S.HELD,
        S.PASSED,
        S.FAILED,
        S.DEAD,
        S.IN_DOUBT,
        S.DISMISSED,
        *_SEEN_TO_DIFFER,
    },
    S.WRITTEN_BACK: {S.DONE, S.FAILED, S.DEAD, S.HELD, S.DISMISSED},
    S.IN_DOUBT: {S.SENDING, S.ANSWERED, S.FAILED, S.DISMISSED, *_SEEN_TO_DIFFER},
    S.HELD: {*_FIRST, *_TOLD, S.PASSED, S.IN_DOUBT, S.CHANGED},
    S.FAILED: {*_FIRST, *_TOLD, S.PASSED, S.IN_DOUBT, S.CHANGED},
    S.DEAD: {*_FIRST, *_TOLD, S.PASSED, S.IN_DOUBT, S.CHANGED},
    S.CHANGED: {S.DISMISSED},
    # Finished: only Omnitron is told once more, or a person is shown that the plan changed.
    S.DONE: {S.ANSWERED, S.CHANGED},
    S.REJECTED: {S.ANSWERED, S.CHANGED},
    S.PASSED: {S.HELD, S.CHANGED},
    S.LEFT: {S.CHANGED},
    S.DISMISSED: {S.CHANGED},
}
# A plan that is done, but whose order transaction could not be mapped, is open again until it is.
_UNMAPPED = {S.FAILED, S.DEAD, S.HELD}

INVARIANTS = {
    "no plan lost": "every plan that Omnitron lists is finished or waits for a person in the end",
    "one effect where the key is honoured": "an ERP that knows the key books a plan once",
    "repeats only as the policy allows": "no repeat with hold; with lookup none that the ERP would have shown; "
    "with resend at most one, flagged, for each unknown outcome",
    "intent before send": "the bytes and the key that leave are those that the journal holds, in state sending",
    "bytes and key stay while in doubt": "nothing of a request changes before it is refused",
    "what is sent is what Omnitron shows": "a listing that is too old, or made for an earlier attempt, is not sent by",
    "today's settings": "an attempt that is repeated, cleared or overtaken uses the settings as they are",
    "what was changed meanwhile is told": "a plan that was held back is done only if Omnitron still shows what was "
    "booked",
    "rejected only by the ERP": "no answer of a gateway rejects a plan, and a wrong mapping at most five",
    "no write-back before an outcome": "Omnitron is told only what the journal holds as the ERP's word",
    "only legal moves": "every committed row comes from a state that may lead to it",
    "finished is final": "nothing is sent for a row that was finished",
    "the query time passes no plan": "what the next window leaves out has a row",
    "transactions are mapped once": "and only when all their plans are delivered",
    "no task breaks": "a task ends as the contract says, never in an unexpected error",
}

_ROWS = (
    "SELECT id, pk, generation, state, relation, outcome, key, transaction_pk, snapshot, fence, error "
    "FROM order_cancel_plans ORDER BY id"
)


@dataclass(frozen=True)
class Seen:
    """A row as it was committed."""

    id: int
    pk: str
    generation: int
    state: State
    relation: str | None
    outcome: str
    key: str | None
    transaction_pk: str | None
    snapshot: str
    fence: int
    error: str | None


@dataclass
class Sent:
    """One write request. What became of it the world knows, whatever its sender heard and made of it.

    late: its sender was frozen after its last look at the lease. undone: its sender knows that nothing came of it and
    nothing will; refused: and that it may be another request the next time. offered: a response script wants the plan
    sent again.
    """

    pk: str
    generation: int
    key: str
    bytes: tuple[str, str, bytes]
    process: Process
    policy: str
    late: bool
    version: int | None
    amount: str
    first_byte_at: float
    on_its_way: bool = True
    at_work: bool = False
    undone: bool = False
    refused: bool = False
    own_refusal: bool = False  # by the ERP itself, not by a gateway
    offered: bool = False
    taken: bool = False
    unknown: bool = False
    effects: int = 0

    @property
    def pending(self) -> bool:
        """Whether the ERP may still book it."""
        return self.on_its_way or self.at_work


@dataclass
class Rules:
    """The invariants of one history. `in_doubt`: the policy of each settings digest."""

    world: World
    journal: Any = None
    erp: Any = None
    omnitron: Any = None
    breaches: list[tuple[str, str]] = field(default_factory=list)
    rows: dict[int, Seen] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)
    sent: dict[tuple[str, int], list[Sent]] = field(default_factory=lambda: defaultdict(list))
    unknowns: Counter[tuple[str, int]] = field(default_factory=Counter)
    being_resolved: set[int] = field(default_factory=set)  # rows of which a person is saying a word
    released: set[tuple[str, int]] = field(default_factory=set)  # a person said: not arrived
    taken_over: set[str] = field(default_factory=set)  # keys whose sender is gone: bytes may have left
    # After how many entries of the trail each run began and could be seen, and each version of the mapping counted.
    runs: dict[int, tuple[int, int]] = field(default_factory=dict)
    versions: list[tuple[int, int]] = field(default_factory=lambda: [(0, 1)])
    default_judged: bool = False  # the answer's status rejects, not a script
    rejected: Counter[str] = field(default_factory=Counter)  # by settings digest
    mapped_versions: dict[str, int] = field(default_factory=dict)  # the mapping's version by settings digest
    ended: set[int] = field(default_factory=set)
    to_see: Any = None  # what a window starting at a moment would leave out
    plans_of: Any = None

    def breach(self, invariant: str, what: str) -> None:
        assert invariant in INVARIANTS, invariant
        self.world.note(f"BREACH {invariant}: {what}")
        self.breaches.append((invariant, what))

    # Commits

    def committed(self, doing: str) -> None:
        """Look at all rows after a commit."""
        for record in self.journal.raw(_ROWS):
            now = Seen(*record[:3], State(record[3]), *record[4:])
            before = self.rows.get(now.id)
            if before == now:
                continue
            if before is not None and before.state is not now.state:
                self._moved(before, now, doing)
            if before is not None:
                self._compared(before, now)
            if now.state in FINAL and now.state is not S.PASSED:
                self.ended.add(now.id)
            self.rows[now.id] = now

    def _moved(self, before: Seen, now: Seen, doing: str) -> None:
        if "a fault of this package" in (now.error or ""):
            self.breach("no task breaks", f"plan {now.pk}: {now.error}")
        self.world.note(
            f"plan {now.pk}.{now.generation}: {before.state} > {now.state} ({now.relation or '-'})"
        )
        legal = now.state in LEGAL[before.state]
        if before.state in (S.DONE, S.REJECTED) and now.transaction_pk and now.state in _UNMAPPED:
            legal = True
        if before.state is S.IN_DOUBT and now.state is S.HELD and now.outcome == "not_arrived":
            legal = True  # the lookup has settled it, and then the run was stopped
        if not legal:
            self.breach("only legal moves", f"plan {now.pk}: {before.state} > {now.state} by {doing}")
        if now.state is S.LEFT:
            self._left(now)
        if now.state in (S.WRITTEN_BACK, S.DONE) and before.state not in (S.WRITTEN_BACK, S.DONE):
            self._done(now)
        if before.state is S.DONE and now.relation not in (None, "continue"):
            self.breach("finished is final", f"plan {now.pk}: done, and now {now.relation}")
        if now.state is S.DONE and now.relation != "continue":
            self.breach("only legal moves", f"plan {now.pk}: done with relation {now.relation}")

    def _left(self, now: Seen) -> None:
        """A plan leaves the flow only where somebody took it out of Omnitron, or its transaction was mapped."""
        plan = self.omnitron.plans.get(int(now.pk))
        mapped = now.transaction_pk is not None and self.omnitron.mapped[int(now.transaction_pk)]
        fits = plan is not None and plan["status"] == self.omnitron.status_of_flow
        if fits and not mapped and int(now.pk) not in self.omnitron.touched:
            self.breach("no plan lost", f"plan {now.pk} is left, and Omnitron has it")

    def _compared(self, before: Seen, now: Seen) -> None:
        if now.id in self.being_resolved and now.outcome == "not_arrived":
            self.released.add((now.pk, now.generation))
            for one in self.sent[now.pk, now.generation]:
                one.undone = True  # now it is known
        if self._open_question(before) and self._open_question(now) and before.key != now.key:
            self.breach("bytes and key stay while in doubt", f"plan {now.pk}: another key")
        if before.state is S.SENDING and now.state is S.SENDING and before.fence != now.fence:
            self.unknowns[now.pk, now.generation] += 1  # taken over from a task that is gone
            self.taken_over.add(now.key or "")
        if now.relation == "failure" and before.relation != "failure" and self.default_judged:
            self._rejects(now)

    def _done(self, now: Seen) -> None:
        """What was settled by other means than its own answer is looked at in Omnitron before it is told there."""
        process, place = self.world.current, (now.pk, now.generation)
        booked = [one for one in self.sent[place] if one.effects]
        # Its own answer may be that to a repeat: of the same request, by the same task.
        own = any(one.taken and one.process is process for one in self.sent[place])
        if process is None or not booked or own:
            return
        if int(now.pk) not in self.omnitron.plans:
            return
        if self.omnitron.shown_until(int(now.pk), booked[-1].amount, any_status=True) < process.began:
            self.breach(
                "what was changed meanwhile is told", f"plan {now.pk} is {now.state} with {booked[-1].amount}"
            )

    def _rejects(self, now: Seen) -> None:
        if not any(one.own_refusal for one in self.sent[now.pk, now.generation]):
            self.breach("rejected only by the ERP", f"plan {now.pk}: the ERP itself never refused it")
        self.rejected[now.snapshot] += 1
        if (
            self.mapped_versions.get(now.snapshot) == self.erp.wrong_version
            and self.rejected[now.snapshot] > 5
        ):
            self.breach("rejected only by the ERP", f"plan {now.pk}: the sixth of a wrong mapping")

    @staticmethod
    def _open_question(row: Seen) -> bool:
        return row.state in (S.SENDING, S.IN_DOUBT) or (
            row.outcome == "unknown" and row.relation not in ("continue", "failure")
        )

    def forgotten(self) -> None:
        """Rows that a listing brought and that were taken back."""
        there = {record[0] for record in self.journal.raw(_ROWS)}
        for row_id in [row_id for row_id in self.rows if row_id not in there]:
            if self.rows[row_id].state is not S.FETCHED:
                self.breach(
                    "no plan lost", f"plan {self.rows[row_id].pk} was deleted as {self.rows[row_id].state}"
                )
            del self.rows[row_id]

    def newest(self, pk: str) -> Seen | None:
        found = [row for row in self.rows.values() if row.pk == pk]
        return max(found, key=lambda row: row.generation, default=None)

    # The ERP

    def first_byte(self, process: Process, request: Request, late: bool) -> Sent:
        """A write request leaves."""
        body = request.body or b""
        pk = pk_in(body)
        key = request.headers.get("Idempotency-Key")
        row = next((row for row in self.rows.values() if row.key == key), None) if key else self.newest(pk)
        what = f"plan {pk} from {process}"
        if row is None:
            if not late:
                self.breach("intent before send", f"{what}: the journal knows no such key")
            row = self.newest(pk)
            assert row is not None
        stored = self.journal.raw(
            "SELECT content, meta FROM order_cancel_bodies "  # noqa: S608
            f"WHERE plan_id = {row.id} AND kind = 'request' ORDER BY id"
        )
        kept = [(content, json.loads(meta)) for content, meta in stored]
        same = [
            content.encode() == body and meta["url"] == request.url and meta["key"] == (key or meta["key"])
            for content, meta in kept
        ]
        if not (any(same) if late else same and same[-1]):
            self.breach("intent before send", f"{what}: other bytes than the journal's")
        if not late and (left := self._wire_seconds_left(row.id)) < TIME_LIMIT:
            self.breach(
                "intent before send", f"{what}: on the wire for longer than the {left:.1f} s of its deadline"
            )
        if not late and row.state is not S.SENDING:
            self.breach("intent before send", f"{what}: sent while {row.state}")
        if not late and row.id in self.ended:
            self.breach("finished is final", f"{what}: sent after it was finished")
        document = json.loads(body)
        sent = Sent(
            pk,
            row.generation,
            key or row.key or "",
            (request.method, request.url, body),
            process,
            self.policies.get(row.snapshot, "hold"),
            late,
            document.get("version"),
            document.get("amount", document.get("refund_amount")),
            self.world.now,
        )
        if not late:  # what a late one holds was right at its last look; much may have happened since
            self._compare(sent)
            self._compare_settings(sent)
            self._compare_content(sent)
        self.sent[pk, row.generation].append(sent)
        return sent

    def _wire_seconds_left(self, row_id: int) -> float:
        """For how long others take the request to be on the wire; in a file by the machine's clock since its start."""
        deadline, booted, began = self.journal.deadline(row_id)
        now = began + self.world.now if booted else self.world.true_time()
        return float(deadline - now)

    def _compare(self, sent: Sent) -> None:
        """Against what went out before for the same plan and was not refused, or not known to be undone."""
        place = (sent.pk, sent.generation)
        before = [one for one in self.sent[place] if not one.late]
        for one in before:
            if not one.refused and (one.key, one.bytes) != (sent.key, sent.bytes):
                self.breach(
                    "bytes and key stay while in doubt", f"plan {sent.pk}: sent again, and not the same"
                )
        earlier = [one for one in before if not (one.undone or one.offered)]
        if not earlier or place in self.released:
            return
        if sent.policy == "hold":
            self.breach(
                "repeats only as the policy allows", f"plan {sent.pk}: sent again, the policy is hold"
            )
        if len(earlier) > self.unknowns[place]:
            self.breach(
                "repeats only as the policy allows", f"plan {sent.pk}: a repeat without an unknown outcome"
            )
        if sent.policy == "lookup" and any(one.effects or one.pending for one in earlier):
            self.breach("repeats only as the policy allows", f"plan {sent.pk}: sent again, the ERP has it")

    def _overtaken(self, process: Process) -> bool:
        """Whether a later run could be seen when this task began."""
        mine = process.run or 0
        return any(run > mine and seen <= process.began_after for run, (_, seen) in self.runs.items())

    def _compare_settings(self, sent: Sent) -> None:
        """A new request is made by the settings of the run, or by those of today where the attempt is not its first."""
        process = sent.process
        known = sent.key in self.taken_over or any(
            one.key == sent.key for one in self.sent[sent.pk, sent.generation]
        )
        if sent.version is None or known or process.run not in self.runs:
            return
        own_first = not (process.again or self._overtaken(process))
        since = self.runs[process.run][0] if own_first else process.began_after
        least = max(version for at, version in self.versions if at <= since)
        if sent.version < least:
            self.breach(
                "today's settings", f"plan {sent.pk} from {process}: mapping {sent.version}, not {least}"
            )

    def _compare_content(self, sent: Sent) -> None:
        """What leaves was Omnitron's content after this task began; in a run's own first attempt, a short while ago."""
        process = sent.process
        own_first = not (process.again or self._overtaken(process))
        oldest = self.world.now - LISTING_AGE - process.frozen_seconds if own_first else process.began
        until = self.omnitron.shown_until(int(sent.pk), sent.amount, any_status=sent.generation > 1)
        if until < min(oldest, process.began):
            self.breach(
                "what is sent is what Omnitron shows",
                f"plan {sent.pk} from {process}: {sent.amount}, which Omnitron showed until {until:.1f}",
            )

    def not_known(self, sent: Sent) -> None:
        """The sender has no answer that tells."""
        if not sent.unknown:
            sent.unknown = True
            self.unknowns[sent.pk, sent.generation] += 1

    def not_done(self, sent: Sent, *, refusal: bool) -> None:
        """The sender knows that nothing came of this one; of those before it that says nothing."""
        sent.undone = True
        before = self.sent[sent.pk, sent.generation]
        if refusal and all(one.undone for one in before if one.key == sent.key):
            for one in before:
                one.refused = True

    def refused(self, sent: Sent) -> None:
        """The ERP itself refuses a plan: that speaks for what went out before under the same key, too."""
        sent.own_refusal = True
        for one in self.sent[sent.pk, sent.generation]:
            if one.key == sent.key:
                one.undone = one.refused = True

    def not_there(self, key: str) -> None:
        """A lookup's word that is true: the ERP has nothing under this key, and will have nothing."""
        same = [one for of_plan in self.sent.values() for one in of_plan if one.key == key]
        if not any(one.pending or one.effects for one in same):
            for one in same:
                one.undone = True

    def taken(self, sent: Sent, word: str) -> None:
        """The ERP has taken it, by its word in the answer."""
        if word == "continue":
            sent.taken = True
        elif word == "do_nothing":
            # Said of a repeat that `resend` allowed, it is the word for what went before it, too.
            for one in self.sent[sent.pk, sent.generation]:
                if one is sent or (sent.policy == "resend" and one.key == sent.key):
                    one.offered = True
        else:
            self.refused(sent)

    def effect(self, sent: Sent) -> int:
        """The ERP books. Returns how many bookings of this plan there are now."""
        sent.effects += 1
        place = (sent.pk, sent.generation)
        of_plan = self.sent[place]
        number = sum(one.effects for one in of_plan)
        self.world.note(f"effect {number} of plan {sent.pk}.{sent.generation}: {sent.amount}")
        late = sum(one.effects for one in of_plan if one.late)
        if number > 1 + late and self.erp.honours_key:
            self.breach("one effect where the key is honoured", f"plan {sent.pk}: effect {number}")
        repeats = self.unknowns[place] if any(one.policy == "resend" for one in of_plan) else 0
        if number > 1 + repeats + late:
            self.breach("repeats only as the policy allows", f"plan {sent.pk}: effect {number}")
        return number

    def effects(self, pk: str, generation: int) -> int:
        return sum(one.effects for one in self.sent[pk, generation])

    def effects_in_time(self, pk: str, generation: int) -> int:
        """Without what a sender sent that was frozen after its last look."""
        return sum(one.effects for one in self.sent[pk, generation] if not one.late)

    # Omnitron

    def write_back(self, pk: str, body: dict[str, Any]) -> None:
        """A status leaves for Omnitron."""
        rejected = body.get("status") == "rejected"
        rows = [
            row for row in self.rows.values() if row.pk == pk
        ]  # a frozen task may speak of an older generation
        if not any(row.relation == ("failure" if rejected else "continue") for row in rows):
            held = ", ".join(f"{row.state}, relation {row.relation or 'none'}" for row in rows) or "no row"
            self.breach("no write-back before an outcome", f"plan {pk} as {body.get('status')}: {held}")

    def written(self, pk: int, status: str) -> None:
        """A status arrives at Omnitron."""
        booked = [self.effects(row.pk, row.generation) for row in self.rows.values() if row.pk == str(pk)]
        if not any(booked) if status != "rejected" else all(booked):
            self.breach("no write-back before an outcome", f"plan {pk} as {status}, with {booked} bookings")

    def mapped(self, transaction: int, times: int) -> None:
        process = self.world.current
        if ORDERS_GROW:
            self._order_is_complete(transaction)
        if times > 1 and not self.world_froze():
            self.breach(
                "transactions are mapped once", f"transaction {transaction}: {times} times ({process})"
            )
        for pk in {row.pk for row in self.rows.values() if row.transaction_pk == str(transaction)}:
            if not any(self.effects(row.pk, row.generation) for row in self.rows.values() if row.pk == pk):
                self.breach("transactions are mapped once", f"{transaction}: the ERP has no plan {pk}")

    def _order_is_complete(self, transaction: int) -> None:
        """Asked of Omnitron's truth, whatever rows the journal has."""
        for pk, plan in self.omnitron.plans.items():
            waits = plan["order"]["pk"] == transaction and plan["status"] in ("completed", "confirmed")
            booked = any(
                self.effects(row.pk, row.generation) for row in self.rows.values() if row.pk == str(pk)
            )
            if waits and not booked and not self.omnitron.moved_lately(pk):
                self.breach(
                    "transactions are mapped once", f"{transaction}: the ERP has no plan {pk} of its order"
                )

    def world_froze(self) -> bool:
        return any("frozen" in what for _, _, what in self.world.trail)

    def query_time(self, moment: Any) -> None:
        """The last query time moves."""
        known = {row.pk for row in self.rows.values()}
        for pk in self.to_see(moment):
            if str(pk) not in known:
                self.breach("the query time passes no plan", f"plan {pk} has no row at {moment.isoformat()}")


def pk_in(body: bytes | None) -> str:
    """The plan that a request is about."""
    document = json.loads(body or b"{}")
    return str(document.get("plan") or document["pk"])
