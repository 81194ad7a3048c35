"""What every request needs, in one place: deadline, retry, Retry-After, rate, circuit breaker, origin, size.

A failed request is one of two things, and the difference decides whether a plan may be sent again:

NotSent         no byte of the request left: refused, DNS, TLS, no connection in time, a dead connection
OutcomeUnknown  it left, and no complete answer to it came back: timeout, reset, truncated or oversized answer, one that
                was there before the request had left

aiohttp repeats some requests by itself when a kept connection dies. `_MarkedRequest` forbids that: one `send`
writes at most once.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, NoReturn, Self

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.payload import BytesPayload
from yarl import URL

from include.order_cancel import nesting
from include.order_cancel.connections import Connector, Stale, check_alive, kept
from include.order_cancel.errors import OrderCancelError, Problem, SettingsError, StopFlow
from include.order_cancel.identity import address_problem, host_of, identity_of
from include.order_cancel.resting import Rest, RestStore
from include.order_cancel.secrecy import credentials, mask
from include.order_cancel.text import in_unicode, printable

MiB = 1024 * 1024
MAX_TRIES = 3
MAX_WAIT_SECONDS = 60.0
CONNECT_SECONDS = 10.0
_ASKS_FOR_TIME = frozenset({408, 425, 429})  # not done, and not the request's fault
_SAYS_WHEN = _ASKS_FOR_TIME | {503}  # with `Retry-After`: when the system may be asked again
_WORTH_ASKING_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_BACKOFF_SECONDS = 0.5
_MAX_STALE = 2
# What an answer's head may hold; single sign-on and proxies add cookies and policies of many kB.
_MAX_LINE_BYTES = 64 * 1024
_MAX_HEADERS = 500
# How an answer may be packed, by header: aiohttp undoes that, and nothing else.
_UNDONE = {
    "Content-Encoding": frozenset({"", "identity", "gzip", "deflate", "br", "zstd"}),
    "Transfer-Encoding": frozenset({"", "identity", "chunked"}),
}
_AT_ONCE = 32 * 1024  # bytes that the kernel takes in one go from an idle connection
_LONGEST_IDENTITY = 255  # the journal's column
_SHORTEST_SECRET = 4  # shorter texts of a Connection (a language, a client's number) hide nothing, and garble
_NO_HEADERS: Mapping[str, str] = {}
_WISHES = re.compile(
    r"\s*[A-Za-z]+,[^,]+|[^,]+"
)  # a list of seconds and dates; a date has a comma of its own
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

Before = Callable[[], Awaitable[None]]


class NotSent(OrderCancelError):
    """The request certainly did not reach the system."""


class OutcomeUnknown(OrderCancelError):
    """The request left, but whether it took effect is not known."""


class BadAnswer(OrderCancelError):
    """An answer is not the JSON it should be."""


class SystemDown(StopFlow):
    """The circuit breaker is open: the system failed too often in a row, nothing was sent."""

    alert = "breaker_open"


@dataclass(frozen=True)
class Endpoint:
    """A Connection as plain values; what is secret stays out of `repr`."""

    conn_id: str
    base_url: str
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def host(self) -> str:
        """`host` or `host:port`, however the Connection spells it."""
        return host_of(self.base_url)

    @property
    def identity(self) -> str:
        """What this system is called in the journal: `host` with the base path, however the Connection spells it."""
        return identity_of(self.base_url)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Everything in the Connection that must not be shown."""
        values = [*self.headers.values(), *_texts(self.extra)]
        kept = tuple(value for value in values if len(value) >= _SHORTEST_SECRET)
        return (self.password, *kept) if self.password else kept

    @property
    def key_material(self) -> str:
        """All that a token depends on: a changed Connection cannot read an older token."""
        parts = [self.login, self.password, dict(self.headers), dict(self.extra)]
        return json.dumps(parts, sort_keys=True, default=str)

    def url(self, target: str) -> str:
        """`target` as an absolute URL: as it is, or a path below this Connection's base URL."""
        return _absolute(self.base_url, target)


@dataclass(frozen=True, slots=True)
class Request:
    """One request without its auth headers: `url` is absolute, with its query. No message shows its `secrets`."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Answer:
    """One complete answer. `token` is the version of the token that it was asked with, 0 for none.

    `secrets` are what its request was trusted with. What judges the answer reads it as it came (`reason`, `headers`,
    `text`, `json`); what people see of it is masked (`shown`, `shown_reason`, `excerpt`, `describe`).
    """

    status: int
    reason: str = field(repr=False)
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    url: str
    seconds: float
    token: int = 0
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def is_page(self) -> bool:
        """Whether it is meant for a browser: JSON was asked for, so something before the system answered."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/html"

    @functools.cached_property
    def text(self) -> str:
        """The body in the charset that the answer states, else UTF-8; what cannot be read is replaced."""
        found = re.search(r"charset=[\"']?([\w.:-]+)", self.headers.get("Content-Type", ""), re.IGNORECASE)
        try:
            return self.body.decode(found[1] if found else "utf-8-sig", "replace").removeprefix("\ufeff")
        except (LookupError, UnicodeError, ValueError):
            return self.body.decode("utf-8-sig", "replace")

    @functools.cached_property
    def shown(self) -> str:
        """The body as people may see it."""
        return mask(self.text, self.secrets)

    @property
    def shown_reason(self) -> str:
        """The status line's reason as people may see it, in one short line."""
        return printable(mask(self.reason, self.secrets), 60)

    def json(self) -> Any:
        """The body as JSON; of a key that stands twice the last value counts, see `nesting` for deep ones.

        Raises BadAnswer for anything that is not JSON, NaN and Infinity included.
        """
        try:
            return nesting.loads(self.text, parse_constant=_refuse_constant)
        except ValueError:
            raise BadAnswer(f"the answer is not JSON: {self.describe()}") from None

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON."""
        try:
            self.json()
        except BadAnswer:
            return False
        return True

    def excerpt(self, limit: int = 500) -> str:
        """The beginning of the body, fit for a message."""
        return printable(self.shown[: limit + 1], limit)

    def describe(self, limit: int = 300) -> str:
        """Status, reason, where a redirect points, and the beginning of the body, in one line."""
        said = " ".join(part for part in (str(self.status), self.shown_reason) if part)
        if 300 <= self.status < 400 and (target := self.headers.get("Location")):
            where = mask(target.partition("?")[0], self.secrets)
            said += f", a redirect to {printable(where, 200)} (not followed)"
        return f"{said}: {self.excerpt(limit)}" if self.body else said


class Breaker:
    """Opens after `limit` failures in a row and stays open: the run sends nothing more to this system.

    `reason` says why, None while it is closed.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.failures = 0
        self.reason: str | None = None

    @property
    def open(self) -> bool:
        """Whether nothing may be sent any more."""
        return self.reason is not None

    def trip(self, reason: str) -> None:
        """Open it; the first reason stands."""
        self.reason = self.reason or reason

    def failed(self, what: str) -> None:
        """Count one failure."""
        self.failures += 1
        if self.failures >= self.limit:
            self.trip(f"{self.failures} requests in a row failed, the last one: {what}")

    def answered(self) -> None:
        """The system works: begin to count anew."""
        self.failures = 0

    def check(self) -> None:
        """Raise SystemDown where it is open."""
        if self.reason is not None:
            raise SystemDown(f"nothing more is sent: {self.reason}")


class Caller:
    """One system's requests: one session, kept connections, at most `max_in_flight` at a time.

    Use it with `async with`. `timeout_seconds` is the total time of one try, from the connection to the
    last byte of the answer; `requests_per_second` spaces the tries evenly. `also` are absolute URLs from
    the settings whose origins may be asked besides the Connection's own. `clock` gives seconds since the
    epoch, `monotonic` a clock that is never set; `deadline` raises TimeoutError in its block once so many
    seconds are over; `connector` opens the connections; `rests` is where others find what `Retry-After` said,
    and this Caller what they have heard. Raises SettingsError for a base URL or static header that
    cannot be used.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout_seconds: float = 30.0,
        max_in_flight: int = 64,
        requests_per_second: float | None = None,
        max_bytes: int = 16 * MiB,
        also: Collection[str] = (),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
        deadline: Callable[[float], AbstractAsyncContextManager[object]] = asyncio.timeout,
        connector: Callable[[], Connector] = Connector,
        rests: RestStore | None = None,
    ) -> None:
        check_endpoint(endpoint)
        self.endpoint = endpoint
        self.timeout_seconds = timeout_seconds
        self.breaker = Breaker(max(5, 2 * max_in_flight))
        self.clock = clock
        self._origins = {origin(url) for url in (endpoint.base_url, *also)}
        self._max_bytes = max_bytes
        self._interval = 1 / requests_per_second if requests_per_second else 0.0
        self._not_before = self._next_turn = float("-inf")
        self._turn = asyncio.Lock()
        self._slots = asyncio.Semaphore(max_in_flight)
        self._monotonic, self.sleep, self._random = monotonic, sleep, random
        self._deadline, self._connector = deadline, connector
        self._session: aiohttp.ClientSession | None = None
        self._rest = None if rests is None else Rest(rests, endpoint.host, monotonic)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=self._connector(),
            headers={
                "Accept": "application/json",
                "User-Agent": "order-cancel-flow",
                **self.endpoint.headers,
            },
            timeout=aiohttp.ClientTimeout(total=None, connect=min(CONNECT_SECONDS, self.timeout_seconds)),
            cookie_jar=aiohttp.DummyCookieJar(),
            request_class=_MarkedRequest,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_LINE_BYTES,
            max_headers=_MAX_HEADERS,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def reaches(self, url: str) -> bool:
        """Whether this Caller may ask at the absolute `url`: at an origin of the Connection or of the settings."""
        return origin(url) in self._origins

    async def rested(self) -> None:
        """Wait for as long as the system wants to be left alone, whoever has heard of it.

        Raises SystemDown where that is more than a minute, JournalDown.
        """
        while self._rest is not None and (wait := await self._rest.left()) > 0:
            if round(wait) > MAX_WAIT_SECONDS:  # a sum of the journal's clock is a little more than it was
                self.breaker.trip(f"{self.endpoint.host} asks to wait for {wait:.0f} s more")
            self.breaker.check()
            await self.sleep(wait)

    async def pass_on(self, answer: Answer) -> None:
        """Let everybody who asks this system know how long the answer asks to wait. Raises JournalDown."""
        if self._rest is not None:
            await self._rest.heard(self._asks_to_wait(answer))

    async def send(
        self, request: Request, *, auth: Mapping[str, str] = _NO_HEADERS, before: Before | None = None
    ) -> Answer:
        """Exactly one try; redirects are not followed, any status is an Answer.

        `before` is awaited on the open connection, just before the first byte; what it raises passes
        through and nothing was sent. It is awaited again in the rare case that the connection dies
        meanwhile. Waiting for a free slot or for the rate is not part of the deadline. Raises NotSent,
        OutcomeUnknown, SystemDown (breaker open), StopFlow (an origin that is not configured), JournalDown.
        """
        if not self.reaches(request.url):
            raise StopFlow(
                f"Connection '{self.endpoint.conn_id}': {_named(request)} is not on a configured host"
            )
        async with self._slots:
            self.breaker.check()
            if self._interval or self._not_before > self._monotonic():
                await self._wait_for_turn()
            return await self._counted(request, auth, before)

    async def ask_once(self, request: Request, *, auth: Mapping[str, str] = _NO_HEADERS) -> Answer:
        """One try, never earlier than `Retry-After` allows anybody. Raises what `send` raises, JournalDown."""
        await self.rested()
        answer = await self.send(request, auth=auth)
        await self.pass_on(answer)
        return answer

    async def ask(self, request: Request, *, auth: Mapping[str, str] = _NO_HEADERS) -> Answer:
        """At most three tries of `ask_once`, for what may safely be repeated.

        After the last try its Answer is returned, whatever its status. Raises what `ask_once` raises.
        """
        tries = 0
        while True:
            tries += 1
            answer, error = await self._try_once(request, auth)
            if answer is not None and answer.status not in _WORTH_ASKING_AGAIN:
                return answer
            delay = retry_delay(answer, tries, random=self._random, clock=self.clock)
            if delay is not None:
                await self.sleep(delay)
            elif answer is not None:
                return answer
            elif error is not None:
                raise error

    async def _try_once(
        self, request: Request, auth: Mapping[str, str]
    ) -> tuple[Answer | None, NotSent | OutcomeUnknown | None]:
        try:
            return await self.ask_once(request, auth=auth), None
        except (NotSent, OutcomeUnknown) as error:
            return None, error

    async def _wait_for_turn(self) -> None:
        async with self._turn:
            while (wait := max(self._not_before, self._next_turn) - self._monotonic()) > 0:
                await self.sleep(wait)
                await self.rested()  # another task may have heard of a wish meanwhile
            self._next_turn = self._monotonic() + self._interval
        self.breaker.check()

    async def _counted(self, request: Request, auth: Mapping[str, str], before: Before | None) -> Answer:
        try:
            answer = await self._exchange(request, auth, before)
        except (NotSent, OutcomeUnknown) as error:
            self.breaker.failed(str(error))
            raise
        self._learn(request, answer)
        return answer

    def _learn(self, request: Request, answer: Answer) -> None:
        """What an answer says of the system as a whole: that it works, or asks to be left alone.

        One that only asks for time does not show that the system works: endless ones open the breaker.
        """
        if answer.status < 500 and answer.status not in _ASKS_FOR_TIME:
            self.breaker.answered()
        else:
            self.breaker.failed(f"{_named(request)}: {answer.status} {answer.shown_reason}".rstrip())
        if not (wait := self._asks_to_wait(answer)):
            return
        if wait <= MAX_WAIT_SECONDS:
            self._not_before = max(self._not_before, self._monotonic() + wait)
        else:
            self.breaker.trip(
                f"{self.endpoint.host} answered {answer.status} and asks to wait for {wait:.0f} s"
            )

    def _asks_to_wait(self, answer: Answer) -> float:
        return (retry_after(answer, self.clock) or 0.0) if answer.status in _SAYS_WHEN else 0.0

    async def _exchange(self, request: Request, auth: Mapping[str, str], before: Before | None) -> Answer:
        attempt = _Attempt(before)
        _attempt.set(attempt)
        try:
            async with self._deadline(self.timeout_seconds):
                return await self._over_a_live_connection(request, auth)
        except TimeoutError:
            raise attempt.failure(
                f"{_named(request)}: no complete answer within {self.timeout_seconds:g} s"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError, Stale, _TooLong, _Unreadable) as error:
            raise attempt.failure(f"{_named(request)}: {_why(error)}") from None

    async def _over_a_live_connection(self, request: Request, auth: Mapping[str, str]) -> Answer:
        for _ in range(_MAX_STALE):
            try:
                return await self._once(request, auth)
            except Stale:
                if _attempt.get().sent:
                    raise
        return await self._once(request, auth)

    async def _once(self, request: Request, auth: Mapping[str, str]) -> Answer:
        if self._session is None:
            raise RuntimeError("a Caller is used with `async with`")
        headers = {**request.headers, **auth}
        secrets = (*request.secrets, *credentials(auth, self.endpoint.headers))
        started = self._monotonic()
        url = URL(request.url, encoded=True)
        async with self._session.request(
            request.method, url, data=_payload(request.body), headers=headers, allow_redirects=False
        ) as response:
            body = await self._read(response)
            took = self._monotonic() - started
            _check_encoding(response.headers, body)
            reason = in_unicode(response.reason or "")
            return Answer(response.status, reason, response.headers, body, request.url, took, secrets=secrets)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        chunks: list[bytes] = []
        size = response.content_length or 0
        if size <= self._max_bytes:
            size = 0
            async for chunk in response.content.iter_any():
                chunks.append(chunk)
                size += len(chunk)
                if size > self._max_bytes:
                    break
        if size > self._max_bytes:
            response.close()
            raise _TooLong(self._max_bytes)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


@functools.lru_cache(maxsize=256)
def _absolute(base_url: str, target: str) -> str:
    joined = base_url.rstrip("/") + target if target.startswith("/") else target
    return str(URL(joined).with_fragment(None))


def _payload(body: bytes | None) -> BytesPayload | None:
    """The body as aiohttp sends it; given plain, it would look for the kind of each one."""
    return None if body is None else BytesPayload(body)


def retry_delay(
    answer: Answer | None,
    tries: int,
    *,
    random: Callable[[], float] = random.random,
    clock: Callable[[], float] = time.time,
) -> float | None:
    """Seconds to wait after `tries` tries, the last of which brought `answer` (None: no answer at all).

    Full jitter: evenly between nothing and a bound that doubles; added to what `Retry-After` asks for.
    None: give up, because three tries were made or `Retry-After` asks for more than a minute.
    """
    if tries >= MAX_TRIES:
        return None
    wanted = retry_after(answer, clock) if answer is not None else None
    if wanted is not None and wanted > MAX_WAIT_SECONDS:
        return None
    return (wanted or 0.0) + random() * _BACKOFF_SECONDS * 2.0 ** (tries - 1)


def retry_after(answer: Answer, clock: Callable[[], float] = time.time) -> float | None:
    """The seconds that `Retry-After` asks for (RFC 9110, section 10.2.3), None where it says nothing usable.

    Fractions count, and of several wishes the longest: proxies join headers to one list. A date is measured from the
    answer's own `Date`, so that a wrong clock on either side does no harm.
    """
    values = (text for name, text in answer.headers.items() if name.lower() == "retry-after")
    wishes = [_wish(part.strip(), answer, clock) for value in values for part in _WISHES.findall(value)]
    return max((wish for wish in wishes if wish is not None), default=None)


def _wish(value: str, answer: Answer, clock: Callable[[], float]) -> float | None:
    if _SECONDS.fullmatch(value):
        return float(value) if len(value.partition(".")[0]) < 10 else float("inf")
    until = _epoch(value)
    if until is None:
        return None
    now = server_time(answer)
    return max(0.0, until - (clock() if now is None else now))


def asks_for_long(answer: Answer) -> bool:
    """Whether `Retry-After` asks for a longer wait than any task waits."""
    return (retry_after(answer) or 0.0) > MAX_WAIT_SECONDS


def server_time(answer: Answer) -> float | None:
    """The answer's `Date` in seconds since the epoch, None where there is none."""
    return _epoch(answer.headers.get("Date", ""))


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: what must be equal for credentials to be sent."""
    return _origin("/".join(url.split("/", 3)[:3]))


@functools.lru_cache(maxsize=256)
def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = URL(url)  # as requests are made: an international name in ASCII
    except ValueError:
        return "", "", None
    return parts.scheme, parts.raw_host or "", parts.port


def check_endpoint(endpoint: Endpoint) -> None:
    """Raises SettingsError, with every problem, for a Connection that no request can be made with."""
    problems = []
    if problem := address_problem(endpoint.base_url):
        problems.append(f"its host {problem}")
    elif re.search("[@?#]", endpoint.base_url):
        problems.append("its host holds more than an address; login and password have fields of their own")
    elif len(endpoint.identity) > _LONGEST_IDENTITY:
        problems.append(f"its host is longer than {_LONGEST_IDENTITY} characters")
    for name, value in endpoint.headers.items():
        if (
            not _HEADER_NAME.fullmatch(name)
            or not isinstance(value, str)
            or re.search(r"[\x00-\x08\n-\x1f]", value)
        ):
            problems.append(f"the header '{printable(name, 60)}' cannot be sent")
    if problems:
        raise SettingsError([Problem(f"Connection '{endpoint.conn_id}'", problem) for problem in problems])


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


class _TooLong(Exception):
    """The answer is larger than allowed."""


class _Unreadable(Exception):
    """The answer's body cannot be read; says why."""


class _Attempt:
    """One try: whether a byte may have left yet, and what to do just before the first one does."""

    __slots__ = ("_before", "sent")

    def __init__(self, before: Before | None) -> None:
        self._before = before
        self.sent = False

    async def prepare(self, connection: Connection) -> None:
        if self.sent:
            raise aiohttp.ServerDisconnectedError
        kept(connection).expect_nothing()
        if self._before is not None:
            await self._before()
        await check_alive(connection)

    def leave(self, connection: Connection, size: int = 0) -> None:
        self.sent = True
        kept(connection).expect_answer(large=size > _AT_ONCE)

    def failure(self, message: str) -> NotSent | OutcomeUnknown:
        if self.sent:
            return OutcomeUnknown(f"{message} (whether it took effect is not known)")
        return NotSent(f"{message} (nothing was sent)")


_attempt: ContextVar[_Attempt] = ContextVar("attempt")


class _MarkedRequest(ClientRequest):
    """Tells the attempt when the first byte is about to leave, and never lets a second try begin.

    aiohttp writes a request without a body in `send`, one with a body in a task of its own, some time after `send`.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        await _attempt.get().prepare(conn)
        if not self.body:
            _attempt.get().leave(conn)
        return await super().send(conn)

    async def write_bytes(self, writer: AbstractStreamWriter, conn: Connection, *rest: Any) -> None:
        try:
            await check_alive(conn)
            size = self.body.size if self.body else 0
            _attempt.get().leave(conn, size or 0)
        except Stale as dead:
            if conn.protocol is not None:
                conn.protocol.set_exception(dead)  # for whoever waits for the answer
            return
        await super().write_bytes(writer, conn, *rest)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _epoch(value: str) -> float | None:
    try:
        moment: datetime = parsedate_to_datetime(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _named(request: Request) -> str:
    """Method, host and path: a query may hold a customer's data."""
    try:
        url = URL(request.url, encoded=True)
        host = url.host_port_subcomponent or ""
    except ValueError:
        return f"{request.method} of an address that is none"
    return f"{request.method} {host}{printable(mask(url.raw_path, request.secrets), 200)}"


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "the host's name cannot be resolved"),
    (aiohttp.ClientConnectorCertificateError, "the host's certificate is not trusted"),
    (aiohttp.ClientConnectorSSLError, "no TLS connection"),
    (aiohttp.ServerDisconnectedError, "the connection was closed without an answer"),
)
# What the HTTP client says of an answer that it cannot read, and what that means. The first that fits counts.
_UNREADABLE: tuple[tuple[str, str], ...] = (
    ("Got more than", f"a line of the answer's head is longer than {_MAX_LINE_BYTES // 1024} KiB"),
    ("Too many headers", f"the answer has more than {_MAX_HEADERS} headers"),
    ("be present with", "the answer states both a length and chunks"),
    ("Duplicate Content-Length", "the answer states its length twice"),
    ("Content-Length", "the length that the answer states is no number"),
    ("after `Connection: close`", "the answer goes on after the end that it stated"),
    (
        "Expected HTTP/",
        "where an answer should begin is no HTTP (another protocol, or more than the length stated)",
    ),
    ("status line", "the answer's status line is malformed"),
    ("eader", "a header of the answer is malformed"),
    ("chunk", "the chunks of the answer are malformed"),
    ("content-encoding", "the answer is compressed and cannot be unpacked"),
)


def _why(error: Exception) -> str:
    if isinstance(error, _TooLong):
        return f"the answer is larger than {error.args[0] // MiB} MiB"
    if isinstance(error, Stale | _Unreadable):
        return str(error)
    if isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str):
        return "the answer broke off in its headers"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientResponseError):
        return _why_unreadable(error)
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    if isinstance(error, OSError) and error.strerror:
        return f"no connection: {printable(error.strerror, 100)}"
    return type(error).__name__


def _why_unreadable(error: aiohttp.ClientPayloadError | aiohttp.ClientResponseError) -> str:
    said = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error.__cause__ or error)
    if isinstance(error, aiohttp.ClientPayloadError) and "content-encoding" not in said:
        return "the answer broke off before its end"
    head = said.partition("\n\n")[0]  # below stands a piece of the answer
    return next((words for mark, words in _UNREADABLE if mark in head), "the answer is not HTTP")


def _check_encoding(headers: Mapping[str, str], body: bytes) -> None:
    """Raises _Unreadable for a body that is packed in a way that is not undone; a wrong name for plain text is none."""
    for name, undone in _UNDONE.items():
        packed = headers.get(name, "")
        if packed.strip().lower() in undone:
            continue
        try:
            body.decode()
        except UnicodeDecodeError:
            told = f"the answer is packed as '{printable(packed, 60)}', which nobody asked for"
            raise _Unreadable(told) from None
