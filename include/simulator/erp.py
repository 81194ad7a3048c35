"""An ERP that books cancellations and refunds and remembers idempotency keys."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from include.simulator.server import Settings, Simulator
from include.simulator.wire import Answer, Request, answer, number_or_text

BOOKS = {"/cancellations": "C", "/refunds": "R"}
BOOKING_METHODS = ("POST", "PUT", "PATCH", "GET")
DOCUMENTS = "/documents"
TOKEN = "/token"
AUTH_MODES = ("none", "basic", "token")
PLAN_NAMES = ("plan", "planNumber", "pk", "cancellationPlan")
AMOUNT_NAMES = ("amount", "refundAmount", "refund_amount")


@dataclass(frozen=True, slots=True)
class ErpSettings(Settings):
    """`idempotency`: whether a key seen before is recognised; `idempotency_header`: where it stands."""

    idempotency: bool = True
    idempotency_header: str = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class Effect:
    """One booked document. `plan` and `amount` as found in the request, None where it holds none."""

    key: str | None
    plan: int | str | None
    amount: Any
    document_number: str
    method: str
    path: str
    body: Any
    time: float


@dataclass(frozen=True, slots=True)
class Remembered:
    """The first request with a key, and what it was answered."""

    request: tuple[str, str, bytes, tuple[tuple[str, str], ...]]
    answer: Answer


class ErpSimulator(Simulator):
    """Books whatever is sent to /cancellations and /refunds; looks documents up under /documents.

    `effects` are the booked documents in their order, `replays` counts the requests answered from memory.
    `auth`: `none`, `basic`, or `token` (POST /token with user and password, then `Authorization: Bearer`).
    Settings: see `ErpSettings`.
    """

    name = "erp"
    refusal = 422

    def __init__(
        self,
        *,
        auth: str = "none",
        user: str = "erp",
        password: str = "secret",
        keep: int | None = None,
        **settings: Any,
    ) -> None:
        if auth not in AUTH_MODES:
            raise ValueError(f"{auth!r} is none of {', '.join(AUTH_MODES)}")
        super().__init__(keep)
        self.settings = ErpSettings()
        self.set(**settings)
        self._auth = auth
        self._credentials = {"user": user, "password": password}
        self._basic = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def effects_of(self, plan: int | str) -> list[Effect]:
        """What was booked for this plan."""
        return [effect for effect in self.effects if effect.plan == plan]

    def reset(self) -> None:
        super().reset()
        self.effects: list[Effect] = []
        self.replays = 0
        self._memory: dict[str, Remembered] = {}
        self._first_of_key: dict[str | None, Effect] = {}
        self._first_of_plan: dict[int | str | None, Effect] = {}

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "effects": [asdict(effect) for effect in self.effects],
            "replays": self.replays,
        }

    def look_at(self, call: Request) -> None:
        call.names_plan = call.path in BOOKS
        if call.names_plan:
            content = call.query if call.method == "GET" else _json_or_none(call)
            call.pk = number_or_text(_find(content, PLAN_NAMES))

    def plan_is_in_body(self, call: Request) -> bool:
        return call.names_plan and call.method != "GET"

    def may_change(self, call: Request) -> bool:
        return call.names_plan

    def denied(self, call: Request) -> Answer | None:
        if self._auth == "none" or call.path == TOKEN:
            return None
        given = call.headers.get("Authorization", "")
        if self._auth == "basic":
            return None if given == self._basic else self.unauthorised()
        word, _, token = given.partition(" ")
        if word == "Bearer" and self.tokens.accepts(token, self.settings.expire_after_requests):
            return None
        return self.unauthorised()

    def unauthorised(self) -> Answer:
        return answer(401, {"error": "unauthorised"})

    def handle(self, call: Request) -> Answer:
        if call.path in BOOKS:
            return self._if_allowed(call, BOOKING_METHODS, self._receive)
        if call.path == TOKEN:
            return self._if_allowed(call, ("POST",), self._log_in)
        if call.path == DOCUMENTS or call.path.startswith(f"{DOCUMENTS}/"):
            return self._if_allowed(call, ("GET",), self._look_up)
        return answer(404, {"error": "unknown path"})

    def _if_allowed(
        self, call: Request, methods: tuple[str, ...], handler: Callable[[Request], Answer]
    ) -> Answer:
        if call.method in methods:
            return handler(call)
        return answer(405, {"error": f"{call.method} is not allowed here"}, {"Allow": ", ".join(methods)})

    def _log_in(self, call: Request) -> Answer:
        if _content_type(call) == "application/x-www-form-urlencoded":
            given: Any = dict(parse_qsl(call.raw.decode("utf-8", "replace")))
        else:
            given = _json_or_none(call)
        if given != self._credentials:
            return self.unauthorised()
        return answer(200, {"token": self.tokens.issue()})

    def _receive(self, call: Request) -> Answer:
        if call.method == "GET":
            return self._book_once(call, call.query)
        if _content_type(call) != "application/json":
            return answer(415, {"error": "the body must be application/json"})
        try:
            content = call.json
        except ValueError:
            return answer(400, {"error": "the body is no JSON"})
        return self._book_once(call, content)

    def _book_once(self, call: Request, content: Any) -> Answer:
        key = call.headers.get(self.settings.idempotency_header)
        if key is None or not self.settings.idempotency:
            return self._book(call, content, key)
        request = (call.method, call.path, call.raw, tuple(sorted(call.query.items())))
        first = self._memory.get(key)
        if first is None:
            first = self._memory[key] = Remembered(request, self._book(call, content, key))
            return first.answer
        if first.request != request:
            return answer(409, {"error": "this key came with another request before"})
        call.replayed = True
        self.replays += 1
        return first.answer

    def _book(self, call: Request, content: Any, key: str | None) -> Answer:
        effect = Effect(
            key=key,
            plan=call.pk,
            amount=_find(content, AMOUNT_NAMES),
            document_number=f"{BOOKS[call.path]}-{len(self.effects) + 1:06d}",
            method=call.method,
            path=call.path,
            body=content,
            time=call.time,
        )
        self.effects.append(effect)
        self._first_of_key.setdefault(key, effect)
        self._first_of_plan.setdefault(call.pk, effect)
        return answer(200, {"documentNumber": effect.document_number, "status": "OK"})

    def _look_up(self, call: Request) -> Answer:
        found: Effect | None = None
        if call.path != DOCUMENTS:
            found = self._first_of_key.get(unquote(call.path.removeprefix(f"{DOCUMENTS}/")))
        elif "key" in call.query:
            found = self._first_of_key.get(call.query["key"])
        elif "plan" in call.query:
            found = self._first_of_plan.get(number_or_text(call.query["plan"]))
        if found is None:
            return answer(404, {"error": "no such document"})
        return answer(200, {"documentNumber": found.document_number, "plan": found.plan, "key": found.key})


def _content_type(call: Request) -> str:
    return call.headers.get("Content-Type", "").partition(";")[0].strip()


def _json_or_none(call: Request) -> Any:
    try:
        return call.json
    except ValueError:
        return None


def _find(content: Any, names: tuple[str, ...]) -> Any:
    """The first of these fields, on the first level or one below."""
    for level in _levels(content):
        for name in names:
            value = level.get(name)
            if value is not None and not isinstance(value, (dict, list)):
                return value
    return None


def _levels(content: Any) -> Iterator[Mapping[str, Any]]:
    if not isinstance(content, Mapping):
        return
    yield content
    yield from (value for value in content.values() if isinstance(value, Mapping))
