"""Omnitron and the ERP as they are seen from a wire that loses things, and the wire itself.

Before each of them stands a gateway, which may answer in its place with any status, before a request reached the
system or after it took effect there. What the world promises is written down here once more, from the contract and
RFC 9110, and not taken from the product: a status of `REFUSALS` or `NOT_DONE` comes only where nothing was done and
nothing will be, one of `OWN_REFUSALS` from the ERP itself alone, and a lookup's 404 in JSON means that the ERP has
nothing by now. A gateway's 404 in JSON for one plan of Omnitron is about the path: it answers all plans so for a while.
Without these no sender could do right. Any other status promises nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

from include.order_cancel.errors import ScriptFailed
from include.order_cancel.http import Answer, Before, Caller, NotSent, OutcomeUnknown, Request
from include.order_cancel.scripts import runner
from include.order_cancel.scripts.contract import Log
from include.order_cancel.scripts.process import ScriptResult
from tests.chaos.simulation.rules import Rules, Sent, pk_in
from tests.chaos.simulation.world import FOREVER, World

OMNITRON, ERP = "http://omnitron.test", "http://erp.test"
SPELLINGS = (OMNITRON, "http://OMNITRON.test", "http://omnitron.test:80", "http://omnitron.test./")
ANOTHER = "http://another.test"
CUSTOM_RESPONSE = "def respond(request, response, attributes):\n    return 'continue'\n"
NOT_DONE = frozenset({408, 425, 429})
OWN_REFUSALS = frozenset({400, 409, 410, 422})
REFUSALS = OWN_REFUSALS | {301, 307, 308, 402, 403, 404, 405, 406, 411, 413, 414, 415, 416, 417, 421}
REFUSALS |= {423, 424, 426, 428, 431, 451}
# What a gateway likes to answer after a request has reached the system.
_TELLING_NOTHING = (302, 303, 460, 499, 500, 501, 502, 503, 503, 504, 505, 520, 522, 524, 529, 598, 200)
# What one history's gateway answers again and again, in place of the ERP: after it booked, or before it saw anything.
HABITS = (
    *(f"{status} hides" for status in (503, 302, 520, 501, 303, 503, 598, 200, 505, 529)),
    *(f"{status} instead" for status in (429, 404, 200, 403, 408, 302, 429, 200, 425)),
    "slow",
    "slow",
    "queued",
)
# What a system answers to an old token, without a look at what was asked.
STALE = (401, 403, 419, 440)
_ANY_AFTER = tuple(status for status in range(100, 600) if status not in {*NOT_DONE, *REFUSALS, *STALE})
_ANY_BEFORE = tuple(status for status in range(100, 600) if status not in {*OWN_REFUSALS, 401, 419, 440})
# How long a slow ERP may still be at work after its sender has given up: less than `erp.lookup.after_seconds`.
SLOWEST = 50.0
# For how long a gateway may know no path of a single plan, and answer 404 in JSON for all of them.
_ROUTE_LOST_SECONDS = (2.0, 60.0, 900.0, 2000.0)

# What may become of one request: whether it takes effect, and what its sender hears ("lost": nothing).
_BEFORE = ("refused", "reset before", "timeout before", "500 before", "503", "429", "408")
_AFTER = ("reset after", "timeout after", "500 after", "502 after")
_TOKEN = ("401",)
_AT_ONCE = ("403", "401", "503", "429", "429 long", "408", "409", "500 before")
_GATEWAY = ("page before", "page after", "page after")
_OF_KIND = {
    "Omnitron login": _BEFORE + _AFTER + ("403",),
    "ERP token": _BEFORE + _AFTER + ("403",),
    "ERP write": _BEFORE + _AFTER + _GATEWAY * 2 + ("slow", "slow", "queued", "422", "429 long", "401"),
    "ERP lookup": _BEFORE + _TOKEN + ("page 404", "page 404", "page before"),
    "one plan": _BEFORE + _TOKEN + ("page 404", "route lost"),
    "write-back": _BEFORE + _AFTER + _TOKEN + ("409", "page 404", "route lost"),
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
    """What a system answers: a status and its JSON, or a gateway in its place: then `page` is what it shows."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    page: bytes | None = None

    @property
    def content(self) -> bytes:
        return json.dumps(self.body).encode() if self.page is None else self.page

    @property
    def content_type(self) -> str:
        return "application/json" if self.page is None or self.page.startswith(b"{") else "text/html"


@dataclass
class Wire:
    """The network between one history's processes and its two systems."""

    world: World
    rules: Rules
    omnitron: Omnitron
    erp: Erp
    fault_rate: float = 0.0
    habit: str = ""  # what becomes of the first writes of about every second plan
    _habitual: dict[str, int] = field(default_factory=dict)
    _route_lost_until: float = -FOREVER
    on_doubt: Any = lambda pk: None  # told of each plan that is not settled by its answer

    async def exchange(self, caller: Caller, request: Request, before: Before | None, auth: Any) -> Answer:
        """One request and its answer, or what a client sees of their loss."""
        world, kind = self.world, kind_of(request)
        if request.url.startswith(ANOTHER):
            return self._another(kind, request)
        world.point(f"{kind}: before the connection")
        fault = self._fault(kind, request)
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
        if fault == "slow" and world.random.random() < 0.5:
            fault = "slow timeout"
        box: list[Reply | None] = []
        began = world.now
        world.at(up, lambda: box.append(self._arrive(kind, request, fault, auth, sent, process)))
        await asyncio.sleep(up * world.random.random())
        world.point(f"{kind}: on the wire")
        await asyncio.sleep(max(0.0, up - (world.now - began)) + 1e-3)
        world.point(f"{kind}: took effect, not yet answered")
        reply = box[0]
        if fault.endswith("timeout") or fault.startswith("timeout"):
            await asyncio.sleep(max(0.0, longest - (world.now - began)))
        if reply is None or world.now - began > longest:
            self._unknown(sent)
            world.note(f"{kind} {request.method}: {fault or 'frozen'}, no answer")
            raise OutcomeUnknown(f"{kind}: {fault or 'frozen'}")
        await asyncio.sleep(down)
        world.point(f"{kind}: answered")
        if sent is not None:
            self._heard(sent, reply)
        elif kind == "ERP lookup" and reply.status == 404 and reply.page is None:
            self.rules.not_there(urlsplit(request.url).path.rpartition("/")[2])
        headers = {
            "Date": formatdate(world.true_time() + self.omnitron.skew, usegmt=True),
            "Content-Type": reply.content_type,
            **reply.headers,
        }
        world.note(f"{kind} {request.method} {urlsplit(request.url).path}: {reply.status}")
        return Answer(reply.status, "", headers, reply.content, request.url, world.now - began)

    def _another(self, kind: str, request: Request) -> Answer:
        """Another shop's Omnitron, whose plans have the same numbers. Nothing may be told to it."""
        if kind in ("write-back", "create mapping"):
            self.rules.breach("no write-back before an outcome", f"another Omnitron is told: {request.url}")
        pk = urlsplit(request.url).path.rstrip("/").rpartition("/")[2]
        shown = {"key": "token-1", "pk": int(pk) if pk.isdigit() else 0, "status": "waiting", "results": []}
        return Answer(
            200, "", {"Content-Type": "application/json"}, json.dumps(shown).encode(), request.url, 0.0
        )

    def _fault(self, kind: str, request: Request) -> str:
        if kind == "ERP write" and self.habit and self.world.chance(1.0):
            times = self._habitual.setdefault(pk_in(request.body), self.world.random.choice((0, 1, 1, 3, 4)))
            if times:
                self._habitual[pk_in(request.body)] -= 1
                return self.habit
        if kind == "ERP lookup" and self.habit.endswith("hides") and self.world.chance(0.5):
            return "page 404"
        if kind in ("one plan", "write-back") and self.world.now < self._route_lost_until:
            return "route lost"
        if not self.world.chance(self.fault_rate):
            return ""
        return self.world.random.choice(_OF_KIND.get(kind, _BEFORE + _TOKEN))

    def _unknown(self, sent: Sent | None) -> None:
        if sent is not None:
            self.rules.not_known(sent)
            self.on_doubt(int(sent.pk))

    def _heard(self, sent: Sent, reply: Reply) -> None:
        """What the sender may know from here on, by what the world promises of the answer that it has."""
        if reply.status == 202:
            self._unknown(sent)  # it is in the ERP's queue
        elif reply.page is None and 200 <= reply.status < 300:
            self.rules.taken(sent, reply.body["result"])
            if sent.offered:
                self.on_doubt(int(sent.pk))
        elif reply.page is None and reply.status in (400, 422):  # the ERP's own word, which knows its keys
            self.rules.refused(sent)
        elif reply.status in REFUSALS | NOT_DONE or reply.status in STALE:
            self.rules.not_done(sent, refusal=reply.status in REFUSALS)
        else:
            self._unknown(sent)

    def _arrive(
        self, kind: str, request: Request, fault: str, auth: Any, sent: Sent | None, process: Any
    ) -> Reply | None:
        """The request at its destination; None where its sender hears nothing of it."""
        if sent is not None:
            sent.on_its_way = False
        if process.dead and not self.world.calm and self.world.random.random() < 0.3:
            return None  # lost together with its sender
        if fault in ("reset before", "timeout before"):
            return None
        if fault == "route lost":
            self._lose_the_route()
            return Reply(404, {"message": "no Route matched with those values"})
        if fault == "422":
            assert sent is not None
            self.erp.refuses[int(sent.pk)] += 1
        elif fault.endswith(" instead"):
            return self._page(int(fault[:3]))
        elif fault in _AT_ONCE:
            wait = {"503": "1", "429": "2", "429 long": "120"}.get(fault)
            if fault == "401":
                self._expire(kind)
                fault = str((self.erp if kind.startswith("ERP") else self.omnitron).stale_status)
            return Reply(int(fault[:3]), {"error": fault}, {"Retry-After": wait} if wait else {}, b"{}")
        elif fault in ("page 404", "page before"):
            return self._page(404 if fault == "page 404" else self.world.random.choice(_ANY_BEFORE))
        elif fault in ("queued", "slow", "slow timeout"):
            assert sent is not None
            return self._begin_slowly(fault, auth, sent)
        system = self.erp if kind.startswith("ERP") else self.omnitron
        reply = system.handle(kind, request, auth, sent)
        if fault.endswith((" hides", "page after")) and reply.status in {*NOT_DONE, *REFUSALS, *STALE}:
            return reply
        if fault.endswith(" hides"):
            return self._page(int(fault[:3]))
        if fault == "page after":
            draw = self.world.random
            return self._page(draw.choice(_ANY_AFTER if draw.random() < 0.3 else _TELLING_NOTHING))
        if fault in ("reset after", "timeout after"):
            return None
        return Reply(int(fault[:3]), page=b"{}") if fault.endswith(" after") else reply

    def _lose_the_route(self) -> None:
        """A gateway's word in JSON is about the path: for a while no plan is found by it."""
        if self.world.now >= self._route_lost_until and not self.world.calm:
            self._route_lost_until = self.world.now + self.world.random.choice(_ROUTE_LOST_SECONDS)

    def _begin_slowly(self, fault: str, auth: Any, sent: Sent) -> Reply | None:
        """The ERP is still at work when its sender has given up, or was told that it takes time."""
        if self.erp.wants_token and self.erp._refuses(auth):
            return Reply(self.erp.stale_status, {})
        if (said := self.erp.known(sent)) is not None:
            return said
        sent.at_work = True
        took = 20.0 + self.world.random.uniform(0.0, SLOWEST)
        self.world.at(max(0.0, sent.first_byte_at + took - self.world.now), lambda: self.erp.finish(sent))
        if fault == "slow timeout":
            return None
        if fault == "queued":
            return Reply(202, {"result": "unknown"})
        return self._page(self.world.random.choice(_TELLING_NOTHING))

    def _page(self, status: int) -> Reply:
        """What a gateway answers in the system's place. JSON of its own stands only where a lookup cannot be meant."""
        pages = (b"<html>not the system</html>", b"<html>please sign in</html>", b"")
        return Reply(status, page=self.world.random.choice(pages if 200 <= status < 300 else pages[:2]))

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
    stale_status = 401

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
        self._showed: dict[int, list[tuple[float, str | None, bool]]] = defaultdict(list)

    def shows(self, pk: int) -> None:
        """Remember what it shows of a plan from now on."""
        plan = self.plans.get(pk)
        fits = plan is not None and plan["status"] == self.status_of_flow
        self._showed[pk].append((self.world.now, plan and plan["refund_amount"], fits))

    def shown_until(self, pk: int, amount: str, *, any_status: bool) -> float:
        """Until when it showed this amount, of a plan that the flow may send. Never: minus infinity."""
        until = FOREVER
        for since, shown, fits in reversed(self._showed[pk]):
            if shown == amount and (fits or any_status):
                return until
            until = since
        return -FOREVER

    def moved_lately(self, pk: int) -> bool:
        """Whether it showed something else until a short while ago, so that nobody can have seen it."""
        return self._showed[pk][-1][0] > self.world.now - 60.0

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
        self.shows(pk)

    def change(self, pk: int, **values: Any) -> None:
        """Something that a colleague does, behind the flow's back."""
        self.touched.add(pk)
        self.plans[pk].update(values, modified_date=self.iso())
        self.shows(pk)

    def remove(self, pk: int) -> None:
        self.touched.add(pk)
        del self.plans[pk]
        self.shows(pk)

    def handle(self, kind: str, request: Request, auth: Any, sent: Sent | None) -> Reply:
        if kind == "Omnitron login":
            return Reply(200, {"key": f"token-{self.valid_token}"})
        if self._refuses(auth):
            return Reply(self.stale_status, {"detail": "Invalid token."})
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
        self.shows(pk)
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
        since = query.get("created_date__gte", "")
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
        self.shy: Counter[int] = Counter()  # the same, although it is booked
        self.rejects: set[int] = set()  # plans whose answer means a rejection to a response script
        self.wrong_version = 0  # of the mapping: whatever comes with it is refused

    def handle(self, kind: str, request: Request, auth: Any, sent: Sent | None) -> Reply:
        if kind == "ERP token":
            return Reply(200, {"token": f"token-{self.valid_token}"})
        if self.wants_token and self._refuses(auth):
            return Reply(self.stale_status, {})
        if kind == "ERP lookup":
            found = self.by_key.get(urlsplit(request.url).path.rpartition("/")[2])
            return Reply(200, found) if found else Reply(404, {})
        assert sent is not None
        said = self.known(sent)
        return self._write(int(pk_in(request.body)), sent) if said is None else said

    def known(self, sent: Sent) -> Reply | None:
        """What it answers to a key that it has, or is at work on; None: it is new to it."""
        if not self.honours_key:
            return None
        if sent.key in self.by_key:
            return Reply(200, self._said(sent))
        same = [one for one in self.rules.sent[sent.pk, sent.generation] if one.key == sent.key]
        return (
            Reply(409, {"error": "a request with this key is outstanding"})
            if any(one.at_work for one in same)
            else None
        )

    def finish(self, sent: Sent) -> None:
        """The end of a request whose sender has given up; what it would have answered nobody hears."""
        sent.at_work = False
        self._write(int(sent.pk), sent)

    def _write(self, pk: int, sent: Sent) -> Reply:
        others = [one for one in self.rules.sent[sent.pk, sent.generation] if one is not sent]
        untouched = not any(one.effects or one.pending for one in others)
        if self.wrong_version and sent.version == self.wrong_version:
            sent.own_refusal = True
            return Reply(422, {"result": "refused"})
        if self.refuses[pk] > 0 and untouched:
            self.refuses[pk] -= 1
            sent.own_refusal = True
            return Reply(self.world.random.choice(sorted(OWN_REFUSALS)), {"result": "refused"})
        if self.busy[pk] > 0 and untouched:
            self.busy[pk] -= 1
            return Reply(200, {"result": "do_nothing"})
        if pk in self.rejects:
            return Reply(200, {"result": "failure"})
        number = self.rules.effect(sent)
        document = f"D{pk}-{number}"
        said = {"documentNumber": document, "value": [{"number": document}], "result": "continue"}
        self.by_key[sent.key] = said
        return Reply(201, self._said(sent))

    def _said(self, sent: Sent) -> dict[str, Any]:
        said, pk = self.by_key[sent.key], int(sent.pk)
        if self.shy[pk] > 0:
            self.shy[pk] -= 1
            return {**said, "result": "do_nothing"}
        return said


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
        if kind == "response" and text != CUSTOM_RESPONSE:
            return _shipped(text, also["response"], attributes)
        relation = self._judged(also["response"], attributes) if kind == "response" else None
        result = {**document, "scripted": True} if kind == "script" else None
        return ScriptResult(result, dict(attributes), relation, None, False, [])

    def _judged(self, text: str, attributes: Any) -> str:
        """An ERP's own script, which says `unknown` where it does not know."""
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {}
        if "result" not in answer:
            return "auth_fail" if attributes["invokehttp.status.code"] == "401" else "unknown"
        if answer["result"] == "refused":
            raise ScriptFailed("the ERP refused it")
        if self.world.chance(0.03):
            raise ScriptFailed("the response script has a bad day")
        return str(answer["result"])


@lru_cache
def _compiled(text: str) -> Any:
    return runner.compile_script(text, "response")


def _shipped(text: str, response: str, attributes: Any) -> ScriptResult:
    """The shipped response script, really run."""
    said = runner.run(_compiled(text), response.encode(), dict(attributes), None, Log())
    if said.error:
        raise ScriptFailed(said.error)
    return ScriptResult(None, said.attributes, said.relation, said.reason, said.refused, [])


def _iso(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
