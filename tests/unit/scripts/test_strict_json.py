"""Strict JSON: what is refused, and where it says it stood."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.order_cancel.scripts.strict_json import NotJson, dumps, fault, is_too_deep, loads
from tests.shares import examples


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": {"b": [1, float("nan")]}}, "a.b[1]: nan is not a JSON number"),
        ({"a": float("-inf")}, "a: -inf is not a JSON number"),
        ({"a": "\ud83d"}, "a: text with half a surrogate pair"),
        ({"\udc00": 1}, "a key with half a surrogate pair"),
        ([{"a": {1, 2}}], "[0].a: a value of type set"),
        ({(1, 2): 1}, "a key of type tuple"),
        (object(), "a value of type object"),
        pytest.param(10**5000, "a number of thousands of digits", id="10**5000"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_path(value: Any, place: str) -> None:
    with pytest.raises(NotJson) as caught:
        dumps(value)

    assert str(caught.value) == place


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, NaN]", "NaN is not a JSON number"),
        ("-Infinity", "-Infinity is not a JSON number"),
        ('{"a": "\\ud83d"}', "a: text with half a surrogate pair"),
        ("{", "line 1 column 2: Expecting property name enclosed in double quotes"),
        ("1" * 5000, "a number of thousands of digits"),
        ("[" * 200_000, "nested deeper than 200 levels"),
        ("[" * 201 + "]" * 201, "nested deeper than 200 levels"),
        ("[1,\n ]", "line 2 column 2: Expecting value"),
        ('{"a": 1, }', "line 1 column 10: Expecting property name enclosed in double quotes"),
        (b'"\xff"', "byte 1 is not UTF-8"),
    ],
)
def test_text_that_is_not_json_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(NotJson) as caught:
        loads(text)

    assert message in str(caught.value)


def test_two_hundred_levels_are_read_and_written() -> None:
    value: Any = "[[["
    for level in range(200):
        value = [value] if level % 2 else {"[{": value}

    assert loads(dumps(value)) == value
    with pytest.raises(NotJson, match="nested deeper than 200 levels"):
        dumps([value])


@pytest.mark.parametrize("text", ['"' + "[" * 500, '["\\"' + "[" * 500 + '"]', '["' + '\\"[' * 500 + '"]'])
def test_brackets_within_a_text_are_no_levels(text: str) -> None:
    assert not is_too_deep(text)


@pytest.mark.parametrize(
    ("message", "text", "position", "told"),
    [
        ("Illegal trailing comma before end of array", "[1 ,\n\t]", 3, (2, 2, "Expecting value")),
        (
            "Illegal trailing comma before end of object",
            '{"a": 1,}',
            7,
            (1, 9, "Expecting property name enclosed in double quotes"),
        ),
        ("Expecting value", "[1 2", 3, (1, 4, "Expecting value")),
    ],
)
def test_newer_pythons_words_for_a_comma_too_many_are_told_as_the_older_ones(
    message: str, text: str, position: int, told: tuple[int, int, str]
) -> None:
    assert fault(json.JSONDecodeError(message, text, position)) == told


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)

    with pytest.raises(NotJson, match="nested deeper than 200 levels, or holding itself"):
        dumps(value)


def test_whole_surrogate_pairs_are_text() -> None:
    assert loads('"\\ud83d\\ude00"') == "😀"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@examples(200)
@given(value=values)
def test_what_is_written_is_read_back_the_same(value: Any) -> None:
    assert loads(dumps(value)) == value


@examples(200)
@given(text=st.text() | st.binary())
def test_any_text_is_json_or_refused(text: str | bytes) -> None:
    try:
        said = loads(text) == json.loads(text)
    except NotJson as error:
        said = bool(str(error))

    assert said
