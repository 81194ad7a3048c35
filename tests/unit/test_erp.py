"""The ERP over real sockets: requests, answers, tokens, lookups."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from include.order_cancel.erp import Erp, build_request, classify, connect, reference
from include.order_cancel.errors import PlanFailed
from include.order_cancel.http import Answer, Endpoint, NotSent, OutcomeUnknown, Request
from include.order_cancel.settings import ErpSettings
from include.order_cancel.tokens import LoginFailed, MemoryStore
from tests.unit.local_server import Exchange, FakeTime, Handler, LocalServer, answers

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
        ((200, b"<html>"), None, True),
        ((204, b""), None, True),
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


def test_a_lookup_without_any_answer_leaves_the_outcome_unknown() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.cut()

    async def work(erp: Erp, _: Request) -> None:
        with pytest.raises(OutcomeUnknown):
            await look_up(erp)

    assert len(against(handler, work, lookup={"url": "/d", "found_path": None}).requests) == 3


def test_a_lookup_puts_plan_body_and_key_into_its_url() -> None:
    url = "/d/{{ plan.order.number }}?pk={{ plan.pk }}&no={{ body.no }}&key={{ key }}"

    async def work(erp: Erp, _: Request) -> None:
        assert await look_up(erp) is not None

    seen = against(answers((200, {})), work, lookup={"url": url, "found_path": None}).requests[0]

    assert seen.target == "/d/A%2F1?pk=7&no=B%202&key=k1"


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
