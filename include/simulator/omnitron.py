"""Omnitron as the product sees it: a strict server in the manner of Django.

What its real documents leave open (the write-back of a plan, the mapping of a transaction) follows the
defaults of the product's API profile: unknown fields, unknown parameters and illegal transitions are refused.
"""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from include.simulator.plan_store import Filter, PlanStore, format_time, parse_time
from include.simulator.server import Settings, Simulator
from include.simulator.wire import JSON_HEADERS, Answer, Request, answer, dump

API = "/api/v1/"
LOGIN = "/api/v1/auth/login/"
PLANS = "cancellation_plans"
TRANSACTIONS = "order_transactions"
STATUSES = (
    "waiting",
    "confirmation_waiting",
    "confirmed",
    "approved",
    "completed",
    "rejected",
    "waiting_for_payment",
)
TRANSITIONS: dict[str, frozenset[str]] = {
    "waiting": frozenset({"approved", "confirmation_waiting", "confirmed", "completed", "rejected"}),
    "confirmation_waiting": frozenset({"approved", "confirmed", "completed", "rejected"}),
    "confirmed": frozenset({"approved", "completed", "rejected"}),
    "approved": frozenset({"completed", "rejected"}),
    "completed": frozenset(),
    "rejected": frozenset(),
    "waiting_for_payment": frozenset(),
}
PLAN_TYPES = ("cancel", "refund")
TRANSACTION_TYPES = ("payment", "return", "refund")
INTEGRATION_TYPES = ("external_company", "sales_channel", "web")
TRANSACTION_CONTENT_TYPE = 118
DEFAULT_LIMIT = 10
LARGEST_LIMIT = 500
PLAN_PARAMETERS = frozenset(
    {
        "status",
        "channel_type",
        "plan_type",
        "channel_id__in",
        "modified_date__gt",
        "modified_date__lte",
        "order_id",
        "order_number",
        "page",
        "limit",
    }
)
TRANSACTION_PARAMETERS = frozenset({"transaction_type", "created_date__gte", "page", "limit"})

Handler = Callable[[Request], Answer]


@dataclass(frozen=True, slots=True)
class OmnitronSettings(Settings):
    """What only Omnitron can be told.

    `bare_lists`: lists without the envelope. `ignore_page`: every page is the first. `write_back` False:
    plans cannot be patched.
    """

    bare_lists: bool = False
    ignore_page: bool = False
    write_back: bool = True


class Refused(Exception):
    """A request is answered with this instead of being carried out."""

    def __init__(self, refusal: Answer) -> None:
        super().__init__(refusal.status)
        self.answer = refusal


class OmnitronSimulator(Simulator):
    """Cancellation plans and order transactions behind a token.

    `channel_types` names the type of channels whose plans carry the channel's number only ("sales_channel"
    otherwise). `writes` counts the successful PATCHes per plan, those that changed nothing included;
    `transitions` lists the moves as (pk, from, to); `mappings` holds what was created, by transaction pk.
    Settings: see `OmnitronSettings`.
    """

    name = "omnitron"
    refusal = 400

    def __init__(
        self,
        plans: Iterable[dict[str, Any]] = (),
        transactions: Iterable[dict[str, Any]] = (),
        *,
        username: str = "omnitron",
        password: str = "secret",
        channel_types: Mapping[int, str] | None = None,
        keep: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(keep)
        self.settings = OmnitronSettings()
        self.set(**settings)
        self._credentials = {"username": username, "password": password}
        self._store = PlanStore(channel_types or {})
        self._transactions: dict[int, dict[str, Any]] = {}
        self.mappings: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
        self.put_plans(plans)
        self.put_transactions(transactions)

    # The state, for tests and for the control API

    def plan(self, pk: int) -> dict[str, Any]:
        """A copy of the plan's document. Raises KeyError."""
        return self._store.document(pk)

    def status(self, pk: int) -> str:
        return self._store[pk].status

    def statuses(self) -> dict[int, str]:
        return self._store.statuses()

    def put_plans(self, plans: Iterable[dict[str, Any]]) -> None:
        """Adds plans, replaces those with a known pk. Raises KeyError without pk, status, modified_date."""
        self._store.put(plans)

    def put_transactions(self, transactions: Iterable[dict[str, Any]]) -> None:
        for transaction in transactions:
            self._transactions[transaction["pk"]] = copy.deepcopy(transaction)
        self._transactions = dict(sorted(self._transactions.items()))

    def change(self, pk: int, **fields: Any) -> None:
        """Changes a plan by other hands: no rule is asked. Bumps modified_date unless it is given."""
        self._store.change(pk, {"modified_date": format_time(self.now()), **fields})

    def remove(self, pk: int) -> None:
        self._store.remove(pk)

    def set(self, **settings: Any) -> None:
        channel_types = settings.pop("channel_types", None)
        super().set(**settings)
        if channel_types:
            self._store.set_channel_types({int(channel): word for channel, word in channel_types.items()})

    def reset(self) -> None:
        super().reset()
        self.writes: Counter[int] = Counter()
        self.transitions: list[tuple[int, str, str]] = []

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "plans": self.statuses(),
            "writes": dict(self.writes),
            "transitions": self.transitions,
            "mappings": dict(self.mappings),
        }

    def load(self, content: Any) -> None:
        """Takes in a list of plans, or plans, transactions, faults, settings and channel_types by name."""
        if isinstance(content, list):
            content = {"plans": content}
        self.put_plans(content.get("plans", []))
        self.put_transactions(content.get("transactions", []))
        self.set(channel_types=content.get("channel_types"))
        super().load(content)

    def control(self, method: str, command: str, content: Any) -> Answer | None:
        match method, command:
            case "GET", "plans":
                return answer(200, self._store.documents())
            case "POST", "plans":
                self.put_plans(content if isinstance(content, list) else content["plans"])
            case "POST", "transactions":
                self.put_transactions(content if isinstance(content, list) else content["transactions"])
            case _:
                return super().control(method, command, content)
        return answer(200, {"ok": True})

    # What a request is

    def look_at(self, call: Request) -> None:
        parts = _parts(call.path)
        if len(parts) > 1 and parts[1].isdecimal():
            call.pk = int(parts[1])
            call.names_plan = parts[0] == PLANS

    def plan_is_in_body(self, call: Request) -> bool:
        return False

    def may_change(self, call: Request) -> bool:
        return call.method in ("PATCH", "POST") and call.path != LOGIN

    def denied(self, call: Request) -> Answer | None:
        if call.path == LOGIN or not call.path.endswith("/"):
            return None
        word, _, token = call.headers.get("Authorization", "").partition(" ")
        if word == "Token" and self.tokens.accepts(token, self.settings.expire_after_requests):
            return None
        return self.unauthorised()

    def unauthorised(self) -> Answer:
        return answer(401, {"detail": "The token is missing or not valid.", "code": "authentication_failed"})

    def handle(self, call: Request) -> Answer:
        if not call.path.endswith("/"):
            return self._without_slash(call)
        handlers = self._handlers(_parts(call.path))
        if not handlers:
            return answer(404, {"detail": "There is nothing here."})
        if call.method == "OPTIONS":
            return self._options(handlers)
        handler = handlers.get(call.method)
        if handler is None:
            return answer(405, {"detail": f"{call.method} is not allowed here."}, {"Allow": _allow(handlers)})
        try:
            return handler(call)
        except Refused as refused:
            return refused.answer

    def _handlers(self, parts: list[str]) -> dict[str, Handler]:
        match parts:
            case ["auth", "login"]:
                return {"POST": self._log_in}
            case ["cancellation_plans"]:
                return {"GET": self._list_plans}
            case ["cancellation_plans", "cancellation_plan_statuses"]:
                return {"GET": lambda call: answer(200, STATUSES)}
            case ["cancellation_plans", pk] if pk.isdecimal():
                one_plan: dict[str, Handler] = {"GET": self._one_plan}
                return one_plan | {"PATCH": self._write_back} if self.settings.write_back else one_plan
            case ["order_transactions"]:
                return {"GET": self._list_transactions}
            case ["order_transactions", "get_integration_mapping_types"]:
                return {"GET": lambda call: answer(200, INTEGRATION_TYPES)}
            case ["order_transactions", pk] if pk.isdecimal():
                return {"GET": self._one_transaction}
            case ["order_transactions", pk, "get_mappings"] if pk.isdecimal():
                return {"GET": self._list_mappings}
            case ["order_transactions", pk, "create_mapping"] if pk.isdecimal():
                return {"POST": self._create_mapping}
        return {}

    def _without_slash(self, call: Request) -> Answer:
        if call.method != "GET":
            return answer(404, {"detail": "There is nothing here; the path ends with a slash."})
        query = f"?{urlencode(call.query)}" if call.query else ""
        return Answer(301, b"", {"Location": f"{call.path}/{query}"})

    def _options(self, handlers: dict[str, Handler]) -> Answer:
        content: dict[str, Any] = {"renders": ["application/json"], "parses": ["application/json"]}
        if "PATCH" in handlers:
            choices = [{"value": word, "display_name": word.replace("_", " ").title()} for word in STATUSES]
            status = {
                "type": "choice",
                "required": False,
                "read_only": False,
                "label": "Status",
                "choices": choices,
            }
            content["actions"] = {"PATCH": {"status": status}}
        return answer(200, content, {"Allow": _allow(handlers)})

    # Login

    def _log_in(self, call: Request) -> Answer:
        content = _fields(call, frozenset(self._credentials))
        for name in self._credentials.keys() - content.keys():
            raise _invalid(name, "This field is needed.", "required")
        if content != self._credentials:
            raise _invalid("non_field_errors", "User name or password is wrong.", "invalid_credentials")
        return answer(200, {"key": self.tokens.issue()})

    # Plans

    def _list_plans(self, call: Request) -> Answer:
        query = _known(call.query, PLAN_PARAMETERS)
        found = self._store.select(
            Filter(
                status=_choice(query, "status", STATUSES),
                plan_type=_choice(query, "plan_type", PLAN_TYPES),
                channel_type=query.get("channel_type"),
                channels=_numbers(query, "channel_id__in"),
                modified_after=_time(query, "modified_date__gt"),
                modified_until=_time(query, "modified_date__lte"),
                order=_number(query, "order_id"),
                order_number=query.get("order_number"),
            )
        )
        return self._page(call, found, lambda plan: plan.raw)

    def _one_plan(self, call: Request) -> Answer:
        return Answer(200, self._store[self._plan_pk(call)].raw, JSON_HEADERS)

    def _write_back(self, call: Request) -> Answer:
        pk = self._plan_pk(call)
        status = _fields(call, frozenset({"status"})).get("status")
        if status not in STATUSES:
            raise _invalid("status", f"{status!r} is not one of the statuses.", "invalid_choice")
        self._move(pk, status)
        return Answer(200, self._store[pk].raw, JSON_HEADERS)

    def _move(self, pk: int, status: str) -> None:
        current = self._store[pk].status
        if status != current:
            if status not in TRANSITIONS.get(current, ()):
                problem = f"A plan cannot go from {current} to {status}."
                raise _invalid("non_field_errors", problem, "OrderUpdateCancelStatusException")
            self.transitions.append((pk, current, status))
        self._store.set_status(pk, status, self.now())
        self.writes[pk] += 1

    # Transactions

    def _list_transactions(self, call: Request) -> Answer:
        query = _known(call.query, TRANSACTION_PARAMETERS)
        kind = _choice(query, "transaction_type", TRANSACTION_TYPES)
        since = _time(query, "created_date__gte")
        found = [
            row
            for row in self._transactions.values()
            if kind in (None, row["transaction_type"])
            and (since is None or parse_time(row["created_date"]) >= since)
        ]
        return self._page(call, found, dump)

    def _one_transaction(self, call: Request) -> Answer:
        return answer(200, self._transactions[self._transaction_pk(call)])

    def _list_mappings(self, call: Request) -> Answer:
        return answer(200, self.mappings.get(self._transaction_pk(call), []))

    def _create_mapping(self, call: Request) -> Answer:
        pk = self._transaction_pk(call)
        code = _fields(call, frozenset({"code"})).get("code")
        if not isinstance(code, str) or not code:
            raise Refused(answer(400, {"code": ["A text is needed."]}))
        mapping = {
            "pk": 1 + sum(map(len, self.mappings.values())),
            "content_type": TRANSACTION_CONTENT_TYPE,
            "object_id": pk,
            "integration_type": "external_company",
            "code": code,
        }
        self.mappings[pk].append(mapping)
        return answer(201, mapping)

    def _transaction_pk(self, call: Request) -> int:
        if _pk(call) not in self._transactions:
            raise Refused(answer(404, {"detail": "There is no such transaction."}))
        return _pk(call)

    def _plan_pk(self, call: Request) -> int:
        if _pk(call) not in self._store:
            raise Refused(answer(404, {"detail": "There is no such plan."}))
        return _pk(call)

    # Pages

    def _page(self, call: Request, found: Sequence[Any], as_bytes: Callable[[Any], bytes]) -> Answer:
        page, limit = _number(call.query, "page"), _number(call.query, "limit")
        page, limit = (1 if page is None else page), (DEFAULT_LIMIT if limit is None else limit)
        if not 1 <= limit <= LARGEST_LIMIT:
            raise _invalid("limit", f"The limit lies between 1 and {LARGEST_LIMIT}.")
        if page < 1:
            raise _invalid("page", "The first page is 1.")
        start = 0 if self.settings.ignore_page else (page - 1) * limit
        rows = b",".join(map(as_bytes, found[start : start + limit]))
        if self.settings.bare_lists:
            return Answer(200, b"[%b]" % rows, JSON_HEADERS)
        if page > 1 and start >= len(found):
            return answer(404, {"detail": "There is no such page."})
        following = dump(_page_url(call, page + 1) if start + limit < len(found) else None)
        previous = dump(_page_url(call, page - 1) if page > 1 else None)
        envelope = b'{"count":%d,"next":%b,"previous":%b,"results":[%b]}'
        return Answer(200, envelope % (len(found), following, previous, rows), JSON_HEADERS)


def _parts(path: str) -> list[str]:
    return path.removeprefix(API).rstrip("/").split("/") if path.startswith(API) else []


def _pk(call: Request) -> int:
    return int(call.pk or 0)


def _allow(handlers: dict[str, Handler]) -> str:
    return ", ".join([*handlers, "OPTIONS"])


def _page_url(call: Request, page: int) -> str:
    return f"http://{call.headers.get('Host', '')}{call.path}?{urlencode({**call.query, 'page': page})}"


def _invalid(name: str, problem: str, code: str = "invalid") -> Refused:
    return Refused(answer(400, {name: [problem], "code": code}))


def _fields(call: Request, known: frozenset[str]) -> dict[str, Any]:
    """The object in the body, of known fields only."""
    if call.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
        raise Refused(answer(415, {"detail": "The body must be application/json."}))
    try:
        content = call.json
    except ValueError as error:
        raise Refused(answer(400, {"detail": "The body is no JSON.", "code": "parse_error"})) from error
    if not isinstance(content, dict):
        raise _invalid("non_field_errors", "An object is needed.")
    for name in content.keys() - known:
        raise _invalid(name, "There is no such field.", "unknown_field")
    return content


def _known(query: dict[str, str], known: frozenset[str]) -> dict[str, str]:
    for name in query.keys() - known:
        raise _invalid(name, "There is no such parameter.", "unknown_parameter")
    return query


def _choice(query: dict[str, str], name: str, words: Sequence[str]) -> str | None:
    word = query.get(name)
    if word is not None and word not in words:
        raise _invalid(name, f"{word!r} is none of {', '.join(words)}.", "invalid_choice")
    return word


def _number(query: dict[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not text.isdecimal():
        raise _invalid(name, f"{text!r} is no number.")
    return int(text)


def _numbers(query: dict[str, str], name: str) -> frozenset[int] | None:
    text = query.get(name)
    if text is None:
        return None
    words = text.split(",")
    if not all(word.isdecimal() for word in words):
        raise _invalid(name, f"{text!r} is no list of numbers.")
    return frozenset(map(int, words))


def _time(query: dict[str, str], name: str) -> datetime | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise _invalid(name, f"{text!r} is no time.") from error
