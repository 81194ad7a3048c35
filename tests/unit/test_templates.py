from __future__ import annotations

import pytest

from include.order_cancel import templates


def test_placeholders_are_found_in_order_without_their_blanks() -> None:
    assert templates.placeholders("a {{ login }} b {{password}}{{  extra.x\t}}") == [
        "login",
        "password",
        "extra.x",
    ]


def test_a_value_is_not_expanded_again() -> None:
    values = {"login": "{{ password }}", "password": "hunter2"}

    assert templates.render("{{ login }}!", values.__getitem__) == "{{ password }}!"


def test_backslashes_in_a_value_stay() -> None:
    assert templates.render("{{ a }}", lambda _: r"\1\n") == r"\1\n"


def test_text_without_placeholders_stays() -> None:
    assert templates.render("{a} } {", lambda _: "x") == "{a} } {"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("{{ a }}", False), ("{{ a", True), ("a }}", True), ("{{ {{ a }} }}", True), ("{a}", False)],
)
def test_a_brace_pair_without_its_partner_is_seen(text: str, expected: bool) -> None:
    assert templates.unclosed(text) is expected


def test_a_text_of_braces_only_is_read_quickly() -> None:
    assert templates.unclosed("{{" * 100_000)
