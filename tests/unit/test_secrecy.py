"""Secrets are recognised by the names they stand under, and masked however they are written."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest

from include.order_cancel.secrecy import credentials, mask

SECRET = 'Şi/fre"+<&=\\ 7x'

SPELLINGS = {
    "itself": SECRET,
    "JSON": json.dumps(SECRET)[1:-1],
    "JSON in UTF-8": json.dumps(SECRET, ensure_ascii=False)[1:-1],
    "JSON with escaped slashes": json.dumps(SECRET)[1:-1].replace("/", r"\/"),
    "a path": quote(SECRET, safe=""),
    "a path that keeps its slashes": quote(SECRET),
    "a form": quote_plus(SECRET),
    "a path in lower case": "".join(
        part.lower() if part.startswith("%") else part
        for part in (quote(character, safe="") for character in SECRET)
    ),
    "HTML": html.escape(SECRET),
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(SECRET.encode()).decode(),
}


@pytest.mark.parametrize("written", SPELLINGS.values(), ids=SPELLINGS)
def test_a_secret_is_masked_however_it_is_written(written: str) -> None:
    assert mask(f"before {written} after", [SECRET]) == "before *** after"


def test_the_longest_secret_is_masked_first() -> None:
    assert mask("Bearer abcdefgh, abcdefgh", ["abcdefgh", "Bearer abcdefgh"]) == "***, ***"


def test_without_a_secret_a_text_stays_as_it_is() -> None:
    assert mask("as it is", [None, ""]) == "as it is"


def test_credentials_are_the_auth_headers_and_what_stands_behind_their_word() -> None:
    basic = base64.b64encode(b"erp:password-of-the-erp").decode()

    assert credentials({"Authorization": f"Basic {basic}"}, {}) == (
        f"Basic {basic}",
        basic,
        "password-of-the-erp",
    )
    assert credentials({"X-Session": "abcdefgh"}, {}) == ("abcdefgh",)


def test_static_headers_are_credentials_where_their_name_says_so() -> None:
    static = {"X-Api-Key": "key-of-the-erp", "X-Channel": "sales_channel", "Cookie": "short"}

    assert credentials({}, static) == ("key-of-the-erp",)


def test_a_basic_login_that_is_none_hides_what_it_is() -> None:
    assert credentials({"Authorization": "Basic not-base-64!"}, {}) == ("Basic not-base-64!", "not-base-64!")
