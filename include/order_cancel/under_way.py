"""A plan under way: its row, what is still to be committed, and what the steps of one task share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from include.order_cancel import erp as erp_system
from include.order_cancel import exact_json
from include.order_cancel import omnitron as omnitron_system
from include.order_cancel.adopting import check_same
from include.order_cancel.erp import Erp
from include.order_cancel.http import Answer, Endpoint, Request
from include.order_cancel.journal import Journal
from include.order_cancel.metrics import Measure, unmeasured
from include.order_cancel.omnitron import Omnitron
from include.order_cancel.resting import LOOK_SECONDS
from include.order_cancel.rows import Body, Event, Move, Row, Run
from include.order_cancel.scripts.process import Limits, ScriptProcess
from include.order_cancel.secrecy import mask
from include.order_cancel.settings import FlowSettings, from_snapshot
from include.order_cancel.text import printable
from include.order_cancel.writer import Writer

log = logging.getLogger("order_cancel")

# What a plan waits for a commit in company: an eighth of the time that its two requests usually take.
_GATHER_SECONDS = 0.01
# A plan that waits says so often enough that neither its lease nor its run's claim runs out.
_LONGEST_WAIT_SECONDS = 60.0
# Beyond the request's own deadline: from the intent to the first byte, and for the connection to close.
_DEADLINE_SLACK_SECONDS = 5.0


def _since_start() -> float:
    """Seconds since the machine's start. Linux counts those in which it slept as well: the database did not sleep."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True)
class Tools:
    """The two systems and the script process, as one version of the settings wants them."""

    settings: FlowSettings
    endpoint: Endpoint
    omnitron: Omnitron
    erp: Erp
    scripts: ScriptProcess


class Work:
    """What the steps of one task share: journal, run, settings by digest, and the open connections.

    first: the run's snapshot, for first attempts. current: gives the settings as they are now, for later ones.
    endpoint: gives a Connection as plain values. again: this task is a retry or was cleared.
    many: plans travel side by side, so commits gather and logs are short. http: options of every `Caller`.
    measure: takes metrics.
    """

    def __init__(
        self,
        journal: Journal,
        run: Run,
        *,
        current: Callable[[], FlowSettings],
        endpoint: Callable[[str], Endpoint],
        owner: str,
        again: bool = False,
        parts: int = 1,
        many: bool = False,
        http: Mapping[str, Any] | None = None,
        measure: Measure = unmeasured,
    ) -> None:
        self.journal, self.run, self.owner, self.again = journal, run, owner, again
        self.many, self.measure = many, measure
        self.writer = Writer(journal, _GATHER_SECONDS if many else 0.0)
        self.stop_reason: str | None = None
        self.overtaken = False
        self.stand_aside: Callable[[], None] = lambda: None
        self._accepted: set[str] = set()
        self._not_all_refused = False
        self._began = time.monotonic()
        self._run_age = 0.0
        self._looked_at = float("-inf")
        self._current_digest: str | None = None
        self._current, self._endpoint, self._parts = current, endpoint, parts
        self._http = http or {}
        self._tools: dict[str, Tools] = {}
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.writer)
        await self.look()
        self.overtaken = await self.writer.call(self.journal.overtaken, self.run)
        self._run_age = await self.writer.call(self.journal.now) - self.run.started_at
        self._began = time.monotonic()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def tools(self, digest: str) -> Tools:
        """The tools for the settings kept under `digest`, opened once."""
        if digest not in self._tools:
            async with self._opening:
                if digest not in self._tools:
                    raw = await self.writer.call(self.journal.snapshot, digest)
                    self._tools[digest] = await self._open(from_snapshot(raw, flow=self.run.flow))
        return self._tools[digest]

    async def current_digest(self) -> str:
        """The digest of the settings as they are in this task, which the journal keeps from here on."""
        if self._current_digest is None:
            now = self._current()
            await self.writer.call(self.journal.save_snapshot, self.run.flow, now.digest, now.snapshot())
            self._current_digest = now.digest
        return self._current_digest

    @property
    def longest_request(self) -> float:
        """Seconds within which every request that is on the wire by now has ended."""
        timeouts = [tools.settings.erp.timeout_seconds for tools in self._tools.values()]
        return max(timeouts, default=0.0) + _DEADLINE_SLACK_SECONDS

    @property
    def run_age(self) -> float:
        """Seconds since the run began, before it asked Omnitron for its plans."""
        return self._run_age + time.monotonic() - self._began

    async def note_acceptance(self, digest: str) -> None:
        """Keep that the ERP accepts plans under these settings; told to the journal once in a task."""
        if digest not in self._accepted:
            self._accepted.add(digest)
            await self.writer.call(self.journal.note_acceptance, digest)

    async def only_refusals(self) -> int:
        """How many plans the ERP has refused in this run, if it has taken none; else 0, and it is not counted again."""
        if self._not_all_refused:
            return 0
        refused = await self.writer.call(self.journal.only_refusals, self.run.id)
        self._not_all_refused = refused is None
        return refused or 0

    async def look(self) -> None:
        """Hear whether another task has stopped the run by now; the journal is asked where the last look is too old."""
        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._looked_at = time.monotonic()
            stop = await self.writer.call(self.journal.stopped, self.run.id)
            self.stop_reason = self.stop_reason or stop

    async def stop(self, reason: str, kind: str = "") -> None:
        """Send nothing more in this run, in this task and in all others."""
        self.stop_reason = self.stop_reason or reason
        await self.writer.call(self.journal.stop, self.run.id, reason, kind)

    async def give_back(self, row: Row) -> None:
        """End the lease of a row for which nothing was done."""
        await self.writer.call(self.journal.give_back, row)

    async def _open(self, settings: FlowSettings) -> Tools:
        endpoint = self._endpoint(settings.omnitron.conn_id)
        self.journal.lease_seconds = max(self.journal.lease_seconds, 300 + 2 * settings.erp.timeout_seconds)
        enter = self._stack.enter_async_context
        rate = settings.erp.requests_per_second
        omnitron = await enter(
            omnitron_system.connect(endpoint, settings.omnitron, self.journal, **self._http)
        )
        erp = await enter(
            erp_system.connect(
                self._endpoint(settings.erp.conn_id),
                settings.erp,
                self.journal,
                max_in_flight=max(1, settings.erp.max_in_flight // self._parts),
                requests_per_second=rate / self._parts if rate else None,
                **self._http,
            )
        )
        limits = Limits(**settings.scripts.model_dump())
        return Tools(settings, endpoint, omnitron, erp, await enter(ScriptProcess(limits)))


@dataclass(slots=True)
class Plan:
    """One plan in the hands of one task. What the steps change is in memory until `commit`.

    Raises OtherOmnitron for a row of another Omnitron than the settings of this attempt lead to.
    """

    row: Row
    work: Work
    tools: Tools
    listed: bool
    fresh: bool = True
    looked: bool = False
    built: bool = False
    request_meta: Mapping[str, Any] = field(default_factory=dict)
    deadline_set_at: float = 0.0
    document: Any = None
    preloaded: str | None = None
    request: Request | None = None
    sent_now: bool = False
    uncounted: bool = False
    stopped_the_run: bool = False
    post_error: str | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    _bodies: list[Body] = field(default_factory=list)
    _events: list[Event] = field(default_factory=list)
    _wire_seconds: float = 0.0

    def __post_init__(self) -> None:
        check_same(self.tools.endpoint, self.row.host, f"plan {printable(self.row.name, 120)}")

    @property
    def settings(self) -> FlowSettings:
        """The settings of this attempt."""
        return self.tools.settings

    @property
    def made_by_these(self) -> bool:
        """Whether the request was made by the settings of this attempt, not by other ones or a person."""
        return self.request_meta.get("snapshot") == self.row.snapshot and not self.edited

    @property
    def edited(self) -> bool:
        """Whether a person wrote the request's body."""
        return "edited_by" in self.request_meta

    @property
    def just_listed(self) -> bool:
        """Whether this run's own listing showed the plan a short while ago, and this is the attempt that it was for."""
        young = self.work.run_age <= self.settings.omnitron.look_again_seconds
        return self.listed and self.fresh and young

    def tell(self, message: str) -> None:
        """A line on what went well: told where the log is about this plan, left out where it is about many."""
        if not self.work.many:
            self.say(message)

    def say(self, message: str, level: int = logging.INFO) -> None:
        """A line in the log that carries the plan's number."""
        if log.isEnabledFor(level):
            log.log(level, "[%s] %s", printable(self.row.name, 120), printable(self.masked(message), 2000))

    def hear(self, answer: Answer) -> None:
        """Keep the answer's secrets out of all that is told and kept for people from here on."""
        self.secrets = tuple(dict.fromkeys((*self.secrets, *answer.secrets)))

    def masked(self, text: str) -> str:
        """The text without the secrets of the answers that were heard."""
        return mask(text, self.secrets) if self.secrets else text

    def note(
        self,
        step: str,
        what: str,
        detail: str = "",
        seconds: float | None = None,
        at: float | None = None,
    ) -> None:
        """An event for the plan's journey, written by the next commit. `at`: by the journal's clock; else by ours."""
        milliseconds = None if seconds is None else round(seconds * 1000, 1)
        at, told = time.time() if at is None else at, self.masked(detail)
        self._events.append(Event(step, what, told, milliseconds, at=at, run=self.work.run.id))

    def keep(self, kind: str, content: str, meta: Mapping[str, Any] | None = None) -> None:
        """A body for the journal, written by the next commit."""
        self._bodies.append(Body(kind, content, dict(meta or {})))

    async def commit(self, *, release: bool = False) -> None:
        """Write the row and all that was noted. `release` gives the lease back, and a row at rest its claim too."""
        if release:
            self.row.owner, self.row.lease_until = "", 0.0
            if self.row.at_rest:
                self.row.claim_run = None
        self.row.error = self.masked(self.row.error) if self.row.error else self.row.error
        move = Move(self.row, self._bodies, self._events, self._wire_seconds)
        self._bodies, self._events, self._wire_seconds = [], [], 0.0
        await self.work.writer.move(move)

    def set_deadline(self) -> None:
        """Let the next commit say, by the journal's clock in it, until when the request may be on the wire."""
        self._wire_seconds = self.settings.erp.timeout_seconds + _DEADLINE_SLACK_SECONDS
        self.deadline_set_at = _since_start()

    async def before_first_byte(self) -> None:
        """The last look before a request goes out: is the lease still ours, does the deadline cover the request?

        Waiting for a place or for the rate, or a pause of this process, may have used the deadline up: then it is
        set anew, in a commit of its own, and once more where that took too long itself; the request's own time limit
        ends this. Raises LeaseLost where another task has taken the row over by then, JournalDown where the journal
        has failed meanwhile: what the answer leads to could not be written.
        """
        self.work.writer.check()
        while _since_start() - self.deadline_set_at > _DEADLINE_SLACK_SECONDS / 2:
            self.set_deadline()
            await self.commit()

    async def until_settled(self) -> float:
        """Seconds until a lookup's "not there" counts: the settling time after the last request's deadline."""
        lookup = self.settings.erp.lookup
        settling = lookup.after_seconds if lookup else 0
        return await self.work.writer.call(self.work.journal.wire_seconds_left, self.row, settling)

    async def wait(self, seconds: float) -> None:
        """Wait while the neighbours go on, and keep the row. Raises LeaseLost."""
        self.work.stand_aside()
        while seconds > 0:
            part = min(seconds, _LONGEST_WAIT_SECONDS)
            await self.tools.erp.caller.sleep(part)
            seconds -= part
            await self.commit()
            await self.work.writer.call(self.work.journal.stay_alive, self.work.run.id)
            await self.work.look()

    async def stored(self, kind: str) -> Any:
        """The newest body of this kind, parsed. None where there is none."""
        body = await self.work.writer.call(self.work.journal.body, self.row.id, kind)
        return None if body is None else exact_json.loads(body.content)
