"""Whatever comes from outside, each door answers in its own words: a value, or its own error, and nothing else.

The examples are the same in every run (`derandomize`), so that a failure is one everywhere.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from include.order_cancel import cron, omnitron, params
from include.order_cancel.erp import Meaning, build_request, classify, reference
from include.order_cancel.errors import PlanFailed, SettingsError
from include.order_cancel.fetching import listed
from include.order_cancel.fields import path_segment
from include.order_cancel.http import Answer, BadAnswer, Endpoint, origin, retry_after, retry_delay
from include.order_cancel.journal import idempotency_key
from include.order_cancel.profile import Profile
from include.order_cancel.rows import Row, State
from include.order_cancel.scripts import contract, strict_json
from include.order_cancel.scripts.default_response import DEFAULT_RESPONSE_SCRIPT
from include.order_cancel.scripts.process import Limits, ScriptProcess
from include.order_cancel.scripts.runner import compile_script, run
from include.order_cancel.settings import FlowSettings, load, loads
from include.order_cancel.settings_model import ErpLookup, ErpSettings
from include.order_cancel.templates import render, unclosed
from include.order_cancel.text import UNPRINTABLE, printable
from tests.harness import MAPPING, settings
from tests.shares import examples

same = examples(100, suppress=list(HealthCheck))
few = examples(40, suppress=list(HealthCheck))

ODD = [
    "",
    " ",
    ".",
    "..",
    "../x",
    "//evil.example",
    "\0",
    "\n::group::x",
    "\u202e",
    "\ud800",
    "İ",
    "{{ key }}",
    "{pk}",
]
texts = st.one_of(
    st.text(max_size=30), st.sampled_from(ODD), st.text(alphabet="a/.?#&=%\\@:;{} \n", max_size=12)
)
numbers = st.one_of(st.integers(), st.sampled_from([2**63, -(10**400), 0]), st.floats())
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def deep(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = {"x": [value]}
    return value


def outcome_of(kind: type[Exception], call: Callable[[], Any]) -> tuple[Any, Any]:
    """What the call gave, or the error of this kind that it raised instead."""
    try:
        return call(), None
    except kind as error:
        return None, error


# Settings


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    for name, item in value.items() if isinstance(value, dict) else []:
        found += paths_of(item, (*path, name))
    return found


PLACES = [
    *sorted(filter(None, paths_of(settings())), key=str),
    ("omnitron", "api"),
    ("omnitron", "channel_ids"),
    ("omnitron", "start_from"),
    ("omnitron", "api", "plans", "extra"),
    ("omnitron", "api", "write_back"),
    ("omnitron", "api", "login", "path"),
    ("erp", "login"),
    ("erp", "login", "body"),
    ("erp", "lookup"),
    ("erp", "lookup", "url"),
    ("schedule",),
    ("timezone",),
    ("script",),
    ("post_script",),
    ("scripts",),
    ("retention",),
    ("alerts",),
    ("fan_out",),
    ("unknown",),
]


@same
@given(anything)
def test_any_document_is_settings_or_a_list_of_problems(document: Any) -> None:
    found, error = outcome_of(SettingsError, lambda: load(document, flow="cancels"))

    assert isinstance(found, FlowSettings) or error.problems


@same
@given(st.sampled_from(PLACES), anything)
@example(("omnitron", "api"), deep(40))
def test_one_wrong_field_is_settings_or_problems_that_are_one_line_each(
    place: tuple[str, ...], value: Any
) -> None:
    raw = settings()
    holder = raw
    for name in place[:-1]:
        holder = holder.setdefault(name, {})
    holder[place[-1]] = value

    found, error = outcome_of(SettingsError, lambda: load(raw, flow="cancels"))

    if error is None:
        assert json.dumps(found.snapshot(), allow_nan=False)
    else:
        assert error.problems
        assert not UNPRINTABLE.search(str(error).replace("\n", ""))


@same
@given(st.one_of(st.text(max_size=60), anything.map(lambda value: json.dumps(value, default=str))))
@example('{"a": 1, "a": 2}')
@example("[" * 100_000)
@example('{"erp": NaN}')
def test_any_text_is_settings_or_a_list_of_problems(text: str) -> None:
    found, error = outcome_of(SettingsError, lambda: loads(text, flow="cancels"))

    assert isinstance(found, FlowSettings) or error.problems


# Plan documents


plan_fields = ["pk", "status", "order", "order_number", "plan_type", "refund_amount", "created_date",
               "modified_date", "cancellationplanorderitem_set"]  # fmt: skip
documents = st.dictionaries(st.sampled_from(plan_fields), anything, max_size=9)
RULES = ErpSettings.model_validate({"cancellation_api_url": "/cancellations"})
ERP = Endpoint("erp", "http://erp.example/base", "me", "secret")
OMNITRON = load(
    settings(omnitron__channel_ids=[1, 2], omnitron__cancel_type="refund"), flow="cancels"
).omnitron


@same
@given(documents)
@example({"pk": 5, "cancellationplanorderitem_set": [{"order_item": {"price": "sNaN"}}]})
@example({"pk": 5, "cancellationplanorderitem_set": [{"order_item": {"price": "1e999999"}}]})
@example({"pk": 5, "cancellationplanorderitem_set": ["x", None]})
@example({"pk": 10**30, "refund_amount": 10**400, "order": deep(50)})
def test_any_plan_document_is_listed_or_left_out(document: dict[str, Any]) -> None:
    omnitron.misfit(document, OMNITRON)
    omnitron.unchecked(document, OMNITRON)
    if omnitron.pk_of(document) is None:
        return

    row = listed(document)

    assert 0 < len(row.pk) <= 64
    for value in (row.pk, row.order_number, row.amount, row.currency, row.plan_type, row.plan_date):
        assert value is None or printable(value, 255) == value
    assert len(row.digest) == 64


@same
@given(anything, st.sampled_from(["POST", "PUT", "PATCH", "GET"]))
@example({"name": "\ud800"}, "GET")
@example({"name": 10**5000}, "GET")
@example({"name": 10**5000}, "POST")
def test_any_body_is_a_request_to_the_configured_host_or_the_plans_failure(body: Any, method: str) -> None:
    erp = load(settings(erp__http_method=method, erp__cancellation_api_url="/c?fix=1"), flow="cancels").erp
    request, error = outcome_of(PlanFailed, lambda: build_request(erp, ERP, body, "key"))
    if error is not None:
        assert not UNPRINTABLE.search(str(error))
        return
    parts = urlsplit(request.url)
    assert (origin(request.url), parts.path) == (("http", "erp.example", 80), "/base/c")
    assert parse_qsl(parts.query, keep_blank_values=True)[0] == ("fix", "1")
    if method == "GET":
        names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)[1:]]
        assert names == [name for name, value in body.items() if value is not None]


def test_any_document_is_mapped_or_the_plans_failure() -> None:
    async def work() -> None:
        async with ScriptProcess(Limits()) as scripts:

            @few
            @given(anything)
            def one(document: Any) -> None:
                future = asyncio.run_coroutine_threadsafe(scripts.map(json.dumps(MAPPING), document), loop)
                mapped, error = outcome_of(PlanFailed, lambda: future.result(30))
                assert isinstance(error, PlanFailed) or json.dumps(mapped, allow_nan=False)

            loop = asyncio.get_running_loop()
            await asyncio.to_thread(one)

    asyncio.run(work())


# URLs with plan data in them


LOOKUPS = [
    "/documents/{{ plan.x }}",
    "/d/{{ plan.x }}/{{ key }}?a={{ body.y }}&b=2",
    "https://other.example:8443/{{ plan.x }}",
]


@same
@given(st.sampled_from(LOOKUPS), texts, texts)
@example(LOOKUPS[0], "..", "")
@example(LOOKUPS[1], "%2e%2e/%2f?x#y&b=3", "1&c=4#")
@example(LOOKUPS[2], "@evil.example/", "\\\\evil.example")
def test_plan_data_changes_neither_host_nor_structure_of_a_lookup(template: str, x: str, y: str) -> None:
    lookup = ErpLookup(url=template)
    plain = urlsplit(ERP.url(lookup.rendered(lambda name: "value")))
    values = {"plan.x": x, "body.y": y, "key": "k"}
    try:
        made = urlsplit(ERP.url(lookup.rendered(values.__getitem__)))
    except ValueError:
        return
    assert (made.scheme, made.netloc, made.fragment) == (plain.scheme, plain.netloc, "")
    assert made.path.count("/") == plain.path.count("/")
    assert made.path.startswith(plain.path.partition("value")[0])
    assert [name for name, _ in parse_qsl(made.query)] == [name for name, _ in parse_qsl(plain.query)]


@same
@given(scalars)
def test_a_path_segment_stays_one_segment(value: Any) -> None:
    try:
        segment = path_segment(value)
    except ValueError:
        return
    assert segment not in ("", ".", "..")
    assert not set(segment) & set("/?#\\@: \n")


# Profile, Params, schedules, templates


@same
@given(st.dictionaries(st.sampled_from(list(Profile.model_fields)), anything, max_size=3))
def test_any_override_of_the_profile_is_one_or_a_list_of_problems(override: dict[str, Any]) -> None:
    found, error = outcome_of(SettingsError, lambda: load(settings(omnitron__api=override), flow="cancels"))

    assert found or all(problem.path.startswith("omnitron.api") for problem in error.problems)


@same
@given(st.dictionaries(st.sampled_from(list(params.DESCRIPTIONS)), anything, max_size=4))
def test_any_params_are_params_or_a_list_of_problems(raw: dict[str, Any]) -> None:
    read, error = outcome_of(SettingsError, lambda: params.read(raw))

    if error is None:
        assert params.read(read.as_dict()) == read
    else:
        assert {problem.path.partition(".")[0] for problem in error.problems} == {"params"}


@same
@given(
    st.one_of(
        texts,
        st.lists(st.text(alphabet="0123456789*/,-", min_size=1, max_size=5), min_size=5, max_size=5).map(
            " ".join
        ),
    )
)
def test_any_schedule_is_one_or_a_mistake_in_words(text: str) -> None:
    checked, error = outcome_of(ValueError, lambda: cron.check(text))

    assert str(error) if error else cron.check(checked) == checked


@same
@given(texts, texts)
def test_what_a_template_puts_in_is_not_looked_at_again(before: str, value: str) -> None:
    if "{" not in before and "}" not in before:
        assert render(before + "{{ key }}", lambda name: value) == before + value
    assert isinstance(unclosed(value), bool)


# Answers


def said(status: int, body: bytes = b"", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, "Said", named, body, "http://erp.example/", 0.0)


@same
@given(st.one_of(texts, st.integers().map(str), st.datetimes().map(str)), texts, st.integers(1, 4))
@example("Wed, 21 Oct 2015 07:28:00 GMT", "", 1)
@example("9" * 400, "x", 2)
@example("-5", "", 1)
@example("Wed, 99 Oct 99999 07:28:00 GMT", "", 1)
def test_any_retry_after_is_a_time_to_wait_or_nothing(value: str, date: str, tries: int) -> None:
    answer = said(429, Retry_After=value, Date=date)

    wanted = retry_after(answer)

    assert wanted is None or (wanted >= 0 and not math.isnan(wanted))
    delay = retry_delay(answer, tries)
    assert delay is None or (delay >= (wanted or 0) and delay <= 62)


@same
@given(st.integers(100, 599), st.binary(max_size=60), texts, st.text(alphabet="abc.012", max_size=8))
@example(200, b"[" * 100_000, "", "a.b")
@example(200, b'{"a": NaN}', "application/json; charset=utf-16", "a")
@example(200, b'{"a": "\\ud800"}', "", "a")
@example(200, b'{"a": ' + b"9" * 5000 + b"}", "", "a")
def test_any_answer_can_be_classified_told_and_searched(
    status: int, body: bytes, kind: str, path: str
) -> None:
    answer = said(status, body, Content_Type=kind)

    assert classify(answer, RULES) in Meaning.__args__
    assert not UNPRINTABLE.search(answer.describe())
    found = reference(answer, path)
    assert found is None or printable(found, 201) == found
    _, error = outcome_of(BadAnswer, answer.json)
    assert not UNPRINTABLE.search(str(error))


SHIPPED = compile_script(DEFAULT_RESPONSE_SCRIPT, "response")
AGREES = {"accepted": "continue", "auth_fail": "auth_fail", "unknown": "unknown"}


def test_the_shipped_response_script_agrees_with_the_rules_it_takes_the_place_of() -> None:
    for status in range(100, 600):
        meaning = classify(said(status), RULES)
        given = {"invokehttp.status.code": str(status), "answer.meaning": meaning}

        outcome = run(SHIPPED, b"{}", given, None, contract.Log())

        assert outcome.error is None
        assert (status, outcome.relation) == (status, AGREES.get(meaning))
        assert outcome.refused is (meaning not in AGREES)


# Keys and strict JSON


rows = st.tuples(texts, texts, texts, st.integers(1, 3), st.integers(1, 3))


@same
@given(st.lists(rows, unique=True, min_size=2, max_size=20))
@example(
    [
        ("a", "b", "c", 1, 1),
        ("a", "bc", "", 1, 1),
        ("ab", "", "c", 1, 1),
        ("a", "b", "c", 1, 2),
        ("a", "b", "c", 2, 1),
    ]
)
def test_no_two_requests_have_the_same_key(parts: list[tuple[str, str, str, int, int]]) -> None:
    keys = [
        idempotency_key(Row(1, host, flow, pk, generation, State.FETCHED, body_number=number))
        for host, flow, pk, generation, number in parts
    ]

    assert len(set(keys)) == len(keys)
    assert all(key.isascii() and key.isalnum() and len(key) == 40 for key in keys)


@same
@given(anything)
def test_strict_json_comes_back_as_it_went_or_is_refused(value: Any) -> None:
    written, error = outcome_of(strict_json.NotJson, lambda: strict_json.dumps(value))
    if error is None:
        back, error = outcome_of(strict_json.NotJson, lambda: strict_json.loads(written))
    assert str(error) if error else strict_json.dumps(back) == written


@pytest.mark.parametrize("levels", [100, 1_000, 100_000])
def test_a_document_nested_without_end_is_refused_everywhere(levels: int) -> None:
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    erp = load(settings(), flow="cancels").erp

    with pytest.raises(SettingsError, match="nested deeper"):
        load({"omnitron": value}, flow="cancels")
    if levels > 100:
        with pytest.raises(PlanFailed, match="is not JSON"):
            build_request(erp, ERP, value, "key")
        with pytest.raises(strict_json.NotJson, match="nested deeper than 200 levels"):
            strict_json.dumps(value)


@same
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60)))
@example(b'{"a": 1e999}')
@example("[" * 100_000)
@example('"\\ud800"')
def test_any_text_is_strict_json_or_is_not(text: bytes | str) -> None:
    try:
        value = strict_json.loads(text)
    except strict_json.NotJson:
        return
    strict_json.dumps(value)
