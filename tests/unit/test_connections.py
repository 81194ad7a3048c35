"""A kept connection that brings what nobody asked for is dead, over real sockets, plain and with TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from include.order_cancel import http
from include.order_cancel.connections import Connector
from include.order_cancel.http import Answer, Caller, NotSent, OutcomeUnknown, Request
from tests.chaos.fault_proxy import Certificates
from tests.unit.local_server import Exchange, Handler, LocalServer

Work = Callable[[LocalServer, Caller], Awaitable[None]]
FOREIGN = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"foreign"'
UNASKED = {
    "an answer": FOREIGN,
    "the beginning of an answer": FOREIGN[:12],
    "an answer without its end": FOREIGN[:-4],
    "an interim answer": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "an answer that says it is the last": b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n",
    "what is no answer": b'{"more": 1}',
}


@dataclass
class Wire:
    """Plain HTTP, or HTTP over TLS; and what runs the event loop."""

    client: ssl.SSLContext | bool
    server: ssl.SSLContext | None
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    def against(self, handler: Handler, work: Work, **options: Any) -> LocalServer:
        """Run `work` with a Caller against a server that does what `handler` says."""

        async def run() -> LocalServer:
            async with LocalServer(handler, self.server) as server:
                connector = {"connector": lambda: Connector(ssl=self.client)}
                async with Caller(server.endpoint(), **connector, **options) as caller:
                    await work(server, caller)
                return server

        ended: LocalServer = self.run(run())
        return ended


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(Path(tmp_path_factory.mktemp("certificates")))


LOOPS = [
    "asyncio",
    *(["uvloop"] if find_spec("uvloop") else []),
]  # lots run in the second where it is installed


@pytest.fixture(
    params=[
        pytest.param(
            (tls, loop), id=f"{tls} {loop}", marks=[pytest.mark.thorough] if loop == "uvloop" else []
        )
        for tls in ("plain", "tls")
        for loop in LOOPS
    ]
)
def wire(request: pytest.FixtureRequest, certificates: Certificates) -> Wire:
    tls, loop = request.param
    run = import_module(loop).run
    if tls == "plain":
        return Wire(True, None, run)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates.files[True])
    return Wire(certificates.client, server, run)


def own(number: int, length: int | None = None) -> bytes:
    """The right answer to a request."""
    body = b'"own %d"' % number
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (len(body) if length is None else length) + body


async def answer(exchange: Exchange) -> None:
    await exchange.raw(own(exchange.number))


def request(server: LocalServer, method: str = "POST", body: bytes | None = b'{"plan": 1}') -> Request:
    return Request(method, server.url + "/cancellations", {}, body)


@asynccontextmanager
async def listening(server: asyncio.Server) -> AsyncIterator[None]:
    """A server that does not wait for its connections when it is closed, as it would from Python 3.12 on."""
    try:
        yield
    finally:
        server.close()


async def until_read(rounds: int = 20) -> None:
    """Let the event loop read what the kernel has."""
    for _ in range(rounds):
        await asyncio.sleep(0)


METHODS = pytest.mark.parametrize(("method", "body"), [("POST", b'{"plan": 1}'), ("GET", None)])
UNASKED_BYTES = pytest.mark.parametrize("unasked", UNASKED.values(), ids=UNASKED)


@METHODS
@UNASKED_BYTES
@pytest.mark.parametrize("read", [False, True], ids=["unread", "read by the event loop"])
def test_what_came_while_a_connection_was_kept_is_no_answer_to_the_next_request(
    wire: Wire, method: str, body: bytes | None, unasked: bytes, read: bool
) -> None:
    answers: list[Answer] = []

    async def work(server: LocalServer, caller: Caller) -> None:
        answers.append(await caller.send(request(server, method, body)))
        await until_read()
        server.push(unasked)
        if read:
            await until_read()
        answers.append(await caller.send(request(server, method, body)))
        answers.append(await caller.send(request(server, method, body)))

    server = wire.against(answer, work)

    assert [one.json() for one in answers] == ["own 1", "own 2", "own 3"]
    assert (len(server.requests), server.connections) == (3, 2)


@METHODS
@UNASKED_BYTES
@pytest.mark.parametrize("read", [False, True], ids=["unread", "read by the event loop"])
@pytest.mark.parametrize("fresh", [False, True], ids=["kept", "fresh"])
def test_what_comes_while_a_request_waits_for_its_last_look_is_no_answer_to_it(
    wire: Wire, method: str, body: bytes | None, unasked: bytes, read: bool, fresh: bool
) -> None:
    answers: list[Answer] = []
    looks: list[str] = []

    async def work(server: LocalServer, caller: Caller) -> None:
        async def before() -> None:
            await until_read()
            looks.append("look")
            if len(looks) == 1:
                server.push(unasked)
                if read:
                    await until_read()

        if not fresh:
            await caller.send(request(server, method, body))
        answers.append(await caller.send(request(server, method, body), before=before))

    server = wire.against(answer, work)

    number = 1 if fresh else 2
    assert [one.json() for one in answers] == [f"own {number}"]
    assert (len(server.requests), server.connections, looks) == (number, 2, ["look", "look"])


@UNASKED_BYTES
def test_what_comes_between_the_last_look_and_the_first_byte_is_no_answer(
    wire: Wire, unasked: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp writes a request with a body one turn of the event loop later."""
    answers: list[Answer] = []
    usual, looked = http.check_alive, []

    async def work(server: LocalServer, caller: Caller) -> None:
        await caller.send(request(server))

        async def look(connection: Any) -> None:
            await usual(connection)
            looked.append("look")
            if len(looked) == 1:
                server.push(unasked)

        monkeypatch.setattr(http, "check_alive", look)
        answers.append(await caller.send(request(server)))

    server = wire.against(answer, work)

    assert [one.json() for one in answers] == ["own 2"]
    assert (len(server.requests), server.connections) == (2, 2)


@pytest.mark.parametrize("kept", [False, True], ids=["fresh", "kept"])
def test_an_answer_that_comes_before_the_request_has_left_leaves_the_outcome_unknown(
    wire: Wire, kept: bool
) -> None:
    messages: list[str] = []
    large = b"x" * 64 * http.MiB

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if kept:
            await reader.readuntil(b"{}")
            writer.write(own(1))
        await reader.readexactly(1)
        writer.write(FOREIGN)
        await writer.drain()

    async def run() -> None:
        server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=wire.server, limit=1000)
        address = f"http{'s' if wire.server else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        connector = {"connector": lambda: Connector(ssl=wire.client)}
        async with listening(server), Caller(http.Endpoint("erp", address), **connector) as caller:
            if kept:
                assert (await caller.send(Request("POST", address + "/x", {}, b"{}"))).json() == "own 1"
            with pytest.raises(OutcomeUnknown) as unknown:
                await caller.send(Request("POST", address + "/x", {}, large))
            messages.append(str(unknown.value))

    wire.run(run())

    assert "nobody had asked for" in messages[0]


def test_a_server_that_speaks_first_is_not_sent_anything(wire: Wire) -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FOREIGN)
        seen.append(await reader.read(1))

    async def before() -> None:
        await asyncio.sleep(0.02)  # until its words are in this side's kernel

    async def run() -> str:
        server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=wire.server)
        address = f"http{'s' if wire.server else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        connector = {"connector": lambda: Connector(ssl=wire.client)}
        async with listening(server), Caller(http.Endpoint("erp", address), **connector) as caller:
            with pytest.raises(NotSent) as refused:
                await caller.send(Request("POST", address + "/x", {}, b"{}"), before=before)
            return str(refused.value)

    message = wire.run(run())

    assert "nobody had asked for (nothing was sent)" in message
    assert set(seen) <= {b""}


@METHODS
@pytest.mark.parametrize("segments", ["one", "two"])
@UNASKED_BYTES
def test_an_answer_with_more_behind_it_leaves_nothing_to_the_next_request(
    wire: Wire, method: str, body: bytes | None, unasked: bytes, segments: str
) -> None:
    """A second answer, or a body longer than its Content-Length, in one segment with (the end of) the first."""
    first: list[str] = []
    answers: list[Answer] = []

    async def handler(exchange: Exchange) -> None:
        said = own(exchange.number)
        if exchange.number > 1:
            await exchange.raw(said)
            return
        if segments == "two":
            await exchange.raw(said[:-3])
            await until_read()
            said = said[-3:]
        await exchange.raw(said + unasked)

    async def work(server: LocalServer, caller: Caller) -> None:
        try:
            first.append((await caller.send(request(server, method, body))).json())
        except OutcomeUnknown:
            first.append("unknown")
        answers.append(await caller.send(request(server, method, body)))

    server = wire.against(handler, work)

    assert first[0] in ("own 1", "unknown")
    assert first[0] == "own 1" or unasked == UNASKED["what is no answer"]
    assert [one.json() for one in answers] == ["own 2"]
    assert (len(server.requests), server.connections) == (2, 2)


def test_interim_answers_are_passed_over_however_many(wire: Wire) -> None:
    answers: list[Answer] = []

    async def handler(exchange: Exchange) -> None:
        for _ in range(200):
            await exchange.raw(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 50)
        await answer(exchange)

    async def work(server: LocalServer, caller: Caller) -> None:
        answers.append(await caller.send(request(server)))
        answers.append(await caller.send(request(server)))

    server = wire.against(handler, work)

    assert [one.json() for one in answers] == ["own 1", "own 2"]
    assert server.connections == 1


def test_interim_answers_without_end_leave_the_outcome_unknown(wire: Wire) -> None:
    async def handler(exchange: Exchange) -> None:
        while True:
            await exchange.raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 50)
            await asyncio.sleep(0)

    async def work(server: LocalServer, caller: Caller) -> None:
        with pytest.raises(OutcomeUnknown):
            await caller.send(request(server))

    server = wire.against(handler, work, timeout_seconds=0.3)

    assert len(server.requests) == 1


def test_a_connection_that_brings_nothing_else_is_kept(wire: Wire) -> None:
    answers: list[Answer] = []

    async def work(server: LocalServer, caller: Caller) -> None:
        for number in range(20):
            await until_read(number)
            made = request(server) if number % 2 else request(server, "GET", None)
            answers.append(await caller.send(made))

    server = wire.against(answer, work)

    assert [one.json() for one in answers] == [f"own {number}" for number in range(1, 21)]
    assert server.connections == 1
