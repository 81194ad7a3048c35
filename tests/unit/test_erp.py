"""The ERP over real sockets: requests, answers, tokens, lookups."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from include.order_cancel.erp import (
    Erp,
    build_request,
    classify,
    connect,
    readdressed,
    reference,
    same_host,
)
from include.order_cancel.errors import PlanFailed
from include.order_cancel.http import Answer, Endpoint, NotSent, OutcomeUnknown, Request
from include.order_cancel.settings import ErpSettings
from include.order_cancel.tokens import LoginFailed, MemoryStore
from tests.unit.local_server import Exchange, FakeTime, Gatekeeper, Handler, LocalServer, answers

ENDPOINT = Endpoint("erp", "https://erp.example/base")
LOGIN = {"url": "/token", "body": {"user": "{{ login }}", "password": "{{ password }}"}}
CREDENTIALS = {"login": "me", "password": "canary"}


def settings(**values: Any) -> ErpSettings:
    return ErpSettings.model_validate({"cancellation_api_url": "/cancellations"} | values)


def said(status: int, body: bytes = b"") -> Answer:
    return Answer(status, "", {}, body, "", 0.0)


def against(
    handler: Handler,
    work: Callable[[Erp, Request], Awaitable[Any]],
    connection: dict[str, Any] | None = None,
    **values: Any,
) -> LocalServer:
    """Run `work` with an Erp of these settings against a server that does what `handler` says."""

    async def run() -> LocalServer:
        async with LocalServer(handler) as server:
            endpoint, wanted = server.endpoint(**(connection or {})), settings(**values)
            async with connect(endpoint, wanted, MemoryStore(), **FakeTime().options()) as erp:
                await work(erp, build_request(wanted, endpoint, {"plan": 1}, "key-1"))
            return server

    return asyncio.run(run())


async def send(erp: Erp, request: Request) -> None:
    assert (await erp.send(request)).ok


Task = Callable[[Erp, Request], Awaitable[Any]]


def in_tasks(handler: Handler, *tasks: Task, clock: FakeTime | None = None, **values: Any) -> LocalServer:
    """Run each of the `tasks` with an Erp of its own, one after the other, over one store of tokens."""
    time = clock or FakeTime()
    store = MemoryStore(time)

    async def run() -> LocalServer:
        async with LocalServer(handler) as server:
            endpoint, wanted = server.endpoint(**CREDENTIALS), settings(**{"login": LOGIN, **values})
            for task in tasks:
                async with connect(endpoint, wanted, store, **time.options()) as erp:
                    await task(erp, build_request(wanted, endpoint, {"plan": 1}, "key-1"))
            return server

    return asyncio.run(run())


# Requests


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_body_goes_out_as_compact_utf8_json_with_its_key(method: str) -> None:
    request = build_request(
        settings(http_method=method), ENDPOINT, {"neden": "Vazgeçtim", "tutar": None}, "k1"
    )

    assert request.body == '{"neden":"Vazgeçtim","tutar":null}'.encode()
    assert request.url == "https://erp.example/base/cancellations"
    assert request.headers == {"Content-Type": "application/json", "Idempotency-Key": "k1"}


def test_a_get_carries_the_flat_body_in_its_query() -> None:
    body = {"no": "1 & ç+", "n": 5, "price": 1.5, "yes": True, "no2": False, "none": None, "empty": ""}
    request = build_request(settings(http_method="GET", cancellation_api_url="/c?v=2"), ENDPOINT, body, "k")

    assert (
        request.url.partition("?")[2] == "v=2&no=1%20%26%20%C3%A7%2B&n=5&price=1.5&yes=true&no2=false&empty="
    )
    assert (request.body, request.headers) == (None, {"Idempotency-Key": "k"})


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ("https://old.example/c?client=1", "https://erp.example/base/cancellations?client=2"),
        (
            "https://erp.example/base/cancellations?client=2",
            "https://erp.example/base/cancellations?client=2",
        ),
    ],
)
def test_an_earlier_request_goes_with_its_bytes_to_the_address_as_it_is(stored: str, wanted: str) -> None:
    now = settings(cancellation_api_url="/cancellations?client=2", idempotency_header="X-Key")
    earlier = Request("POST", stored, {"Idempotency-Key": "k"}, b'{"a":1}')

    request = readdressed(earlier, now, ENDPOINT, "k")

    assert request == Request("POST", wanted, {"Content-Type": "application/json", "X-Key": "k"}, b'{"a":1}')


def test_an_earlier_get_keeps_its_query() -> None:
    now = settings(http_method="GET", cancellation_api_url="/cancellations?client=2")
    earlier = Request("GET", "https://old.example/c?client=1&no=1%20%26", {})

    request = readdressed(earlier, now, ENDPOINT, "k")

    assert request.url == "https://erp.example/base/cancellations?client=1&no=1%20%26"
    assert request.headers == {"Idempotency-Key": "k"}


def test_an_earlier_request_of_another_method_stays() -> None:
    earlier = Request("PUT", "https://old.example/c", {"Idempotency-Key": "k"}, b"{}")

    assert readdressed(earlier, settings(), ENDPOINT, "k") == earlier


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://erp.example/elsewhere?no=1", True),
        ("http://ERP.example./", True),
        ("https://erp.example:443/", True),
        ("https://erp.example:8443/", False),
        ("https://test.erp.example/base/cancellations", False),
        ("http://[::1]:8000/", False),
    ],
)
def test_a_host_is_the_same_by_http_or_https(url: str, same: bool) -> None:
    assert same_host(Request("POST", url), settings(), ENDPOINT) is same


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"a": 1, "items": []}, "'items' is a list"),
        ({"order": {}}, "'order' is an object"),
        ([1], "not a list"),
        ("text", "not a text"),
        (None, "not null"),
        ({"a": float("nan")}, "query"),
        ({"a": "\ud800"}, "query"),
    ],
)
def test_a_body_that_a_query_cannot_carry_fails_the_plan(body: Any, message: str) -> None:
    with pytest.raises(PlanFailed, match=message):
        build_request(settings(http_method="GET"), ENDPOINT, body, "k")


@pytest.mark.parametrize("body", [{"a": float("inf")}, {"a": "\ud800"}, {"a": object()}])
def test_a_body_that_is_not_json_fails_the_plan(body: Any) -> None:
    with pytest.raises(PlanFailed, match="not JSON"):
        build_request(settings(), ENDPOINT, body, "k")


def test_without_a_key_header_no_key_is_sent() -> None:
    assert build_request(settings(idempotency_header=None), ENDPOINT, {}, "k").headers == {
        "Content-Type": "application/json"
    }


def test_a_content_type_of_the_connection_stands() -> None:
    async def work(erp: Erp, request: Request) -> None:
        await erp.send(request)

    headers = {"content-type": "application/json; charset=utf-8"}
    seen = against(answers((200,)), work, {"headers": headers}).requests[0]

    assert {name.lower(): value for name, value in seen.headers.items()}["content-type"] == headers[
        "content-type"
    ]


def test_an_absolute_url_is_asked_on_its_own_host() -> None:
    async def run() -> tuple[int, int]:
        async with LocalServer(answers((200,))) as other, LocalServer(answers((200,))) as own:
            wanted = settings(cancellation_api_url=other.url + "/c")
            async with connect(own.endpoint(), wanted, MemoryStore()) as erp:
                await erp.send(build_request(wanted, own.endpoint(), {}, "k"))
            return len(other.requests), len(own.requests)

    assert asyncio.run(run()) == (1, 0)


# What an answer means


@pytest.mark.parametrize(
    ("statuses", "meaning"),
    [
        ([200, 201, 202, 204, 299], "accepted"),
        ([401], "auth_fail"),
        ([408, 425, 429], "not_done"),
        ([301, 307, 308, 400, 402, *range(403, 407), *range(409, 412), *range(413, 418)], "refused"),
        ([421, 422, 423, 424, 426, 428, 431, 451], "refused"),
    ],
)
def test_a_status_means_what_the_contract_says(statuses: list[int], meaning: str) -> None:
    assert {classify(said(status), settings()) for status in statuses} == {meaning}


def test_a_status_that_is_not_listed_proves_nothing() -> None:
    proven = {*range(200, 300), 401, *settings().not_done, *settings().refused}

    unknown = {status for status in range(100, 600) if classify(said(status), settings()) == "unknown"}

    assert unknown == set(range(100, 600)) - proven
    assert unknown >= {
        100,
        302,
        303,
        304,
        407,
        412,
        418,
        419,
        440,
        460,
        499,
        501,
        503,
        505,
        520,
        522,
        524,
        598,
    }


def test_the_lists_of_the_settings_decide() -> None:
    own = settings(not_done=[503], refused=[500])

    assert [classify(said(status), own) for status in (503, 500, 429, 422)] == [
        "not_done",
        "refused",
        "unknown",
        "unknown",
    ]


@pytest.mark.parametrize(
    ("body", "meaning"),
    [
        (b'{"number": "C-1"}', "accepted"),
        (b'{"number": 7, "errors": []}', "accepted"),
        (b'{"number": "C-1", "errors": [{"text": "no"}]}', "refused"),
        (b'{"errors": [{"text": "no"}]}', "refused"),
        (b'{"number": null}', "unknown"),
        (b'{"number": 0}', "unknown"),
        (b'{"number": ""}', "unknown"),
        (b'{"number": {"no": 1}}', "unknown"),
        (b'{"status": "queued"}', "unknown"),
        (b"<html>please sign in</html>", "unknown"),
        (b"", "unknown"),
    ],
)
def test_2xx_must_carry_what_the_settings_expect(body: bytes, meaning: str) -> None:
    expecting = settings(reference_path="number", refused_path="errors")

    assert classify(said(200, body), expecting) == meaning
    assert classify(said(200, body), settings()) == "accepted"


@pytest.mark.parametrize(
    ("body", "path", "number"),
    [
        (b'{"documentNumber": "C-1"}', "documentNumber", "C-1"),
        (b'{"d": {"documents": [{"no": 7}]}}', "d.documents.0.no", "7"),
        (b'[{"no": "A"}]', "0.no", "A"),
        (b'{"value": [{"id": 7}]}', "value[0].id", "7"),
        (b'{"value": [{"id": 7}]}', "$.value[0].id", "7"),
        (b'{"d": []}', "d.0", None),
        (b'{"d": {"a": 1}}', "d", None),
        (b'{"d": true}', "d", None),
        (b'{"d": null}', "d", None),
        (b'{"d": ""}', "d", None),
        (b"<html>", "d", None),
        (b"", "d", None),
        (b'{"d": "x"}', None, None),
        ('{"d": "satır\\nsonu"}'.encode(), "d", r"satır\nsonu"),
    ],
)
def test_the_document_number_is_read_where_it_stands(
    body: bytes, path: str | None, number: str | None
) -> None:
    assert reference(said(200, body), path) == number


@pytest.mark.parametrize(
    ("path", "number"),
    [("header:Location", "/documents/7"), ("header:location", "/documents/7"), ("header:X-Number", None)],
)
def test_the_document_number_may_stand_in_a_header(path: str, number: str | None) -> None:
    answer = Answer(201, "", {"Location": "/documents/7"}, b"", "", 0.0)

    assert reference(answer, path) == number


# Auth


def test_login_and_password_without_a_token_login_are_basic_auth() -> None:
    seen = against(answers((200,)), send, {"login": "me", "password": "şifre"}).requests[0]

    assert base64.b64decode(seen.headers["Authorization"].removeprefix("Basic ")).decode() == "me:şifre"


def test_an_authorization_header_of_the_connection_stands() -> None:
    seen = against(answers((200,)), send, CREDENTIALS | {"headers": {"authorization": "Key k"}}).requests[0]

    assert seen.headers["authorization"] == "Key k"
    assert "Authorization" not in seen.headers


def test_a_token_is_asked_for_once_and_sent_with_every_request() -> None:
    async def work(erp: Erp, request: Request) -> None:
        for _ in range(3):
            await send(erp, request)

    server = against(answers((200, {"token": "t1"}), (200,)), work, CREDENTIALS, login=LOGIN)

    assert [seen.path for seen in server.requests] == ["/token"] + ["/cancellations"] * 3
    assert server.requests[0].json() == {"user": "me", "password": "canary"}
    assert "Authorization" not in server.requests[0].headers
    assert {seen.headers["Authorization"] for seen in server.requests[1:]} == {"Bearer t1"}


def test_a_form_login_with_extras_and_a_header_of_its_own() -> None:
    login = {
        "url": "/oauth/{{ extra.tenant }}",
        "headers": {"Content-Type": "application/x-www-form-urlencoded", "X-Client": "{{ extra.client }}"},
        "body": {"grant_type": "client_credentials", "client_secret": "{{ password }}"},
        "token_path": "data.0.value",
        "header": "X-Token",
        "prefix": "",
    }
    connection = CREDENTIALS | {"extra": {"tenant": "a/b", "client": "c1"}}
    server = against(answers((200, {"data": [{"value": "t"}]}), (200,)), send, connection, login=login)

    assert server.requests[0].target == "/oauth/a%2Fb"
    assert server.requests[0].body == b"grant_type=client_credentials&client_secret=canary"
    assert (server.requests[0].headers["X-Client"], server.requests[1].headers["X-Token"]) == ("c1", "t")


def test_many_refused_requests_cost_one_login() -> None:
    valid = ["t0"]

    async def handler(exchange: Exchange) -> None:
        if exchange.seen.path == "/token":
            valid[0] = f"t{exchange.number}"
            await exchange.answer(200, {"token": valid[0]})
        else:
            await exchange.answer(
                200 if exchange.seen.headers["Authorization"] == f"Bearer {valid[0]}" else 401
            )

    async def work(erp: Erp, request: Request) -> None:
        await erp.login()
        valid[0] = "expired"
        refused = await asyncio.gather(*(erp.send(request) for _ in range(30)))
        assert {answer.status for answer in refused} == {401}
        for answer in refused:
            assert await erp.renew_token(answer)
        assert (await erp.send(request)).ok

    server = against(handler, work, CREDENTIALS, login=LOGIN)

    assert [seen.path for seen in server.requests].count("/token") == 2


PERHAPS = [403, 419, 440]


async def login(erp: Erp, _: Request) -> None:
    await erp.login()


def looking_up(count: int = 1) -> Task:
    """Look up so many plans side by side; what does not tell is passed over."""

    async def task(erp: Erp, _: Request) -> None:
        await asyncio.gather(*(look_up(erp) for _ in range(count)), return_exceptions=True)

    return task


def expiring(gate: Gatekeeper, task: Task) -> Task:
    """The task, whose stored token has become invalid meanwhile."""

    async def expired(erp: Erp, request: Request) -> None:
        gate.expire()
        await task(erp, request)

    return expired


LOOKUP: dict[str, Any] = {"lookup": {"url": "/documents/{{ key }}", "found_path": "documentNumber"}}


@pytest.mark.parametrize("status", [401, *PERHAPS])
def test_a_lookup_with_an_earlier_task_s_token_renews_it_once_and_is_repeated(status: int) -> None:
    gate = Gatekeeper(status)

    async def finds(erp: Erp, _: Request) -> None:
        answer = await look_up(erp)
        assert answer is not None
        assert answer.json()["documentNumber"] == "C-1"

    in_tasks(gate, login, expiring(gate, finds), **LOOKUP)

    assert (gate.logins, gate.answered) == (2, [status, 200])


@pytest.mark.parametrize("status", [401, *PERHAPS])
def test_many_refused_lookups_with_an_earlier_task_s_token_cost_one_login(status: int) -> None:
    gate = Gatekeeper(status)

    in_tasks(gate, login, expiring(gate, looking_up(30)), **LOOKUP)

    assert gate.logins == 2
    assert gate.answered.count(200) == 30


@pytest.mark.parametrize("status", PERHAPS)
def test_after_this_task_s_own_login_such_an_answer_is_an_ordinary_one(status: int) -> None:
    gate = Gatekeeper(status)

    async def task(erp: Erp, request: Request) -> None:
        await erp.login()
        gate.expire()
        answer = await erp.send(request)
        assert (answer.status, erp.may_renew(answer)) == (status, False)
        with pytest.raises(OutcomeUnknown, match=f"answered with {status}"):
            await look_up(erp)

    in_tasks(gate, task, **LOOKUP)

    assert (gate.logins, gate.answered) == (1, [status, status])


def test_a_401_is_renewed_whoever_fetched_the_token() -> None:
    gate = Gatekeeper(401)

    async def task(erp: Erp, request: Request) -> None:
        await erp.login()
        gate.expire()
        answer = await erp.send(request)
        assert erp.may_renew(answer)
        assert await erp.renew_token(answer)
        await send(erp, request)

    in_tasks(gate, task)

    assert (gate.logins, gate.answered) == (2, [401, 200])


@pytest.mark.parametrize("status", PERHAPS)
def test_refused_writes_with_an_earlier_task_s_token_cost_one_login(status: int) -> None:
    gate = Gatekeeper(status)

    async def writes(erp: Erp, request: Request) -> None:
        refused = await asyncio.gather(*(erp.send(request) for _ in range(20)))
        for answer in refused:
            assert erp.may_renew(answer)
            assert await erp.renew_token(answer)
            await send(erp, request)

    in_tasks(gate, login, expiring(gate, writes))

    assert gate.logins == 2
    assert gate.answered == [status] * 20 + [200] * 20


def test_a_missing_right_costs_one_login_and_not_one_for_each_plan() -> None:
    gate = Gatekeeper(401)

    async def task(erp: Erp, request: Request) -> None:
        gate.has_rights = False
        for _ in range(5):
            answer = await erp.send(request)
            assert answer.status == 403
            if erp.may_renew(answer):
                await erp.renew_token(answer)
                assert not erp.may_renew(await erp.send(request))
        await asyncio.gather(*(look_up(erp) for _ in range(5)), return_exceptions=True)

    in_tasks(gate, login, task, **LOOKUP)

    assert gate.logins == 2
    assert gate.answered == [403] * (1 + 5 + 5)


def test_a_missing_right_costs_one_login_for_plans_that_have_tasks_of_their_own() -> None:
    gate, clock = Gatekeeper(401), FakeTime()

    async def without_rights(erp: Erp, _: Request) -> None:
        gate.has_rights = False
        await looking_up()(erp, _)

    async def much_later(erp: Erp, _: Request) -> None:
        clock.now += 301
        await looking_up()(erp, _)

    in_tasks(gate, login, *[without_rights] * 20, clock=clock, **LOOKUP)
    assert gate.logins == 2

    in_tasks(gate, login, *[without_rights] * 5, much_later, clock=clock, **LOOKUP)
    assert gate.logins == 2 + 1 + 2


@pytest.mark.parametrize("status", PERHAPS)
def test_a_token_that_becomes_invalid_again_and_again_is_renewed_by_each_task(status: int) -> None:
    gate = Gatekeeper(status)

    async def finds(erp: Erp, _: Request) -> None:
        assert await look_up(erp) is not None

    in_tasks(gate, login, *[expiring(gate, finds)] * 3, **LOOKUP)

    assert gate.logins == 4


def test_an_answer_to_an_unknown_token_is_repeated_with_the_one_that_was_fetched_here() -> None:
    gate = Gatekeeper(401)

    async def task(erp: Erp, _: Request) -> None:
        await erp.login()
        for stored in (said(401), said(403)):
            assert erp.may_renew(stored)
            assert await erp.renew_token(stored)
        assert await erp.renew_token()

    in_tasks(gate, task)

    assert gate.logins == 1


def test_statuses_that_tell_nothing_of_a_token_renew_none() -> None:
    async def task(erp: Erp, _: Request) -> None:
        statuses = {status for status in range(100, 600) if erp.may_renew(said(status))}
        assert statuses == {401, *PERHAPS}

    in_tasks(Gatekeeper(401), login, task)


# A token's end


@pytest.mark.parametrize("seconds", [3600, 3600.0, "3600", " 3600 "])
def test_a_token_is_replaced_before_its_end(seconds: Any) -> None:
    gate, clock = Gatekeeper(401, expires_in=seconds), FakeTime()

    def after(passed: float) -> Task:
        async def task(erp: Erp, request: Request) -> None:
            clock.now += passed
            await send(erp, request)

        return task

    in_tasks(gate, after(0), after(3500), after(69), clock=clock)
    assert gate.logins == 1

    in_tasks(gate, after(0), after(3500), after(71), clock=clock)
    assert (gate.logins, set(gate.answered)) == (3, {200})


def test_a_task_replaces_its_own_token_before_its_end_once_for_all() -> None:
    gate, clock = Gatekeeper(401, expires_in=100), FakeTime()

    async def task(erp: Erp, request: Request) -> None:
        for passed in (0, 89, 2):
            clock.now += passed
            await asyncio.gather(*(send(erp, request) for _ in range(10)))

    in_tasks(gate, task, clock=clock)

    assert (gate.logins, set(gate.answered)) == (2, {200})


@pytest.mark.parametrize(
    "seconds", [None, 0, -5, 0.5, True, "soon", "", "1h", [60], {"in": 60}, "nan", "inf", "1e400", 10**400]
)
def test_a_life_that_makes_no_sense_is_no_end(seconds: Any) -> None:
    gate, clock = Gatekeeper(401, expires_in=seconds), FakeTime()

    async def task(erp: Erp, request: Request) -> None:
        await send(erp, request)
        clock.now += 365 * 86400
        await send(erp, request)

    in_tasks(gate, task, task, clock=clock)

    assert gate.logins == 1


def test_the_life_stands_where_the_settings_say() -> None:
    gate, clock = Gatekeeper(401, expires_in=1e9, meta=[{"ttl": 60}]), FakeTime()

    async def task(erp: Erp, request: Request) -> None:
        await send(erp, request)
        clock.now += 55
        await send(erp, request)

    in_tasks(gate, task, clock=clock, login={**LOGIN, "expires_path": "meta[0].ttl"})

    assert gate.logins == 2


@pytest.mark.parametrize("status", PERHAPS)
def test_a_token_of_this_task_that_is_over_may_be_what_was_refused(status: int) -> None:
    gate, clock = Gatekeeper(status, expires_in=100), FakeTime()

    async def task(erp: Erp, request: Request) -> None:
        await erp.login()
        gate.expire()
        answer = await erp.send(request)
        assert not erp.may_renew(answer)
        clock.now += 91  # it waited for its turn, say
        assert erp.may_renew(answer)

    in_tasks(gate, task, clock=clock)


def test_a_token_and_its_life_may_stand_in_headers() -> None:
    clock = FakeTime()
    sequence = answers(
        (200, b"<html>", {"X_Token": "t1", "X_Life": "60"}), (200,), (200, b"", {"X_Token": "t2"}), (200,)
    )

    async def task(erp: Erp, request: Request) -> None:
        await send(erp, request)
        clock.now += 55
        await send(erp, request)

    wanted = {**LOGIN, "token_path": "header:x-token", "expires_path": "header:X-Life"}
    server = in_tasks(sequence, task, clock=clock, login=wanted)

    assert [seen.headers.get("Authorization") for seen in server.requests] == [
        None,
        "Bearer t1",
        None,
        "Bearer t2",
    ]


def test_without_a_token_login_there_is_nothing_to_renew() -> None:
    async def work(erp: Erp, request: Request) -> None:
        await erp.login()
        assert not await erp.renew_token(await erp.send(request))

    against(answers((401,)), work, CREDENTIALS)


@pytest.mark.parametrize(
    ("answer", "connection", "message"),
    [
        ((401, {"error": "wrong password canary for me"}), CREDENTIALS, r"refused: 401 .*\*\*\*"),
        ((200, b"<html>canary"), CREDENTIALS, "not JSON"),
        ((200, {"access": "canary"}), CREDENTIALS, "no token at 'token'"),
        ((200, {"token": ["canary"]}), CREDENTIALS, "no token at 'token'"),
        ((200, {"token": "canary\r\nX: y"}), CREDENTIALS, "no token at 'token'"),
        (
            (302, b"", {"Location": "https://sso.example/?canary"}),
            CREDENTIALS,
            "redirect to https://sso.example/",
        ),
        ((200, {"token": "t"}), {"login": "me"}, "nothing at 'password'"),
    ],
)
def test_a_failed_login_says_why_and_no_secret(answer: Any, connection: dict[str, Any], message: str) -> None:
    async def work(erp: Erp, request: Request) -> None:
        with pytest.raises(LoginFailed, match=message) as caught:
            await erp.send(request)
        assert "canary" not in str(caught.value)

    server = against(answers(answer), work, connection, login=LOGIN)

    assert all(seen.path == "/token" for seen in server.requests)


def test_a_login_on_another_host_gets_no_static_header() -> None:
    async def run() -> tuple[dict[str, str], dict[str, str]]:
        async with LocalServer(answers((200, {"token": "t"}))) as sso, LocalServer(answers((200,))) as own:
            endpoint = own.endpoint(**CREDENTIALS, headers={"X-Key": "canary"})
            wanted = settings(login={**LOGIN, "url": sso.url + "/token"})
            async with connect(endpoint, wanted, MemoryStore()) as erp:
                await erp.send(build_request(wanted, endpoint, {}, "k"))
            return sso.requests[0].headers, own.requests[0].headers

    login, write = asyncio.run(run())

    assert "X-Key" not in login
    assert (write["X-Key"], write["Authorization"]) == ("canary", "Bearer t")


# One try


def test_a_write_is_one_try_whatever_the_answer() -> None:
    async def work(erp: Erp, request: Request) -> None:
        assert (await erp.send(request)).status == 503

    assert len(against(answers((503,)), work).requests) == 1


def test_before_is_awaited_before_anything_is_sent() -> None:
    async def work(erp: Erp, request: Request) -> None:
        async def before() -> None:
            raise NotSent("the lease is gone")

        with pytest.raises(NotSent, match="lease"):
            await erp.send(request, before)

    assert against(answers((200,)), work).requests == []


# Lookup


async def look_up(erp: Erp, plan: Any = None) -> Answer | None:
    return await erp.look_up(plan=plan or {"pk": 7, "order": {"number": "A/1"}}, body={"no": "B 2"}, key="k1")


@pytest.mark.parametrize(
    ("answer", "found_path", "arrived"),
    [
        ((404, {"detail": "no"}), "documentNumber", False),
        ((200, {"documentNumber": "C-1"}), "documentNumber", True),
        ((200, {"documentNumber": None}), "documentNumber", False),
        ((200, {}), "documentNumber", False),
        ((200, {"results": []}), "results", False),
        ((200, {"results": []}), "results.0", False),
        ((200, {"count": 0}), "count", False),
        ((200, {"found": False}), "found", False),
        ((200, [{"a": 1}]), "0", True),
        ((200, [{"a": 1}]), "$[0].a", True),
        ((200, {"value": [{"id": 7}]}), "value[0].id", True),
        ((200, {"value": [{"id": 7}]}), "$.value[0].id", True),
        ((200, {"value": []}), "value[0].id", False),
        ((200, {"value": {"0": {"id": 7}}}), "value.0.id", True),
        ((200, b"", {"X_Document": "C-1"}), "header:x-document", True),
        ((200, {}, {"X_Other": "C-1"}), "header:X-Document", False),
        ((200, [{}], {"X_Total_Count": "0"}), "header:X-Total-Count", False),
        ((200, [{}], {"X_Found": "False"}), "header:X-Found", False),
        ((200, {}), None, True),
    ],
)
def test_a_lookup_tells_whether_the_request_arrived(
    answer: Any, found_path: str | None, arrived: bool
) -> None:
    async def work(erp: Erp, _: Request) -> None:
        assert (await look_up(erp) is not None) is arrived

    against(answers(answer), work, lookup={"url": "/documents/{{ key }}", "found_path": found_path})


@pytest.mark.parametrize("answer", [(200, b"<html>"), (301,), (400,), (401,), (403,), (429,), (500,), (503,)])
def test_a_lookup_that_does_not_tell_leaves_the_outcome_unknown(answer: Any) -> None:
    async def work(erp: Erp, _: Request) -> None:
        with pytest.raises(OutcomeUnknown, match="lookup"):
            await look_up(erp)

    against(answers(answer), work, lookup={"url": "/documents/{{ key }}", "found_path": "a"})


@pytest.mark.parametrize("answer", [(200, b"<html>"), (200, b"Please sign in"), (200, b""), (204, b"")])
@pytest.mark.parametrize("path", [None, "header:X-Document"])
def test_what_is_not_json_is_no_word_of_the_erp(answer: Any, path: str | None) -> None:
    """Neither that it has the request, where any answer would do, nor that it has not, where a header is missing."""

    async def work(erp: Erp, _: Request) -> None:
        with pytest.raises(OutcomeUnknown, match="lookup"):
            await look_up(erp)

    against(answers(answer), work, lookup={"url": "/documents/{{ key }}", "found_path": path})


def test_a_lookup_without_any_answer_leaves_the_outcome_unknown() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.cut()

    async def work(erp: Erp, _: Request) -> None:
        with pytest.raises(OutcomeUnknown):
            await look_up(erp)

    assert len(against(handler, work, lookup={"url": "/d", "found_path": None}).requests) == 3


def test_a_lookup_puts_plan_body_and_key_into_its_url() -> None:
    url = (
        "/d/{{ plan.order.number }}?pk={{ plan.pk }}&no={{ body.no }}&key={{ key }}&id={{ plan.rows[0].id }}"
    )
    plan = {"pk": 7, "order": {"number": "A/1"}, "rows": [{"id": 3}]}

    async def work(erp: Erp, _: Request) -> None:
        assert await look_up(erp, plan) is not None

    seen = against(answers((200, {})), work, lookup={"url": url, "found_path": None}).requests[0]

    assert seen.target == "/d/A%2F1?pk=7&no=B%202&key=k1&id=3"


@pytest.mark.parametrize(
    "plan", [{"pk": 1}, {"pk": 1, "order": {"number": ""}}, {"pk": 1, "order": {"number": {}}}]
)
def test_a_lookup_whose_url_lacks_a_value_is_not_asked(plan: Any) -> None:
    async def work(erp: Erp, _: Request) -> None:
        with pytest.raises(OutcomeUnknown, match="cannot be asked"):
            await look_up(erp, plan)

    lookup = {"url": "/d/{{ plan.order.number }}", "found_path": None}
    assert against(answers((404,)), work, lookup=lookup).requests == []


def test_a_lookup_with_an_expired_token_renews_it_once() -> None:
    async def work(erp: Erp, _: Request) -> None:
        assert await look_up(erp) is not None

    sequence = answers((200, {"token": "t1"}), (401,), (200, {"token": "t2"}), (200, {}))
    server = against(sequence, work, CREDENTIALS, login=LOGIN, lookup={"url": "/d", "found_path": None})

    assert [seen.headers.get("Authorization") for seen in server.requests] == [
        None,
        "Bearer t1",
        None,
        "Bearer t2",
    ]
