"""Text from elsewhere on one line: nothing in it can begin, end, hide or reorder a line of a log."""

from __future__ import annotations

import json

import pytest

from include.order_cancel import exact_json
from include.order_cancel.cli.output import pretty
from include.order_cancel.fields import shown
from include.order_cancel.text import UNPRINTABLE, printable

FORGERS = {
    "line feed": "\n",
    "carriage return": "\r",
    "tabulator": "\t",
    "vertical tabulator": "\v",
    "form feed": "\f",
    "NUL": "\0",
    "ANSI escape": "\x1b[2K",
    "8-bit ANSI escape": "\x9b31m",
    "next line": "\x85",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "right-to-left override": "\u202e",
    "isolate": "\u2066",
    "right-to-left mark": "\u200f",
    "Arabic letter mark": "\u061c",
    "half a surrogate pair": "\ud800",
    "a group": "::group::",
    "the end of a group": "::endgroup::",
    "a group behind a colon": ":::group::",
}


def forges(line: str) -> bool:
    """Whether this text could be more than one line of the log, or look like something else than it is."""
    return bool(UNPRINTABLE.search(line)) or "::group::" in line or "::endgroup::" in line


@pytest.mark.parametrize("forger", FORGERS.values(), ids=FORGERS)
def test_what_could_forge_a_line_is_escaped(forger: str) -> None:
    assert forges(f"a{forger}b")

    for made in (printable(f"a{forger}b"), shown(f"a{forger}b")):
        assert not forges(made)
        assert made.startswith("a")
        assert made.endswith("b")


def test_letters_of_all_languages_stay_as_they_are() -> None:
    assert printable("İade şöyle: 数 ערב 🙂 a::b ::grouped") == "İade şöyle: 数 ערב 🙂 a::b ::grouped"


def test_a_long_text_is_cut() -> None:
    assert printable("x" * 501) == "x" * 500 + "…"
    assert printable("x" * 500) == "x" * 500


@pytest.mark.parametrize("forger", FORGERS.values(), ids=FORGERS)
def test_printed_json_says_the_same_and_moves_no_cursor(forger: str) -> None:
    text = pretty({f"name{forger}": [forger, 1]})

    assert json.loads(text) == {f"name{forger}": [forger, 1]}
    assert not UNPRINTABLE.search(text.replace("\n", ""))


def test_printed_json_has_numbers_as_they_came() -> None:
    text = '{\n  "amount": 12345678901234567.89,\n  "rate": 1.10\n}'

    assert pretty(exact_json.loads(text)) == text
