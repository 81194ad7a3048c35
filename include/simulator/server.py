"""A simulator as an HTTP server: receives, records, goes wrong on demand, is steered under /_control/."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from aiohttp import web

from include.simulator.faults import Fault, FaultBook
from include.simulator.record import Record
from include.simulator.wire import CUT, Answer, Request, answer

HOST = "127.0.0.1"
CONTROL = "/_control/"
NEW_DATA = ("plans", "transactions")
STARTING_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What both simulators can be told.

    Wait this long with every answer; run this far ahead of the machine's clock; let one token serve so many
    requests (None: any number).
    """

    latency_ms: float = 0.0
    clock_skew_seconds: float = 0.0
    expire_after_requests: int | None = None


class Tokens:
    """One valid token at a time, given to everybody who logs in until it expires."""

    def __init__(self) -> None:
        self.logins = 0
        self._current: str | None = None
        self._used = 0

    def issue(self) -> str:
        self.logins += 1
        if self._current is None:
            self._current = secrets.token_hex(20)
            self._used = 0
        return self._current

    def expire(self) -> None:
        self._current = None

    def accepts(self, token: str, limit: int | None) -> bool:
        if self._current is None or token != self._current:
            return False
        if limit is not None and self._used >= limit:
            self.expire()
            return False
        self._used += 1
        return True


class Simulator(ABC):
    """What Omnitron and the ERP have in common.

    `keep` bounds the record of requests (None: all of them, 0: counters only). Everything may be read and
    changed from another thread while no request is under way. Counters: `attempts` of requests per plan,
    `total`, `peak_in_flight` of requests at the same time.
    """

    name: str
    refusal: int
    settings: Any

    def __init__(self, keep: int | None) -> None:
        self.faults = FaultBook()
        self.tokens = Tokens()
        self._requests: deque[Request] = deque(maxlen=keep)
        self.in_flight = 0
        self._record: Record | None = None
        self.reset()

    @abstractmethod
    def look_at(self, call: Request) -> None:
        """Sets `names_plan` and, as far as path, query and the body read so far tell it, `pk`."""

    @abstractmethod
    def plan_is_in_body(self, call: Request) -> bool:
        """Whether the plan that a request names stands in its body only."""

    @abstractmethod
    def may_change(self, call: Request) -> bool:
        """Whether a request may change what the simulator holds: then it belongs to the record."""

    @abstractmethod
    def denied(self, call: Request) -> Answer | None:
        """The 401 for a request without valid credentials; None for all others."""

    @abstractmethod
    def unauthorised(self) -> Answer: ...

    @abstractmethod
    def handle(self, call: Request) -> Answer:
        """Does what the request asks for and answers it."""

    @property
    def requests(self) -> list[Request]:
        """The recorded requests, oldest first."""
        return list(self._requests)

    @property
    def logins(self) -> int:
        return self.tokens.logins

    def calls(
        self, method: str | None = None, path: str | None = None, pk: int | str | None = None
    ) -> list[Request]:
        """The recorded requests with this method, this text in their path, about this plan."""
        return [
            call
            for call in self._requests
            if method in (None, call.method) and (path is None or path in call.path) and pk in (None, call.pk)
        ]

    def now(self) -> datetime:
        """The simulator's clock."""
        return datetime.now(UTC) + timedelta(seconds=self.settings.clock_skew_seconds)

    def set(self, **settings: Any) -> None:
        """Changes settings by name. Raises ValueError for a name that is none."""
        try:
            self.settings = replace(self.settings, **settings)
        except TypeError as error:
            raise ValueError(f"unknown setting among {', '.join(settings)}") from error

    def fail(self, kind: str, **fault: Any) -> Fault:
        """Adds a fault with the fields of `Fault`. Raises ValueError for an unknown kind, else TypeError."""
        added = Fault(kind, **fault)
        self.faults.add(added)
        return added

    def expire_tokens(self) -> None:
        self.tokens.expire()

    def reset(self) -> None:
        """Forgets records, counters and faults; keeps data, settings and the token."""
        self._requests.clear()
        self.faults.clear()
        self.tokens.logins = 0
        self.attempts: Counter[int | str] = Counter()
        self.total = 0
        self.peak_in_flight = 0

    def state(self) -> dict[str, Any]:
        return {
            "requests": self.total,
            "attempts": dict(self.attempts),
            "logins": self.logins,
            "peak_in_flight": self.peak_in_flight,
            "faults": self.faults.as_dicts(),
            "settings": asdict(self.settings),
        }

    def load(self, content: Any) -> None:
        """Takes in a data file: `faults` and `settings`. Raises ValueError, TypeError or KeyError."""
        self.set(**content.get("settings", {}))
        for fault in content.get("faults", []):
            self.fail(**fault)

    def outlive(self, path: Path) -> None:
        """Take up what earlier processes recorded in this file, and record from now on.

        Data, bookings and the counters of what was booked come back; tokens, settings and faults do not.
        Raises OSError, ValueError or KeyError where the file cannot be used.
        """
        self._record = record = Record(path)
        for call in record.requests():
            if call.path.startswith(CONTROL):
                self.control(call.method, call.path.removeprefix(CONTROL), call.json)
                continue
            self.look_at(call)
            self.total += 1
            self._requests.append(call)
            if call.names_plan and call.pk is not None:
                self.attempts[call.pk] += 1
            call.status = self.handle(call).status

    def _carry_out(self, call: Request) -> Answer:
        result = self.handle(call)
        if self._record is not None and self.may_change(call):
            self._record.add(call)
        return result

    def control(self, method: str, command: str, content: Any) -> Answer | None:
        """Carries out a command; None for an unknown one. Raises ValueError, TypeError or KeyError."""
        match method, command:
            case "GET", "state":
                return answer(200, self.state())
            case "GET", "requests":
                return answer(200, [call.as_dict() for call in self._requests])
            case "POST", "faults":
                for fault in content if isinstance(content, list) else [content]:
                    self.fail(**fault)
            case "DELETE", "faults":
                self.faults.clear()
            case "POST", "set":
                if content.pop("expire_tokens", False):
                    self.expire_tokens()
                self.set(**content)
            case "POST", "reset":
                self.reset()
            case _:
                return None
        return answer(200, {"ok": True})

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, from its first line to the end of its answer."""
        if request.path.startswith(CONTROL):
            return self._response(await self._controlled(request))
        call = Request(request.method, request.path, dict(request.query), request.headers, time.time())
        self._begin(call)
        try:
            return await self._respond(call, request)
        finally:
            self.in_flight -= 1

    async def _respond(self, call: Request, request: web.BaseRequest) -> web.StreamResponse:
        denied = self.denied(call)
        fault = None if denied or not self.faults else await self._fault_for(call, request)
        if fault and fault.kind == "hangup":
            return _cut(call, request)
        await self._read(call, request)
        if self.settings.latency_ms:
            await asyncio.sleep(self.settings.latency_ms / 1000)
        if fault:
            return await self._go_wrong(fault, call, request)
        return self._finish(call, denied or self._carry_out(call))

    async def _fault_for(self, call: Request, request: web.BaseRequest) -> Fault | None:
        if self.faults.name_plans() and self.plan_is_in_body(call):
            await self._read(call, request)
        return self.faults.take(call)

    async def _go_wrong(self, fault: Fault, call: Request, request: web.BaseRequest) -> web.StreamResponse:
        match fault.kind:
            case "delay":
                usual = self._carry_out(call)
                await asyncio.sleep(fault.seconds)
                return self._finish(call, usual)
            case "stall":
                await asyncio.sleep(fault.seconds)
                return self._finish(call, self._carry_out(call))
            case "expire_token":
                self.expire_tokens()
                return self._finish(call, self.unauthorised())
        done = self._carry_out(call) if fault.effect else None
        match fault.kind:
            case "drop":
                return _cut(call, request)
            case "truncate":
                return await _cut_halfway(
                    call, request, done or answer(200, {"detail": "an answer, cut on demand"})
                )
        return self._finish(call, fault.answer(self.refusal))

    def _begin(self, call: Request) -> None:
        self.look_at(call)
        self.total += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        self._requests.append(call)
        if call.names_plan and call.pk is not None:
            self.attempts[call.pk] += 1

    async def _read(self, call: Request, request: web.BaseRequest) -> None:
        if call.raw or not request.body_exists:
            return
        # Not request.read(): that refuses bodies above 1 MiB.
        call.raw = await request.content.read()
        known = call.pk
        self.look_at(call)
        if known is None and call.names_plan and call.pk is not None:
            self.attempts[call.pk] += 1

    def _finish(self, call: Request, result: Answer) -> web.Response:
        call.status = result.status
        return self._response(result)

    def _response(self, result: Answer) -> web.Response:
        response = web.Response(body=result.body, status=result.status, headers=result.headers)
        if self.settings.clock_skew_seconds:
            response.headers["Date"] = format_datetime(self.now(), usegmt=True)
        return response

    async def _controlled(self, request: web.BaseRequest) -> Answer:
        raw = await request.content.read()
        try:
            content = json.loads(raw) if raw else {}
            command = request.path.removeprefix(CONTROL)
            result = self.control(request.method, command, content)
            if self._record is not None and request.method == "POST" and command in NEW_DATA:
                self._record.add(Request("POST", request.path, {}, {}, time.time(), raw))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return answer(400, {"error": str(error)})
        return result or answer(404, {"error": f"no such command: {request.method} {request.path}"})


def _cut(call: Request, request: web.BaseRequest) -> web.Response:
    call.status = CUT
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def _cut_halfway(call: Request, request: web.BaseRequest, usual: Answer) -> web.StreamResponse:
    call.status = CUT
    response = web.StreamResponse(status=usual.status, headers=usual.headers)
    response.content_length = len(usual.body)
    await response.prepare(request)
    await response.write(usual.body[: len(usual.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


S = TypeVar("S", bound=Simulator)


@asynccontextmanager
async def listening(simulator: Simulator, port: int) -> AsyncIterator[int]:
    """Serves on loopback while the block runs; gives the port. Raises OSError where it cannot be had."""
    runner = web.ServerRunner(web.Server(simulator.serve, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port, backlog=1024).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


class RunningServer(Generic[S]):
    """A simulator in a thread of this process. `stop` and `start` make an outage: the port stays the same."""

    def __init__(self, simulator: S, port: int = 0) -> None:
        self.simulator = simulator
        self.port = port
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Raises OSError where the port cannot be had."""
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        if not self._ready.wait(STARTING_SECONDS):
            raise TimeoutError(f"the {self.simulator.name} simulator did not start")
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        try:
            async with listening(self.simulator, self.port) as self.port:
                self._ready.set()
                await self._over.wait()
        except OSError as error:
            self._failure = error
            self._ready.set()


@contextmanager
def running(simulator: S, port: int = 0) -> Iterator[RunningServer[S]]:
    """Serves a simulator from a thread while the block runs. Raises OSError where the port cannot be had."""
    server = RunningServer(simulator, port)
    server.start()
    try:
        yield server
    finally:
        server.stop()
