from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

from include.simulator import OmnitronSimulator, RunningServer, plans, running


def expected(omnitron: Any, fits: Callable[[dict[str, Any]], bool]) -> list[int]:
    documents = [omnitron.simulator.plan(pk) for pk in omnitron.simulator.statuses()]
    return [document["pk"] for document in documents if fits(document)]


def channel_pk(plan: dict[str, Any]) -> int:
    channel = plan["order"]["channel"]
    return int(channel["pk"] if isinstance(channel, dict) else channel)


# Login


@pytest.mark.parametrize(
    "credentials", [{"username": "omnitron", "password": "wrong"}, {"username": "omnitron"}, []]
)
def test_wrong_credentials_are_a_400_with_json(omnitron: Any, credentials: Any) -> None:
    answer = omnitron.ask("POST", "auth/login/", json=credentials)

    assert answer.status_code == 400
    assert "code" in answer.json()


@pytest.mark.parametrize("header", [None, "Token nonsense", "Bearer nonsense"])
def test_without_a_valid_token_nothing_is_answered(omnitron: Any, header: str | None) -> None:
    answer = omnitron.ask("GET", "cancellation_plans/", headers={"Authorization": header})

    assert answer.status_code == 401
    assert answer.json().keys() == {"detail", "code"}


def test_a_token_is_given_again_until_it_expires(omnitron: Any) -> None:
    first, second = omnitron.log_in(), omnitron.log_in()
    omnitron.simulator.expire_tokens()

    assert first == second
    assert omnitron.plans().status_code == 401
    assert omnitron.log_in() != first
    assert omnitron.plans().status_code == 200
    assert omnitron.simulator.logins == 4


def test_a_token_can_be_made_to_serve_a_number_of_requests(omnitron: Any) -> None:
    omnitron.simulator.set(expire_after_requests=2)

    assert [omnitron.plans().status_code for _ in range(4)] == [200, 200, 401, 401]


# Filters


def test_the_default_page_holds_ten_plans_in_order_of_pk(omnitron: Any) -> None:
    content = omnitron.plans().json()

    assert content["count"] == 60
    assert [plan["pk"] for plan in content["results"]] == list(range(5001, 5011))


def test_plans_are_filtered_by_status(omnitron: Any) -> None:
    omnitron.simulator.change(5003, status="completed")

    assert omnitron.pks(status="completed") == [5003]
    assert 5003 not in omnitron.pks(status="waiting")
    assert len(omnitron.pks(status="waiting")) == 59


@pytest.mark.parametrize("plan_type", ["cancel", "refund"])
def test_plans_are_filtered_by_plan_type(omnitron: Any, plan_type: str) -> None:
    pks = omnitron.pks(plan_type=plan_type)

    assert 0 < len(pks) < 60
    assert pks == expected(omnitron, lambda plan: plan["plan_type"] == plan_type)


def test_plans_are_filtered_by_several_channels(omnitron: Any) -> None:
    pks = omnitron.pks(channel_id__in="1,2")

    assert 0 < len(pks) < 60
    assert pks == expected(omnitron, lambda plan: channel_pk(plan) in (1, 2))


def test_a_channels_type_comes_from_the_document_or_the_channels_number(omnitron: Any) -> None:
    def is_web(plan: dict[str, Any]) -> bool:
        channel = plan["order"]["channel"]
        return bool(channel["channel_type"] == "web" if isinstance(channel, dict) else channel == 3)

    pks = omnitron.pks(channel_type="web")

    assert pks
    assert pks == expected(omnitron, is_web)
    assert len(pks) + len(omnitron.pks(channel_type="sales_channel")) == 60


def test_plans_are_filtered_by_order(omnitron: Any) -> None:
    order = omnitron.simulator.plan(5001)["order"]

    pks = omnitron.pks(order_id=order["pk"])

    assert 5001 in pks
    assert pks == omnitron.pks(order_number=order["number"])
    assert pks == expected(omnitron, lambda plan: plan["order"]["pk"] == order["pk"])


def test_the_modified_window_excludes_its_start_and_includes_its_end(omnitron: Any) -> None:
    start, end = (omnitron.simulator.plan(pk)["modified_date"] for pk in (5010, 5020))

    pks = omnitron.pks(modified_date__gt=start, modified_date__lte=end)

    assert pks == list(range(5011, 5021))


@pytest.mark.parametrize(
    "query",
    [
        {"colour": "red"},
        {"status": "waitin"},
        {"plan_type": "all"},
        {"channel_id__in": "1;2"},
        {"channel_id__in": ""},
        {"order_id": "x"},
        {"modified_date__gt": "yesterday"},
        {"limit": 0},
        {"limit": 501},
        {"page": 0},
    ],
)
def test_unknown_parameters_and_values_are_refused(omnitron: Any, query: dict[str, Any]) -> None:
    answer = omnitron.plans(**query)

    assert answer.status_code == 400
    assert answer.json().keys() == {*query, "code"}


# Pages


def test_next_leads_through_all_pages(omnitron: Any) -> None:
    url, seen = f"{omnitron.server.url}/api/v1/cancellation_plans/?status=waiting&limit=25", []
    while url:
        content = omnitron.session.get(url, timeout=10).json()
        seen.append([plan["pk"] for plan in content["results"]])
        url = content["next"]

    assert [len(page) for page in seen] == [25, 25, 10]
    assert [pk for page in seen for pk in page] == list(range(5001, 5061))
    assert content["previous"].endswith("status=waiting&limit=25&page=2")


def test_a_page_beyond_the_last_is_not_found(omnitron: Any) -> None:
    assert omnitron.plans(page=7).status_code == 404


def test_an_empty_list_has_a_first_page(omnitron: Any) -> None:
    content = omnitron.plans(status="rejected").json()

    assert content == {"count": 0, "next": None, "previous": None, "results": []}


def test_lists_can_be_bare_and_end_empty(omnitron: Any) -> None:
    omnitron.simulator.set(bare_lists=True)

    pages = [omnitron.plans(limit=40, page=page).json() for page in (1, 2, 3)]

    assert [len(page) for page in pages] == [40, 20, 0]


def test_a_server_can_ignore_the_page(omnitron: Any) -> None:
    omnitron.simulator.set(bare_lists=True, ignore_page=True)

    assert omnitron.plans(page=4).json() == omnitron.plans(page=1).json()


# Paths and methods


def test_a_missing_slash_redirects_reads_and_refuses_writes(omnitron: Any) -> None:
    read = omnitron.ask("GET", "cancellation_plans", params={"status": "waiting"})
    write = omnitron.ask("PATCH", "cancellation_plans/5001", json={"status": "approved"})

    assert read.status_code == 301
    assert read.headers["Location"] == "/api/v1/cancellation_plans/?status=waiting"
    assert write.status_code == 404
    assert omnitron.simulator.status(5001) == "waiting"


def test_options_tell_whether_plans_can_be_patched(omnitron: Any) -> None:
    patchable = omnitron.ask("OPTIONS", "cancellation_plans/5001/")
    listing = omnitron.ask("OPTIONS", "cancellation_plans/")
    omnitron.simulator.set(write_back=False)
    fixed = omnitron.ask("OPTIONS", "cancellation_plans/5001/")

    assert "PATCH" in patchable.headers["Allow"]
    assert "status" in patchable.json()["actions"]["PATCH"]
    assert listing.headers["Allow"] == "GET, OPTIONS"
    assert "PATCH" not in fixed.headers["Allow"]
    assert omnitron.write_back(5001, "approved").status_code == 405


def test_the_statuses_are_listed(omnitron: Any) -> None:
    words = omnitron.ask("GET", "cancellation_plans/cancellation_plan_statuses/").json()

    assert {"waiting", "confirmation_waiting", "confirmed", "approved", "completed", "rejected"} <= set(words)


@pytest.mark.parametrize(
    "path", ["nothing/", "cancellation_plans/999/", "order_transactions/999/", "cancellation_plans/x/"]
)
def test_what_is_not_there_is_not_found(omnitron: Any, path: str) -> None:
    assert omnitron.ask("GET", path).status_code == 404


# The write-back


@pytest.mark.parametrize(
    ("current", "following"),
    [
        ("waiting", "approved"),
        ("waiting", "confirmation_waiting"),
        ("waiting", "confirmed"),
        ("waiting", "completed"),
        ("waiting", "rejected"),
        ("confirmation_waiting", "approved"),
        ("confirmed", "completed"),
        ("approved", "completed"),
        ("approved", "rejected"),
    ],
)
def test_a_legal_transition_moves_the_plan_and_its_items(omnitron: Any, current: str, following: str) -> None:
    omnitron.simulator.change(5001, status=current, modified_date="2025-03-01T08:00:00.000000Z")

    answer = omnitron.write_back(5001, following)

    plan = omnitron.simulator.plan(5001)
    assert answer.status_code == 200
    assert answer.json() == plan
    assert plan["status"] == following
    assert plan["modified_date"] > "2025-03-01T08:00:00.000000Z"
    assert {item["order_item"]["cancel_status"] for item in plan["cancellationplanorderitem_set"]} == {
        following
    }
    assert omnitron.simulator.transitions == [(5001, current, following)]


@pytest.mark.parametrize(
    ("current", "following"),
    [
        ("approved", "confirmed"),
        ("approved", "waiting"),
        ("confirmed", "waiting"),
        ("rejected", "approved"),
        ("completed", "rejected"),
        ("waiting_for_payment", "approved"),
    ],
)
def test_an_illegal_transition_is_refused(omnitron: Any, current: str, following: str) -> None:
    omnitron.simulator.change(5001, status=current)
    before = omnitron.simulator.plan(5001)

    answer = omnitron.write_back(5001, following)

    assert answer.status_code == 400
    assert answer.json()["code"] == "OrderUpdateCancelStatusException"
    assert answer.json()["non_field_errors"]
    assert omnitron.simulator.plan(5001) == before


def test_the_same_status_again_changes_nothing_but_counts_as_a_write(omnitron: Any) -> None:
    omnitron.write_back(5001, "approved")
    again = omnitron.write_back(5001, "approved")

    assert again.status_code == 200
    assert omnitron.simulator.writes == {5001: 2}
    assert omnitron.simulator.transitions == [(5001, "waiting", "approved")]


@pytest.mark.parametrize(
    "body", [{"status": "aproved"}, {"status": "approved", "note": "x"}, {}, [1], {"status": []}]
)
def test_a_write_of_unknown_fields_or_words_is_refused(omnitron: Any, body: Any) -> None:
    answer = omnitron.ask("PATCH", "cancellation_plans/5001/", json=body)

    assert answer.status_code == 400
    assert omnitron.simulator.status(5001) == "waiting"


def test_a_write_must_be_json(omnitron: Any) -> None:
    form = omnitron.ask("PATCH", "cancellation_plans/5001/", data={"status": "approved"})
    broken = omnitron.ask(
        "PATCH", "cancellation_plans/5001/", data=b"{", headers={"Content-Type": "application/json"}
    )

    assert (form.status_code, broken.status_code) == (415, 400)


def test_a_written_plan_leaves_the_list_of_its_old_status(omnitron: Any) -> None:
    assert 5001 in omnitron.pks(status="waiting")
    omnitron.write_back(5001, "rejected")

    assert 5001 not in omnitron.pks(status="waiting")
    assert omnitron.plans(status="rejected", limit=1).json()["count"] == 1


# Transactions


def test_transactions_are_filtered_by_type_and_date(omnitron: Any) -> None:
    returns = omnitron.ask(
        "GET", "order_transactions/", params={"transaction_type": "return", "limit": 500}
    ).json()
    since = returns["results"][10]["created_date"]
    late = omnitron.ask(
        "GET",
        "order_transactions/",
        params={"transaction_type": "return", "created_date__gte": since, "limit": 500},
    ).json()

    assert {row["transaction_type"] for row in returns["results"]} == {"return"}
    assert late["results"] == returns["results"][10:]
    assert returns["results"][0].keys() == {
        "pk",
        "uuid",
        "amount",
        "transaction_type",
        "created_date",
        "modified_date",
        "order",
    }


def test_unknown_transaction_parameters_are_refused(omnitron: Any) -> None:
    assert omnitron.ask("GET", "order_transactions/", params={"mapped": "false"}).status_code == 400


def test_a_mapping_is_created_and_listed(omnitron: Any) -> None:
    pk = omnitron.ask("GET", "order_transactions/").json()["results"][1]["pk"]

    before = omnitron.ask("GET", f"order_transactions/{pk}/get_mappings/").json()
    created = omnitron.ask("POST", f"order_transactions/{pk}/create_mapping/", json={"code": "R-000001"})
    after = omnitron.ask("GET", f"order_transactions/{pk}/get_mappings/").json()

    assert before == []
    assert created.status_code == 201
    assert (
        created.json().items()
        >= {"object_id": pk, "integration_type": "external_company", "code": "R-000001"}.items()
    )
    assert after == [created.json()]
    assert omnitron.simulator.mappings[pk] == after
    assert omnitron.ask("GET", f"order_transactions/{pk}/").json()["pk"] == pk


@pytest.mark.parametrize("body", [{}, {"code": ""}, {"code": 7}, {"code": "x", "update_stock": True}])
def test_a_mapping_needs_a_code_and_nothing_else(omnitron: Any, body: Any) -> None:
    pk = omnitron.ask("GET", "order_transactions/").json()["results"][0]["pk"]

    answer = omnitron.ask("POST", f"order_transactions/{pk}/create_mapping/", json=body)

    assert answer.status_code == 400
    assert not omnitron.simulator.mappings[pk]


def test_the_integration_types_are_listed(omnitron: Any) -> None:
    types = omnitron.ask("GET", "order_transactions/get_integration_mapping_types/").json()

    assert "external_company" in types


# The server


def test_the_clock_can_run_ahead(omnitron: Any) -> None:
    straight = parsedate_to_datetime(omnitron.plans().headers["Date"])
    omnitron.simulator.set(clock_skew_seconds=3600)
    skewed = parsedate_to_datetime(omnitron.plans().headers["Date"])
    omnitron.write_back(5001, "approved")

    assert timedelta(minutes=59) < skewed - straight < timedelta(minutes=61)
    modified = datetime.fromisoformat(omnitron.simulator.plan(5001)["modified_date"])
    assert modified - datetime.now(UTC) > timedelta(minutes=59)


def test_every_request_is_recorded(omnitron: Any) -> None:
    omnitron.write_back(5001, "approved")
    omnitron.write_back(5001, "confirmed")

    calls = omnitron.simulator.calls("PATCH", pk=5001)
    assert [call.status for call in calls] == [200, 400]
    assert [call.json for call in calls] == [{"status": "approved"}, {"status": "confirmed"}]
    assert omnitron.simulator.attempts == {5001: 2}
    assert omnitron.simulator.calls(path="/auth/login/")[0].status == 200


def test_the_record_can_be_bounded_or_left_out() -> None:
    def requests_kept(keep: int) -> tuple[int, int]:
        with running(OmnitronSimulator(keep=keep)) as server:
            for _ in range(3):
                requests.get(f"{server.url}/api/v1/cancellation_plans/", timeout=10)
            return len(server.simulator.requests), server.simulator.total

    assert requests_kept(2) == (2, 3)
    assert requests_kept(0) == (0, 3)


def test_a_stopped_server_refuses_and_comes_back_on_its_port(omnitron: Any) -> None:
    server: RunningServer[OmnitronSimulator] = omnitron.server
    omnitron.session.close()
    server.stop()
    with pytest.raises(requests.ConnectionError):
        requests.get(server.url, timeout=10)
    server.start()

    assert omnitron.plans().status_code == 200


def test_a_change_of_a_document_given_or_taken_does_not_reach_the_store() -> None:
    documents = plans(1, 1)
    simulator = OmnitronSimulator(documents)

    documents[0]["status"] = "rejected"
    simulator.plan(5001)["status"] = "rejected"

    assert simulator.status(5001) == "waiting"


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="colour"):
        OmnitronSimulator(colour="red")


# Control


def test_plans_and_transactions_are_put_and_settings_set_from_outside(omnitron: Any) -> None:
    control = f"{omnitron.server.url}/_control"
    [extra] = plans(2, 1, first_pk=9001, status="confirmed")
    row = {"pk": 5, "transaction_type": "return", "created_date": "2025-03-01T08:00:00Z", "order": 1}

    requests.post(f"{control}/plans", json=[extra], timeout=10)
    requests.post(f"{control}/transactions", json={"transactions": [row]}, timeout=10)
    requests.post(f"{control}/set", json={"bare_lists": True, "channel_types": {"1": "web"}}, timeout=10)

    assert [plan["pk"] for plan in omnitron.plans(status="confirmed").json()] == [9001]
    assert omnitron.ask("GET", "order_transactions/5/").json() == row
    assert len(requests.get(f"{control}/plans", timeout=10).json()) == 61


def test_the_state_and_the_requests_are_told_without_a_token(omnitron: Any) -> None:
    omnitron.write_back(5002, "approved")

    state = requests.get(f"{omnitron.server.url}/_control/state", timeout=10).json()
    recorded = requests.get(f"{omnitron.server.url}/_control/requests", timeout=10).json()

    assert state["plans"]["5002"] == "approved"
    assert state["writes"] == {"5002": 1}
    assert state["logins"] == 1
    assert recorded[-1]["method"] == "PATCH"
    assert recorded[-1]["status"] == 200


def test_tokens_expire_from_outside(omnitron: Any) -> None:
    requests.post(f"{omnitron.server.url}/_control/set", json={"expire_tokens": True}, timeout=10)

    assert omnitron.plans().status_code == 401


def test_a_reset_forgets_counters_and_keeps_plans(omnitron: Any) -> None:
    omnitron.write_back(5002, "approved")
    requests.post(f"{omnitron.server.url}/_control/reset", timeout=10)

    assert omnitron.simulator.requests == []
    assert omnitron.simulator.writes == {}
    assert omnitron.simulator.status(5002) == "approved"


@pytest.mark.parametrize(
    ("method", "command", "body", "status"),
    [
        ("POST", "set", {"colour": "red"}, 400),
        ("POST", "faults", {"kind": "earthquake"}, 400),
        ("POST", "faults", {"kind": "drop", "colour": "red"}, 400),
        ("POST", "plans", [{"pk": 1}], 400),
        ("POST", "set", 7, 400),
        ("GET", "nothing", None, 404),
    ],
)
def test_a_wrong_command_is_refused(omnitron: Any, method: str, command: str, body: Any, status: int) -> None:
    answer = requests.request(method, f"{omnitron.server.url}/_control/{command}", json=body, timeout=10)

    assert answer.status_code == status
    assert answer.json()["error"]
