"""Omnitron and the ERP as they are seen from a wire that loses things, and the wire itself."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlsplit

from include.order_cancel.errors import ScriptFailed
from include.order_cancel.http import Answer, Before, Caller, NotSent, OutcomeUnknown, Request
from include.order_cancel.scripts.process import ScriptResult
from tests.chaos.simulation.rules import Rules, Sent, pk_in
from tests.chaos.simulation.world import World

OMNITRON, ERP = "http://omnitron.test", "http://erp.test"
UNKNOWN = (500, 502, 504)

# What may become of one request: whether it takes effect, and what its sender hears ("lost": nothing).
_BEFORE = ("refused", "reset before", "timeout before", "500 before", "503", "429", "408")
_AFTER = ("reset after", "timeout after", "500 after", "502 after")
_TOKEN = ("401",)
_OF_KIND = {
    "Omnitron login": _BEFORE + _AFTER + ("403",),
    "ERP token": _BEFORE + _AFTER + ("403",),
    "ERP write": _BEFORE + _AFTER + _AFTER + ("422", "429 long", "401"),
    "ERP lookup": _BEFORE + _TOKEN,
    "write-back": _BEFORE + _AFTER + _TOKEN + ("409",),
    "create mapping": _BEFORE + _AFTER + _TOKEN,
}


def kind_of(request: Request) -> str:
    """What a request is for, by its method and path."""
    path, method = urlsplit(request.url).path, request.method
    if request.url.startswith(ERP):
        return {"/token": "ERP token", "/cancellations": "ERP write"}.get(path, "ERP lookup")
    if path.endswith("/auth/login/"):
        return "Omnitron login"
    if path.endswith("/get_mappings/"):
        return "mappings"
    if path.endswith("/create_mapping/"):
        return "create mapping"
    if method == "PATCH":
        return "write-back"
    if path.endswith("/order_transactions/"):
        return "transactions"
    return "list page" if path.endswith("/cancellation_plans/") else "one plan"


@dataclass
class Reply:
    """What a system answers: a status and its JSON."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Wire:
    """The network between one history's processes and its two systems."""

    world: World
    rules: Rules
    omnitron: Omnitron
    erp: Erp
    fault_rate: float = 0.0

    async def exchange(self, caller: Caller, request: Request, before: Before | None, auth: Any) -> Answer:
        """One request and its answer, or what a client sees of their loss."""
        world, kind = self.world, kind_of(request)
        world.point(f"{kind}: before the connection")
        fault = self._fault(kind)
        await asyncio.sleep(world.random.choice((0.0, 0.01, 0.3)))
        if fault == "refused":
            raise NotSent(f"{kind}: refused")
        if before is not None:
            await before()
        looked = world.now
        world.point(f"{kind}: before the first byte")
        process = world.current
        assert process is not None
        late = world.now - looked > 3
        sent = None
        if kind == "ERP write":
            sent = self.rules.first_byte(process, request, late)
        elif kind == "write-back":
            self.rules.write_back(
                urlsplit(request.url).path.split("/")[-2], json.loads(request.body or b"{}")
            )
        longest = caller.timeout_seconds
        up, down = world.random.choice((0.01, 0.2, 1.0)), world.random.choice((0.0, 0.05, 0.7))
        if fault.startswith("timeout"):
            up = world.random.uniform(0.1, longest - 0.1)
        box: list[Reply | None] = []
        began = world.now
        world.at(up, lambda: box.append(self._arrive(kind, request, fault, auth, sent, process)))
        await asyncio.sleep(up * world.random.random())
        world.point(f"{kind}: on the wire")
        await asyncio.sleep(max(0.0, up - (world.now - began)) + 1e-3)
        world.point(f"{kind}: took effect, not yet answered")
        reply = box[0]
        if fault.startswith("timeout"):
            await asyncio.sleep(max(0.0, longest - (world.now - began)))
        if reply is None or world.now - began > longest:
            self._unknown(sent)
            raise OutcomeUnknown(f"{kind}: {fault or 'frozen'}")
        await asyncio.sleep(down)
        world.point(f"{kind}: answered")
        if reply.status in UNKNOWN:
            self._unknown(sent)
        headers = {"Date": formatdate(world.true_time() + self.omnitron.skew, usegmt=True), **reply.headers}
        world.note(f"{kind} {request.method} {urlsplit(request.url).path}: {reply.status}")
        return Answer(
            reply.status, "", headers, json.dumps(reply.body).encode(), request.url, world.now - began
        )

    def _fault(self, kind: str) -> str:
        if not self.world.chance(self.fault_rate):
            return ""
        return self.world.random.choice(_OF_KIND.get(kind, _BEFORE + _TOKEN))

    def _unknown(self, sent: Sent | None) -> None:
        if sent is not None:
            self.rules.not_known(sent)

    def _arrive(
        self, kind: str, request: Request, fault: str, auth: Any, sent: Sent | None, process: Any
    ) -> Reply | None:
        """The request at its destination; None where its sender hears nothing of it."""
        if process.dead and not self.world.calm and self.world.random.random() < 0.3:
            return None  # lost together with its sender
        if fault in ("reset before", "timeout before"):
            return None
        if fault == "422":  # the ERP's own word, which knows its keys
            assert sent is not None
            self.erp.refuses[int(sent.pk)] += 1
        elif fault[:3] in ("403", "401", "503", "429", "408", "409") or fault == "500 before":
            wait = {"503": "1", "429": "2", "429 long": "120"}.get(fault)
            if sent is not None and fault != "500 before":
                sent.refused = True
            if fault == "401":
                self._expire(kind)
            return Reply(int(fault[:3]), {"error": fault}, {"Retry-After": wait} if wait else {})
        system = self.erp if kind.startswith("ERP") else self.omnitron
        reply = system.handle(kind, request, auth, sent)
        if fault in ("reset after", "timeout after"):
            return None
        return Reply(int(fault[:3]), {"error": fault}) if fault.endswith(" after") else reply

    def _expire(self, kind: str) -> None:
        (self.erp if kind.startswith("ERP") else self.omnitron).valid_token += 1


class SimulatedCaller(Caller):
    """The real caller with its retries, breaker and waits, over the simulated wire."""

    wire: Wire

    async def __aenter__(self) -> SimulatedCaller:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def _exchange(self, request: Request, auth: Any, before: Before | None) -> Answer:
        return await self.wire.exchange(self, request, before, auth)


class Tokened:
    """A system that gives tokens and refuses old ones."""

    valid_token = 1

    def _refuses(self, auth: Any) -> bool:
        return f"token-{self.valid_token}" not in str(dict(auth).get("Authorization", ""))


class Omnitron(Tokened):
    """Plans, order transactions and their mappings. Pages are cut from what there is at that moment."""

    def __init__(self, world: World, rules: Rules) -> None:
        self.world, self.rules = world, rules
        self.skew = 0.0
        self.plans: dict[int, dict[str, Any]] = {}
        self.transactions: dict[int, dict[str, Any]] = {}
        self.mapped: Counter[int] = Counter()
        self.status_of_flow = "waiting"
        self.touched: set[int] = set()

    def iso(self) -> str:
        return _iso(self.world.true_time() + self.skew)

    def add(self, pk: int, status: str, order: int | None = None) -> None:
        now = self.iso()
        self.plans[pk] = {
            "pk": pk,
            "status": status,
            "plan_type": "refund",
            "created_date": now,
            "modified_date": now,
            "refund_amount": "10.00",
            "order": {"pk": order or pk, "number": f"N{order or pk}"},
        }

    def change(self, pk: int, **values: Any) -> None:
        """Something that a colleague does, behind the flow's back."""
        self.touched.add(pk)
        self.plans[pk].update(values, modified_date=self.iso())

    def handle(self, kind: str, request: Request, auth: Any, sent: Sent | None) -> Reply:
        if kind == "Omnitron login":
            return Reply(200, {"key": f"token-{self.valid_token}"})
        if self._refuses(auth):
            return Reply(401, {"detail": "Invalid token."})
        parts = urlsplit(request.url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if kind in ("list page", "transactions"):
            rows = self._listed(query) if kind == "list page" else self._transactions(query)
            return self._page(rows, query, parts.path)
        pk = int(parts.path.rstrip("/").split("/")[-2 if kind in ("mappings", "create mapping") else -1])
        if kind == "mappings":
            return Reply(200, [{"code": "x"}] * self.mapped[pk])
        if kind == "create mapping":
            self.mapped[pk] += 1
            self.rules.mapped(pk, self.mapped[pk])
            return Reply(201, {})
        if pk not in self.plans:
            return Reply(404, {})
        if kind == "write-back":
            return self._write(pk, json.loads(request.body or b"{}")["status"])
        return Reply(200, dict(self.plans[pk]))

    def _write(self, pk: int, status: str) -> Reply:
        plan = self.plans[pk]
        if plan["status"] != self.status_of_flow:
            return Reply(400, {"status": "no such transition"})
        self.rules.written(pk, status)
        plan.update(status=status, modified_date=self.iso())
        return Reply(200, dict(plan))

    def _listed(self, query: dict[str, str]) -> list[dict[str, Any]]:
        after, order = query.get("modified_date__gt", ""), query.get("order_id")
        return [
            dict(plan)
            for _, plan in sorted(self.plans.items())
            if query.get("status") in (None, plan["status"])
            and plan["modified_date"] > after
            and (order is None or str(plan["order"]["pk"]) == order)
        ]

    def _transactions(self, query: dict[str, str]) -> list[dict[str, Any]]:
        since = query["created_date__gte"]
        return [dict(one) for _, one in sorted(self.transactions.items()) if one["created_date"] >= since]

    def _page(self, rows: list[Any], query: dict[str, str], path: str) -> Reply:
        number, limit = int(query.get("page", 1)), int(query["limit"])
        found = rows[(number - 1) * limit : number * limit]
        if not found and number > 1:
            return Reply(404, {"detail": "Invalid page."})
        following = None
        if len(rows) > number * limit:
            rest = "&".join(f"{name}={value}" for name, value in {**query, "page": str(number + 1)}.items())
            following = f"{OMNITRON}{path}?{rest}"
        return Reply(200, {"count": len(rows), "next": following, "previous": None, "results": found})


class Erp(Tokened):
    """An ERP that counts its effects; with `honours_key` a key that it knows has none again."""

    def __init__(self, world: World, rules: Rules, honours_key: bool, wants_token: bool) -> None:
        self.world, self.rules = world, rules
        self.honours_key, self.wants_token = honours_key, wants_token
        self.by_key: dict[str, dict[str, Any]] = {}
        self.refuses: Counter[int] = Counter()  # how often each plan is still refused
        self.busy: Counter[int] = Counter()  # how often each plan is still told to come again
        self.rejects: set[int] = set()  # plans whose answer means a rejection to a response script

    def handle(self, kind: str, request: Request, auth: Any, sent: Sent | None) -> Reply:
        if kind == "ERP token":
            return Reply(200, {"token": f"token-{self.valid_token}"})
        if self.wants_token and self._refuses(auth):
            if sent is not None:
                sent.refused = True
            return Reply(401, {})
        if kind == "ERP lookup":
            found = self.by_key.get(urlsplit(request.url).path.rpartition("/")[2])
            return Reply(200, found) if found else Reply(404, {})
        assert sent is not None
        return self._write(int(pk_in(request.body)), sent)

    def _write(self, pk: int, sent: Sent) -> Reply:
        if self.honours_key and sent.key in self.by_key:
            return Reply(200, self.by_key[sent.key])
        for wish, status, word in (
            (self.refuses, 422, "refused"),
            (self.busy, 200, "do_nothing"),
        ):
            if wish[pk] > 0 and not self.rules.effects(sent.pk, sent.generation):
                wish[pk] -= 1
                self.rules.refused(sent)
                return Reply(status, {"result": word})
        if pk in self.rejects:
            self.rules.refused(sent)
            return Reply(200, {"result": "failure"})
        number = self.rules.effect(sent)
        said = {"documentNumber": f"D{pk}-{number}", "result": "continue"}
        self.by_key[sent.key] = said
        return Reply(201, said)


class SimulatedScripts:
    """In place of the script process: mapping and scripts by what their texts ask for, at once."""

    world: World

    def __init__(self, limits: Any) -> None: ...

    async def __aenter__(self) -> SimulatedScripts:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def map(self, spec: str, document: Any) -> Any:
        self.world.point("mapping: at work")
        await asyncio.sleep(0)
        version = spec.count("version")
        return {"plan": document["pk"], "amount": document["refund_amount"], "version": version}

    async def map_text(self, spec: str, document: str) -> Any:
        return await self.map(spec, json.loads(document))

    async def run(self, kind: str, text: str, document: Any, attributes: Any, **also: Any) -> ScriptResult:
        self.world.point(f"{kind} script: at work")
        await asyncio.sleep(0)
        if kind != "response" and self.world.chance(0.05):
            raise ScriptFailed(f"the {kind} script failed")
        relation = self._judged(document) if kind == "response" else None
        result = {**document, "scripted": True} if kind == "script" else None
        return ScriptResult(result, dict(attributes), relation, None, False, [])

    def _judged(self, text: str) -> str:
        answer = json.loads(text) or {}
        if "error" in answer or not answer:
            if answer.get("error", "401")[:3] == "401":
                return "auth_fail"
            raise ScriptFailed("the response script knows no such answer")
        if answer["result"] == "refused":
            raise ScriptFailed("the ERP refused it")
        if self.world.chance(0.03):
            raise ScriptFailed("the response script has a bad day")
        return str(answer["result"])


def _iso(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
