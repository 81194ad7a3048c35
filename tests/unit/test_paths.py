"""One reader of paths: which values they find, which texts are none, and what is read of an answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.order_cancel.fields import answer_path, dotted_path
from include.order_cancel.http import Answer, BadAnswer
from include.order_cancel.paths import at_path, in_answer
from tests.shares import examples

DOCUMENT = {
    "number": "C-1",
    "value": [{"id": 7, "lines": [[1, 2], [3]]}, {"id": 8}],
    "data": {"0": {"no": "zero"}, "belge numarası": "B", "document-number": "D", "10": "ten"},
    "@type": "document",
    "_id": {"$oid": "5f"},
    "soap:Body": {"#text": "x"},
    "nothing": None,
    "no": False,
}
READ: list[tuple[str, Any]] = [
    ("number", "C-1"),
    ("value.0.id", 7),
    ("value[0].id", 7),
    ("$.value[0].id", 7),
    ("$.value.1.id", 8),
    ("value[1].id", 8),
    ("value[0].lines[1][0]", 3),
    ("value.0.lines.0.1", 2),
    ("value[0].lines.0[1]", 2),
    ("data.0.no", "zero"),
    ("data.10", "ten"),
    ("data.belge numarası", "B"),
    ("data.document-number", "D"),
    ("@type", "document"),
    ("_id.$oid", "5f"),
    ("soap:Body.#text", "x"),
    ("no", False),
    ("nothing", None),
    # Nothing stands there.
    ("data[0].no", None),
    ("data[10]", None),
    ("value[2].id", None),
    ("value.id", None),
    ("value[0].id.more", None),
    ("number[0]", None),
    ("number.0", None),
    ("value.999999999", None),
    ("value.9999999999999", None),
    ("value.²", None),
]
NO_PATHS = [
    ".",
    "a.",
    ".a",
    "a..b",
    "$",
    "$.",
    "$..a",
    "@",
    "a[*].b",
    "a.*",
    "*",
    "a[-1]",
    "a.-1",
    "a[0",
    "a0]",
    "a[]",
    "a[x]",
    "a[0]b",
    "a.[0]",
    "a[ 0 ]",
    "a[0:2]",
    "a[0,1]",
    "a['b']",
    'a["b"]',
    "'a'",
    "“a”",
    "a[?(@.b)]",
    "$.a[?@.b=='c'].d",
    "a.length()",
    "/a/0/b",
    "a/b",
    "a\\b",
    "{{ a }}",
    "a|b",
    "a ? b",
    "a. b",
    "a .b",
    "a[9999999999]",
    "a[¹]",
    "header:",
    "Header:X",
    "headers:X",
    "header: X",
    "header:X Y",
    "header:a[0]",
]


@pytest.mark.parametrize(("path", "value"), READ, ids=[path for path, _ in READ])
def test_a_path_finds_what_stands_there(path: str, value: Any) -> None:
    assert at_path(DOCUMENT, dotted_path(path)) == value
    assert answer_path(path) == path


def test_a_list_is_read_from_its_root() -> None:
    rows = [{"id": 7}]

    assert [at_path(rows, dotted_path(path)) for path in ("0.id", "[0].id", "$[0].id", "$.0.id")] == [7] * 4


@pytest.mark.parametrize("path", NO_PATHS)
def test_what_no_path_says_is_refused_with_what_may_be_written(path: str) -> None:
    for check in (dotted_path, answer_path):
        with pytest.raises(ValueError, match=r"as a path; write a\.b\.0\.c, a\[0\]\.b or \$\.a\[0\]\.b"):
            check(path)
    with pytest.raises(ValueError, match="not a path"):
        at_path(DOCUMENT, path)


def test_a_header_is_a_path_into_an_answer_only() -> None:
    assert answer_path("header:X-Document") == "header:X-Document"
    with pytest.raises(ValueError, match="headers are not known here"):
        dotted_path("header:X-Document")


@pytest.mark.parametrize("path", ["", " a", "a ", "a\nb", "x" * 201])
def test_a_path_is_a_name_like_others(path: str) -> None:
    for check in (dotted_path, answer_path):
        with pytest.raises(ValueError, match=r"empty|blank|line break|longer"):
            check(path)


def said(body: bytes, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(200, "", named, body, "", 0.0, secrets=("canary-secret",))


def test_an_answer_is_read_in_its_json_or_its_headers() -> None:
    answer = said(b'{"a": [{"b": 5}]}', X_Document=" C-1 ", Empty=" ")

    assert in_answer(answer, "a[0].b") == 5
    assert in_answer(answer, "header:x-DOCUMENT") == "C-1"
    assert in_answer(answer, "header:Empty") is None
    assert in_answer(answer, "header:Absent") is None


def test_a_header_needs_no_json_and_a_body_does() -> None:
    answer = said(b"<html>", Location="/documents/7")

    assert in_answer(answer, "header:Location") == "/documents/7"
    with pytest.raises(BadAnswer):
        in_answer(answer, "a")


def test_a_header_is_read_as_it_came_and_shown_without_its_secret() -> None:
    answer = said(b'"canary-secret"', X_Echo="Bearer canary-secret")

    assert in_answer(answer, "header:X-Echo") == "Bearer canary-secret"
    assert answer.describe() == '200: "***"'


def test_a_header_that_is_no_utf_8_is_fit_for_the_journal() -> None:
    assert in_answer(said(b"", X_Note="\udcfc7"), "header:X-Note") == "\ufffd7"


NAMES = st.from_regex(r"[a-zA-Z0-9_ığüşöçİ-]{0,6}[a-z_ı]", fullmatch=True)
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


def places(value: Any, dotted: str, bracketed: str) -> Iterator[tuple[str, str, Any]]:
    """Each place of the document, in both notations, with what stands there."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, f"{dotted}.{key}", f"{bracketed}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from places(item, f"{dotted}.{number}", f"{bracketed}[{number}]")
    yield dotted, bracketed, value


@examples(300)
@given(tree=TREES)
def test_every_place_of_a_document_is_found_in_both_notations(tree: Any) -> None:
    for dotted, bracketed, value in places({"root": tree}, "$", "$"):
        if dotted != "$":
            assert at_path({"root": tree}, dotted_path(dotted)) is value
            assert at_path({"root": tree}, dotted_path(dotted.removeprefix("$."))) is value
            assert at_path({"root": tree}, dotted_path(bracketed)) is value


@examples(500)
@given(text=st.text(max_size=12) | st.from_regex(r"[a$.\[\]0-9*:-]{1,10}", fullmatch=True))
def test_a_text_is_read_or_refused(text: str) -> None:
    with suppress(ValueError):
        at_path(DOCUMENT, text)
