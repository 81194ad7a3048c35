"""Numbers that nothing computes with are written as they came; all else is as Python's own module has it."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.order_cancel import exact_json, nesting
from include.order_cancel.erp import build_request
from include.order_cancel.exact_json import Number, dumps, loads
from include.order_cancel.http import Answer, BadAnswer, Endpoint
from include.order_cancel.omnitron import amount_of, content_digest, json_bytes, same_content
from include.order_cancel.scripts import strict_json
from include.order_cancel.settings import load
from include.order_cancel.text import json_text
from tests.harness import settings
from tests.shares import examples

LITERALS = [
    "12345678901234567.89",
    "1e-5",
    "1E5",
    "1.10",
    "1E400",
    "-1E400",
    "-0.0",
    "1.0",
    "0.1000",
    "123456789012345678901234567890",
    "-9223372036854775809",
]


@pytest.mark.parametrize("literal", LITERALS)
def test_a_number_is_written_as_it_was_read(literal: str) -> None:
    text = f'{{"a": [{literal}, {{"b": {literal}}}], "c": "{literal}"}}'
    document = loads(text)

    assert dumps(document) == text
    assert json_text(document) == text
    assert strict_json.dumps(strict_json.loads(text)).decode() == text
    assert json_bytes(document).decode() == text.replace(" ", "")
    assert dumps(copy.deepcopy(document)) == text


def test_indents_the_order_of_keys_and_escapes_are_those_of_the_options() -> None:
    document = loads('{"z": 1.10, "a": [2.20, "é"]}')

    assert dumps(document, sort_keys=True, indent=1) == '{\n "a": [\n  2.20,\n  "\\u00e9"\n ],\n "z": 1.10\n}'


def test_only_what_python_would_write_otherwise_is_more_than_a_float() -> None:
    assert [type(part) for part in loads("[1.5, 1.0, -0.0, 1e-05, 1.10]")] == [float] * 4 + [Number]


def test_a_number_computes_compares_and_formats_as_a_float() -> None:
    amount = loads("1.10")

    assert isinstance(amount, float)
    assert amount == 1.1
    assert hash(amount) == hash(1.1)
    assert (str(amount), f"{amount:.2f}", f"{amount}") == ("1.1", "1.10", "1.1")
    assert {type(made) for made in (amount + 0, -amount, abs(amount), round(amount, 1), float(amount))} == {
        float
    }
    assert loads("1E400") == math.inf


def test_what_is_computed_beyond_all_bounds_is_still_refused() -> None:
    with pytest.raises(strict_json.NotJson, match="a: inf is not a JSON number"):
        strict_json.dumps({"kept": loads("1E400"), "a": loads("1E400") * 2})
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_bytes([loads("1E400"), math.nan])


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_stays_refused(literal: str) -> None:
    with pytest.raises(strict_json.NotJson, match="is not a JSON number"):
        strict_json.loads(f"[1.10, {literal}]")


def test_a_number_of_a_million_digits_is_kept_and_refused_where_a_script_would_get_it() -> None:
    text = json.dumps({"pk": 1, "amount": "n"}).replace('"n"', "7" * 1_000_000)

    assert dumps(loads(text)) == text
    with pytest.raises(strict_json.NotJson, match="a number of thousands of digits"):
        strict_json.loads(text)


def test_the_digest_is_that_of_plain_floats() -> None:
    for text in (
        '{"a": 1.5, "b": [1, "x", null]}',
        '{"amount": 1.10, "rate": 1e-5, "x": 12345678901234567.89}',
    ):
        assert content_digest(loads(text)) == content_digest(json.loads(text))


def test_a_document_that_was_stored_with_plain_floats_says_the_same() -> None:
    text = '{"pk": 1, "amount": 1.10, "lines": [{"price": 12345678901234567.89}]}'

    assert same_content(json.loads(json.dumps(json.loads(text))), loads(text))


def test_the_amount_is_shown_as_it_was_written() -> None:
    items = '{"cancellationplanorderitem_set": [{"order_item": {"price": 1.10}}, {"order_item": {"price": 2.20}}]}'

    assert amount_of(loads('{"refund_amount": 1.10}')) == "1.10"
    assert amount_of(loads('{"refund_amount": 12345678901234567.89}')) == "12345678901234567.89"
    assert amount_of(loads(items)) == "3.30"


@pytest.mark.parametrize("literal", LITERALS)
def test_a_query_carries_numbers_as_they_came(literal: str) -> None:
    erp = load(settings(erp__http_method="GET"), flow="cancels").erp
    request = build_request(erp, Endpoint("erp", "http://erp"), loads(f'{{"amount": {literal}}}'), "key")

    assert request.url == f"http://erp/cancellations?amount={literal}"


def answer(text: str) -> Any:
    return Answer(200, "OK", {}, text.encode(), "http://x/", 0.0).json()


@pytest.mark.parametrize("levels", [300, 600, 900, 2_000, 100_000])
def test_what_is_nested_too_deep_is_read_as_text_from_there_on(levels: int) -> None:
    kept = nesting.KEPT_LEVELS
    text = '[1.10, {"deep": ' + '{"n": ' * levels + '"[x"' + "}" * levels + ', "after": [2]}]'

    first, second = answer(text)
    inner = second["deep"]
    for _ in range(kept - 2):
        inner = inner["n"]

    assert dumps(first) == "1.10"
    assert second["after"] == [2]
    rest = levels - (kept - 2)
    assert inner == '{"n": ' * rest + '"[x"' + "}" * rest
    assert strict_json.is_too_deep(json_text(second["deep"]))


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 100_000 + "]" * 99_999, "{" * 700])
def test_deep_brackets_that_are_never_closed_are_no_json(text: str) -> None:
    with pytest.raises(BadAnswer, match="not JSON"):
        answer(text)


def test_two_hundred_levels_are_read_whole() -> None:
    text = "[" * 200 + "1.10" + "]" * 200

    assert dumps(answer(text)) == text


numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@examples(200)
@given(literals=st.lists(numbers.filter(lambda text: text != "-0"), max_size=5))
def test_any_number_is_written_as_it_was_read(literals: list[str]) -> None:
    text = f"[{', '.join(literals)}]"

    assert dumps(loads(text)) == text
    assert loads(text) == json.loads(text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@examples(200)
@given(value=values)
def test_without_such_numbers_the_bytes_are_those_of_pythons_module(value: Any) -> None:
    assert exact_json.dumps(value) == json.dumps(value)
    assert json_text([value]) == json_text([value, loads("1.10")]).removesuffix(", 1.10]") + "]"
