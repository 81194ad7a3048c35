"""A proxy that goes wrong: between the flow and one simulator, over real sockets, in a thread of its own.

A `Door` passes every request on and its answer back, unless a `Fault` meets the request, or the door itself is out of
order: closed, without a name, with a certificate that nobody trusts, or cutting every connection at once. Nothing
here depends on time: where a request is to run into its deadline, the door tells `Deadlines` that it is over.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from include.order_cancel.connections import Connector

HOST = "127.0.0.1"
_HUNG_UP = select.POLLHUP | select.POLLERR | select.POLLRDHUP
_RESET = struct.pack("ii", 1, 0)
T = TypeVar("T")


@dataclass
class Reply:
    """An answer as the simulator gave it."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Exchange:
    """One request that a door has read, and the ways to answer it or not."""

    door: Door
    method: str
    target: str
    raw: bytes
    writer: asyncio.StreamWriter

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    async def reply(self) -> Reply:
        """What the simulator answers: the request takes its effect."""
        reader, writer = await asyncio.open_connection(HOST, self.door.behind)
        head, _, body = self.raw.partition(b"\r\n\r\n")
        writer.write(head + b"\r\nConnection: close\r\n\r\n" + body)
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        for name in ("Content-Length", "Connection"):
            headers.pop(name, None)
        return Reply(int(first.split(" ")[1]), headers, body)

    async def send(self, reply: Reply, length: int | None = None) -> None:
        """Answer; `length`: the Content-Length, where it is not the body's own; -1: none at all."""
        length = len(reply.body) if length is None else length
        lines = [f"HTTP/1.1 {reply.status} Said"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        lines += ["Connection: close" if length < 0 else f"Content-Length: {length}"]
        await self.write("\r\n".join(lines).encode() + b"\r\n\r\n" + reply.body)

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def nothing_more(self) -> None:
        """Say nothing more, until the door is renewed."""
        await asyncio.Event().wait()


class Cut(Exception):
    """The connection ends here; `reset`: with a TCP reset instead of an orderly end."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__("cut")
        self.reset = reset


Act = Callable[[Exchange], Awaitable[None]]


@dataclass
class Fault:
    """What happens to the next `times` requests (None: all) with this method whose path fits `path`."""

    method: str
    path: Callable[[str], bool]
    act: Act
    times: int | None = None

    def meets(self, exchange: Exchange) -> bool:
        return self.times != 0 and self.method == exchange.method and self.path(exchange.path)

    def use(self) -> None:
        if self.times is not None:
            self.times -= 1


class Deadlines:
    """Deadlines that end when a door says so, and never by themselves: give it to a `Caller` as `deadline`."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Timeout]] = {}

    def __call__(self, seconds: float) -> _Deadline:
        return _Deadline(self._open)

    def expire(self) -> None:
        """The time of every request under way is over."""
        for number, (loop, timeout) in list(self._open.items()):
            loop.call_soon_threadsafe(self._end, number, loop, timeout)

    def _end(self, number: int, loop: asyncio.AbstractEventLoop, timeout: asyncio.Timeout) -> None:
        if number in self._open:
            timeout.reschedule(loop.time())


class _Deadline:
    def __init__(self, opened: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Timeout]]) -> None:
        self._opened = opened
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> asyncio.Timeout:
        await self._timeout.__aenter__()
        self._opened[id(self)] = asyncio.get_running_loop(), self._timeout
        return self._timeout

    async def __aexit__(self, *error: Any) -> bool | None:
        del self._opened[id(self)]
        return await self._timeout.__aexit__(*error)


@dataclass
class Door:
    """The address of one system. `seen` holds (method, path) of every request that was read here."""

    name: str

    deadlines: Deadlines
    certificates: Certificates
    context: ssl.SSLContext = field(default_factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    port: int = 0
    behind: int = 0
    secure: bool = False
    resets: bool = False
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _place: socket.socket | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.name}.test:{self.port}"

    def asked(self, method: str, path: Callable[[str], bool]) -> int:
        """How many such requests were read here."""
        return sum(1 for seen_method, seen in self.seen if seen_method == method and path(seen))

    async def open(self) -> None:
        """Listen on the door's port."""
        self._give_place_up()
        context = self.context if self.secure else None
        self._server = await asyncio.start_server(self._serve, HOST, self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def listens(self) -> bool:
        return self._server is not None

    def shut(self) -> None:
        """Refuse every new connection; the port stays taken. To be called in the doors' thread."""
        assert self._server is not None
        self._server.close()
        self._server = None
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind((HOST, self.port))

    async def end(self) -> None:
        await self._stop()
        self._give_place_up()

    async def renew(self, *, secure: bool) -> None:
        """Forget everything and listen as a door in good order."""
        await self._stop()
        self.secure, self.resets = secure, False
        self.faults, self.seen = [], []
        self.show_certificate(trusted=True)
        await self.open()

    def show_certificate(self, *, trusted: bool) -> None:
        """Show this certificate to every new connection."""
        self.context.load_cert_chain(self.certificates.files[trusted])

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        others = self._tasks - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _give_place_up(self) -> None:
        if self._place is not None:
            self._place.close()
            self._place = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self.resets:
                raise Cut(reset=True)
            while True:
                await self._one(reader, writer)
        except Cut as cut:
            if cut.reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip().split("\r\n")
        method, target, _ = first.split(" ")
        lengths = [int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")]
        body = await reader.readexactly(sum(lengths))
        exchange = Exchange(self, method, target, head + body, writer)
        self.seen.append((method, exchange.path))
        fault = next((fault for fault in self.faults if fault.meets(exchange)), None)
        if fault is None:
            await exchange.send(await exchange.reply())
            return
        fault.use()
        await fault.act(exchange)


# What may happen to a request that was read


def answering(status: int, body: bytes = b'{"detail": "a fault"}', **headers: str) -> Act:
    """Answer without passing the request on. Underscores in the names of `headers` are dashes."""
    given = {
        "Content-Type": "application/json",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }

    async def act(exchange: Exchange) -> None:
        await exchange.send(Reply(status, given, body))

    return act


def instead(body: bytes, content_type: str = "application/json") -> Act:
    """The request takes its effect; the answer's body is another one."""

    async def act(exchange: Exchange) -> None:
        reply = await exchange.reply()
        await exchange.send(Reply(reply.status, {**reply.headers, "Content-Type": content_type}, body))

    return act


def changed(change: Callable[[bytes], bytes]) -> Act:
    """The request takes its effect; the answer's body is changed."""

    async def act(exchange: Exchange) -> None:
        reply = await exchange.reply()
        await exchange.send(Reply(reply.status, reply.headers, change(reply.body)))

    return act


def with_header(name: str, value: str) -> Act:
    """The request takes its effect; its answer has one header more."""

    async def act(exchange: Exchange) -> None:
        reply = await exchange.reply()
        await exchange.send(Reply(reply.status, {**reply.headers, name: value}, reply.body))

    return act


async def reset_after_reading(exchange: Exchange) -> None:
    """The request takes its effect; a TCP reset is all that comes back."""
    await exchange.reply()
    raise Cut(reset=True)


async def silence(exchange: Exchange) -> None:
    """The request takes its effect; nothing comes back until the deadline."""
    await exchange.reply()
    exchange.door.deadlines.expire()
    await exchange.nothing_more()


async def truncated(exchange: Exchange) -> None:
    """The request takes its effect; the answer ends in its middle."""
    reply = await exchange.reply()
    await exchange.send(
        Reply(reply.status, reply.headers, reply.body[: len(reply.body) // 2]), len(reply.body)
    )
    raise Cut


async def dripping(exchange: Exchange) -> None:
    """The request takes its effect; its answer comes byte by byte and is not complete at the deadline."""
    reply = await exchange.reply()
    await exchange.send(Reply(reply.status, reply.headers, b""), len(reply.body) + 1)
    for place in range(len(reply.body)):
        await exchange.write(reply.body[place : place + 1])
    exchange.door.deadlines.expire()
    await exchange.nothing_more()


async def never_closing(exchange: Exchange) -> None:
    """The request takes its effect; only the connection's end would end the answer, and it does not come."""
    await exchange.send(await exchange.reply(), -1)
    exchange.door.deadlines.expire()
    await exchange.nothing_more()


async def a_gigabyte(exchange: Exchange) -> None:
    """The request takes its effect; the answer begins a body of 1 GB."""
    reply = await exchange.reply()
    await exchange.send(Reply(reply.status, reply.headers, b"["), 1 << 30)
    while not exchange.writer.transport.is_closing():
        await exchange.write(b" " * 65536)
    raise Cut


# The other end of the wire


class Names(AbstractResolver):
    """Every name is this machine, as long as it is not in `gone`."""

    def __init__(self, gone: set[str]) -> None:
        self._gone = gone

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if host in self._gone:
            raise OSError(None, f"no such host: {host}")
        return [
            ResolveResult(
                hostname=host,
                host=HOST,
                port=port,
                family=socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        pass


class Wire(Connector):
    """Connections to doors. Where a door resets them at once, they are handed out only when they are dead."""

    def __init__(self, network: Network) -> None:
        super().__init__(ssl=network.certificates.client, resolver=Names(network.gone), use_dns_cache=False)
        self._network = network

    async def connect(self, req: Any, *args: Any, **kwargs: Any) -> Any:
        connection = await super().connect(req, *args, **kwargs)
        door = self._network.doors[req.url.port]
        # Only the kernel knows of the reset, so there is no event to wait for.
        while door.resets and not _is_dead(connection.transport):  # noqa: ASYNC110
            await asyncio.sleep(0)
        return connection


def _is_dead(transport: asyncio.Transport | None) -> bool:
    raw = None if transport is None else transport.get_extra_info("socket")
    if raw is None or raw.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(raw.fileno(), _HUNG_UP)
    return bool(poll.poll(0))


class SkippedTime:
    """A clock that jumps where somebody would sleep; `slept` remembers for how long."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock, self._monotonic = clock, monotonic
        self.skipped = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self._clock() + self.skipped

    def monotonic(self) -> float:
        return self._monotonic() + self.skipped

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.skipped += seconds
        await asyncio.sleep(0)


class Certificates:
    """Two certificates for the doors, by whether `client` trusts them."""

    def __init__(self, folder: Path) -> None:
        self.files = {True: _certificate(folder, "trusted"), False: _certificate(folder, "unknown")}
        self.client = ssl.create_default_context(cafile=self.files[True])


def _certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate for the doors' names, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = [
        x509.DNSName("omnitron.test"),
        x509.DNSName("erp.test"),
        x509.IPAddress(ip_address(HOST)),
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


class Network:
    """Both doors, a trap that nobody may enter, and the thread in which they stand.

    `gone` holds the names that cannot be resolved; `trapped` counts connections to the trap.
    """

    def __init__(self, folder: Path) -> None:
        self.deadlines = Deadlines()
        self.certificates = Certificates(folder)
        self.gone: set[str] = set()
        self.trapped = 0
        self.omnitron = Door("omnitron", self.deadlines, self.certificates)
        self.erp = Door("erp", self.deadlines, self.certificates)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="doors", daemon=True)

    @property
    def doors(self) -> dict[int, Door]:
        return {door.port: door for door in (self.omnitron, self.erp)}

    @property
    def trap_url(self) -> str:
        return f"http://localhost:{self._trap_port}"

    def shut(self, door: Door) -> None:
        """Refuse every new connection to this door."""

        async def work() -> None:
            door.shut()

        if threading.current_thread() is self._thread:
            door.shut()
        else:
            self.run(work())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the doors' thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def renew(self, *, secure: bool = False) -> None:
        """Everything in good order, nothing remembered."""
        self.gone.clear()
        self.trapped = 0
        for door in (self.omnitron, self.erp):
            self.run(door.renew(secure=secure))

    @contextmanager
    def running(self) -> Iterator[Network]:
        self._thread.start()
        try:
            self._trap_port = self.run(self._set_trap())
            self.renew()
            yield self
        finally:
            for door in (self.omnitron, self.erp):
                self.run(door.end())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()

    async def _set_trap(self) -> int:
        async def caught(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.trapped += 1
            writer.close()

        self._trap = await asyncio.start_server(caught, HOST, 0)
        return int(self._trap.sockets[0].getsockname()[1])

    def options(self, time: SkippedTime) -> dict[str, Any]:
        """Keyword arguments for a `Caller` on this network."""
        return {
            "connector": lambda: Wire(self),
            "deadline": self.deadlines,
            "clock": time.clock,
            "monotonic": time.monotonic,
            "sleep": time.sleep,
        }
