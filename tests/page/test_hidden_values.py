"""A secret that an edited request leaves hidden goes where it was, or the edit is refused: never to another item."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import permutations, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.order_cancel.cli.hiding import without_secrets
from include.order_cancel.journal import Journal
from include.order_cancel.rows import Body, Move, Row, State
from include.order_cancel_page.masking import StillHidden, restored
from tests.page.conftest import Site
from tests.page.test_screens import a_plan, path_of
from tests.shares import examples


def item(sku: str, amount: int = 1) -> dict[str, Any]:
    return {"sku": sku, "amount": amount, "refund_token": f"card of {sku}"}


def deep_item(sku: str, amount: int = 1) -> dict[str, Any]:
    return {"product": {"sku": sku}, "amount": amount, "card": {"auth": {"token": f"card of {sku}", "by": 1}}}


def in_an_object(items: list[Any]) -> dict[str, Any]:
    return {f"line {number}": one for number, one in enumerate(items)}


# Where the items of a request may stand. The amount beside them is what a person usually mends.
PLACES: dict[str, Callable[[list[Any]], Any]] = {
    "the whole request": lambda items: items,
    "a list": lambda items: {"amount": 5, "items": items},
    "a list deeper down": lambda items: {"amount": 5, "order": {"no": "1", "parcels": [{"items": items}]}},
    "lists in a list": lambda items: {"amount": 5, "parcels": [[one] for one in items]},
    "an object": lambda items: {"amount": 5, "items": in_an_object(items)},
    "members of the request": lambda items: {"amount": 5, **in_an_object(items)},
}


def objects(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict):
        yield document
    for part in (
        document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    ):
        yield from objects(part)


def secrets_with_their_items(document: Any) -> list[tuple[str, str]]:
    """Each item's sku and the secret in it."""
    found = [(one["sku"], one["refund_token"]) for one in objects(document) if "refund_token" in one]
    deep = [one for one in objects(document) if "card" in one]
    return found + [(one["product"]["sku"], one["card"]["auth"]["token"]) for one in deep]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", [item, deep_item])
def test_in_no_small_document_a_secret_ends_at_another_item(place: str, make: Callable[..., Any]) -> None:
    put = PLACES[place]
    original = put([make("A"), make("B"), make("C")])
    shown = [without_secrets(make(sku)) for sku in "ABC"]
    choices = [*shown, without_secrets(make("A", 9)), without_secrets(make("D")), make("B")]
    taken = 0

    for count in range(5):
        for items in product(choices, repeat=count):
            edited = {**rest, "amount": 7} if isinstance(rest := put(list(items)), dict) else rest
            try:
                sent = restored(deepcopy(edited), original)
            except StillHidden:
                continue
            taken += 1
            assert all(secret == f"card of {sku}" for sku, secret in secrets_with_their_items(sent)), edited
            assert "***" not in json.dumps(sent)
            assert without_secrets(sent) == without_secrets(edited)

    assert taken > 1


@pytest.mark.parametrize("place", PLACES)
def test_a_request_whose_items_were_left_alone_is_sent_with_their_secrets(place: str) -> None:
    original = PLACES[place]([item("A"), item("B")])
    edited = without_secrets(original)
    if isinstance(edited, dict):
        edited["amount"], edited["note"] = 7, ["new"]

    sent = restored(edited, original)

    assert sent == ({**original, "amount": 7, "note": ["new"]} if isinstance(original, dict) else original)


A, B = {"sku": "A", "refund_token": "***"}, {"sku": "B", "refund_token": "***"}


@pytest.mark.parametrize(
    ("edited", "where"),
    [
        ({"items": [B]}, "items[0].refund_token"),
        ({"items": [{**A, "refund_token": "card of A"}, {**B, "sku": "C"}]}, "items[1].refund_token"),
        ({"items": [A, B, {}]}, "items[0].refund_token"),
        ({"items": [{**A, "x": 1}, B]}, "items[0].refund_token"),
        ({"items": [{"refund_token": "***"}, {"refund_token": "***"}]}, "items[0].refund_token"),
        ({"items": "***"}, None),
        ({"lines": "***"}, "lines"),
        ({"auth": {"user": "other", "password": "***", "on": True}}, "auth.password"),
        ({"auth": {"user": "one", "password": "***", "on": 1}}, "auth.password"),
        ({"auth": {"user": "one", "pwd": "***", "on": True}}, "auth.pwd"),
        ({"pin": "***"}, None),
        ({"empty_token": "***"}, "empty_token"),
        ({"null_token": "***"}, "null_token"),
        ({"login_token": "***"}, None),
        ({"login_token": {"a": "***"}}, "login_token.a"),
        ("***", None),
        (["***"], "[0]"),
    ],
    ids=str,
)
def test_a_hidden_value_is_filled_in_where_nothing_around_it_was_changed(
    edited: Any, where: str | None
) -> None:
    original = {
        "items": [{"sku": "A", "refund_token": "card of A"}, {"sku": "B", "refund_token": "card of B"}],
        "auth": {"user": "one", "password": "secret", "on": True},
        "pin": 1234,
        "empty_token": "",
        "null_token": None,
        "login_token": {"a": "x", "b": ["y"]},
    }
    if where is None:
        sent = restored(edited, original)
        assert sent == original if edited == "***" else sent == {name: original[name] for name in edited}
    else:
        with pytest.raises(StillHidden) as refused:
            restored(edited, original)
        assert str(refused.value).startswith(f"{where} stands as ***")


JSON = st.recursive(
    st.sampled_from(["***", "a", "", None, 1, True, 1.0]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "token", "pin"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@examples(1000)
@given(JSON, JSON)
def test_each_member_of_what_is_sent_is_as_it_was_or_as_it_was_typed(edited: Any, original: Any) -> None:
    try:
        sent = restored(deepcopy(edited), deepcopy(original))
    except StillHidden:
        return

    if not (isinstance(edited, dict) and isinstance(original, dict)):
        edited, original, sent = {"": edited}, {"": original}, {"": sent}
    assert sent.keys() == edited.keys()
    for name, part in sent.items():
        as_typed = "***" not in json.dumps(edited[name])
        assert json.dumps(part) == json.dumps(edited[name] if as_typed else original[name])


@examples(500)
@given(JSON)
def test_a_request_that_nobody_changed_is_sent_as_it_was(original: Any) -> None:
    assert restored(without_secrets(original), original) == original


def failed_with(journal: Journal, request: Any) -> Row:
    row = a_plan(journal, State.FAILED)
    meta = {"method": "POST", "url": "http://erp.example/x", "headers": {}}
    journal.apply([Move(journal.row(row.id), bodies=[Body("request", json.dumps(request), meta)], events=[])])
    return journal.row(row.id)


@pytest.mark.parametrize(
    "lines", [lines for count in range(4) for lines in permutations("ABC", count)], ids="".join
)
def test_lines_that_were_deleted_or_moved_on_the_page_keep_no_hidden_secret(
    site: Site, page_journal: Journal, lines: tuple[str, ...]
) -> None:
    original = {"amount": 5, "items": [item(sku) for sku in "ABC"]}
    row = failed_with(page_journal, original)
    edited = {"amount": 7, "items": [without_secrets(item(sku)) for sku in lines]}

    answer = site.post(f"{path_of(row)}/request", {"content": json.dumps(edited), "reason": "by hand"})

    body = page_journal.body(row.id, "request")
    assert body is not None
    if lines in ((), ("A", "B", "C")):
        assert answer.status_code == 200, answer.text
        assert json.loads(body.content) == {"amount": 7, "items": original["items"] if lines else []}
    else:
        assert answer.status_code == 422
        assert "items[0].refund_token" in answer.json()["error"]
        assert "card of" not in answer.text
        assert json.loads(body.content) == original
        assert page_journal.row(row.id).state is State.FAILED


def test_a_secret_that_was_typed_is_sent_as_typed(site: Site, page_journal: Journal) -> None:
    row = failed_with(page_journal, {"items": [item("A"), item("B")]})
    edited = {"items": [{**item("B"), "refund_token": "typed"}]}

    site.post(f"{path_of(row)}/request", {"content": json.dumps(edited), "reason": "A was paid by hand"})

    body = page_journal.body(row.id, "request")
    assert body is not None
    assert json.loads(body.content) == edited
