from __future__ import annotations

from typing import Any

import pytest
import requests

from include.simulator import ErpSimulator, RunningServer, running

Erp = RunningServer[ErpSimulator]


def book(
    server: Erp, path: str = "/cancellations", method: str = "POST", key: str | None = None, **kwargs: Any
) -> Any:
    headers = {**({"Idempotency-Key": key} if key else {}), **kwargs.pop("headers", {})}
    return requests.request(method, f"{server.url}{path}", headers=headers, timeout=10, **kwargs)


@pytest.mark.parametrize(("path", "number"), [("/cancellations", "C-000001"), ("/refunds", "R-000001")])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_document_is_booked(erp: Erp, method: str, path: str, number: str) -> None:
    answer = book(erp, path, method, key="k1", json={"plan": 5001, "amount": "149.90"})

    [effect] = erp.simulator.effects
    assert answer.status_code == 200
    assert answer.json() == {"documentNumber": number, "status": "OK"}
    assert (effect.key, effect.plan, effect.amount, effect.document_number) == ("k1", 5001, "149.90", number)


def test_a_get_books_its_query(erp: Erp) -> None:
    answer = book(erp, "/refunds", "GET", params={"planNumber": "5001", "amount": "1.00"})

    assert answer.json()["documentNumber"] == "R-000001"
    assert erp.simulator.effects_of(5001)[0].amount == "1.00"


@pytest.mark.parametrize(
    "body",
    [
        {"plan": 7},
        {"planNumber": "7"},
        {"pk": 7},
        {"cancellationPlan": 7},
        {"header": {"plan": 7}},
        {"plan": {"pk": 7}},
    ],
)
def test_the_plan_number_is_found_under_its_names(erp: Erp, body: dict[str, Any]) -> None:
    book(erp, json=body)

    assert [effect.plan for effect in erp.simulator.effects] == [7]
    assert erp.simulator.attempts == {7: 1}


def test_a_body_without_a_plan_is_booked_too(erp: Erp) -> None:
    book(erp, json=["anything"])

    assert [effect.plan for effect in erp.simulator.effects] == [None]


@pytest.mark.parametrize(
    ("kwargs", "status"),
    [
        ({"data": {"plan": 1}}, 415),
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"path": "/elsewhere", "json": {}}, 404),
        ({"path": "/cancellations/", "json": {}}, 404),
        ({"method": "DELETE"}, 405),
    ],
)
def test_what_is_no_booking_is_refused(erp: Erp, kwargs: dict[str, Any], status: int) -> None:
    assert book(erp, **kwargs).status_code == status
    assert erp.simulator.effects == []


# Idempotency


def test_the_same_request_with_the_same_key_is_booked_once(erp: Erp) -> None:
    first, second = (book(erp, key="k1", json={"plan": 5001}) for _ in range(2))

    assert first.json() == second.json()
    assert len(erp.simulator.effects) == 1
    assert erp.simulator.replays == 1
    assert [call.replayed for call in erp.simulator.requests] == [False, True]


@pytest.mark.parametrize(
    "other",
    [
        {"json": {"plan": 5002}},
        {"json": {"plan": 5001}, "path": "/refunds"},
        {"json": {"plan": 5001}, "method": "PUT"},
    ],
)
def test_another_request_with_the_same_key_is_a_conflict(erp: Erp, other: dict[str, Any]) -> None:
    book(erp, key="k1", json={"plan": 5001})

    assert book(erp, key="k1", **other).status_code == 409
    assert len(erp.simulator.effects) == 1


def test_without_a_key_every_request_is_booked(erp: Erp) -> None:
    for _ in range(2):
        book(erp, json={"plan": 5001})

    assert len(erp.simulator.effects_of(5001)) == 2


def test_an_erp_without_memory_books_a_key_twice(erp: Erp) -> None:
    erp.simulator.set(idempotency=False)
    for _ in range(2):
        book(erp, key="k1", json={"plan": 5001})

    assert [effect.document_number for effect in erp.simulator.effects] == ["C-000001", "C-000002"]


def test_the_key_can_stand_in_another_header(erp: Erp) -> None:
    erp.simulator.set(idempotency_header="X-Request-Id")
    for _ in range(2):
        book(erp, headers={"X-Request-Id": "k1"}, json={"plan": 5001})

    assert [effect.key for effect in erp.simulator.effects] == ["k1"]


# Look-up


@pytest.mark.parametrize("query", ["?key=a/b", "/a%2Fb", "?plan=5001"])
def test_a_booked_document_is_looked_up(erp: Erp, query: str) -> None:
    book(erp, key="a/b", json={"plan": 5001})

    answer = requests.get(f"{erp.url}/documents{query}", timeout=10)

    assert answer.status_code == 200
    assert answer.json() == {"documentNumber": "C-000001", "plan": 5001, "key": "a/b"}


@pytest.mark.parametrize("query", ["?key=k2", "/k2", "?plan=5002", ""])
def test_a_document_that_was_not_booked_is_not_found(erp: Erp, query: str) -> None:
    book(erp, key="k1", json={"plan": 5001})

    assert requests.get(f"{erp.url}/documents{query}", timeout=10).status_code == 404


# Credentials


def test_basic_credentials_are_asked_for() -> None:
    with running(ErpSimulator(auth="basic", user="u", password="ü")) as server:
        right = book(server, json={}, headers={"Authorization": "Basic dTrDvA=="})

        assert right.status_code == 200
        assert book(server, json={}, auth=("u", "wrong")).status_code == 401
        assert book(server, json={}).status_code == 401
        assert len(server.simulator.effects) == 1


@pytest.mark.parametrize("form", ["json", "data"])
def test_a_token_is_asked_for_and_expires(form: str) -> None:
    credentials: Any = {form: {"user": "erp", "password": "secret"}}
    with running(ErpSimulator(auth="token")) as server:
        token = requests.post(f"{server.url}/token", timeout=10, **credentials).json()["token"]
        bearer = {"Authorization": f"Bearer {token}"}
        before = book(server, json={}, headers=bearer)
        server.simulator.expire_tokens()
        after = book(server, json={}, headers=bearer)

        assert (before.status_code, after.status_code) == (200, 401)
        assert server.simulator.logins == 1


def test_wrong_credentials_give_no_token() -> None:
    with running(ErpSimulator(auth="token")) as server:
        answer = requests.post(f"{server.url}/token", json={"user": "erp", "password": "wrong"}, timeout=10)

        assert answer.status_code == 401
        assert server.simulator.logins == 0


def test_an_unknown_way_of_authentication_is_refused() -> None:
    with pytest.raises(ValueError, match="kerberos"):
        ErpSimulator(auth="kerberos")


def test_the_state_tells_the_effects_and_a_reset_forgets_them(erp: Erp) -> None:
    book(erp, key="k1", json={"plan": 5001})
    state = requests.get(f"{erp.url}/_control/state", timeout=10).json()
    requests.post(f"{erp.url}/_control/reset", timeout=10)
    book(erp, key="k1", json={"plan": 5002})

    assert [effect["plan"] for effect in state["effects"]] == [5001]
    assert [effect.plan for effect in erp.simulator.effects] == [5002]


def test_a_large_body_is_taken(erp: Erp) -> None:
    answer = book(erp, json={"plan": 1, "text": "x" * 3_000_000})

    assert answer.status_code == 200
