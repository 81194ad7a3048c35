"""Omnitron in its own words: list the plans, read one, write a status back, map a transaction.

Names, paths and words come from the API profile, since parts of the API are assumptions. Documents are read
defensively: a plan needs its number and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, TypeGuard
from urllib.parse import quote, urlencode

from yarl import URL

from include.order_cancel import exact_json
from include.order_cancel.errors import PlanFailed, RetryLater, StopFlow, TokenRefused
from include.order_cancel.http import (
    Answer,
    BadAnswer,
    Caller,
    Endpoint,
    MiB,
    NotSent,
    OutcomeUnknown,
    Request,
    asks_for_long,
    server_time,
)
from include.order_cancel.paths import at_path, in_answer
from include.order_cancel.profile import Plans, Profile, Transactions, fill_body, fill_path, query_text
from include.order_cancel.resting import Store
from include.order_cancel.settings import OmnitronSettings
from include.order_cancel.text import UNPRINTABLE, printable
from include.order_cancel.tokens import Given, LoginFailed, Token, Tokens, life, token_key

log = logging.getLogger(__name__)

MAX_LIST_BYTES = 64 * MiB
JSON_BODY = {"Content-Type": "application/json"}
_EXPIRES_PATH = "expires_in"  # no answer is known to hold it; where one does, it is believed
_REFUSED_MOVES = frozenset({400, 406, 409, 422})
_CONTAINERS = (dict, list)
LONGEST_NUMBER = 63  # the journal's columns hold 64, and a longer text was once kept as 63 and an ellipsis
_EARLIEST = timezone(timedelta(hours=14))  # where a clock's hands show a time first
# What changes in a plan without changing what the ERP is told.
VOLATILE = frozenset({"status", "cancel_status", "modified_date", "modified_by", "external_status"})


class ListingFailed(RetryLater):
    """A listing could not be read to its end; the same task may try again."""


class BadListing(StopFlow):
    """A listing makes no sense: not JSON, pages that repeat, a next page of something else, a refused query."""


class WriteBackRefused(PlanFailed):
    """Omnitron refused the plan's new status."""


class PlanGone(PlanFailed):
    """Omnitron itself says that it has no such plan, to which a status was to be written."""


class TransactionGone(ListingFailed):
    """Omnitron itself says that it has no such order transaction."""


class AskedToWait(PlanFailed):
    """The answer to this plan's own request asks everybody to leave Omnitron alone for more than a minute."""

    own_stop = True


@asynccontextmanager
async def connect(
    endpoint: Endpoint, settings: OmnitronSettings, store: Store, **options: Any
) -> AsyncIterator[Omnitron]:
    """Omnitron behind a Connection, with its token and its wish to rest from `store`. `options` go to the `Caller`."""
    async with AsyncExitStack() as stack:
        given = {"max_bytes": MAX_LIST_BYTES, "rests": store, **options}
        caller = await stack.enter_async_context(Caller(endpoint, **given))
        key = token_key(
            "omnitron", endpoint.conn_id, endpoint.base_url, endpoint.login, settings.api.login.path
        )
        tokens = Tokens(
            key,
            store,
            lambda: fetch_token(caller, settings.api),
            endpoint.key_material,
            monotonic=options.get("monotonic", time.monotonic),
        )
        yield Omnitron(caller, tokens, settings)


async def fetch_token(caller: Caller, profile: Profile) -> Given:
    """A new token for the Connection's login and password. Raises LoginFailed."""
    endpoint = caller.endpoint
    where = f"Omnitron login (Connection '{endpoint.conn_id}', {endpoint.host}{profile.login.path})"
    if not endpoint.login or not endpoint.password:
        raise LoginFailed(f"{where}: the Connection has no login or no password")
    credentials = json_bytes({"username": endpoint.login, "password": endpoint.password})
    url = endpoint.url(profile.login.path)
    request = Request("POST", url, JSON_BODY, credentials, endpoint.secrets)
    try:
        answer = await caller.ask(request)
    except (NotSent, OutcomeUnknown) as error:
        raise LoginFailed(f"{where}: {error}") from None
    return token_in(answer, profile.login.token_path, _EXPIRES_PATH, where)


def token_in(answer: Answer, path: str, expires_path: str, where: str) -> Given:
    """The token at `path` of a login's answer, and its life at `expires_path`.

    Raises LoginFailed that begins with `where`, and shows nothing of a 2xx answer.
    """
    if not answer.ok:
        raise LoginFailed(f"{where} was refused: {answer.describe(200)}")
    try:
        token = in_answer(answer, path)
    except BadAnswer:
        raise LoginFailed(f"{where}: the answer is not JSON") from None
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise LoginFailed(f"{where}: the answer holds no token at '{path}'")
    try:
        return Given(token, life(in_answer(answer, expires_path)))
    except BadAnswer:
        return Given(token)


class Omnitron:
    """The calls of the flow, each with the token; one that may be valid no more is renewed, and the call repeated once.

    `first_seen_at` is the moment just before the first listing began, in seconds since the epoch: the earlier one
    of what Omnitron's answer tells and of our own clock. `without_pk` counts listed plans without a usable number,
    `transactions_without_pk` such transactions: they are dropped. `incomplete` tells that a listing, read twice,
    stayed shorter than Omnitron's own count of it. `of_other_orders` counts plans that a list of one order's plans
    showed besides, `others` holds their numbers: Omnitron may ignore that filter. Any call may raise StopFlow
    (refused token, open breaker) and JournalDown (the token's store).
    """

    def __init__(self, caller: Caller, tokens: Tokens, settings: OmnitronSettings) -> None:
        self.caller = caller
        self.settings = settings
        self.profile: Profile = settings.api
        self.first_seen_at: float | None = None
        self.incomplete = False
        self.of_other_orders = 0
        self.others: set[str] = set()
        self._without_pk: Counter[str] = Counter()
        self._order_untold = False
        self._controls: dict[str, str] = {}
        self._tokens = tokens

    @property
    def without_pk(self) -> int:
        """How many listed plans carried no usable number, entries that are no object included."""
        return self._without_pk[self.profile.plans.path]

    @property
    def transactions_without_pk(self) -> int:
        """How many listed transactions carried no usable number."""
        return self._without_pk[self.profile.transactions.path]

    def forget_counts(self) -> None:
        """All is listed once more: what was counted so far does not count."""
        self.of_other_orders = 0
        self.others.clear()
        self._without_pk.clear()

    def number_of(self, document: Any) -> str | None:
        """The number of a plan's document, by the profile; see `pk_of`."""
        return pk_of(document, self.profile.plans.pk)

    async def login(self) -> None:
        """Make sure that there is a token, the stored one or a new one. Raises LoginFailed."""
        await self._tokens.current()

    async def list_plans(
        self,
        *,
        status_word: str | None = None,
        modified_after: datetime | None = None,
        modified_before: datetime | None = None,
        order: object | None = None,
        anew: Callable[[], None] | None = None,
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Page by page the plans that the settings select, each `pk` once.

        `status_word` takes the place of the settings' status; `order` narrows to one order's pk; the times
        must be aware. `anew`: see `_pages`. Raises ListingFailed, BadListing.
        """
        names = self.profile.plans
        params = self._selection(status_word or status_word_of(self.settings))
        params |= {
            name: value
            for name, value in (
                (names.modified_after, modified_after and iso(modified_after)),
                (names.modified_before, modified_before and iso(modified_before)),
                (names.order, None if order is None else str(order)),
            )
            if value
        }
        async for page in self._pages(names, params, anew):
            yield page if order is None else self._of_order(page, str(order))

    async def plans_of_order(self, order: str, known: str) -> list[dict[str, Any]]:
        """All plans of an order, whatever their status, type and channel; the plan `known` is one of them.

        Without `known` where Omnitron itself says that it has no such plan. Raises PlanFailed where they cannot be
        listed, or some may be missing.
        """
        told = f"the plans of order {printable(order, 60)} cannot be listed"
        alone = Omnitron(self.caller, self._tokens, self.settings)  # its counts are of this list only
        names = self.profile.plans
        try:
            found = [plan async for page in alone._pages(names, {names.order: order}) for plan in page]
        except (ListingFailed, BadListing) as error:
            raise self.failed(f"{told}: {error}; it is asked again by the next run") from None
        if alone.without_pk:
            raise PlanFailed(f"{told}: {alone.without_pk} of them have no number")
        if alone.incomplete:
            raise PlanFailed(
                f"{told}: there are fewer than Omnitron counts; it is asked again by the next run"
            )
        plans = self._of_order(found, order)
        if known.strip() not in map(self.number_of, plans) and await self.plan(known) is not None:
            raise PlanFailed(f"{told}: plan {_named(known)} of it is not among them")
        return plans

    async def transactions(
        self, since: datetime, anew: Callable[[], None] | None = None
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Page by page the return transactions created since then. `anew`: see `_pages`.

        Raises ListingFailed, BadListing.
        """
        names = self.profile.transactions
        params = {names.type: names.type_word, names.since: iso(since)}
        params |= {name: query_text(value) for name, value in names.extra.items()}
        async for page in self._pages(names, params, anew):
            yield page

    async def plan(self, pk: object) -> dict[str, Any] | None:
        """One plan as it is now, None where Omnitron itself says that it has no such plan. Raises PlanFailed.

        A 404 is its own word only where a control question says so: see `_check_own_word`.
        """
        told = f"plan {_named(pk)}"
        answer = await self._of_plan(self._request("GET", _filled(self.profile.plan.path, pk=pk)), told)
        if answer.status == 404 and answer.is_json:
            await self._check_own_word("plan", pk, self.profile.plans, self.profile.plan.path)
            return None
        document = self._json_of(answer, f"{told} cannot be read")
        if not isinstance(document, dict) or self.number_of(document) != str(pk).strip():
            raise PlanFailed(f"{told} cannot be read: the answer is not this plan")
        return document

    async def write_back(self, pk: object, word: str) -> Answer:
        """Give the plan the status `word` (the profile's word for it).

        A refusal counts as done where the plan has that status already, as after a write whose answer was
        lost. Raises PlanGone, WriteBackRefused, PlanFailed (repeated by the next run).
        """
        names = self.profile.write_back
        body = json_bytes(fill_body(names.body, pk=pk, status=word))
        request = self._request(names.method, _filled(names.path, pk=pk, status=word), body)
        what = f"write-back of plan {_named(pk)} as '{word}'"
        answer = await self._of_plan(request, what)
        if (answer.ok and not answer.is_page) or await self._has_status(pk, word, answer):
            return answer
        told = f"Omnitron answered the {what} with {answer.describe()}"
        if answer.ok or answer.status >= 500 or answer.status in (408, 425, 429):
            raise PlanFailed(f"{told}; it is repeated by the next run")
        if answer.status == 404 and answer.is_json and await self._is_gone(pk, told):
            raise PlanGone(f"{told}, and has no such plan")
        raise WriteBackRefused(told)

    async def _is_gone(self, pk: object, told: str) -> bool:
        try:
            return await self.plan(pk) is None
        except PlanFailed as error:
            raise WriteBackRefused(f"{told}; {error}") from None

    async def rejected_count(self, order_pk: object) -> int:
        """How many plans of this order are rejected. Raises PlanFailed."""
        names = self.profile.plans
        params = {names.order: str(order_pk), names.status: self.profile.words.rejected, names.limit: "1"}
        told = f"the rejected plans of order {printable(str(order_pk), 60)} cannot be counted"
        answer = await self._of_plan(self._request("GET", with_query(names.path, params)), told)
        document = self._json_of(answer, told)
        if isinstance(document, dict) and is_whole(document.get("count")):
            return int(document["count"])
        return await self._counted(_without_limit(params, names.limit), told)

    async def mappings(self, pk: object) -> list[Any]:
        """The integration mappings of a transaction. Raises TransactionGone, ListingFailed."""
        told = f"the mappings of transaction {_named(pk)} cannot be read"
        try:
            answer = await self.ask(self._request("GET", _filled(self.profile.mappings.path, pk=pk)))
            document = answer.json()
            if answer.status == 404 and answer.is_json:
                await self._check_own_word(
                    "order transaction", pk, self.profile.transactions, self.profile.mappings.path
                )
                raise TransactionGone(f"Omnitron has no order transaction {_named(pk)}")
        except PlanFailed as error:
            raise ListingFailed(f"{told}: {error}") from None
        except (NotSent, OutcomeUnknown, BadAnswer) as error:
            raise ListingFailed(f"{told}: {error}") from None
        rows = document.get("results") if isinstance(document, dict) else document
        if not answer.ok or not isinstance(rows, list):
            raise ListingFailed(f"{told}: {answer.describe()}")
        return rows

    async def create_mapping(self, pk: object, code: str) -> Answer:
        """Map a transaction to `code`: one try, as a second one would make a second mapping.

        Raises PlanFailed; the next run asks for the mappings before it tries again.
        """
        names = self.profile.create_mapping
        body = json_bytes(fill_body(names.body, pk=pk, code=code))
        request = self._request(names.method, _filled(names.path, pk=pk, code=code), body)
        told = f"the mapping of transaction {_named(pk)}"
        answer = await self._of_plan(request, told, once=True)
        if not answer.ok or answer.is_page:
            raise PlanFailed(f"Omnitron refused {told}: {answer.describe()}")
        return answer

    async def _check_own_word(
        self, what: str, pk: object, names: Plans | Transactions, one_path: str
    ) -> None:
        """Make sure that a 404 in JSON for one thing is Omnitron's own: a gateway may know no such path.

        Another thing, which Omnitron's own list shows, is asked for in the same way; where that is answered, the path
        is right. An empty list is Omnitron's own word, too. Raises PlanFailed.
        """
        asked = str(pk).strip()
        told = f"Omnitron answers 404 to {what} {_named(pk)}"
        mend = "is the path wrong, or does a gateway in between answer? It is asked again by the next run"
        other = self._controls.pop(what, asked)
        if other == asked:
            shown = await self._shown_first(names, told)
            if asked in shown:
                raise PlanFailed(f"{told}, though its own list shows it: {mend}")
            if not shown:
                return
            other = shown[0]
        answer = await self._of_plan(self._request("GET", _filled(one_path, pk=other)), told)
        if not answer.ok or not answer.is_json:
            also = "also" if answer.status == 404 else f"{answer.status}"
            raise PlanFailed(f"{told}, and {also} to {what} {_named(other)} that its own list shows: {mend}")
        self._controls[what] = other

    async def _shown_first(self, names: Plans | Transactions, told: str) -> list[str]:
        """The numbers on the shortest first page of a list, whatever their status. Raises PlanFailed."""
        unread = f"{told}, and its list cannot be read to see whether it knows others"
        request = self._request("GET", with_query(names.path, {self.profile.plans.limit: "1"}))
        document = self._json_of(await self._of_plan(request, unread), unread)
        rows = document.get("results") if isinstance(document, dict) else document
        numbers = [pk for row in rows if (pk := pk_of(row, names.pk))] if isinstance(rows, list) else []
        if not isinstance(rows, list) or (rows and not numbers):
            raise PlanFailed(f"{unread}: the answer is no list")
        return numbers

    def _of_order(self, documents: list[dict[str, Any]], order: str) -> list[dict[str, Any]]:
        """Those of the order, and those that do not tell theirs."""
        kept = []
        for document in documents:
            orders = {order_pk(document), order_number(document)} - {None}
            if not orders and not self._order_untold:
                self._order_untold = True
                log.warning("Omnitron's plans do not show their order; its filter is trusted")
            if orders and order.strip() not in orders:
                if not self.of_other_orders:
                    log.warning(
                        "Omnitron lists plans of other orders than the one that was asked for: left out"
                    )
                self.of_other_orders += 1
                self.others.add(self.number_of(document) or "")
                continue
            kept.append(document)
        return kept

    def _selection(self, status_word: str) -> dict[str, str]:
        names, settings = self.profile.plans, self.settings
        params = {names.status: status_word, names.channel_type: settings.channel_type}
        if settings.cancel_type != "all":
            params[names.cancel_type] = self.profile.word(settings.cancel_type)
        if settings.channel_ids:
            params[names.channel_ids] = ",".join(map(str, settings.channel_ids))
        return params | {name: query_text(value) for name, value in names.extra.items()}

    async def _pages(
        self, names: Plans | Transactions, params: Mapping[str, str], anew: Callable[[], None] | None = None
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """New documents page by page.

        A set that shrinks while it is read shifts its later pages and hides documents: then all is read once
        more, without those that were listed already. With `anew`, which is called before, with all of them, as
        they are by then.
        """
        seen: set[str] = set()
        without_pk = self._without_pk[names.path]
        for reading in range(2):
            self._without_pk[names.path] = without_pk
            if reading and anew is not None:
                seen.clear()
                anew()
            listing = _Listing(self, names, params)
            async for rows in listing.pages():
                new = self._unseen(rows, seen, names)
                if new:
                    yield new
            if not listing.has_gaps:
                return
            log.info("the listing of %s may have gaps: it changed while it was read", names.path)
        self.incomplete = self.incomplete or listing.is_short

    def _unseen(self, rows: list[Any], seen: set[str], names: Plans | Transactions) -> list[dict[str, Any]]:
        new = []
        for row in rows:
            pk = pk_of(row, names.pk)
            if pk is None:
                self._without_pk[names.path] += 1
            elif pk not in seen:
                seen.add(pk)
                new.append(row)
        return new

    async def _counted(self, params: Mapping[str, str], told: str) -> int:
        try:
            return sum([len(page) async for page in self._pages(self.profile.plans, params)])
        except ListingFailed as error:
            raise PlanFailed(f"{told}: {error}") from None

    async def _has_status(self, pk: object, word: str, refusal: Answer) -> bool:
        if refusal.status not in _REFUSED_MOVES:
            return False
        try:
            document = await self.plan(pk)
        except PlanFailed:
            return False
        return document is not None and document.get("status") == word

    def _request(self, method: str, path: str, body: bytes | None = None) -> Request:
        url = self.caller.endpoint.url(path)
        return Request(method, url, JSON_BODY if body is not None else {}, body)

    def failed(self, why: str) -> PlanFailed:
        """The failure of a plan that was answered; where that answer has opened the breaker, it is AskedToWait."""
        return AskedToWait(why) if self.caller.breaker.reason else PlanFailed(why)

    async def _of_plan(self, request: Request, what: str, *, once: bool = False) -> Answer:
        try:
            answer = await self.ask(request, once=once)
        except (NotSent, OutcomeUnknown) as error:
            raise PlanFailed(f"{what}: {error}; it is repeated by the next run") from None
        if self.caller.breaker.reason and asks_for_long(answer):
            raise AskedToWait(f"{what}: {self.caller.breaker.reason}; it is repeated by a later run")
        return answer

    def _json_of(self, answer: Answer, told: str) -> Any:
        if not answer.ok:
            raise PlanFailed(f"{told}: {answer.describe()}")
        try:
            return answer.json()
        except BadAnswer as error:
            raise PlanFailed(f"{told}: {error}") from None

    async def ask(self, request: Request, *, once: bool = False) -> Answer:
        """Any request, with the token; `once`: it must not be repeated. Raises NotSent, OutcomeUnknown."""
        call = self.caller.ask_once if once else self.caller.ask
        token = await self._tokens.current()
        answer = await self._asked(call, request, token)
        if not self._tokens.may_renew(answer.status, token.version):
            return answer
        answer = await self._asked(call, request, await self._tokens.renew(token))
        if answer.status == 401:
            raise TokenRefused(f"Omnitron refuses a token that it has just given: {answer.describe(200)}")
        return answer

    async def _asked(self, call: Callable[..., Awaitable[Answer]], request: Request, token: Token) -> Answer:
        answer = await call(request, auth=self._auth(token.value))
        await self._tokens.note(answer.status, token.version)
        return answer

    def _auth(self, token: str) -> dict[str, str]:
        login = self.profile.login
        return {login.header: f"{login.prefix} {token}" if login.prefix else token}


class _Listing:
    """One pass over the pages of a list; afterwards it tells whether documents may have been missed."""

    def __init__(self, omnitron: Omnitron, names: Plans | Transactions, params: Mapping[str, str]) -> None:
        self._omnitron = omnitron
        self._limit = omnitron.settings.page_size
        self._names = omnitron.profile.plans
        self._path, self._pk = names.path, names.pk
        self._warned = False
        self._params = {**params, self._names.limit: str(self._limit)}
        self._seen: set[str] = set()
        self._rows = 0
        self._count: int | None = None
        self._shrank = False

    @property
    def is_short(self) -> bool:
        """Whether fewer documents came than Omnitron counts."""
        return self._count is not None and self._rows < self._count

    @property
    def has_gaps(self) -> bool:
        """Whether it came out short, or documents left it meanwhile, which shifts its later pages."""
        return self._shrank or self.is_short

    async def pages(self) -> AsyncIterator[list[Any]]:
        """The rows of each page. Raises ListingFailed, BadListing."""
        number, url = 1, self._url(1)
        visited = {url}
        while True:
            document = await self._read(url, number)
            if document is None:
                return
            rows, following = self._rows_of(document), None
            brought = self._note(rows)
            if brought or number == 1:
                yield rows
            number += 1
            if isinstance(document, dict):
                self._watch_count(document.get("count"))
                following = self._next_of(document)
            if following is None and brought and self._may_go_on(document):
                following = self._url(number)
            if following is None:
                return
            if not brought or following in visited:
                self._end_of_loop()
                return
            visited.add(following)
            url = following

    def _may_go_on(self, document: Any) -> bool:
        """Whether a page may follow of which the answer says nothing; one may be shorter than was asked for."""
        if isinstance(document, dict) and "next" in document:
            return False
        return self._count is None or self._rows < self._count

    def _url(self, number: int) -> str:
        page = {self._names.page: str(number)}
        return self._omnitron.caller.endpoint.url(with_query(self._path, {**self._params, **page}))

    async def _read(self, url: str, number: int) -> Any:
        """The page's JSON, None for a later page that is not there any more."""
        asked_at = self._omnitron.caller.clock()
        try:
            answer = await self._omnitron.ask(Request("GET", url))
        except (NotSent, OutcomeUnknown) as error:
            raise ListingFailed(f"page {number} of {self._path}: {error}") from None
        self._note_time(answer, asked_at)
        if answer.status == 404 and number > 1:
            self._shrank = self._count is not None
            return None
        told = f"page {number} of {self._path}: {answer.describe()}"
        if answer.status >= 500 or answer.status in (408, 425, 429):
            raise ListingFailed(told)
        if not answer.ok:
            raise BadListing(told)
        try:
            document = answer.json()
        except BadAnswer:
            raise BadListing(f"{told} is not JSON") from None
        if not isinstance(document, dict | list):
            raise BadListing(f"{told} is neither a list nor an object")
        return document

    def _note_time(self, answer: Answer, asked_at: float) -> None:
        """The header's clock may be a balancer's, and ahead; what changes after that moment is listed again."""
        if self._omnitron.first_seen_at is None:
            theirs = server_time(answer)
            self._omnitron.first_seen_at = (
                asked_at if theirs is None else min(asked_at, theirs - answer.seconds)
            )

    def _rows_of(self, document: Any) -> list[Any]:
        rows = document.get("results") if isinstance(document, dict) else document
        if not isinstance(rows, list):
            raise BadListing(f"{self._path} answered an object without a list of 'results'")
        return rows

    def _note(self, rows: list[Any]) -> bool:
        before = len(self._seen)
        self._rows += len(rows)
        self._seen.update(pk_of(row, self._pk) or f"no number: {json.dumps(row)}" for row in rows)
        return len(self._seen) > before

    def _watch_count(self, count: object) -> None:
        if not is_whole(count):
            return
        self._shrank = self._shrank or (self._count is not None and count < self._count)
        self._count = count

    def _next_of(self, document: dict[str, Any]) -> str | None:
        """The next page, asked at our own address of the list: only the query of `next` is taken.

        A proxy in front of Omnitron has another scheme, host or base path than `next` names.
        """
        following = document.get("next")
        if not following:
            return None
        own, path = URL(self._url(1)), self._path.partition("?")[0]
        url = _url_in(following)
        url = None if url is None else own.join(url)
        if url is None or not url.query_string or not _plain(url.path).endswith(_plain(path)):
            raise BadListing(
                f"{self._path} names a next page that is none of this list; it was not asked. "
                f"`next` is {printable(str(following), 300)}"
            )
        self._warn_of_another_place(url, own)
        return self._omnitron.caller.endpoint.url(f"{path}?{url.raw_query_string}")

    def _warn_of_another_place(self, following: URL, own: URL) -> None:
        if (_name(following), _plain(following.path)) == (_name(own), _plain(own.path)) or self._warned:
            return
        self._warned = True
        log.warning(
            "the next page of %s is said to be at %s%s; it is asked where the Connection points to, %s%s",
            self._path,
            *(printable(part, 200) for url in (following, own) for part in (url.authority, url.path)),
        )

    def _end_of_loop(self) -> None:
        if self._count is not None and len(self._seen) < self._count:
            raise BadListing(
                f"the pages of {self._path} repeat: {len(self._seen)} of {self._count} documents were listed"
            )


def misfit(document: Mapping[str, Any], settings: OmnitronSettings) -> str | None:
    """Why a listed plan does not fit the settings, None where it fits or does not tell.

    Omnitron may ignore a filter it does not know, so what a document carries is compared again.
    """
    for name, found, wanted in _checks(document, settings):
        if found is not None and found not in wanted:
            return f"{name} is '{printable(found, 60)}', not {' or '.join(sorted(wanted))}"
    return None


def unchecked(document: Mapping[str, Any], settings: OmnitronSettings) -> list[str]:
    """Which of the comparisons of `misfit` the document gives no ground for."""
    return [name for name, found, _ in _checks(document, settings) if found is None]


def _checks(
    document: Mapping[str, Any], settings: OmnitronSettings
) -> list[tuple[str, str | None, frozenset[str]]]:
    status = document.get("status")
    checks = [
        ("the status", status if isinstance(status, str) else None, frozenset({status_word_of(settings)})),
        ("the channel type", channel_type_of(document), frozenset({settings.channel_type})),
    ]
    if settings.cancel_type != "all":
        word = settings.api.word(settings.cancel_type)
        checks.append(("the plan type", plan_type_of(document), frozenset({word})))
    if settings.channel_ids:
        checks.append(("the channel", channel_of(document), frozenset(map(str, settings.channel_ids))))
    return checks


def status_word_of(settings: OmnitronSettings) -> str:
    """Omnitron's word for the status that the settings select; `order_transaction` means completed plans."""
    name = "completed" if settings.cancel_status == "order_transaction" else settings.cancel_status
    return settings.api.word(name)


def pk_of(document: Any, path: str = "pk") -> str | None:
    """The number at `path` as text; None where none stands there that could stand in an address and in the journal.

    It is a text that is not blank, or a whole number; printable, and not longer than LONGEST_NUMBER.
    """
    shown = at_path(document, path) if isinstance(document, dict) else None
    pk = _id(shown)
    return pk if pk is not None and is_usable(str(shown)) else None


def is_usable(number: str) -> bool:
    """Whether a number can stand in an address and, uncut, in the journal."""
    unfit = UNPRINTABLE.search(number) or number.strip() in (".", "..")
    return not unfit and len(number) <= LONGEST_NUMBER


def shown_number(document: Mapping[str, Any], path: str = "pk") -> str:
    """The number at `path` as the journal keeps it: blanks around it included."""
    return printable(str(at_path(document, path)), LONGEST_NUMBER)


def order_number(document: Mapping[str, Any]) -> str | None:
    """The order's number, as people know it."""
    return _text(_order(document).get("number")) or _text(document.get("order_number"))


def order_pk(document: Mapping[str, Any]) -> str | None:
    """The order's pk; `order` may be an object or the pk itself."""
    return id_or_own(document.get("order"))


def channel_of(document: Mapping[str, Any]) -> str | None:
    """The channel's pk; `order.channel` may be an object or the pk itself."""
    return id_or_own(_order(document).get("channel"))


def channel_type_of(document: Mapping[str, Any]) -> str | None:
    """The channel's type, where the order carries its channel as an object."""
    channel = _order(document).get("channel")
    return _text(channel.get("channel_type")) if isinstance(channel, dict) else None


def amount_of(document: Mapping[str, Any]) -> str | None:
    """The plan's amount, as written: its `refund_amount`, else the sum of its items' prices."""
    return _text(document.get("refund_amount")) or _sum_of_items(document)


def currency_of(document: Mapping[str, Any]) -> str | None:
    """The order's currency in upper case."""
    found = _text(_order(document).get("currency"))
    return found.upper() if found else None


def plan_type_of(document: Mapping[str, Any]) -> str | None:
    """`cancel` or `refund`, in Omnitron's words."""
    return _text(document.get("plan_type"))


def modified_of(document: Mapping[str, Any]) -> str | None:
    """When the plan was changed last, as written."""
    return _text(document.get("modified_date"))


def earliest(date: object) -> datetime | None:
    """The earliest moment that a date may mean, None where it is not readable.

    Without an offset it may be any shop's local time.
    """
    try:
        found = datetime.fromisoformat(date) if isinstance(date, str) else None
        return found and (found if found.tzinfo else found.replace(tzinfo=_EARLIEST)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def content_digest(document: Any) -> str:
    """A hash of what the plan says; a change of its status, or of who changed it when, does not alter it."""
    stable = json.dumps(_stable(document), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(stable.encode()).hexdigest()


def same_content(known: Any, shown: Any) -> bool:
    """Whether one plan's page says the same as the listing did, as far as both say it.

    The page may show more than a listing, and an object where that shows its number only. What `content_digest`
    leaves out is left out here too.
    """
    return _same(known, shown, VOLATILE)


def same_to_the_line(known: Mapping[str, Any], shown: Mapping[str, Any]) -> bool:
    """As `same_content`, but what is left out counts below the plan itself: a line may be cancelled by its status."""
    one, other = ({name: plan[name] for name in plan.keys() - VOLATILE} for plan in (known, shown))
    return _same(one, other, frozenset())


def _same(known: Any, shown: Any, left_out: frozenset[str]) -> bool:
    if isinstance(known, dict) and isinstance(shown, dict):
        names, others = known.keys() - left_out, shown.keys() - left_out
        both = names & others
        apart = bool(names and others) and not both
        return not apart and all(_same(known[name], shown[name], left_out) for name in both)
    if isinstance(known, list) and isinstance(shown, list):
        pairs = zip(known, shown, strict=False)
        return len(known) == len(shown) and all(_same(one, other, left_out) for one, other in pairs)
    if isinstance(known, dict) != isinstance(shown, dict):
        return id_or_own(known) is not None and id_or_own(known) == id_or_own(shown)
    return _kind(known) is _kind(shown) and bool(known == shown)


def _kind(value: Any) -> type:
    return float if isinstance(value, float) else type(value)


def with_query(path: str, params: Mapping[str, str]) -> str:
    """`path` with `params` as its query; commas stay readable."""
    return f"{path}{'&' if '?' in path else '?'}{urlencode(params, safe=',', quote_via=quote)}"


def iso(moment: datetime) -> str:
    """An aware time as Omnitron's filters take it: UTC, `2024-01-01T00:00:00Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def json_bytes(body: Any) -> bytes:
    """Compact JSON in UTF-8. Raises ValueError (NaN, lone surrogates), TypeError, RecursionError."""
    return exact_json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, and not a boolean."""
    return isinstance(value, int) and not isinstance(value, bool)


def _named(pk: object) -> str:
    return printable(str(pk), 60)


def _filled(template: str, **values: object) -> str:
    try:
        return fill_path(template, **values)
    except ValueError as error:
        raise PlanFailed(f"there is no path to ask for: {error}") from None


def _without_limit(params: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in params.items() if key != name}


def _url_in(text: object) -> URL | None:
    try:
        url = URL(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return url if url is not None and url.scheme in ("", "http", "https") else None


def _name(url: URL) -> str:
    return (url.raw_host or "").rstrip(".")


def _plain(path: str) -> str:
    """The path without what may be spelt in two ways."""
    return path.rstrip("/")


def _order(document: Mapping[str, Any]) -> Mapping[str, Any]:
    order = document.get("order")
    return order if isinstance(order, dict) else {}


def _text(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return exact_json.as_text(value).strip() or None


def _id(value: object) -> str | None:
    return str(value).strip() or None if isinstance(value, str) or is_whole(value) else None


def id_or_own(value: object) -> str | None:
    """A number as text: the value itself, or the `pk` or `id` of an object."""
    if isinstance(value, dict):
        return _id(value.get("pk")) or _id(value.get("id"))
    return _id(value)


def _sum_of_items(document: Mapping[str, Any]) -> str | None:
    items = document.get("cancellationplanorderitem_set")
    if not isinstance(items, list) or not items:
        return None
    try:
        return str(
            sum((Decimal(exact_json.as_text(item["order_item"]["price"])) for item in items), Decimal(0))
        )
    except (ArithmeticError, KeyError, TypeError):
        return None


def _stable(value: Any) -> Any:
    """The value without what a status change alters; leaves are not looked into, as most of a plan is leaves."""
    if isinstance(value, dict):
        return {
            key: _stable(item) if isinstance(item, _CONTAINERS) else item
            for key, item in value.items()
            if key not in VOLATILE
        }
    if isinstance(value, list):
        return [_stable(item) if isinstance(item, _CONTAINERS) else item for item in value]
    return value
