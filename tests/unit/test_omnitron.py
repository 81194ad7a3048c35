"""Omnitron over real sockets: paging, tokens, write-backs, and plans read defensively."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs

import pytest

from include.order_cancel.errors import PlanFailed, StopFlow
from include.order_cancel.http import Endpoint
from include.order_cancel.omnitron import (
    VOLATILE,
    BadListing,
    ListingFailed,
    Omnitron,
    WriteBackRefused,
    amount_of,
    channel_of,
    channel_type_of,
    connect,
    content_digest,
    currency_of,
    misfit,
    modified_of,
    order_number,
    order_pk,
    pk_of,
    plan_type_of,
    same_content,
    same_to_the_line,
    unchecked,
)
from include.order_cancel.settings import OmnitronSettings
from include.order_cancel.tokens import LoginFailed, MemoryStore
from include.simulator import OmnitronSimulator, plans, running, transactions
from tests.unit.local_server import Exchange, FakeTime, Gatekeeper, Handler, LocalServer, answers

CREDENTIALS = {"login": "omnitron", "password": "secret"}
LIST = "/api/v1/cancellation_plans/"
Work = Callable[[Omnitron], Awaitable[Any]]


def settings(**values: Any) -> OmnitronSettings:
    base = {"channel_type": "sales_channel", "cancel_status": "waiting", "next_state": "approved"}
    return OmnitronSettings.model_validate(base | values)


def against(handler: Handler, work: Work, **values: Any) -> LocalServer:
    """Run `work` with an Omnitron whose login succeeds; all other answers are the `handler`'s."""

    async def with_login(exchange: Exchange) -> None:
        if exchange.seen.path.endswith("/login/"):
            return await exchange.answer(200, {"key": f"token-{exchange.number}"})
        exchange.number = len([seen for seen in server.requests if not seen.path.endswith("/login/")])
        return await handler(exchange)

    server = LocalServer(with_login)

    async def run() -> None:
        async with server:
            endpoint = server.endpoint(conn_id="omnitron", **CREDENTIALS)
            async with connect(
                endpoint, settings(**values), MemoryStore(), **FakeTime().options()
            ) as omnitron:
                await work(omnitron)

    asyncio.run(run())
    server.requests = [seen for seen in server.requests if not seen.path.endswith("/login/")]
    return server


def with_simulator(simulator: OmnitronSimulator, work: Work, **values: Any) -> OmnitronSimulator:
    """Run `work` with an Omnitron against the simulator."""

    async def run(url: str) -> None:
        endpoint = Endpoint("omnitron", url, **CREDENTIALS)
        async with connect(endpoint, settings(**values), MemoryStore(), **FakeTime().options()) as omnitron:
            await work(omnitron)

    with running(simulator) as server:
        asyncio.run(run(server.url))
    return simulator


async def all_of(pages: AsyncIterator[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [document async for page in pages for document in page]


async def pks(omnitron: Omnitron) -> list[Any]:
    return [document["pk"] for document in await all_of(omnitron.list_plans())]


def page(numbers: list[int], following: str | None = None, count: int | None = None) -> tuple[Any, ...]:
    return 200, {"count": count, "next": following, "results": [{"pk": number} for number in numbers]}


def listing(*pages: tuple[Any, ...], **values: Any) -> tuple[list[Any], LocalServer]:
    """What a listing brings when the server gives these pages, and what the server saw."""
    found: list[Any] = []

    async def work(omnitron: Omnitron) -> None:
        found.extend(await pks(omnitron))

    server = against(answers(*pages), work, **values)
    return found, server


def failed_listing(kind: type[Exception], *pages: tuple[Any, ...], **values: Any) -> tuple[str, LocalServer]:
    messages: list[str] = []

    async def work(omnitron: Omnitron) -> None:
        with pytest.raises(kind) as caught:
            await pks(omnitron)
        messages.append(str(caught.value))

    server = against(answers(*pages), work, **values)
    return messages[0], server


# Listing


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("count", [0, 1, 10, 25, 30])
def test_all_pages_are_read_in_both_answer_forms(bare: bool, count: int) -> None:
    found: list[Any] = []

    async def work(omnitron: Omnitron) -> None:
        found.extend(await pks(omnitron))

    documents = plans(7, count)
    with_simulator(OmnitronSimulator(documents, bare_lists=bare), work, page_size=10)

    assert found == [document["pk"] for document in documents]


def test_a_bare_list_that_ignores_the_page_ends() -> None:
    found: list[Any] = []

    async def work(omnitron: Omnitron) -> None:
        found.extend(await pks(omnitron))

    simulator = OmnitronSimulator(plans(7, 25), bare_lists=True, ignore_page=True)
    with_simulator(simulator, work, page_size=10)

    assert len(found) == 10
    assert len(simulator.calls("GET", LIST)) == 2


def test_the_selection_becomes_the_query() -> None:
    _, server = listing(page([]), channel_ids=[1, 2, 3], cancel_type="refund", page_size=50)

    assert server.requests[0].target == (
        f"{LIST}?status=waiting&channel_type=sales_channel&plan_type=refund&channel_id__in=1,2,3&limit=50&page=1"
    )


def test_what_is_not_narrowed_is_left_out_of_the_query() -> None:
    _, server = listing(page([]))

    assert set(parse_qs(server.requests[0].target.partition("?")[2])) == {
        "status",
        "channel_type",
        "limit",
        "page",
    }


def test_a_window_and_an_order_narrow_the_query() -> None:
    async def work(omnitron: Omnitron) -> None:
        after = datetime(2025, 3, 1, 12, tzinfo=timezone(timedelta(hours=3)))
        before = datetime(2025, 3, 2, 0, 0, 0, 120_000, tzinfo=UTC)
        await all_of(
            omnitron.list_plans(
                modified_after=after, modified_before=before, order=7, status_word="completed"
            )
        )

    query = parse_qs(against(answers(page([])), work).requests[0].target.partition("?")[2])

    assert query["modified_date__gt"] == ["2025-03-01T09:00:00Z"]
    assert query["modified_date__lte"] == ["2025-03-02T00:00:00.120000Z"]
    assert (query["order_id"], query["status"]) == (["7"], ["completed"])


def plan_of(order: Any, pk: int = 1, **fields: Any) -> dict[str, Any]:
    return {"pk": pk, **({} if order is None else {"order": order}), **fields}


def shown(documents: list[dict[str, Any]]) -> tuple[Any, ...]:
    return 200, {"count": len(documents), "next": None, "results": documents}


async def all_of_order(omnitron: Omnitron) -> list[Any]:
    return await omnitron.plans_of_order("7", "1")


def test_all_plans_of_an_order_are_asked_for_by_the_order_alone() -> None:
    server = against(
        answers(shown([plan_of(7)])),
        all_of_order,
        cancel_type="refund",
        channel_ids=[3],
        page_size=20,
        api={"plans": {"extra": {"tag": 5}}},
    )

    query = parse_qs(server.requests[0].target.partition("?")[2])
    assert query == {"order_id": ["7"], "page": ["1"], "limit": ["20"]}


@pytest.mark.parametrize("how", ["all plans", "listed"])
def test_plans_of_other_orders_are_dropped_from_the_list_of_one(how: str) -> None:
    ours = [
        plan_of(7, 1),
        plan_of("7", 2),
        plan_of({"pk": 7}, 3),
        plan_of({"pk": 9, "number": "7"}, 4),
        plan_of(None, 5, order_number="7"),
        plan_of(None, 6),
        plan_of({"status": "50"}, 7),
    ]
    theirs = [plan_of(8, 11), plan_of({"pk": 70, "number": "N7"}, 12), plan_of(None, 13, order_number="77")]
    found: list[Any] = []

    async def work(omnitron: Omnitron) -> None:
        if how == "all plans":
            found.extend(await omnitron.plans_of_order(" 7 ", "1"))
        else:
            found.extend(await all_of(omnitron.list_plans(order=7)))
        found.append(omnitron.of_other_orders)

    against(answers(shown([*theirs, *ours])), work)

    assert found == [*ours, len(theirs)]


def test_other_lists_drop_no_plan_for_its_order() -> None:
    found: list[Any] = []

    async def work(omnitron: Omnitron) -> None:
        found.extend(await all_of(omnitron.list_plans()))

    against(answers(shown([plan_of(8, 1), plan_of(9, 2)])), work)

    assert [plan["pk"] for plan in found] == [1, 2]


@pytest.mark.parametrize(
    "given",
    [
        (404, {"detail": "no"}),
        (200, "no list"),
        (200, {"count": 2, "next": None, "results": [plan_of(7)]}),
        (200, {"count": 2, "next": None, "results": [plan_of(7), {"status": "completed"}]}),
    ],
)
def test_a_list_of_all_plans_of_an_order_that_may_lack_some_is_the_plan_s_failure(given: Any) -> None:
    async def work(omnitron: Omnitron) -> None:
        with pytest.raises(PlanFailed, match="the plans of order 7 cannot be listed"):
            await all_of_order(omnitron)

    against(answers(given), work)


@pytest.mark.parametrize("there", [True, False])
def test_a_list_without_the_plan_that_asks_is_believed_where_the_plan_is_gone(there: bool) -> None:
    async def work(omnitron: Omnitron) -> Any:
        if there:
            with pytest.raises(PlanFailed, match="plan 1 of it is not among them"):
                await all_of_order(omnitron)
            return
        assert await all_of_order(omnitron) == [plan_of(7, 2)]

    control = [shown([plan_of(7, 2)]), (200, plan_of(7, 2))]  # the list shows another plan, which can be read
    one = [(200, plan_of(7))] if there else [(404, {}), *control]
    server = against(answers(shown([plan_of(7, 2)]), *one), work)

    asked = [seen for seen in server.requests if not seen.path.endswith("/login/")]
    assert len(asked) == (2 if there else 4)


def test_the_profile_s_names_words_and_extras_are_used() -> None:
    api = {
        "plans": {
            "path": "/api/i1/plans/",
            "status": "cancellation_plan_status",
            "page": "p",
            "extra": {"all": True},
        },
        "words": {"waiting": "WAIT"},
        "login": {"header": "X-Token", "prefix": ""},
    }
    _, server = listing(page([]), api=api)

    assert server.requests[0].target == (
        "/api/i1/plans/?cancellation_plan_status=WAIT&channel_type=sales_channel&all=true&limit=100&p=1"
    )
    assert server.requests[0].headers["X-Token"] == "token-1"


def test_a_pk_that_is_listed_twice_is_taken_once() -> None:
    found, _ = listing(page([1, 2], f"{LIST}?page=2", 3), page([2, 3], None, 3))

    assert found == [1, 2, 3]


@pytest.mark.parametrize(
    "following",
    [
        "ftp://127.0.0.1/x",
        "http://[broken",
        5,
        ["x"],
        "//elsewhere/x",
        "/api/v1/order_transactions/?page=2",
        "http://elsewhere.example/?page=2",
        "http://elsewhere.example?page=2",
        f"/other{LIST}page-2/?page=2",
        LIST,
        f"https://127.0.0.1{LIST}#page=2",
    ],
)
def test_a_next_page_that_is_none_of_this_list_is_refused_and_not_asked(following: Any) -> None:
    message, server = failed_listing(BadListing, page([1], following))

    assert "names a next page that is none of this list" in message
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "place",
    [
        "https://127.0.0.1",
        "https://127.0.0.1.",
        "https://127.0.0.1:443",
        "https://１２７.０.０.１",
        "http://inside:8000",
        "http://inside:8000/app",
        "//inside",
        "",
    ],
)
@pytest.mark.parametrize("base", ["", "/omnitron"])
def test_a_next_page_is_asked_where_the_connection_points_to(place: str, base: str) -> None:
    found, server = below(base, page([1], f"{place}{LIST}?cursor=abc%2B"), page([2]))

    assert found == [1, 2]
    assert [seen.target for seen in server.requests][1:] == [f"{base}{LIST}?cursor=abc%2B"]


@pytest.mark.parametrize(
    "following", ["?page=2", f"{LIST}?page=2", f"/omnitron{LIST}?page=2", f"{LIST[:-1]}?page=2"]
)
def test_a_next_page_may_be_relative(following: str) -> None:
    found, server = below("/omnitron", page([1], following), page([2]))

    assert found == [1, 2]
    assert server.requests[1].target == f"/omnitron{LIST}?page=2"


def below(base: str, *pages: tuple[Any, ...]) -> tuple[list[Any], LocalServer]:
    """What a listing brings through a Connection with a base path, and what the server saw."""
    found: list[Any] = []

    async def work(omnitron: Omnitron) -> None:
        caller = omnitron.caller
        caller.endpoint = replace(caller.endpoint, base_url=f"{caller.endpoint.base_url}{base}")
        found.extend(await pks(omnitron))

    return found, against(answers(*pages), work)


def test_next_pages_of_another_place_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    inside = "http://inside:8000"

    with caplog.at_level("WARNING"):
        listing(page([1], f"{inside}{LIST}?page=2"), page([2], f"{inside}{LIST}?page=3"), page([3]))

    assert [said for said in caplog.messages if "inside:8000" in said] == [
        said for said in caplog.messages if "it is asked where the Connection points to" in said
    ]
    assert sum("inside:8000" in said for said in caplog.messages) == 1


def test_pages_that_loop_end_once_all_is_listed() -> None:
    found, server = listing(page([1], f"{LIST}?page=2", 2), page([2], f"{LIST}?page=2", 2))

    assert found == [1, 2]
    assert len(server.requests) == 2


def test_pages_that_loop_before_all_is_listed_are_an_error() -> None:
    message, server = failed_listing(
        BadListing, page([1], f"{LIST}?page=2", 9), page([1], f"{LIST}?page=3", 9)
    )

    assert "1 of 9 documents" in message
    assert len(server.requests) == 2


def test_a_set_that_shrinks_while_it_is_read_is_read_once_more() -> None:
    following = f"{LIST}?page=2"
    found, _ = listing(
        page([1, 2], following, 5), page([4, 5], None, 4), page([2, 3], following, 4), page([4, 5], None, 4)
    )

    assert found == [1, 2, 4, 5, 3]


def test_a_list_that_is_read_once_more_is_given_anew_where_that_is_asked_for() -> None:
    following = f"{LIST}?page=2"
    found: list[Any] = []

    async def work(omnitron: Omnitron) -> None:
        async for shown in omnitron.list_plans(anew=found.clear):
            found.extend(plan["pk"] for plan in shown)

    first, second = page([1, 2], following, 4), page([4], None, 3)
    against(answers(first, second, page([2, 3], following, 3), second), work)

    assert found == [2, 3, 4]


def test_a_later_page_that_is_gone_ends_the_pass_and_all_is_read_once_more() -> None:
    found, _ = listing(
        page([1, 2], f"{LIST}?page=2", 3), (404, {"detail": "Invalid page."}), page([1, 3], None, 2)
    )

    assert found == [1, 2, 3]


def test_a_listing_that_stays_shorter_than_its_count_is_known_to_be_incomplete() -> None:
    async def work(omnitron: Omnitron) -> None:
        assert await pks(omnitron) == [1, 2]
        assert omnitron.incomplete

    assert len(against(answers(page([1, 2], None, 7)), work).requests) == 2


def test_documents_without_a_pk_are_dropped_and_counted() -> None:
    rows = [
        {"pk": 1},
        {},
        {"pk": None},
        {"pk": True},
        {"pk": {}},
        {"pk": " "},
        {"pk": ".."},
        "text",
        None,
        {"pk": "a7"},
    ]

    async def work(omnitron: Omnitron) -> None:
        assert await pks(omnitron) == [1, "a7"]
        assert omnitron.without_pk == 8

    against(answers((200, {"results": rows, "next": None, "count": len(rows)})), work)


def test_a_page_without_one_usable_number_does_not_end_a_bare_list() -> None:
    first, second = [{"id": 1}, {"id": 2}], [{"pk": 3}]

    async def work(omnitron: Omnitron) -> None:
        assert await pks(omnitron) == [3]
        assert omnitron.without_pk == 2

    against(answers((200, first), (200, second)), work, page_size=2)


def test_the_longest_number_that_is_taken_has_63_characters() -> None:
    rows = [{"pk": "9" * 63}, {"pk": "9" * 64}, {"pk": " " * 10 + "9" * 54}]

    async def work(omnitron: Omnitron) -> None:
        assert await pks(omnitron) == ["9" * 63]
        assert omnitron.without_pk == 2

    against(answers((200, rows)), work)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((500,), ListingFailed),
        ((503,), ListingFailed),
        ((429,), ListingFailed),
        ((400, {"code": "invalid"}), BadListing),
        ((403,), BadListing),
        ((404,), BadListing),
        ((301, b"", {"Location": "https://other.example/"}), BadListing),
        ((200, b"<html>"), BadListing),
        ((200, b'{"results": [NaN]}'), BadListing),
        ((200, {"items": []}), BadListing),
        ((200, "text"), BadListing),
        ((200, None), BadListing),
    ],
)
def test_a_listing_that_cannot_be_read_is_said(answer: Any, kind: type[Exception]) -> None:
    message, _ = failed_listing(kind, answer)

    assert LIST in message


def test_a_listing_without_any_answer_may_be_tried_again() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.cut()

    async def work(omnitron: Omnitron) -> None:
        with pytest.raises(ListingFailed):
            await pks(omnitron)

    assert len(against(handler, work).requests) == 3


def test_the_listing_s_beginning_is_known_by_the_server_s_clock() -> None:
    theirs = 1_700_000_000

    async def work(omnitron: Omnitron) -> None:
        await pks(omnitron)
        assert omnitron.first_seen_at is not None
        assert theirs - 5 <= omnitron.first_seen_at <= theirs

    first = (*page([1], f"{LIST}?page=2"), {"Date": formatdate(theirs, usegmt=True)})
    later = (*page([2]), {"Date": formatdate(theirs + 60, usegmt=True)})
    against(answers(first, later), work)


def test_without_a_date_the_listing_s_beginning_is_known_by_our_own_clock() -> None:
    async def work(omnitron: Omnitron) -> None:
        await pks(omnitron)
        assert omnitron.first_seen_at == omnitron.caller.clock()

    against(answers(page([1])), work)


# Token


def test_an_expired_token_is_fetched_once_for_many_401s() -> None:
    documents = plans(7, 30)
    simulator = OmnitronSimulator(documents)

    async def work(omnitron: Omnitron) -> None:
        await omnitron.login()
        simulator.expire_tokens()
        await asyncio.gather(*(omnitron.write_back(each["pk"], "approved") for each in documents))

    with_simulator(simulator, work)

    assert simulator.logins == 2
    assert set(simulator.statuses().values()) == {"approved"}


def test_a_second_401_stops_the_flow() -> None:
    async def work(omnitron: Omnitron) -> None:
        with pytest.raises(StopFlow, match="just given"):
            await omnitron.plan(1)

    server = against(answers((401, {"detail": "no"})), work)

    assert [seen.headers["Authorization"] for seen in server.requests] == ["Token token-1", "Token token-3"]


def in_tasks(gate: Gatekeeper, *tasks: Work, clock: FakeTime | None = None, expire: bool = False) -> None:
    """Run each of the `tasks` with an Omnitron of its own over one store; `expire`: its token is invalid by then."""
    time = clock or FakeTime()
    store = MemoryStore(time)

    async def run() -> None:
        async with LocalServer(gate) as server:
            endpoint = server.endpoint(conn_id="omnitron", **CREDENTIALS)
            for task in tasks:
                async with connect(endpoint, settings(), store, **time.options()) as omnitron:
                    await task(omnitron)
                if expire:
                    gate.expire()

    asyncio.run(run())


async def logging_in(omnitron: Omnitron) -> None:
    await omnitron.login()


async def reading(omnitron: Omnitron) -> None:
    assert (await omnitron.plan(1) or {})["pk"] == 1


def refused(times: int) -> Work:
    async def task(omnitron: Omnitron) -> None:
        for _ in range(times):
            with pytest.raises(PlanFailed, match="403"):
                await omnitron.plan(1)

    return task


PERHAPS = [403, 419, 440]


@pytest.mark.parametrize("status", [401, *PERHAPS])
def test_an_earlier_task_s_token_that_is_not_valid_any_more_is_renewed(status: int) -> None:
    gate = Gatekeeper(status)

    in_tasks(gate, logging_in, reading, reading, expire=True)

    assert (gate.logins, gate.answered) == (3, [status, 200] * 2)


@pytest.mark.parametrize("status", [401, *PERHAPS])
def test_many_such_answers_at_once_cost_one_login(status: int) -> None:
    gate = Gatekeeper(status)

    async def many(omnitron: Omnitron) -> None:
        await asyncio.gather(*(reading(omnitron) for _ in range(30)))

    in_tasks(gate, logging_in, many, expire=True)

    assert (gate.logins, gate.answered.count(200)) == (2, 30)


def test_a_listing_goes_on_behind_a_403_to_an_earlier_task_s_token() -> None:
    gate = Gatekeeper(403)

    async def listing_all(omnitron: Omnitron) -> None:
        with pytest.raises(
            BadListing, match="without a list"
        ):  # what stands in the answer, asked with a new token
            await pks(omnitron)

    in_tasks(gate, logging_in, listing_all, expire=True)

    assert gate.answered == [403, 200]


@pytest.mark.parametrize("status", PERHAPS)
def test_after_this_task_s_own_login_such_an_answer_is_an_ordinary_one(status: int) -> None:
    gate = Gatekeeper(status)

    async def task(omnitron: Omnitron) -> None:
        await omnitron.login()
        gate.expire()
        for _ in range(3):
            with pytest.raises(PlanFailed, match=str(status)):
                await omnitron.plan(1)

    in_tasks(gate, task)

    assert (gate.logins, gate.answered) == (1, [status] * 3)


def test_a_missing_right_costs_one_login_and_stops_nothing() -> None:
    gate = Gatekeeper(401)
    gate.has_rights = False

    in_tasks(gate, logging_in, refused(4), *[refused(1)] * 10)

    assert gate.logins == 2
    assert gate.answered == [403] * (1 + 4 + 10)


def test_a_token_whose_login_says_when_it_ends_is_replaced_before() -> None:
    gate, clock = Gatekeeper(401, expires_in=600), FakeTime()

    async def later(omnitron: Omnitron) -> None:
        clock.now += 290
        await reading(omnitron)

    in_tasks(gate, reading, later, later, later, clock=clock)

    assert (gate.logins, set(gate.answered)) == (2, {200})


def test_wrong_credentials_are_said_without_them() -> None:
    async def work(omnitron: Omnitron) -> None:
        with pytest.raises(LoginFailed, match="was refused: 400") as caught:
            await omnitron.login()
        assert "secret" not in str(caught.value)

    with_simulator(OmnitronSimulator(password="another secret"), work)


# One plan


def test_one_plan_is_read_and_an_unknown_one_is_none() -> None:
    async def work(omnitron: Omnitron) -> None:
        assert (await omnitron.plan(5001) or {})["pk"] == 5001
        assert await omnitron.plan(1) is None

    with_simulator(OmnitronSimulator(plans(7, 1)), work)


@pytest.mark.parametrize("answer", [(500,), (403,), (200, b"<html>"), (200, []), (301,)])
def test_a_plan_that_cannot_be_read_fails(answer: Any) -> None:
    async def work(omnitron: Omnitron) -> None:
        with pytest.raises(PlanFailed, match="plan 7"):
            await omnitron.plan(7)

    against(answers(answer), work)


def test_a_pk_is_one_segment_of_the_path() -> None:
    async def work(omnitron: Omnitron) -> None:
        await omnitron.plan("a/../b")

    server = against(answers((200, {"pk": "a/../b"})), work)

    assert server.requests[0].target == f"{LIST}a%2F..%2Fb/"


def test_a_write_back_sends_the_status() -> None:
    async def work(omnitron: Omnitron) -> None:
        assert (await omnitron.write_back(7, "approved")).ok

    seen = against(answers((200, {})), work).requests[0]

    assert (seen.method, seen.path, seen.json()) == ("PATCH", f"{LIST}7/", {"status": "approved"})
    assert seen.headers["Content-Type"] == "application/json"


def test_a_write_back_follows_the_profile() -> None:
    api = {"write_back": {"method": "POST", "path": "/p/{pk}/{status}/", "body": {"a": [{"id": "{pk}"}]}}}

    async def work(omnitron: Omnitron) -> None:
        await omnitron.write_back(7, "approved")

    seen = against(answers((200, {})), work, api=api).requests[0]

    assert (seen.method, seen.path, seen.json()) == ("POST", "/p/7/approved/", {"a": [{"id": 7}]})


def test_a_refused_write_back_says_what_omnitron_said() -> None:
    simulator = OmnitronSimulator(plans(7, 1, status="rejected"))

    async def work(omnitron: Omnitron) -> None:
        with pytest.raises(WriteBackRefused, match="OrderUpdateCancelStatusException"):
            await omnitron.write_back(5001, "approved")

    with_simulator(simulator, work)


def test_a_refused_write_back_of_a_status_that_the_plan_has_already_counts_as_done() -> None:
    async def work(omnitron: Omnitron) -> None:
        await omnitron.write_back(7, "approved")

    refused, now = (400, {"code": "illegal"}), (200, {"pk": 7, "status": "approved"})
    server = against(answers(refused, now), work)

    assert [seen.method for seen in server.requests] == ["PATCH", "GET"]


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_a_write_back_that_may_succeed_later_is_repeated_and_then_left_to_the_next_run(status: int) -> None:
    async def work(omnitron: Omnitron) -> None:
        with pytest.raises(PlanFailed, match="next run") as caught:
            await omnitron.write_back(7, "approved")
        assert not isinstance(caught.value, WriteBackRefused)

    assert len(against(answers((status,)), work).requests) == 3


@pytest.mark.parametrize("status", [301, 403, 405])
def test_a_write_back_that_is_refused_for_good_is_not_looked_at_again(status: int) -> None:
    async def work(omnitron: Omnitron) -> None:
        with pytest.raises(WriteBackRefused):
            await omnitron.write_back(7, "approved")

    assert len(against(answers((status,)), work).requests) == 1


def test_rejected_plans_of_an_order_are_counted_in_both_answer_forms() -> None:
    documents = plans(7, 4, status="rejected")
    for document in documents[:3]:
        document["order"]["pk"] = 99

    async def work(omnitron: Omnitron) -> None:
        assert await omnitron.rejected_count(99) == 3

    with_simulator(OmnitronSimulator(documents), work)
    with_simulator(OmnitronSimulator(documents, bare_lists=True), work, page_size=2)


# Transactions


def test_unmapped_return_transactions_are_listed_and_mapped_once() -> None:
    documents = plans(7, 3, status="completed")
    simulator = OmnitronSimulator(documents, transactions(7, documents))
    since = datetime(2020, 1, 1, tzinfo=UTC)

    async def work(omnitron: Omnitron) -> None:
        found = await all_of(omnitron.transactions(since))
        first = found[0]["pk"]
        assert await omnitron.mappings(first) == []
        await omnitron.create_mapping(first, "C-1")
        assert [each["code"] for each in await omnitron.mappings(first)] == ["C-1"]

    with_simulator(
        simulator, work, cancel_status="order_transaction", transactions_since="2020-01-01T00:00:00Z"
    )


def test_transactions_are_selected_by_type_and_time() -> None:
    async def work(omnitron: Omnitron) -> None:
        await all_of(omnitron.transactions(datetime(2025, 1, 1, tzinfo=UTC)))

    seen = against(answers(page([])), work).requests[0]

    assert seen.path == "/api/v1/order_transactions/"
    assert parse_qs(seen.target.partition("?")[2]) == {
        "transaction_type": ["return"],
        "created_date__gte": ["2025-01-01T00:00:00Z"],
        "limit": ["100"],
        "page": ["1"],
    }


@pytest.mark.parametrize("answer", [(500,), (400,), (503,)])
def test_a_mapping_is_tried_once_and_left_to_the_next_run(answer: Any) -> None:
    async def work(omnitron: Omnitron) -> None:
        with pytest.raises(PlanFailed, match="mapping of transaction 7"):
            await omnitron.create_mapping(7, "C-1")

    assert len(against(answers(answer), work).requests) == 1


@pytest.mark.parametrize("answer", [(500,), (404,), (200, b"<html>"), (200, {}), (200, "text")])
def test_mappings_that_cannot_be_read_are_said(answer: Any) -> None:
    async def work(omnitron: Omnitron) -> None:
        with pytest.raises(ListingFailed, match="transaction 7"):
            await omnitron.mappings(7)

    against(answers(answer), work)


# Plans, read defensively

NESTED = {"order": {"pk": 5, "number": "A1", "channel": {"pk": 3, "channel_type": "web"}, "currency": "try"}}
STRANGE: list[Any] = [
    None,
    True,
    7,
    1.5,
    "x",
    [],
    {},
    {"pk": None},
    {"pk": []},
    {"channel": {"pk": {}}},
    "\ud800",
]


def test_a_plan_is_read_whether_order_and_channel_are_numbers_or_objects() -> None:
    flat = {"order": 5, "order_number": "A1"}

    assert (order_pk(NESTED), order_number(NESTED), channel_of(NESTED)) == ("5", "A1", "3")
    assert (channel_type_of(NESTED), currency_of(NESTED)) == ("web", "TRY")
    assert (order_pk(flat), order_number(flat), channel_of(flat), channel_type_of(flat)) == (
        "5",
        "A1",
        None,
        None,
    )
    assert channel_of({"order": {"channel": 3}}) == "3"
    assert (plan_type_of({"plan_type": "cancel"}), modified_of({"modified_date": "2025"})) == (
        "cancel",
        "2025",
    )


def test_the_amount_is_the_plan_s_own_or_the_sum_of_its_items() -> None:
    items = [{"order_item": {"price": price}} for price in ("10.10", "0.20", 5)]

    assert amount_of({"refund_amount": "149.90", "order": {"amount": "999"}}) == "149.90"
    assert amount_of({"cancellationplanorderitem_set": items}) == "15.30"
    assert amount_of({"cancellationplanorderitem_set": [{"order_item": {}}]}) is None
    assert amount_of({"order": {"amount": "999"}}) is None


@pytest.mark.parametrize("strange", STRANGE)
def test_a_strange_document_is_read_without_an_error(strange: Any) -> None:
    names = (
        "pk",
        "order",
        "refund_amount",
        "plan_type",
        "status",
        "modified_date",
        "cancellationplanorderitem_set",
    )
    document = dict.fromkeys(names, strange)
    deeper = {"order": dict.fromkeys(("pk", "number", "channel", "currency", "amount"), strange)}
    readers = (
        pk_of,
        order_number,
        order_pk,
        channel_of,
        channel_type_of,
        amount_of,
        currency_of,
        plan_type_of,
    )

    for reader in (*readers, modified_of):
        assert isinstance(reader(document), str | None)
        assert isinstance(reader(deeper), str | None)
    misfit(document, settings(channel_ids=[3], cancel_type="cancel"))
    assert len(content_digest(document)) == 64


def test_a_plan_that_does_not_fit_the_settings_is_named() -> None:
    wanted = settings(channel_ids=[1, 2], cancel_type="cancel")
    fitting = {"status": "waiting", "plan_type": "cancel", "order": {"channel": 2}}

    assert misfit(fitting, wanted) is None
    assert misfit(fitting | {"status": "approved"}, wanted) == "the status is 'approved', not waiting"
    assert misfit(fitting | {"plan_type": "refund"}, wanted) == "the plan type is 'refund', not cancel"
    assert misfit(fitting | {"order": {"channel": {"pk": 3}}}, wanted) == "the channel is '3', not 1 or 2"
    assert misfit(fitting | {"order": {"channel": {"pk": 1, "channel_type": "web"}}}, wanted) == (
        "the channel type is 'web', not sales_channel"
    )


def test_what_a_plan_does_not_tell_is_left_unchecked_and_named() -> None:
    wanted = settings(channel_ids=[1], cancel_type="cancel")

    assert misfit({"pk": 1, "status": 50}, wanted) is None
    assert unchecked({"pk": 1, "status": 50}, wanted) == [
        "the status", "the channel type", "the plan type", "the channel"
    ]  # fmt: skip
    assert unchecked({"pk": 1, "status": "waiting"}, settings()) == ["the channel type"]


def test_an_order_transaction_flow_expects_completed_plans() -> None:
    wanted = settings(
        cancel_status="order_transaction", transactions_since="2025-01-01T00:00:00Z", next_state=None
    )

    assert misfit({"status": "completed"}, wanted) is None
    assert misfit({"status": "waiting"}, wanted) is not None


def test_the_content_s_digest_ignores_status_and_times_at_any_depth() -> None:
    document = plans(7, 1)[0]
    moved = json.loads(json.dumps(document))
    moved["status"] = moved["order"]["modified_date"] = moved["modified_by"] = "other"
    moved["cancellationplanorderitem_set"][0]["order_item"]["cancel_status"] = "approved"
    changed = json.loads(json.dumps(document))
    changed["cancellationplanorderitem_set"][0]["order_item"]["price"] = "0.01"
    reordered = dict(reversed(document.items()))

    assert content_digest(moved) == content_digest(document) == content_digest(reordered)
    assert content_digest(changed) != content_digest(document)


def test_a_plan_is_the_same_to_the_line_where_only_its_own_status_and_times_differ() -> None:
    document = plans(7, 1)[0]
    moved = {**document, **dict.fromkeys(VOLATILE, "other"), "detail": "of its page only"}
    line = {**document["cancellationplanorderitem_set"][0], "status": "cancelled"}
    known = {**document, "cancellationplanorderitem_set": [{**line, "status": "waiting"}]}
    cancelled = {**document, "cancellationplanorderitem_set": [line]}

    assert same_to_the_line(document, moved)
    assert same_content(known, cancelled)
    assert not same_to_the_line(known, cancelled)
