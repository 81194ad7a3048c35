from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from include.order_cancel.profile import Profile, fill_body, fill_path, query_text

CONTRACT = {
    "login": {
        "path": "/api/v1/auth/login/",
        "token_path": "key",
        "header": "Authorization",
        "prefix": "Token",
    },
    "plans": {
        "path": "/api/v1/cancellation_plans/",
        "pk": "pk",
        "status": "status",
        "channel_type": "channel_type",
        "cancel_type": "plan_type",
        "channel_ids": "channel_id__in",
        "modified_after": "modified_date__gt",
        "modified_before": "modified_date__lte",
        "order": "order_id",
        "page": "page",
        "limit": "limit",
        "extra": {},
    },
    "plan": {"path": "/api/v1/cancellation_plans/{pk}/"},
    "write_back": {
        "method": "PATCH",
        "path": "/api/v1/cancellation_plans/{pk}/",
        "body": {"status": "{status}"},
    },
    "transactions": {
        "path": "/api/v1/order_transactions/",
        "type": "transaction_type",
        "type_word": "return",
        "since": "created_date__gte",
        "pk": "pk",
        "order_path": "order",
        "extra": {},
    },
    "mappings": {"path": "/api/v1/order_transactions/{pk}/get_mappings/"},
    "create_mapping": {
        "method": "POST",
        "path": "/api/v1/order_transactions/{pk}/create_mapping/",
        "body": {"code": "{code}"},
    },
    "words": {
        "waiting": "waiting",
        "confirmed": "confirmed",
        "completed": "completed",
        "confirmation_waiting": "confirmation_waiting",
        "approved": "approved",
        "rejected": "rejected",
        "cancel": "cancel",
        "refund": "refund",
    },
}


def message_of(overrides: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        Profile.model_validate(overrides)
    return caught.value.errors()[0]["msg"]


def test_the_defaults_and_keys_are_the_contracts() -> None:
    assert Profile().model_dump() == CONTRACT


def test_any_subset_may_be_overridden() -> None:
    profile = Profile.model_validate({"words": {"approved": "onaylandi"}, "plans": {"status": "plan_status"}})

    assert profile.word("approved") == "onaylandi"
    assert profile.word("rejected") == "rejected"
    assert profile.plans.status == "plan_status"
    assert profile.plans.path == CONTRACT["plans"]["path"]  # type: ignore[index]


def test_an_overridden_body_replaces_the_default_one() -> None:
    profile = Profile.model_validate({"write_back": {"body": {"cancel_status": "{status}"}}})

    assert profile.write_back.body == {"cancel_status": "{status}"}


def test_a_path_keeps_its_slash_or_its_lack() -> None:
    profile = Profile.model_validate({"plans": {"path": "/api/v2/plans"}})

    assert profile.plans.path == "/api/v2/plans"


def test_an_unknown_word_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Profile().word("all")


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example.com/",
        "//evil.example.com/",
        "api/v1/",
        "",
        "/a b/",
        "/a#b",
        "/a?b=c",
        "/a\\b",
        "/a\n",
        "/{pk}/",
        "/{{ pk }}/",
        "/{",
    ],
)
def test_a_path_that_is_none_on_omnitrons_host_is_refused(path: str) -> None:
    assert message_of({"plans": {"path": path}})


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"plan": {"path": "/plan/"}}, "must hold {pk}"),
        ({"mappings": {"path": "/m/"}}, "must hold {pk}"),
        ({"write_back": {"path": "/plan/{id}/"}}, "unknown placeholder {id}"),
        ({"write_back": {"body": {"a": ["{status}", {"b": "{x}"}]}}}, "unknown placeholder {x}"),
        ({"write_back": {"body": {}}}, "says nothing of the new status"),
        ({"create_mapping": {"path": "/m/", "body": {"code": "{code}"}}}, "does not name the transaction"),
        ({"plans": {"extra": {"status": "x"}}}, "'status' would be sent twice"),
        ({"plans": {"extra": {"a": []}}}, "'a' must be text, a number, true or false"),
        ({"transactions": {"since": "transaction_type"}}, "'transaction_type' would be sent twice"),
        ({"login": {"header": "X Token"}}, "is not a header name"),
        ({"words": {"waiting": ""}}, "is empty"),
    ],
)
def test_an_override_that_cannot_work_is_refused(overrides: dict[str, Any], words: str) -> None:
    assert words in message_of(overrides)


def test_the_status_may_stand_in_the_path_instead_of_the_body() -> None:
    profile = Profile.model_validate({"write_back": {"path": "/plans/{pk}/{status}/", "body": {}}})

    assert profile.fill(profile.write_back.path, pk=7, status="approved") == "/plans/7/approved/"


def test_a_transaction_may_be_named_in_the_body() -> None:
    body = {"object_id": "{pk}", "code": "{code}"}
    profile = Profile.model_validate({"create_mapping": {"path": "/mappings/", "body": body}})

    assert profile.fill(profile.create_mapping.body, pk=7, code="D1") == {"object_id": 7, "code": "D1"}


def test_values_are_percent_encoded_in_a_path() -> None:
    assert fill_path("/plans/{pk}/", pk="a/b ç?") == "/plans/a%2Fb%20%C3%A7%3F/"


@pytest.mark.parametrize("pk", ["", ".", ".."])
def test_a_value_that_would_change_the_path_is_refused(pk: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in a path"):
        fill_path("/plans/{pk}/", pk=pk)


def test_values_are_plain_in_a_body_and_filled_once() -> None:
    template = {"a": ["no {pk}", 5, None, True], "status": "{status}", "pk": "{pk}"}

    filled = fill_body(template, pk=7, status="{pk}")

    assert filled == {"a": ["no 7", 5, None, True], "status": "{pk}", "pk": 7}


def test_filling_leaves_the_template_as_it_was() -> None:
    profile = Profile()

    profile.fill(profile.write_back.body, pk=1, status="approved")

    assert profile == Profile()


@pytest.mark.parametrize(("value", "text"), [(True, "true"), (False, "false"), (5, "5"), ("x", "x")])
def test_extra_values_as_query_text(value: object, text: str) -> None:
    assert query_text(value) == text


@pytest.mark.parametrize(("prefix", "value"), [("Token", "Token abc"), ("", "abc")])
def test_the_token_header_has_one_blank_or_none(prefix: str, value: str) -> None:
    login = Profile.model_validate({"login": {"prefix": prefix}}).login

    assert login.token_header("abc") == ("Authorization", value)
