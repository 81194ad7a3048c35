"""What a run takes of what Omnitron lists, and what is said of the rest.

A `Shelf` takes the plans: the journal in a run, `dry_run.Preview` where a run is only looked at.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypedDict

from include.order_cancel import exact_json
from include.order_cancel import omnitron as read
from include.order_cancel.errors import OrderCancelError, PlanFailed, Problem, SettingsError
from include.order_cancel.omnitron import BadListing, ListingFailed, Omnitron
from include.order_cancel.params import Params, moment
from include.order_cancel.paths import at_path
from include.order_cancel.placing import CLOCKS_DIFFER, Placing, taken_before
from include.order_cancel.rows import Body, Listed, Row, Run, State
from include.order_cancel.settings import FlowSettings
from include.order_cancel.text import json_text, printable
from include.order_cancel.whole_order import SETTLED, pks_of, standing

log = logging.getLogger("order_cancel")

_MAPPINGS_AT_ONCE = 16
_NOT_FITTING = "not fitting"
_WITHOUT_NUMBER = "plans without a usable number"
_TRANSACTIONS_WITHOUT_NUMBER = "transactions without a usable number"
_WITHOUT_ORDER = "transactions without an order"
_UNREADABLE = "transactions whose mappings cannot be read"
_UNLISTED = "orders whose plans cannot be listed"
_REASONS_SHOWN = 5
_INSTANT = 0.001  # seconds: what Omnitron may date to the same moment


class TooManyPlans(OrderCancelError):
    """The run found more plans than `omnitron.max_plans` lets it send; nothing was sent."""


class Shelf(Protocol):
    """Where the listed plans go. The methods are the journal's, and described there."""

    def begin_listing(self, run: Run, /) -> None: ...
    def forget_listing(self, run: Run, /) -> None: ...
    def take_page(self, run: Run, page: Sequence[Listed], placing: Placing, /) -> Counter[str]: ...
    def take_open(self, run: Run, placing: Placing, pks: Sequence[str] | None = None, /) -> Counter[str]: ...
    def begin_generations(self, run: Run, pks: Sequence[str], reason: str, /) -> list[str]: ...
    def size(self, run: Run, /) -> tuple[int, str | None]: ...
    def generations(self, flow: str, pk: str, /) -> list[Row]: ...
    def body(self, plan_id: int, kind: str, /) -> Body | None: ...
    def carried(self, host: str, flow: str, pks: Sequence[str], /) -> list[Row]: ...
    def known_transactions(self, host: str, flow: str, pks: Sequence[str], /) -> set[str]: ...
    def note_transactions(self, host: str, flow: str, pks: Sequence[str], state: str, /) -> None: ...


class Window(TypedDict, total=False):
    """From when to when a `completed` flow asks."""

    modified_after: datetime
    modified_before: datetime


@dataclass
class Found:
    """What a fetch found.

    `counts`: how many plans by what became of them. `not_kept`: why the gate closes: what was shown and no row keeps.
    `queried_at`: up to when all is known, in seconds since the epoch; None where it is not.
    """

    counts: Counter[str] = field(default_factory=Counter)
    not_kept: list[str] = field(default_factory=list)
    queried_at: float | None = None


async def fetch(
    omnitron: Omnitron,
    settings: FlowSettings,
    shelf: Shelf,
    run: Run,
    params: Params,
    last_query: Callable[[], datetime | None],
) -> Found:
    """List what the settings and Params select and take it into the run.

    Raises TooManyPlans, ListingFailed, BadListing, StopFlow.
    """
    placing = _placing(settings, params)
    if params.retry_only:
        return Found(shelf.take_open(run, placing))
    fetching = _Fetching(omnitron, settings, shelf, run, placing)
    if params.plan_ids or params.resend_ids:
        return await fetching.by_number(params)
    if settings.omnitron.cancel_status == "order_transaction":
        await fetching.transactions()
    else:
        await fetching.listing(_window(settings, params, last_query))
    fetching.check_guard(params.max_plans or settings.omnitron.max_plans)
    return fetching.ended()


def _placing(settings: FlowSettings, params: Params) -> Placing:
    """How this run takes plans that the journal knows."""
    status = settings.omnitron.cancel_status
    return Placing(
        repeat_done=settings.writes_status or status == "order_transaction",
        repeat_rejected=status not in ("completed", "order_transaction"),
        ignore_backoff=params.retry_only,
        named=bool(params.plan_ids or params.resend_ids),
    )


def _window(settings: FlowSettings, params: Params, last_query: Callable[[], datetime | None]) -> Window:
    """From when to when a `completed` flow asks; other flows have no window."""
    if settings.omnitron.cancel_status != "completed":
        return {}
    window: Window = {}
    if params.since:
        window["modified_after"] = moment(params.since)
    elif (last := last_query()) is not None:
        window["modified_after"] = last - timedelta(seconds=settings.omnitron.overlap_seconds)
    elif settings.omnitron.start_from is not None:
        window["modified_after"] = settings.omnitron.start_from
    if params.until:
        window["modified_before"] = moment(params.until)
    log.info("window: %s", ", ".join(f"{name} {at}" for name, at in window.items()) or "none")
    return window


class _Fetching:
    """Takes what Omnitron lists onto the shelf, page by page, and counts what it left out."""

    def __init__(
        self, omnitron: Omnitron, settings: FlowSettings, shelf: Shelf, run: Run, placing: Placing
    ) -> None:
        self.omnitron, self.settings, self.shelf, self.run = omnitron, settings, shelf, run
        self.placing = placing
        self.counts: Counter[str] = Counter()
        self._kind = settings.omnitron.cancel_status
        self._pk = settings.omnitron.api.plans.pk
        self._misfits: Counter[str] = Counter()  # those that count for the gate, by why
        self._fitted = False
        self._kept: set[str] = set()
        self._newest: datetime | None = None
        self._window: Window = {}
        self._unchecked: set[str] = set()

    async def listing(self, window: Window) -> None:
        self._window = window
        async for page in self.omnitron.list_plans(**window, anew=self._anew):
            self._note_newest(page)
            self._take(page)

    def _anew(self) -> None:
        """The list is read once more: what it shows then counts, once."""
        self.shelf.begin_listing(self.run)
        self.counts.clear()
        self._misfits.clear()
        self._fitted = False
        self.omnitron.forget_counts()

    def _note_newest(self, page: Sequence[dict[str, Any]]) -> None:
        shown = [read.earliest(read.modified_of(document)) for document in page]
        self._newest = max((at for at in [self._newest, *shown] if at is not None), default=None)

    # Plans by number

    async def by_number(self, params: Params) -> Found:
        named = [*params.plan_ids, *params.resend_ids]
        for pk in params.resend_ids:
            self._warn_of_taken(pk)
        left = self.shelf.begin_generations(self.run, params.resend_ids, "asked for by resend_ids")
        for pk in left:
            log.warning("plan %s is not finished: no new generation of it", printable(pk, 60))
        opened = self.shelf.take_open(self.run, self.placing, named)
        begun = set(params.resend_ids) - set(left)  # sent whatever Omnitron shows them as
        not_kept = [said for pk in named if pk not in begun and (said := await self._named(pk))]
        return Found(self.counts | opened, not_kept)  # the same plans, as far as Omnitron shows them

    def _warn_of_taken(self, pk: str) -> None:
        row = self._newest_row(pk)
        if row is not None and (taken := taken_before(row)):
            log.warning("plan %s is sent anew, though %s", printable(pk, 60), taken)

    async def _named(self, pk: str) -> str | None:
        """Take a plan that a person named; why not, where Omnitron does not know it or it does not fit."""
        document = await self.omnitron.plan(pk)
        if document is None:
            self.counts["unknown"] += 1
            said = f"Omnitron knows no plan {printable(pk, 60)}, which was asked for by its number"
            log.warning("%s", said)
            return said
        self._take([document], known=self._known(document))
        why = read.misfit(document, self.settings.omnitron)
        if why is None:
            return None
        return f"plan {printable(pk, 60)}, which was asked for by its number, does not fit the flow: {why}"

    def _known(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document as the journal has it where it says the same: one plan's page may show more than a listing."""
        row = self._newest_row(read.shown_number(document, self._pk))
        body = None if row is None else self.shelf.body(row.id, "document")
        found = None if body is None else exact_json.loads(body.content)
        return found if found is not None and read.same_to_the_line(found, document) else document

    def _newest_row(self, pk: str) -> Row | None:
        rows = [row for row in self.shelf.generations(self.run.flow, pk) if row.host == self.run.host]
        return rows[-1] if rows else None

    # Plans of order transactions

    async def transactions(self) -> None:
        async for page in self.omnitron.transactions(_transactions_since(self.settings), self._anew):
            pks = [self._number(transaction) for transaction in page]
            known = self.shelf.known_transactions(self.run.host, self.run.flow, pks)
            self.counts["settled transactions"] += len(known)
            await self._open_transactions([t for t in page if self._number(t) not in known])

    def _number(self, transaction: dict[str, Any]) -> str:
        return read.shown_number(transaction, self.settings.omnitron.api.transactions.pk)

    async def _open_transactions(self, page: list[dict[str, Any]]) -> None:
        places = asyncio.Semaphore(_MAPPINGS_AT_ONCE)

        async def is_mapped(transaction: dict[str, Any]) -> bool | None:
            async with places:
                return await self._is_mapped(self._number(transaction))

        mapped = await asyncio.gather(*(is_mapped(transaction) for transaction in page))
        done = [self._number(transaction) for transaction, yes in zip(page, mapped, strict=True) if yes]
        self.shelf.note_transactions(self.run.host, self.run.flow, done, "mapped")
        self.counts[_UNREADABLE] += mapped.count(None)
        for transaction, yes in zip(page, mapped, strict=True):
            if yes is False:
                await self._plans_of(transaction)

    async def _is_mapped(self, pk: str) -> bool | None:
        """Whether Omnitron shows a mapping of the transaction; None, with a warning, where that cannot be read."""
        try:
            return bool(await self.omnitron.mappings(pk))
        except ListingFailed as error:
            log.warning("%s; it is left for this run", printable(str(error), 500))
            return None

    async def _plans_of(self, transaction: dict[str, Any]) -> None:
        pk = self._number(transaction)
        order = read.id_or_own(at_path(transaction, self.settings.omnitron.api.transactions.order_path))
        if order is None or not read.is_usable(order):
            self.counts[_WITHOUT_ORDER] += 1
            log.warning("transaction %s names no order; it is left for this run", printable(pk, 60))
            return
        try:
            documents = await self._listed_of(order)
        except (ListingFailed, BadListing) as error:
            self.counts[_UNLISTED] += 1
            told = printable(str(error), 500)
            log.warning("the plans of order %s cannot be listed, %s; it is left for this run", order, told)
            return
        if not documents:
            self.counts["transactions without plans, left"] += 1
        fitting = [doc for doc in documents if read.misfit(doc, self.settings.omnitron) is None]
        if await self._rests(pk, fitting, order):
            documents = [doc for doc in documents if doc not in fitting]
        self._take(documents, pk, order)

    async def _listed_of(self, order: str) -> list[dict[str, Any]]:
        documents: list[dict[str, Any]] = []
        others = self.omnitron.of_other_orders

        def anew() -> None:
            documents.clear()
            self.omnitron.of_other_orders = others

        async for page in self.omnitron.list_plans(order=order, anew=anew):
            documents += page
        return documents

    async def _rests(self, transaction: str, fitting: Sequence[dict[str, Any]], order: str) -> bool:
        """Whether a transaction, of whose plans this flow has nothing left to send, needs nothing of this run.

        It waits for another plan of its order, or has one that was not delivered.
        """
        host, flow = self.run.host, self.run.flow
        shown = [listed(doc, pk=self._pk) for doc in fitting]
        carried = self.shelf.carried(host, flow, pks_of(fitting, self._pk))
        rows = {row.pk: row for row in carried if row.flow == flow}
        if not shown or not all(_is_over(rows.get(plan.pk), plan) for plan in shown):
            return False
        try:
            plans = await self.omnitron.plans_of_order(order, shown[0].pk)
        except PlanFailed as error:
            log.warning("transaction %s: %s", printable(transaction, 60), printable(str(error), 500))
            return False  # the plan's own task asks again, and fails
        everywhere = self.shelf.carried(host, flow, pks_of(plans, self._pk))
        found = standing(plans, everywhere, self.settings.omnitron.api.words, self._pk)
        if found.waits:
            if found.unclaimed and any(row.state is State.DONE for row in rows.values()):
                return False  # the plan's own task says so, and the gate
            self.counts["transactions held back"] += 1
            log.warning("transaction %s is not mapped yet: %s", printable(transaction, 60), found.waits)
        elif not found.delivered:
            self.shelf.note_transactions(host, flow, [transaction], SETTLED)
            self.counts["settled transactions"] += 1
        return bool(found.waits) or not found.delivered

    # What is taken, and what is not

    def check_guard(self, most: int) -> None:
        """Refuse a batch larger than `most`: a wrong filter must not send years of refunds. Raises TooManyPlans.

        What is finished here does not count: else no run of a window that a person has let through would pass.
        """
        number, oldest = self.shelf.size(self.run)
        if number <= most:
            return
        self.shelf.forget_listing(self.run)
        raise TooManyPlans(
            f"flow {self.run.flow}: {number} plans in status {self._kind} were found, "
            f"the oldest of {oldest or 'unknown date'}; omnitron.max_plans allows {most}. Nothing was sent. "
            "If that many are right, trigger the flow by hand with the Param max_plans"
        )

    def ended(self) -> Found:
        """The lists are read to their end: the rows that earlier runs left open come too."""
        self.counts["plans of other orders"] += self.omnitron.of_other_orders
        self.counts[_WITHOUT_NUMBER] += self.omnitron.without_pk
        self.counts[_TRANSACTIONS_WITHOUT_NUMBER] += self.omnitron.transactions_without_pk
        opened = self.shelf.take_open(self.run, self.placing)
        self.counts["again"] += opened.pop("again", 0)
        self.counts |= opened  # the listed ones that were not taken are among them
        not_kept = self._not_kept()
        if not_kept:
            log.warning("not all that was listed is kept: the last query time stays as it is")
        return Found(self.counts, not_kept, None if not_kept else self._asked_at())

    def _asked_at(self) -> float | None:
        """Up to when all is known: all clocks may be ahead of the one by which Omnitron dates its documents."""
        asked_at = self.omnitron.first_seen_at
        if asked_at is None or self._newest is None or self._kind != "completed":
            return asked_at
        # Others may have changed in the same instant.
        return min(asked_at, self._newest.timestamp() - _INSTANT)

    def _not_kept(self) -> list[str]:
        api = self.settings.omnitron.api
        no_number = "nothing there that is a whole number or a text of at most "
        no_number += f"{read.LONGEST_NUMBER} printable characters; correct the entry (`check` judges it)"
        helps = {
            _WITHOUT_NUMBER: f"'{api.plans.pk}' is where omnitron.api.plans.pk looks, with {no_number}",
            _TRANSACTIONS_WITHOUT_NUMBER: f"'{api.transactions.pk}' is where omnitron.api.transactions.pk looks, "
            f"with {no_number}",
            _WITHOUT_ORDER: f"'{api.transactions.order_path}' is where omnitron.api.transactions.order_path looks",
            _UNREADABLE: "",
            _UNLISTED: "the log of get_data_from_omnitron says why; the next run asks again",
        }
        said = [
            f"{number} {name}" + (f": {what}" if what else "")
            for name, what in helps.items()
            if (number := self.counts[name])
        ]
        if self.omnitron.incomplete:
            said.append(
                "Omnitron counts more than its list shows, also when it is read again: what is missing is asked for by "
                "the next run (`check` judges the paging)"
            )
        return [*said, *self._misfitting(), *self._of_other_orders(), *self._not_yet()]

    def _not_yet(self) -> list[str]:
        """Where the window begins after Omnitron's now, nothing is ever listed."""
        begins, now = self._window.get("modified_after"), self.omnitron.first_seen_at
        if begins is None or now is None or begins.timestamp() <= now + CLOCKS_DIFFER.total_seconds():
            return []
        return [
            f"the window begins in the future, at {begins.isoformat()}, so that nothing can be listed: correct "
            f"omnitron.start_from or the Variable order_cancel_last_run__{self.run.flow}"
        ]

    def _of_other_orders(self) -> list[str]:
        others = sorted(self.omnitron.others - self._kept)
        carried = self.shelf.carried(self.run.host, self.run.flow, others)
        lost = set(others) - {row.pk.strip() for row in carried}
        if not lost:
            return []
        api = self.settings.omnitron.api
        return [
            f"{len(lost)} plans of other orders than those that were asked for are kept by no flow: Omnitron ignores "
            f"'{api.plans.order}' (omnitron.api.plans.order), or its transactions name their orders at "
            f"'{api.transactions.order_path}' (omnitron.api.transactions.order_path) in another way than plans do"
        ]

    def _misfitting(self) -> list[str]:
        """Where Omnitron ignores a filter, some plans fit; where a word in the settings is wrong, none does."""
        none_fits = self._kind not in ("completed", "order_transaction")
        if not self._misfits or (none_fits and self._fitted):
            return []
        number = self._misfits.total()
        what = "fits the flow" if none_fits else "is kept by any flow"
        shown = "; ".join(f"{count} times {why}" for why, count in self._misfits.most_common(_REASONS_SHOWN))
        return [
            f"{number} listed plans do not fit the settings, and none of them {what}: {shown}. Correct the settings of "
            "`omnitron`, or the words and parameters of omnitron.api (`check` judges them)"
        ]

    def _take(
        self,
        documents: Sequence[dict[str, Any]],
        transaction: str | None = None,
        order: str | None = None,
        known: dict[str, Any] | None = None,
    ) -> None:
        fitting = []
        for document in documents:
            why = read.misfit(document, self.settings.omnitron)
            if why is not None:
                self._leave(document, why)
                continue
            self._fitted = True
            self._kept.add(self.omnitron.number_of(document) or "")
            self._warn_unchecked(document)
            fitting.append(listed(known or document, transaction, order, self._pk))
        if fitting:
            self.counts += self.shelf.take_page(self.run, fitting, self.placing)

    def _leave(self, document: dict[str, Any], why: str) -> None:
        self.counts[_NOT_FITTING] += 1
        pk = self.omnitron.number_of(document)
        log.warning("plan %s is not sent: %s", printable(str(pk), 60), why)
        if self._kind == "order_transaction":
            pks = pks_of([document], self._pk)
            if self.shelf.carried(self.run.host, self.run.flow, pks):
                return  # another flow of the journal has it
        self._misfits[why] += 1

    def _warn_unchecked(self, document: dict[str, Any]) -> None:
        new = set(read.unchecked(document, self.settings.omnitron)) - self._unchecked
        if new:
            self._unchecked |= new
            log.warning("Omnitron's plans do not show %s; its filter is trusted", ", ".join(sorted(new)))


def _is_over(row: Row | None, plan: Listed) -> bool:
    """Whether the flow has carried the plan, as it is now, to an end."""
    return (
        row is not None and row.finished and row.state is not State.LEFT and row.digest in ("", plan.digest)
    )


def _transactions_since(settings: FlowSettings) -> datetime:
    since = settings.omnitron.transactions_since
    if since is None:
        raise SettingsError([Problem("omnitron.transactions_since", "is required for order_transaction")])
    return since


def listed(
    document: dict[str, Any], transaction: str | None = None, order: str | None = None, pk: str = "pk"
) -> Listed:
    """What the journal keeps of a plan document.

    `pk`: where its number stands, a usable one (`omnitron.pk_of`). `order`: by what its transaction names it. Lengths
    are the journal's columns'.
    """
    created = document.get("created_date")
    return Listed(
        pk=read.shown_number(document, pk),
        document=json_text(document),
        digest=read.content_digest(document),
        order_number=_cut(read.order_number(document), 255),
        order_pk=_cut(order or read.order_pk(document), 64),
        amount=_cut(read.amount_of(document), 64),
        currency=_cut(read.currency_of(document), 16),
        plan_type=_cut(read.plan_type_of(document), 64),
        plan_date=_cut(created if isinstance(created, str) else None, 64),
        transaction_pk=transaction,
    )


def in_words(counts: Mapping[str, int]) -> str:
    """`2 changed, 5 known`, empty where nothing was counted."""
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()) if number)


def _cut(value: str | None, limit: int) -> str | None:
    return None if value is None else printable(value, limit - 1)
