"""A server on a real socket that does to a request exactly what a test says, and remembers what it read."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

from include.order_cancel.http import Endpoint


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Exchange:
    """A request, and the ways to answer it or not."""

    seen: Seen
    writer: asyncio.StreamWriter
    number: int
    keep: bool = True

    async def answer(self, status: int = 200, body: object = None, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if status != 204 else b""
        lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def cut(self) -> None:
        self.keep = False

    def reset(self) -> None:
        """Close with a TCP reset instead of an orderly end."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.keep = False


Handler = Callable[[Exchange], Awaitable[None]]


class LocalServer:
    """`async with LocalServer(handler) as server`, over TLS with `tls`; `requests`, `connections` count what came."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Seen] = []
        self.connections = 0
        self._handler, self._tls = handler, tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def push(self, data: bytes) -> None:
        """Send this on every open connection, unasked: it is in the other side's kernel when this returns."""
        for writer in self._writers:
            writer.write(data)

    def hang_up(self) -> None:
        """Close every open connection; new ones are welcome."""
        for writer in self._writers:
            writer.close()

    def endpoint(self, **values: Any) -> Endpoint:
        return Endpoint(**({"conn_id": "erp", "base_url": self.url} | values))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers.get("Content-Length", 0)))
        seen = Seen(method, target, headers, body)
        self.requests.append(seen)
        exchange = Exchange(seen, writer, len(self.requests))
        await self._handler(exchange)
        return exchange.keep


def answers(*sequence: tuple[Any, ...]) -> Handler:
    """Answer the requests in turn with (status, body, headers); the last one stands for all that follow."""

    async def handler(exchange: Exchange) -> None:
        status, body, headers = (*sequence[min(exchange.number, len(sequence)) - 1], None, {})[:3]
        await exchange.answer(status, body, **(headers or {}))

    return handler


class Gatekeeper:
    """Gives a new token at each login, and answers `status` to any but the newest one.

    `also` stands in a login's answer besides the token. Without rights a valid token is answered 403.
    """

    def __init__(self, status: int, **also: Any) -> None:
        self.status, self.also = status, also
        self.logins = 0
        self.answered: list[int] = []
        self.has_rights = True
        self._valid = ""

    def expire(self) -> None:
        """Make the newest token invalid too."""
        self._valid = ""

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.seen.path.endswith(("/token", "/login/")):
            self.logins += 1
            self._valid = f"t{self.logins}"
            return await exchange.answer(200, {"token": self._valid, "key": self._valid, **self.also})
        known = exchange.seen.headers["Authorization"].partition(" ")[2] == self._valid
        status = (200 if self.has_rights else 403) if known else self.status
        self.answered.append(status)
        return await exchange.answer(
            status, {"pk": 1, "documentNumber": "C-1"} if status == 200 else {"detail": "no"}
        )


class FakeTime:
    """A clock that only moves when somebody sleeps; `slept` remembers for how long."""

    def __init__(self, now: float = 1_740_000_000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def options(self) -> dict[str, Any]:
        """Keyword arguments for a Caller that lives in this time."""
        return {"clock": self, "monotonic": self, "sleep": self.sleep, "random": lambda: 1.0}


class Wishes:
    """A store of rests by a test's clock; `reads` counts how often it was asked."""

    def __init__(self, clock: FakeTime) -> None:
        self.clock, self.reads = clock, 0
        self.until: dict[str, float] = {}

    def rest_read(self, host: str) -> float:
        self.reads += 1
        return max(0.0, self.until.get(host, 0.0) - self.clock.now)

    def rest_write(self, host: str, seconds: float) -> None:
        self.until[host] = max(self.until.get(host, 0.0), self.clock.now + seconds)
