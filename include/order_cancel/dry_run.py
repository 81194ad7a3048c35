"""A dry run: what a run would take and send. The journal is only read; nothing is claimed, stored, moved or sent."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from include.order_cancel import erp as erp_system
from include.order_cancel import exact_json
from include.order_cancel.errors import PlanFailed
from include.order_cancel.fetching import Found, in_words
from include.order_cancel.http import Endpoint, Request
from include.order_cancel.journal import Journal
from include.order_cancel.omnitron import Omnitron, misfit
from include.order_cancel.placing import TAKEN, Placing, place, place_open, possibly_sent
from include.order_cancel.rows import FOR_A_PERSON, RETRIED, Body, Listed, Move, Relation, Row, Run, State
from include.order_cancel.scripts.process import ScriptProcess
from include.order_cancel.secrecy import mask
from include.order_cancel.settings import FlowSettings
from include.order_cancel.text import printable

log = logging.getLogger("order_cancel")

_SENT_ALREADY = frozenset({State.SENDING, State.ANSWERED, State.WRITTEN_BACK, State.IN_DOUBT})


@dataclass(frozen=True)
class Taken:
    """A plan that a run would take. `what`: as `placing.place` says, or `resent`. `row`: None where it is new.

    `document`: what would be prepared; None where Omnitron would be asked for the plan first. `doubtful`: the ERP may
    have it from before the journal was restored.
    """

    pk: str
    what: str
    order_number: str | None
    plan_date: str | None
    row: Row | None = None
    document: str | None = None
    doubtful: bool = False

    @property
    def name(self) -> str:
        """As `Row.name`, fit for a log."""
        return printable(f"{self.order_number or '-'} / {self.pk}", 120)


class Preview:
    """Takes what a run lists as the journal would (`fetching.Shelf`), and keeps it in memory."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._taken: dict[tuple[str, int], Taken] = {}

    def plans(self) -> list[Taken]:
        """The plans that the run would carry, the oldest first."""
        carried = [taken for taken in self._taken.values() if taken.what != "changed"]
        return sorted(carried, key=lambda taken: taken.plan_date or "")

    def begin_listing(self, _: Run) -> None:
        self._taken.clear()

    def forget_listing(self, _: Run) -> None:
        self._taken.clear()

    def take_page(self, run: Run, page: Sequence[Listed], placing: Placing) -> Counter[str]:
        now, restored = self._journal.now(), self._journal.restored_before(run)
        rows, busy = self._journal.looked_up(run, [listed.pk for listed in page])
        known = self._journal.bodies([row.id for row in rows.values()], "document")
        counts: Counter[str] = Counter()
        for listed in page:
            row = rows.get(listed.pk)
            what = "new"
            document: str | None = listed.document
            if row is not None and row.id in busy:
                what = "elsewhere"
            elif row is not None:
                kept = known.get(row.id)
                what, move = place(row, listed, run, placing, now, kept.content if kept else None)
                document = _document(move) or (kept.content if kept else listed.document)
            counts[what] += 1
            doubtful = row is None and possibly_sent(listed, restored)
            if what in TAKEN:
                self._take(
                    Taken(listed.pk, what, listed.order_number, listed.plan_date, row, document, doubtful)
                )
        return counts

    def take_open(self, run: Run, placing: Placing, pks: Sequence[str] | None = None) -> Counter[str]:
        now = self._journal.now()
        counts = Counter(again=sum(taken.what == "resent" for taken in self._taken.values()))
        rows = [row for row in self._open(run) if pks is None or row.pk in pks]
        _, busy = self._journal.looked_up(run, [row.pk for row in rows])
        for row in rows:
            what = "elsewhere" if row.id in busy else place_open(row, placing, now)
            counts[what] += 1
            if what == "again":
                self._take(Taken(row.pk, what, row.order_number, row.plan_date, row))
        return counts

    def _open(self, run: Run) -> Iterator[Row]:
        shown = {taken.row.id for taken in self._taken.values() if taken.row is not None}
        for row in self._journal.find(run.flow, RETRIED, all_generations=True):
            if row.host == run.host and row.id not in shown:
                yield row

    def begin_generations(self, run: Run, pks: Sequence[str], _: str) -> list[str]:
        rows, _busy = self._journal.looked_up(run, pks)
        left = []
        for pk in pks:
            row = rows.get(pk)
            if row is None or not row.may_be_resent:
                left.append(pk)
            else:
                self._take(Taken(pk, "resent", row.order_number, row.plan_date, row))
        return left

    def size(self, _: Run) -> tuple[int, str | None]:
        sent = [
            plan for plan in self._taken.values() if plan.row is None or plan.row.state not in FOR_A_PERSON
        ]
        return len(sent), min((plan.plan_date for plan in sent if plan.plan_date is not None), default=None)

    def generations(self, flow: str, pk: str) -> list[Row]:
        return self._journal.generations(flow, pk)

    def body(self, plan_id: int, kind: str) -> Body | None:
        return self._journal.body(plan_id, kind)

    def carried(self, host: str, flow: str, pks: Sequence[str]) -> list[Row]:
        return self._journal.carried(host, flow, pks)

    def known_transactions(self, host: str, flow: str, pks: Sequence[str]) -> set[str]:
        return self._journal.known_transactions(host, flow, pks)

    def note_transactions(self, host: str, flow: str, pks: Sequence[str], state: str) -> None:
        """Nothing is noted."""

    def _take(self, taken: Taken) -> None:
        self._taken[taken.pk, taken.row.generation if taken.row else 1] = taken


def _document(move: Move | None) -> str | None:
    return next((body.content for body in move.bodies if body.kind == "document"), None) if move else None


def run_of(flow: str, host: str, now: float) -> Run:
    """A run that stands in no journal."""
    return Run(0, flow, "dry run", host, "", {}, "", now, False, {}, None, None)


class DryRun:
    """Shows what was taken, plan by plan, in the task's log."""

    def __init__(
        self,
        settings: FlowSettings,
        journal: Journal,
        omnitron: Omnitron,
        scripts: ScriptProcess,
        endpoint: Endpoint,
    ) -> None:
        self._settings, self._journal, self._omnitron = settings, journal, omnitron
        self._scripts, self._endpoint = scripts, endpoint

    async def show(self, plans: Sequence[Taken], found: Found, limit: int) -> None:
        """Prepare and show at most `limit` of the plans, and say what a run would not take."""
        failed = 0
        for taken in plans[:limit]:
            try:
                said = await self._would_do(taken)
            except PlanFailed as error:
                failed += 1
                log.error("[%s] %s", taken.name, printable(str(error), 2000))
            else:
                log.info("[%s] %s", taken.name, said)
        if (more := len(plans) - limit) > 0:
            log.info("more plans were found; only %d are shown, %d are not", limit, more)
        left_out = {name: n for name, n in found.counts.items() if name not in ("new", "again", "repeated")}
        log.info("not taken: %s", in_words(left_out) or "nothing")
        for reason in found.not_kept:
            log.warning("a run would end with its gate closed: %s", reason)
        shown = min(limit, len(plans))
        log.info("dry run: %d plans prepared, %d of them failed; nothing was sent or stored", shown, failed)

    async def _would_do(self, taken: Taken) -> str:
        row = taken.row
        if taken.what == "repeated":
            return "would only have its write-back repeated"
        if taken.doubtful:
            return "would be in doubt: it was made before the journal was restored; erp.in_doubt decides"
        if row is not None and taken.what != "resent":
            if _is_under_way(row):
                return f"would go on from state {row.state}; no other request is prepared"
            if (body := self._kept_request(row)) is not None:
                return self._told("again ", body.meta["method"], body.meta["url"], body.content)
        document, left = await self._document(taken)
        if left:
            return f"would be left alone: {left}"
        return self._request(await self._prepared(document))

    def _kept_request(self, row: Row) -> Body | None:
        """The bytes that left already, and are sent again as they are."""
        kept = row.progress == "request" and row.outcome != "refused"
        return self._journal.body(row.id, "request") if kept else None

    async def _document(self, taken: Taken) -> tuple[Any, str]:
        """What is prepared, or why the plan is left alone: what this run did not list is looked at first."""
        if taken.document is not None:
            return exact_json.loads(taken.document), ""
        document = await self._omnitron.plan(taken.pk)
        if document is None:
            return None, "Omnitron has no such plan any more"
        again = taken.what == "resent" or (taken.row is not None and taken.row.sent_again)
        compared: Mapping[str, Any] = document
        if again:  # it has moved on from the flow's status
            compared = {name: value for name, value in document.items() if name != "status"}
        return document, misfit(compared, self._settings.omnitron) or ""

    async def _prepared(self, document: Any) -> Request:
        settings = self._settings
        attributes = {"channel_type": settings.omnitron.channel_type}
        if settings.script is not None:
            result = await self._scripts.run("script", settings.script.text, document, attributes)
            if result.refused:
                raise PlanFailed("the script chose REL_FAILURE")
            document = result.result
        if settings.mapping is not None:
            document = await self._scripts.map(settings.mapping.text, document)
        return erp_system.build_request(settings.erp, self._endpoint, document, "dry-run")

    def _request(self, request: Request) -> str:
        return self._told("", request.method, request.url, (request.body or b"").decode())

    def _told(self, again: str, method: str, url: str, body: str) -> str:
        secrets = self._endpoint.secrets
        shown = printable(mask(url, secrets), 2000), printable(mask(body, secrets), 4000)
        return f"would send {again}{method} {shown[0]} {shown[1]}"


def _is_under_way(row: Row) -> bool:
    """Whether the ERP has, or may have, what was sent: nothing else is prepared."""
    asked = row.outcome in ("unknown", "accepted") and row.relation is not Relation.DO_NOTHING
    return row.answer_stands or row.state in _SENT_ALREADY or asked
