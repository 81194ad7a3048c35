"""The command `check`: harmless questions to a live Omnitron and ERP, and which profile entries do not hold.

Only GET and OPTIONS are sent, besides the logins themselves. Whether a filter filters is judged by asking
with two values that no plan can have at once: a plan in both answers tells that the parameter is ignored.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from include.order_cancel import erp as erp_system
from include.order_cancel import omnitron as omnitron_system
from include.order_cancel import omnitron as read
from include.order_cancel.cli import places
from include.order_cancel.cli.output import Said, table
from include.order_cancel.erp import Erp
from include.order_cancel.errors import OrderCancelError
from include.order_cancel.http import Answer, BadAnswer, Endpoint, NotSent, OutcomeUnknown, Request
from include.order_cancel.omnitron import Omnitron, with_query
from include.order_cancel.paths import at_path
from include.order_cancel.profile import fill_path, query_text
from include.order_cancel.secrecy import mask
from include.order_cancel.settings import FlowSettings
from include.order_cancel.tokens import LoginFailed, MemoryStore

Document = dict[str, Any]
Params = Mapping[str, str]

_STATUS_WORDS = ("waiting", "confirmed", "completed", "confirmation_waiting", "approved", "rejected")
_LONG_AGO, _FAR_AHEAD = "2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z"
_NO_ID, _NO_WORD = "999999999", "no_such_word"
_SAMPLE = 50
_TIMEOUT_SECONDS = 20.0
_WORDS = {True: "holds", False: "differs", None: "unknown"}


@dataclass(frozen=True)
class Finding:
    """What was found of one entry of the settings: whether it holds (None: could not be told), and why.

    used: whether this flow depends on it.
    """

    entry: str
    holds: bool | None
    why: str
    used: bool = True


@dataclass(frozen=True)
class Filter:
    """A parameter of a list request, with two values that exclude one another.

    invented: the second value is made up, so that its refusal tells that the parameter is read.
    expects: the first value is known to have plans.
    """

    entry: str
    name: str
    this: str
    other: str
    invented: bool = False
    expects: bool = False
    used: bool = True


def check(given: argparse.Namespace) -> Said:
    """Ask both systems; exit code 1 where an entry that the flow depends on does not hold."""
    settings = places.settings(given.flow, given.file)
    omnitron, erp = places.endpoints(settings, given.file, given.omnitron_url, given.erp_url)
    findings = asyncio.run(ask_both(settings, omnitron, erp))
    secrets = [*omnitron.secrets, *erp.secrets]
    rows = [
        (
            _WORDS[one.holds],
            one.entry,
            mask(one.why + ("" if one.used else " (not used by this flow)"), secrets),
        )
        for one in findings
    ]
    wrong = [one.entry for one in findings if one.holds is False]
    summary = "nothing was written. " + (
        f"{len(wrong)} of {len(findings)} do not hold; omnitron.api overrides the profile: {', '.join(wrong)}"
        if wrong
        else "every entry that could be judged holds"
    )
    failed = any(one.used and one.holds is False for one in findings)
    return Said(f"{table(('found', 'entry', 'why'), rows)}\n\n{summary}", 1 if failed else 0)


async def ask_both(settings: FlowSettings, omnitron: Endpoint, erp: Endpoint) -> list[Finding]:
    """All findings, in the order of the questions. Writes nothing.

    Raises SettingsError for a Connection that cannot be used.
    """
    store = MemoryStore()
    findings: list[Finding] = []
    async with omnitron_system.connect(
        omnitron, settings.omnitron, store, timeout_seconds=_TIMEOUT_SECONDS
    ) as system:
        findings += [found async for found in _ask_omnitron(OmnitronQuestions(system, settings))]
    seconds = min(_TIMEOUT_SECONDS, settings.erp.timeout_seconds)
    async with erp_system.connect(erp, settings.erp, store, timeout_seconds=seconds) as system_of_erp:
        findings += [found async for found in _ask_erp(system_of_erp, settings)]
    return findings


async def _ask_omnitron(questions: OmnitronQuestions) -> AsyncIterator[Finding]:
    try:
        await questions.omnitron.login()
    except LoginFailed as error:
        yield Finding("omnitron.api.login", False, str(error))
        return
    yield Finding("omnitron.api.login", True, "a token was given")
    groups: dict[str, Callable[[], AsyncIterator[Finding]]] = {
        "omnitron.api.words": questions.statuses,
        "omnitron.api.plans.path": questions.plans,
        "omnitron.api.plans": questions.filters,
        "omnitron.api.plans.page": questions.pages,
        "omnitron.api.write_back": questions.write_back,
        "omnitron.api.transactions": questions.transactions,
    }
    for entry, ask in groups.items():
        try:
            async for finding in ask():
                yield finding
        except OrderCancelError as error:
            yield Finding(entry, None, str(error))


class OmnitronQuestions:
    """The questions to Omnitron. `plans` finds the sample by which the later ones judge."""

    def __init__(self, omnitron: Omnitron, settings: FlowSettings) -> None:
        self.omnitron, self.settings = omnitron, settings
        self.profile = settings.omnitron.api
        self.sample: list[Document] = []

    @property
    def _kind(self) -> str:
        return self.settings.omnitron.cancel_status

    @property
    def _writes(self) -> bool:
        rejects = self._kind not in ("completed", "order_transaction")
        return rejects or self.settings.writes_status

    async def statuses(self) -> AsyncIterator[Finding]:
        """Whether Omnitron lists the profile's words among its plan statuses."""
        path = f"{self.profile.plans.path}cancellation_plan_statuses/"
        answer = await self._ask("GET", path)
        listed = _texts(_json_or_none(answer)) if answer.ok else set()
        if not listed:
            yield Finding("omnitron.api.words", None, f"{path} lists no statuses: {answer.describe(120)}")
            return
        for name in _STATUS_WORDS:
            word, entry = self.profile.word(name), f"omnitron.api.words.{name}"
            if word in listed:
                yield Finding(entry, True, f"'{word}' is listed", self._uses(name))
            else:
                why = f"Omnitron lists no status '{word}', only {', '.join(sorted(listed))}"
                yield Finding(entry, False, why, self._uses(name))

    def _uses(self, name: str) -> bool:
        fetched = "completed" if self._kind == "order_transaction" else self._kind
        written = {self.settings.omnitron.next_state} if self.settings.writes_status else set()
        return name in {fetched, *written} or (name == "rejected" and self._writes)

    async def plans(self) -> AsyncIterator[Finding]:
        """Whether plans are listed, by the flow's own question and by none, and what they carry."""
        limit = {self.profile.plans.limit: str(self.settings.omnitron.page_size)}
        answer = await self._list(self._selection() | limit)
        own = _documents(answer)
        if own is None:
            yield Finding(
                "omnitron.api.plans", False, f"the flow's own question is answered {answer.describe(200)}"
            )
        else:
            misfits = [why for one in own if (why := read.misfit(one, self.settings.omnitron))]
            told = f"the flow's own question finds {len(own)} plans on its first page"
            extra = f"; {len(misfits)} of them do not fit: {misfits[0]}" if misfits else ""
            yield Finding("omnitron.api.plans", not misfits, told + extra)
        answer = await self._list({self.profile.plans.limit: str(_SAMPLE)})
        self.sample = _documents(answer) or own or []
        if not self.sample:
            yield Finding(
                "plan", None, f"no plan is listed by which more could be judged: {answer.describe(120)}"
            )
            return
        for finding in self._fields():
            yield finding
        async for finding in self._one_plan():
            yield finding

    def _fields(self) -> list[Finding]:
        omnitron = self.settings.omnitron
        pk = self.profile.plans.pk
        readers: list[tuple[str, Callable[[Document], object], bool]] = [
            ("status", lambda plan: plan.get("status"), True),
            ("plan_type", read.plan_type_of, omnitron.cancel_type != "all"),
            ("order.pk", read.order_pk, self._kind == "order_transaction"),
            ("order.number", read.order_number, True),
            ("order.channel", read.channel_of, bool(omnitron.channel_ids)),
            ("refund_amount", read.amount_of, False),
            ("order.currency", read.currency_of, False),
            ("created_date", lambda plan: plan.get("created_date"), False),
            ("modified_date", read.modified_of, self._kind == "completed"),
        ]
        findings = [self._carried("omnitron.api.plans.pk", pk, self.omnitron.number_of, True)]
        return findings + [
            self._carried(f"plan.{name}", name, reader, used) for name, reader, used in readers
        ]

    def _carried(self, entry: str, name: str, reader: Callable[[Document], object], used: bool) -> Finding:
        count = sum(reader(plan) is not None for plan in self.sample)
        if count:
            return Finding(entry, True, f"{count} of {len(self.sample)} listed plans carry '{name}'", used)
        return Finding(entry, False, f"none of {len(self.sample)} listed plans carries '{name}'", used)

    async def _one_plan(self) -> AsyncIterator[Finding]:
        pk = self.omnitron.number_of(self.sample[0])
        if pk is None:
            return
        answer = await self._ask("GET", fill_path(self.profile.plan.path, pk=pk))
        found = _json_or_none(answer)
        if answer.ok and isinstance(found, dict) and self.omnitron.number_of(found) == pk:
            yield Finding("omnitron.api.plan.path", True, f"plan {pk} can be read")
        else:
            yield Finding(
                "omnitron.api.plan.path", False, f"plan {pk} cannot be read: {answer.describe(200)}"
            )

    async def filters(self) -> AsyncIterator[Finding]:
        """Whether each parameter of the list request filters."""
        if not self.sample:
            return
        path = self.profile.plans.path
        for one in self._plan_filters():
            yield await self._filters(path, self._extra(), one)
        channel = next(filter(None, map(read.channel_of, self.sample)), None)
        if channel is None:
            yield Finding("omnitron.api.plans.channel_ids", None, "no listed plan names its channel")
            return
        used, entry = bool(self.settings.omnitron.channel_ids), "omnitron.api.plans.channel_ids"
        name = self.profile.plans.channel_ids
        found = await self._filters(
            path, self._extra(), Filter(entry, name, channel, _NO_ID, True, True, used)
        )
        if found.holds:
            joined = await self._list({name: f"{channel},{_NO_ID}"})
            if not _documents(joined):
                why = f"ids joined by commas are not understood: {joined.describe(120)}"
                found = Finding(entry, False, why, used)
        yield found

    def _plan_filters(self) -> list[Filter]:
        names, word, omnitron = self.profile.plans, self.profile.word, self.settings.omnitron
        shown = next((plan["status"] for plan in self.sample if isinstance(plan.get("status"), str)), None)
        status = shown or read.status_word_of(omnitron)
        other = word("rejected") if status != word("rejected") else word("waiting")
        windowed = self._kind == "completed"
        filters = [
            Filter("status", names.status, status, other, expects=shown is not None),
            Filter("channel_type", names.channel_type, omnitron.channel_type, _NO_WORD, invented=True),
            Filter(
                "cancel_type",
                names.cancel_type,
                word("cancel"),
                word("refund"),
                used=omnitron.cancel_type != "all",
            ),
            Filter(
                "modified_after", names.modified_after, _LONG_AGO, _FAR_AHEAD, expects=True, used=windowed
            ),
            Filter(
                "modified_before", names.modified_before, _FAR_AHEAD, _LONG_AGO, expects=True, used=windowed
            ),
        ]
        order = next(filter(None, map(read.order_pk, self.sample)), None)
        if order is not None:
            by_order = self._kind == "order_transaction"
            filters.append(Filter("order", names.order, order, _NO_ID, True, True, by_order))
        return [_under("omnitron.api.plans", one) for one in filters]

    async def _filters(self, path: str, base: Params, one: Filter) -> Finding:
        """What two questions that exclude one another tell of a parameter."""
        limit = {self.profile.plans.limit: str(_SAMPLE)}
        mine = await self._ask("GET", with_query(path, {**base, **limit, one.name: one.this}))
        theirs = await self._ask("GET", with_query(path, {**base, **limit, one.name: one.other}))
        here, there = _documents(mine), _documents(theirs)
        asked = f"{one.name}={one.this}"
        if here is None:
            return Finding(one.entry, False, f"{asked} is answered {mine.describe(200)}", one.used)
        if there is None:
            there = []
            if not one.invented:
                why = f"{one.name}={one.other} is answered {theirs.describe(200)}"
                return Finding(one.entry, False, why, one.used)
        pk = self.profile.transactions.pk if path == self.profile.transactions.path else self.profile.plans.pk
        if common := _keys(here, pk) & _keys(there, pk):
            why = f"{one.name} does not filter: {one.this} and {one.other} list {len(common)} of the same"
            return Finding(one.entry, False, why, one.used)
        if not here and one.expects:
            return Finding(one.entry, False, f"{asked} finds nothing, though there are such", one.used)
        if not here and not there and not one.invented:
            return Finding(one.entry, None, f"nothing to judge {one.name} by", one.used)
        return Finding(one.entry, True, f"{one.name} filters", one.used)

    async def pages(self) -> AsyncIterator[Finding]:
        """Whether page and limit are followed."""
        if not self.sample:
            return
        names = self.profile.plans
        first = _documents(await self._list({names.limit: "1", names.page: "1"})) or []
        second = _documents(await self._list({names.limit: "1", names.page: "2"})) or []
        if len(self.sample) < 2:
            yield Finding("omnitron.api.plans.page", None, "there is one plan only, too few for two pages")
            return
        short = len(first) == 1
        why = "one plan for limit 1" if short else f"{len(first)} plans for {names.limit}=1"
        yield Finding("omnitron.api.plans.limit", short, why)
        same = _keys(first, self.profile.plans.pk) & _keys(second, self.profile.plans.pk)
        if same or (short and not second):
            told = "shows the plans of page 1" if same else "is empty, though there are more plans"
            yield Finding("omnitron.api.plans.page", False, f"{names.page}=2 {told}")
        else:
            yield Finding("omnitron.api.plans.page", True, "page 2 shows other plans than page 1")

    async def write_back(self) -> AsyncIterator[Finding]:
        """Whether Omnitron allows the write-back's method on a plan; asked with OPTIONS."""
        pk = self.omnitron.number_of(self.sample[0]) if self.sample else None
        if pk is None:
            yield Finding("omnitron.api.write_back", None, "no plan to ask about", self._writes)
            return
        names = self.profile.write_back
        word = self.profile.word(self.settings.omnitron.next_state or "rejected")
        answer = await self._ask("OPTIONS", fill_path(names.path, pk=pk, status=word))
        yield _allowed("omnitron.api.write_back", names.method, answer, self._writes)
        choices = _choices(_json_or_none(answer), names.method, names.body)
        if choices and word not in choices:
            why = f"'{word}' is not among the statuses that may be written: {', '.join(sorted(choices))}"
            yield Finding("omnitron.api.write_back.body", False, why, self._writes)

    async def transactions(self) -> AsyncIterator[Finding]:
        """Whether order transactions are listed, filtered, carry their order, and can be mapped."""
        names, used = self.profile.transactions, self._kind == "order_transaction"
        extra = {name: query_text(value) for name, value in names.extra.items()}
        base = extra | {names.type: names.type_word}
        answer = await self._ask(
            "GET", with_query(names.path, base | {self.profile.plans.limit: str(_SAMPLE)})
        )
        found = _documents(answer)
        if found is None:
            why = f"transactions of type '{names.type_word}' are answered {answer.describe(200)}"
            yield Finding("omnitron.api.transactions", False, why, used)
            return
        if not found:
            why = f"no transaction of type '{names.type_word}' is listed"
            yield Finding("omnitron.api.transactions", None, why, used)
            return
        section = "omnitron.api.transactions"
        kind = Filter("type", names.type, names.type_word, _NO_WORD, True, True, used)
        since = Filter("since", names.since, _LONG_AGO, _FAR_AHEAD, expects=True, used=used)
        yield await self._filters(names.path, extra, _under(section, kind))
        yield await self._filters(names.path, base, _under(section, since))
        with_order = sum(at_path(one, names.order_path) is not None for one in found)
        why = f"{with_order} of {len(found)} listed transactions carry '{names.order_path}'"
        yield Finding(f"{section}.order_path", with_order > 0, why, used)
        async for finding in self._mapping_calls(found[0], used):
            yield finding

    async def _mapping_calls(self, transaction: Document, used: bool) -> AsyncIterator[Finding]:
        path = self.profile.transactions.pk
        pk = read.pk_of(transaction, path)
        if pk is None:
            why = f"a listed transaction carries no usable number at '{path}'"
            yield Finding("omnitron.api.transactions.pk", False, why, used)
            return
        yield Finding("omnitron.api.transactions.pk", True, f"transaction {pk} carries it at '{path}'", used)
        answer = await self._ask("GET", fill_path(self.profile.mappings.path, pk=pk))
        listed = _documents(answer) is not None
        why = f"the mappings of transaction {pk} are answered {answer.describe(120)}"
        yield Finding("omnitron.api.mappings.path", listed, why, used)
        names = self.profile.create_mapping
        answer = await self._ask("OPTIONS", fill_path(names.path, pk=pk, code="0"))
        yield _allowed("omnitron.api.create_mapping", names.method, answer, used)

    def _extra(self) -> dict[str, str]:
        return {name: query_text(value) for name, value in self.profile.plans.extra.items()}

    def _selection(self) -> dict[str, str]:
        """The parameters of the flow's own list request, its window excepted."""
        names, omnitron = self.profile.plans, self.settings.omnitron
        params = {
            names.status: read.status_word_of(omnitron),
            names.channel_type: omnitron.channel_type,
            names.page: "1",
        }
        if omnitron.cancel_type != "all":
            params[names.cancel_type] = self.profile.word(omnitron.cancel_type)
        if omnitron.channel_ids:
            params[names.channel_ids] = ",".join(map(str, omnitron.channel_ids))
        return params

    async def _list(self, params: Params) -> Answer:
        return await self._ask("GET", with_query(self.profile.plans.path, {**params, **self._extra()}))

    async def _ask(self, method: str, path: str) -> Answer:
        url = self.omnitron.caller.endpoint.url(path)
        return await self.omnitron.ask(Request(method, url), once=True)


async def _ask_erp(erp: Erp, settings: FlowSettings) -> AsyncIterator[Finding]:
    try:
        await erp.login()
    except LoginFailed as error:
        yield Finding("erp.login", False, str(error))
        return
    url = erp.caller.endpoint.url(settings.erp.cancellation_api_url)
    request = Request("OPTIONS", url)
    try:
        answer = await erp.send(request)
    except (NotSent, OutcomeUnknown) as error:
        yield Finding(
            "erp.conn_id", False, f"the ERP at {erp.caller.endpoint.host} cannot be reached: {error}"
        )
        return
    except OrderCancelError as error:
        yield Finding("erp.conn_id", None, str(error))
        return
    yield Finding("erp.conn_id", True, f"the ERP answers OPTIONS with {answer.describe(120)}")
    yield await _erp_login(erp, settings, request, answer)
    if answer.status == 404:
        yield Finding("erp.cancellation_api_url", None, "OPTIONS is answered 404; is the path right?")
    elif answer.headers.get("Allow"):
        yield _allowed("erp", settings.erp.http_method, answer, True, "http_method")


async def _erp_login(erp: Erp, settings: FlowSettings, request: Request, answer: Answer) -> Finding:
    """Whether the login is good: where the ERP answers the same without it, that cannot be told."""
    if answer.status in (401, 403):
        return Finding("erp.login", False, f"the ERP refuses the login: {answer.describe(120)}")
    endpoint = erp.caller.endpoint
    if settings.erp.login is None and not endpoint.login:
        return Finding("erp.login", None, "the Connection has no login; the ERP asks for none of OPTIONS")
    try:
        without = await erp.caller.send(request)
    except (NotSent, OutcomeUnknown) as error:
        return Finding("erp.login", None, str(error))
    if without.status in (401, 403):
        return Finding("erp.login", True, "the ERP accepts the login, and refuses who has none")
    if settings.erp.login is not None:
        return Finding("erp.login", True, "the ERP gave a token")
    return Finding("erp.login", None, "the ERP answers OPTIONS without a login too, so this does not tell")


def _under(section: str, one: Filter) -> Filter:
    return Filter(
        f"{section}.{one.entry}", one.name, one.this, one.other, one.invented, one.expects, one.used
    )


def _allowed(entry: str, method: str, answer: Answer, used: bool, name: str = "method") -> Finding:
    allowed = {word.strip().upper() for word in answer.headers.get("Allow", "").split(",") if word.strip()}
    if method in allowed:
        return Finding(f"{entry}.{name}", True, f"{method} is allowed", used)
    if allowed:
        why = f"{method} is not allowed there, only {', '.join(sorted(allowed))}"
        return Finding(f"{entry}.{name}", False, why, used)
    if answer.status == 404:
        return Finding(f"{entry}.path", False, f"there is nothing at this path: {answer.describe(120)}", used)
    return Finding(f"{entry}.{name}", None, f"OPTIONS does not tell: {answer.describe(120)}", used)


def _choices(content: Any, method: str, body: Document) -> set[str]:
    """The words that OPTIONS lists for the field which carries the status, empty where it lists none."""
    field = next((name for name, value in body.items() if value == "{status}"), None)
    if field is None:
        return set()
    listed = at_path(content, f"actions.{method}")
    choices = at_path(listed.get(field), "choices") if isinstance(listed, dict) else None
    return {str(one.get("value")) for one in choices or [] if isinstance(one, dict)}


def _documents(answer: Answer) -> list[Document] | None:
    """The documents of a list's page, None where it is no list."""
    content = _json_or_none(answer) if answer.ok else None
    rows = content.get("results") if isinstance(content, dict) else content
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else None


def _json_or_none(answer: Answer) -> Any:
    try:
        return answer.json()
    except BadAnswer:
        return None


def _keys(documents: list[Document], pk: str) -> set[str]:
    return {read.pk_of(one, pk) or json.dumps(one, sort_keys=True) for one in documents}


def _texts(content: Any) -> set[str]:
    """Every text in it, keys included: the list of statuses is documented by its name only."""
    if isinstance(content, str):
        return {content}
    if isinstance(content, dict):
        return {text for key, value in content.items() for text in {str(key), *_texts(value)}}
    if isinstance(content, list):
        return {text for item in content for text in _texts(item)}
    return set()
