"""The rules that every request follows, over real sockets."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

import pytest

from include.order_cancel.errors import LeaseLost, SettingsError, StopFlow
from include.order_cancel.http import (
    Answer,
    BadAnswer,
    Caller,
    Endpoint,
    NotSent,
    OutcomeUnknown,
    Request,
    SystemDown,
    retry_after,
    retry_delay,
)
from tests.unit.local_server import Exchange, FakeTime, Handler, LocalServer, Wishes, answers

Work = Callable[[LocalServer, Caller], Awaitable[Any]]


def against(
    handler: Handler, work: Work, connection: dict[str, Any] | None = None, **options: Any
) -> LocalServer:
    """Run `work` with a Caller against a server that does what `handler` says."""

    async def run() -> LocalServer:
        async with LocalServer(handler) as server:
            async with Caller(server.endpoint(**(connection or {})), **options) as caller:
                await work(server, caller)
            return server

    return asyncio.run(run())


def post(server: LocalServer, path: str = "/cancellations") -> Request:
    return Request("POST", server.url + path, {"Content-Type": "application/json"}, b'{"plan":1}')


def said(status: int = 200, body: bytes = b"", **headers: str) -> Answer:
    return Answer(
        status, "", {name.replace("_", "-"): value for name, value in headers.items()}, body, "", 0.0
    )


async def fails_with(kind: type[Exception], call: Awaitable[Any]) -> str:
    with pytest.raises(kind) as caught:
        await call
    return str(caught.value)


# One try


def test_an_answer_carries_status_headers_and_body_of_what_the_server_said() -> None:
    found: list[Answer] = []

    async def work(server: LocalServer, caller: Caller) -> None:
        found.append(await caller.send(post(server)))

    server = against(answers((201, {"number": "A1"}, {"X_Trace": "t"})), work)

    assert (found[0].status, found[0].json(), found[0].headers["x-trace"]) == (201, {"number": "A1"}, "t")
    assert server.requests[0].body == b'{"plan":1}'


def test_a_refused_connection_is_not_sent() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"

        async def run() -> str:
            async with Caller(Endpoint("erp", url)) as caller:
                return await fails_with(NotSent, caller.send(Request("POST", url + "/x")))

        message = asyncio.run(run())

    assert "nothing was sent" in message


def test_a_name_that_cannot_be_resolved_is_not_sent() -> None:
    async def run() -> str:
        async with Caller(Endpoint("erp", "http://erp.invalid")) as caller:
            return await fails_with(NotSent, caller.send(Request("POST", "http://erp.invalid/x")))

    assert "cannot be resolved" in asyncio.run(run())


def test_a_failed_tls_handshake_is_not_sent() -> None:
    async def run() -> str:
        async def speak_plainly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(speak_plainly, "127.0.0.1", 0)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, Caller(Endpoint("erp", url)) as caller:
            return await fails_with(NotSent, caller.send(Request("POST", url + "/x")))

    assert "nothing was sent" in asyncio.run(run())


def test_a_connection_that_is_not_made_in_time_is_not_sent() -> None:
    async def run() -> str:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            waiting = [await _half_open(full.getsockname()) for _ in range(4)]
            url = f"http://127.0.0.1:{full.getsockname()[1]}"
            async with Caller(Endpoint("erp", url), timeout_seconds=0.3) as caller:
                message = await fails_with(NotSent, caller.send(Request("POST", url + "/x")))
            for each in waiting:
                each.close()
            return message

    assert "within 0.3 s" in asyncio.run(run())


async def _half_open(address: tuple[str, int]) -> socket.socket:
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(address)
    return client


@pytest.mark.parametrize("end", ["cut", "reset"])
def test_a_connection_that_ends_after_the_request_was_read_leaves_the_outcome_unknown(end: str) -> None:
    async def handler(exchange: Exchange) -> None:
        getattr(exchange, end)()

    async def work(server: LocalServer, caller: Caller) -> None:
        await fails_with(OutcomeUnknown, caller.send(post(server)))

    assert len(against(handler, work).requests) == 1


def test_no_answer_within_the_deadline_leaves_the_outcome_unknown() -> None:
    async def handler(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async def work(server: LocalServer, caller: Caller) -> None:
        assert "within 1 s" in await fails_with(OutcomeUnknown, caller.send(post(server)))

    assert len(against(handler, work, timeout_seconds=1.0).requests) == 1


def test_a_server_that_drips_is_cut_by_the_total_deadline() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            await exchange.raw(b"x")
            await asyncio.sleep(0.02)

    async def work(server: LocalServer, caller: Caller) -> None:
        began = time.monotonic()
        await fails_with(OutcomeUnknown, caller.send(post(server)))
        assert time.monotonic() - began < 2

    against(handler, work, timeout_seconds=0.3)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Encoding: gzip\r\n\r\nnope",
    ],
)
def test_a_broken_answer_leaves_the_outcome_unknown(data: bytes) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.raw(data)
        exchange.cut()

    async def work(server: LocalServer, caller: Caller) -> None:
        await fails_with(OutcomeUnknown, caller.send(post(server)))

    against(handler, work)


@pytest.mark.parametrize("announced", [True, False])
def test_an_answer_that_is_too_large_leaves_the_outcome_unknown(announced: bool) -> None:
    async def handler(exchange: Exchange) -> None:
        if announced:
            await exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        else:
            await exchange.raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000)
        exchange.cut()

    async def work(server: LocalServer, caller: Caller) -> None:
        assert "larger than" in await fails_with(OutcomeUnknown, caller.send(post(server)))

    against(handler, work, max_bytes=100_000)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(status: int) -> None:
    async def work(server: LocalServer, caller: Caller) -> None:
        answer = await caller.send(post(server))
        assert answer.status == status
        assert "redirect to http://127.0.0.1:1/elsewhere (not followed)" in answer.describe()

    server = against(answers((status, b"", {"Location": "http://127.0.0.1:1/elsewhere?secret=1"})), work)

    assert len(server.requests) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST", "PATCH"])
def test_a_request_on_a_kept_connection_that_dies_is_never_written_twice(method: str) -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.answer()
        else:
            exchange.cut()

    async def work(server: LocalServer, caller: Caller) -> None:
        await caller.send(post(server))
        await fails_with(OutcomeUnknown, caller.send(Request(method, server.url + "/again")))

    server = against(handler, work)

    assert [seen.path for seen in server.requests] == ["/cancellations", "/again"]


def test_a_kept_connection_that_the_server_closed_is_replaced_before_anything_is_sent() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer()
        exchange.cut()

    async def work(server: LocalServer, caller: Caller) -> None:
        for _ in range(20):
            assert (await caller.send(post(server))).status == 200

    server = against(handler, work)

    assert (len(server.requests), server.connections) == (20, 20)


def test_a_connection_that_dies_while_before_runs_is_replaced_and_before_runs_again() -> None:
    looks: list[str] = []

    async def work(server: LocalServer, caller: Caller) -> None:
        async def before() -> None:
            looks.append("look")
            if len(looks) == 1:
                server.hang_up()
                await asyncio.sleep(0.05)

        assert (await caller.send(post(server), before=before)).status == 200

    server = against(answers((200,)), work)

    assert (looks, len(server.requests)) == (["look", "look"], 1)


def test_a_server_that_closes_every_connection_at_once_is_not_sent_anything() -> None:
    async def run() -> str:
        def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async def before() -> None:
            await asyncio.sleep(0.05)

        server = await asyncio.start_server(close, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, Caller(Endpoint("erp", url)) as caller:
            return await fails_with(NotSent, caller.send(Request("POST", url + "/x"), before=before))

    assert "closed at once" in asyncio.run(run())


def test_what_before_raises_passes_through_and_nothing_is_sent() -> None:
    async def before() -> None:
        raise LeaseLost("somebody else has the row")

    async def work(server: LocalServer, caller: Caller) -> None:
        await fails_with(LeaseLost, caller.send(post(server), before=before))

    assert against(answers((200,)), work).requests == []


def test_a_cancelled_call_frees_its_slot() -> None:
    arrived = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        if exchange.number > 1:
            await exchange.answer()
        else:
            arrived.set()
            await asyncio.Event().wait()

    async def work(server: LocalServer, caller: Caller) -> None:
        first = asyncio.create_task(caller.send(post(server)))
        await arrived.wait()
        first.cancel()
        assert (await caller.send(post(server))).status == 200

    against(handler, work, max_in_flight=1)


def test_at_most_max_in_flight_requests_are_under_way() -> None:
    under_way: list[int] = []
    now = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal now
        now += 1
        under_way.append(now)
        await asyncio.sleep(0.01)
        now -= 1
        await exchange.answer()

    async def work(server: LocalServer, caller: Caller) -> None:
        await asyncio.gather(*(caller.send(post(server)) for _ in range(20)))

    against(handler, work, max_in_flight=3)

    assert max(under_way) == 3


def test_waiting_for_a_slot_does_not_count_in_the_deadline() -> None:
    async def handler(exchange: Exchange) -> None:
        await asyncio.sleep(0.1)
        await exchange.answer()

    async def work(server: LocalServer, caller: Caller) -> None:
        found = await asyncio.gather(*(caller.send(post(server)) for _ in range(6)))
        assert [answer.status for answer in found] == [200] * 6

    against(handler, work, max_in_flight=1, timeout_seconds=0.4)


def test_requests_per_second_spaces_the_requests() -> None:
    fake = FakeTime()

    async def work(server: LocalServer, caller: Caller) -> None:
        await asyncio.gather(*(caller.send(post(server)) for _ in range(4)))

    against(answers((200,)), work, requests_per_second=10, **fake.options())

    assert fake.slept == pytest.approx([0.1, 0.1, 0.1])


# Credentials and origins


def test_static_headers_go_along_and_the_request_s_own_win() -> None:
    async def work(server: LocalServer, caller: Caller) -> None:
        await caller.send(post(server), auth={"Authorization": "Token t"})

    headers = {"X-Api-Key": "k1", "Content-Type": "text/plain"}
    seen = against(answers((200,)), work, {"headers": headers}).requests[0]

    assert (seen.headers["X-Api-Key"], seen.headers["Content-Type"]) == ("k1", "application/json")
    assert seen.headers["Authorization"] == "Token t"


def test_an_origin_that_is_not_configured_is_refused_and_sees_nothing() -> None:
    async def run() -> list[Any]:
        async with LocalServer(answers((200,))) as other, LocalServer(answers((200,))) as own:
            async with Caller(own.endpoint()) as caller:
                await fails_with(StopFlow, caller.send(post(other)))
            async with Caller(own.endpoint(), also=[other.url + "/configured"]) as caller:
                await caller.send(post(other))
            return other.requests

    assert len(asyncio.run(run())) == 1


def test_cookies_are_not_kept() -> None:
    async def work(server: LocalServer, caller: Caller) -> None:
        await caller.send(post(server))
        await caller.send(post(server))

    server = against(answers((200, {}, {"Set_Cookie": "a=b"})), work)

    assert "Cookie" not in server.requests[1].headers


def test_a_secret_is_in_no_repr() -> None:
    endpoint = Endpoint("erp", "http://erp", "me", "canary", {"X-Key": "canary"}, {"token": "canary"})

    assert "canary" not in repr(endpoint)
    assert endpoint.secrets == ("canary", "canary", "canary")


def test_a_query_is_in_no_message() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.cut()

    async def work(server: LocalServer, caller: Caller) -> None:
        message = await fails_with(OutcomeUnknown, caller.send(Request("GET", server.url + "/x?name=canary")))
        assert "canary" not in message

    against(handler, work)


@pytest.mark.parametrize(
    "values",
    [
        {"base_url": "ftp://erp"},
        {"base_url": "erp.example"},
        {"base_url": "http://"},
        {"base_url": "http://[::1"},
        {"base_url": "http://erp:99999"},
        {"base_url": "http://erp/?key=canary"},
        {"base_url": "http://erp/#canary"},
        {"base_url": "http://me:canary@erp"},
        {"base_url": "http://erp", "headers": {"X-Key": "canary\r\nX: y"}},
        {"base_url": "http://erp", "headers": {"X Key": "canary"}},
    ],
)
def test_a_connection_that_cannot_be_used_is_said_without_its_secrets(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="Connection 'erp'") as caught:
        Caller(Endpoint("erp", **values))

    assert "canary" not in str(caught.value)


def test_a_path_is_joined_to_the_base_url_and_an_absolute_url_stays() -> None:
    endpoint = Endpoint("erp", "https://ERP.example:8443/base/")

    assert endpoint.url("/iptal işlemi") == "https://erp.example:8443/base/iptal%20i%C5%9Flemi"
    assert endpoint.url("https://other/x?a=1#top") == "https://other/x?a=1"
    assert endpoint.host == "erp.example:8443"


# Asking again


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_be_repeated_is_asked_three_times_at_most(status: int) -> None:
    fake = FakeTime()

    async def work(server: LocalServer, caller: Caller) -> None:
        assert (await caller.ask(Request("GET", server.url + "/x"))).status == status

    server = against(answers((status,)), work, **fake.options())

    assert (len(server.requests), fake.slept) == (3, [0.5, 1.0])


@pytest.mark.parametrize("status", [200, 204, 301, 400, 401, 403, 404, 409, 422, 501])
def test_a_final_answer_is_not_asked_for_again(status: int) -> None:
    async def work(server: LocalServer, caller: Caller) -> None:
        assert (await caller.ask(Request("GET", server.url + "/x"))).status == status

    assert len(against(answers((status,)), work).requests) == 1


def test_an_unknown_outcome_is_asked_again_until_an_answer_comes() -> None:
    fake = FakeTime()

    async def handler(exchange: Exchange) -> None:
        if exchange.number < 3:
            exchange.cut()
        else:
            await exchange.answer()

    async def work(server: LocalServer, caller: Caller) -> None:
        assert (await caller.ask(Request("GET", server.url + "/x"))).status == 200

    assert len(against(handler, work, **fake.options()).requests) == 3


def test_after_three_tries_the_last_error_is_raised() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.cut()

    async def work(server: LocalServer, caller: Caller) -> None:
        await fails_with(OutcomeUnknown, caller.ask(Request("GET", server.url + "/x")))

    assert len(against(handler, work, **FakeTime().options()).requests) == 3


def test_nothing_is_sent_earlier_than_retry_after_allows_not_even_another_request() -> None:
    fake = FakeTime()
    times: list[float] = []

    async def handler(exchange: Exchange) -> None:
        times.append(fake.now)
        await exchange.answer(429 if exchange.number == 1 else 200, None, Retry_After="7")

    async def work(server: LocalServer, caller: Caller) -> None:
        began = fake.now
        assert (await caller.send(post(server))).status == 429
        await asyncio.gather(caller.send(post(server)), caller.ask(Request("GET", server.url + "/x")))
        assert all(at - began >= 7 for at in times[1:])

    assert len(against(handler, work, **fake.options()).requests) == 3


@pytest.mark.parametrize("once", [True, False], ids=["once", "repeated"])
def test_what_one_caller_hears_binds_another_one(once: bool) -> None:
    fake = FakeTime()
    wishes = Wishes(fake)
    times: list[float] = []

    async def handler(exchange: Exchange) -> None:
        times.append(fake.now)
        await exchange.answer(429 if exchange.number == 1 else 200, None, Retry_After="7")

    async def work(server: LocalServer, caller: Caller) -> None:
        async with Caller(server.endpoint(), **fake.options(), rests=wishes) as other:
            assert (await caller.ask_once(post(server))).status == 429
            assert (await (other.ask_once if once else other.ask)(post(server))).ok

    against(handler, work, **fake.options(), rests=wishes)

    assert times[1] - times[0] >= 7


def test_the_wish_of_a_request_that_must_not_be_repeated_is_passed_on_by_who_sent_it() -> None:
    fake = FakeTime()
    wishes = Wishes(fake)

    async def work(server: LocalServer, caller: Caller) -> None:
        answer = await caller.send(post(server))
        assert wishes.until == {}
        await caller.pass_on(answer)
        assert wishes.until == {caller.endpoint.host: fake.now + 7}
        await caller.rested()
        assert fake.slept == [7]

    against(answers((503, None, {"Retry_After": "7"})), work, **fake.options(), rests=wishes)


def test_an_answer_that_names_no_time_or_is_no_refusal_is_nothing_to_pass_on() -> None:
    wishes = Wishes(FakeTime())

    async def work(_: LocalServer, caller: Caller) -> None:
        for answer in (
            said(503),
            said(429, Retry_After="soon"),
            said(200, Retry_After="7"),
            said(429, Retry_After="0"),
        ):
            await caller.pass_on(answer)

    against(answers((200,)), work, rests=wishes)

    assert wishes.until == {}


@pytest.mark.parametrize(("seconds", "sent"), [(60.0, 1), (60.000001, 1), (61.0, 0)])
def test_what_another_heard_is_waited_for_up_to_a_minute(seconds: float, sent: int) -> None:
    fake = FakeTime()
    wishes = Wishes(fake)

    async def work(server: LocalServer, caller: Caller) -> None:
        wishes.rest_write(caller.endpoint.host, seconds)
        if sent:
            await caller.ask(post(server))
        else:
            told = await fails_with(SystemDown, caller.ask(post(server)))
            assert f"{caller.endpoint.host} asks to wait for 61 s more" in told

    assert len(against(answers((200,)), work, **fake.options(), rests=wishes).requests) == sent
    assert sum(fake.slept) == pytest.approx(seconds * sent)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("12", 12.0),
        (" 12 ", 12.0),
        ("99999999999999999999", float("inf")),
        ("-5", None),
        ("3.5", 3.5),
        ("2.0", 2.0),
        ("2.", 2.0),
        ("60, 60", 60.0),
        ("5,60 , 7.5", 60.0),
        ("60, soon", 60.0),
        ("soon, -3", None),
        (f"7, {formatdate(1000, usegmt=True)}", 100.0),
        (f"{formatdate(1000, usegmt=True)}, {formatdate(960, usegmt=True)}, 1", 100.0),
        ("-5, 3", 3.0),
        ("1e3", None),
        ("+5", None),
        ("0x10", None),
        ("inf", None),
        ("nan", None),
        (",", None),
        ("soon", None),
        ("", None),
        ("²", None),
        ("Wed, 99 Nov 2024 00:00:00 GMT", None),
        (formatdate(1000, usegmt=True), 100.0),
        (formatdate(5, usegmt=True), 0.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_date_and_garbage_is_nothing(
    value: str, seconds: float | None
) -> None:
    assert retry_after(said(503, Retry_After=value), clock=lambda: 900.0) == seconds


@pytest.mark.parametrize("skew", [-600, 600])
def test_a_date_in_retry_after_is_measured_by_the_server_s_own_clock(skew: int) -> None:
    now = 1_740_000_000
    theirs = {
        "Date": formatdate(now + skew, usegmt=True),
        "Retry_After": formatdate(now + skew + 20, usegmt=True),
    }

    assert retry_after(said(503, **theirs), clock=lambda: float(now)) == 20


def test_the_delay_is_jittered_doubles_and_ends_after_three_tries() -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    delays = [[retry_delay(None, tries, random=chance.random) for _ in range(200)] for tries in (1, 2, 3)]

    assert all(0 <= (delay or 0) <= 0.5 for delay in delays[0]), f"seed {seed}"
    assert all(0 <= (delay or 0) <= 1.0 for delay in delays[1]), f"seed {seed}"
    assert len(set(delays[0])) > 100, f"seed {seed}"
    assert set(delays[2]) == {None}


def test_the_delay_is_never_shorter_than_retry_after_and_an_absurd_one_gives_up() -> None:
    assert retry_delay(said(503, Retry_After="9"), 1, random=lambda: 0.0) == 9
    assert retry_delay(said(503, Retry_After="9"), 1, random=lambda: 1.0) == 9.5
    assert retry_delay(said(503, Retry_After="61"), 1) is None
    assert retry_delay(said(503, Retry_After="nonsense"), 1, random=lambda: 1.0) == 0.5


# The circuit breaker


@pytest.mark.parametrize("in_flight", [4, 16, 64])
def test_in_a_total_outage_the_system_sees_at_most_three_times_the_requests_in_flight(in_flight: int) -> None:
    async def work(server: LocalServer, caller: Caller) -> None:
        async def plan() -> None:
            for _ in range(3):
                await caller.send(post(server))

        found = await asyncio.gather(*(plan() for _ in range(1000)), return_exceptions=True)
        assert all(isinstance(error, SystemDown) for error in found if error is not None)

    server = against(answers((503,)), work, max_in_flight=in_flight)

    assert 2 * in_flight <= len(server.requests) <= 3 * in_flight


def test_an_answer_closes_the_count_and_an_open_breaker_says_why() -> None:
    async def work(server: LocalServer, caller: Caller) -> None:
        for _ in range(5):
            await caller.send(post(server))
        assert not caller.breaker.open
        for _ in range(5):
            await caller.send(post(server))
        message = await fails_with(SystemDown, caller.send(post(server)))
        assert "5 requests in a row failed" in message
        assert "500" in message

    statuses = [500] * 4 + [200] + [500] * 5
    against(answers(*((status,) for status in statuses)), work, max_in_flight=1)


@pytest.mark.parametrize("status", [408, 425, 429])
@pytest.mark.parametrize("headers", [{}, {"Retry_After": "1"}], ids=["", "with a time"])
def test_a_system_that_only_asks_for_time_opens_the_breaker(status: int, headers: dict[str, str]) -> None:
    async def work(server: LocalServer, caller: Caller) -> None:
        async def plan() -> None:
            for _ in range(3):
                await caller.send(post(server))

        found = [await asyncio.gather(plan(), return_exceptions=True) for _ in range(80)]
        assert isinstance(found[-1][0], SystemDown)
        assert (
            f"8 requests in a row failed, the last one: POST 127.0.0.1:{server.port}/cancellations: {status}"
            in str(found[-1][0])
        )

    server = against(answers((status, None, headers)), work, max_in_flight=4, **FakeTime().options())

    assert len(server.requests) == 8


def test_a_system_that_asks_for_time_now_and_then_is_not_stopped() -> None:
    async def work(server: LocalServer, caller: Caller) -> None:
        for _ in range(40):
            await caller.send(post(server))
        assert not caller.breaker.open

    against(
        answers(*[(429,)] * 4, (200,), *[(429,)] * 4, (422,), *[(429,)] * 4, (200,)), work, max_in_flight=1
    )


def test_a_refusal_is_no_failure_of_the_system() -> None:
    async def work(server: LocalServer, caller: Caller) -> None:
        for _ in range(20):
            await caller.send(post(server))
        assert not caller.breaker.open

    against(answers((422,)), work, max_in_flight=1)


def test_a_retry_after_beyond_a_minute_opens_the_breaker() -> None:
    async def work(server: LocalServer, caller: Caller) -> None:
        await caller.ask(Request("GET", server.url + "/x"))
        assert "wait for 3600 s" in await fails_with(SystemDown, caller.send(post(server)))

    assert len(against(answers((503, None, {"Retry_After": "3600"})), work).requests) == 1


def test_a_breaker_tripped_from_outside_stops_the_next_request() -> None:
    async def work(server: LocalServer, caller: Caller) -> None:
        caller.breaker.trip("another task found the ERP down")
        await fails_with(SystemDown, caller.send(post(server)))

    assert against(answers((200,)), work).requests == []


# Reading an answer


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"a":', b'{"a": NaN}', b"[Infinity]", b"[" * 100_000, b"\xff\xfe"]
)
def test_what_is_not_json_is_a_bad_answer(body: bytes) -> None:
    with pytest.raises(BadAnswer, match="not JSON"):
        said(200, body).json()


def test_json_may_begin_with_a_byte_order_mark_and_repeat_a_key() -> None:
    assert said(200, b'\xef\xbb\xbf{"a": 1, "a": 2}').json() == {"a": 2}


def test_text_is_read_in_the_charset_that_the_answer_states() -> None:
    stated = said(200, "şifre".encode("cp1254"), Content_Type="text/plain; charset=windows-1254")

    assert stated.text == "şifre"
    assert said(200, b"\xff", Content_Type="text/plain; charset=nonsense").text == "\ufffd"


def test_an_excerpt_is_one_bounded_line() -> None:
    answer = said(400, b"first\n::group::\x1b[31mred" + b"x" * 10_000)

    assert answer.excerpt(40) == r"first\n\u003a:group::\u001b[31mred" + "x" * 6 + "…"
    assert "\n" not in answer.describe()


@pytest.mark.parametrize(("status", "ok"), [(199, False), (200, True), (299, True), (300, False)])
def test_an_answer_is_ok_from_200_to_299(status: int, ok: bool) -> None:
    assert said(status).ok is ok


def test_an_answer_is_told_with_its_body_only_where_it_has_one() -> None:
    assert said(404).describe() == "404"
    assert said(404, b"no such path").describe() == "404: no such path"


def test_an_answer_in_many_pieces_is_whole() -> None:
    found: list[Answer] = []

    async def handler(exchange: Exchange) -> None:
        await exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        for piece in (b"def", b"ghi"):
            await asyncio.sleep(0.05)
            await exchange.raw(piece)

    async def work(server: LocalServer, caller: Caller) -> None:
        found.append(await caller.send(post(server)))

    against(handler, work)

    assert (found[0].reason, found[0].body) == ("OK", b"abcdefghi")


# What a request was trusted with


def test_a_repeated_credential_is_masked_in_status_line_body_and_redirect() -> None:
    found: list[Answer] = []
    token = "canary-token"

    async def handler(exchange: Exchange) -> None:
        await exchange.raw(
            f"HTTP/1.1 302 {token}\r\nLocation: http://other/{token}\r\nContent-Length: 24\r\n"
            f"Content-Type: text/plain; charset=utf-16-le\r\n\r\n".encode()
            + token.encode("utf-16-le")
        )

    async def work(server: LocalServer, caller: Caller) -> None:
        found.append(await caller.send(post(server), auth={"Authorization": f"Bearer {token}"}))

    against(handler, work)

    assert (found[0].shown_reason, found[0].shown) == ("***", "***")
    assert (found[0].reason, found[0].text) == (token, token)  # what judges it reads it as it came
    assert found[0].describe() == "302 ***, a redirect to http://other/*** (not followed): ***"
    assert token not in repr(found[0]).replace(f"http://other/{token}", "")


def test_the_secrets_of_a_request_are_in_no_message_even_where_a_text_is_cut() -> None:
    secret = "canary" * 50

    async def handler(exchange: Exchange) -> None:
        exchange.cut()

    async def work(server: LocalServer, caller: Caller) -> None:
        request = Request("GET", f"{server.url}/login/{'x' * 180}/{secret}", secrets=(secret,))
        assert "canary" not in repr(request).replace(request.url, "")
        message = await fails_with(OutcomeUnknown, caller.send(request))
        assert "/login/" in message
        assert "canary" not in message

    against(handler, work)


def test_short_texts_of_a_connection_hide_nothing_but_its_password_does() -> None:
    endpoint = Endpoint(
        "erp", "http://erp", "me", "pw", {"Accept-Language": "tr"}, {"client": "100", "key": "four"}
    )

    assert endpoint.secrets == ("pw", "four")


def test_a_token_does_not_depend_on_the_order_of_a_connections_fields() -> None:
    one = Endpoint("erp", "http://erp", "me", "pw", extra={"a": 1, "b": 2})
    other = Endpoint("erp", "http://erp", "me", "pw", extra={"b": 2, "a": 1})

    assert one.key_material == other.key_material


# Which addresses are asked


ADDRESSES = ["http://127.0.0.2:1/x", "https://erp.example/x", "http://erp.example:81/x", "http://evil.example/x",
             "http://erp.example@evil.example/x", "ftp://erp.example/x", "file:///etc/passwd", "//erp.example/x", "x",
             "http://[::1/x", "http://erp.example.evil.example/x"]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_origin_that_nobody_configured_is_not_asked(address: str) -> None:
    async def work() -> None:
        async with Caller(Endpoint("erp", "http://erp.example")) as caller:
            message = await fails_with(StopFlow, caller.send(Request("GET", address)))
            assert "is not on a configured host" in message

    asyncio.run(work())
