"""An Omnitron that lists as no book says: its plans are sent once, or the run fails in words and the next one sends."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from include.order_cancel.omnitron import BadListing, ListingFailed
from include.simulator import OmnitronSimulator, plans
from include.simulator.wire import JSON_HEADERS, Answer, Request
from tests.integration.conftest import SEED, MakeFlow
from tests.shares import thorough

LIST = "/api/v1/cancellation_plans/"
Own = list[dict[str, Any]]


def listing(own: Own, **changes: Any) -> bytes:
    return json.dumps({"count": len(own), "next": None, "results": own} | changes).encode()


def packed(data: bytes) -> Answer:
    return Answer(200, data, {**JSON_HEADERS, "Content-Encoding": "gzip"})


def plain(data: bytes, status: int = 200, **headers: str) -> Answer:
    return Answer(
        status, data, JSON_HEADERS | {name.replace("_", "-"): text for name, text in headers.items()}
    )


READ: dict[str, Callable[[Own], Answer]] = {
    "a count in words": lambda own: plain(listing(own, count="many")),
    "a count below nothing": lambda own: plain(listing(own, count=-1)),
    "a count of nothing": lambda own: plain(listing(own, count=0)),
    "an empty next page": lambda own: plain(listing(own, next="")),
    "itself as the next page": lambda own: plain(listing(own, next=f"{LIST}?page=1&limit=100")),
    "a page for a browser": lambda own: plain(listing(own), Content_Type="text/html"),
    "packed": lambda own: packed(gzip.compress(listing(own))),
    "a part (206)": lambda own: plain(listing(own), 206),
    "a byte order mark": lambda own: plain(b"\xef\xbb\xbf" + listing(own)),
    "each plan twice": lambda own: plain(listing(own + own)),
    "numbers as texts, too": lambda own: plain(
        listing(own + [{**plan, "pk": f" {plan['pk']} "} for plan in own])
    ),
}

REFUSED: dict[str, tuple[Callable[[Own], Answer], str]] = {
    "results of null": (lambda own: plain(listing(own, results=None)), "without a list of 'results'"),
    "results by number": (
        lambda own: plain(listing(own, results={"0": own[0]})),
        "without a list of 'results'",
    ),
    "a message (200)": (lambda own: plain(b'{"detail": "Invalid page."}'), "without a list of 'results'"),
    "nothing (200)": (lambda own: plain(b""), "200 OK is not JSON"),
    "nothing (204)": (lambda own: Answer(204), "204 No Content is not JSON"),
    "cut off, well packed": (lambda own: packed(gzip.compress(listing(own)[:-9])), "is not JSON"),
    "a packed bomb": (lambda own: packed(gzip.compress(b"[" + b" " * (65 << 20))), "larger than 64 MiB"),
    "an unknown packing": (lambda own: plain(b"xx", Content_Encoding="zzz"), "is not JSON"),
    "a number": (lambda own: plain(b"7"), "neither a list nor an object"),
}


class OddOmnitron(OmnitronSimulator):
    """Lists its plans as the test says, for as long as `odd` is set."""

    odd: Callable[[Own], Answer] | None = None

    def handle(self, call: Request) -> Answer:
        usual = super().handle(call)
        if self.odd is None or call.path != LIST:
            return usual
        own = json.loads(usual.body)["results"]
        return self.odd(own) if own else usual


def odd_omnitron(odd: Callable[[Own], Answer]) -> OddOmnitron:
    omnitron = OddOmnitron(plans(SEED, 2, status="waiting"))
    omnitron.odd = odd
    return omnitron


@pytest.mark.parametrize(
    "name", ["each plan twice", *(thorough(name) for name in READ if name != "each plan twice")]
)
def test_an_odd_listing_that_can_be_read_sends_each_plan_once(make_flow: MakeFlow, name: str) -> None:
    flow = make_flow(omnitron=odd_omnitron(READ[name]))

    assert flow.run().gate == "open"
    assert flow.run().gate == "open"

    assert flow.states() == {"5001": "done", "5002": "done"}
    assert len(flow.sent()) == 2


@pytest.mark.parametrize(
    "name", ["nothing (200)", *(thorough(name) for name in REFUSED if name != "nothing (200)")]
)
def test_an_odd_listing_that_cannot_be_read_fails_in_words_and_loses_nothing(
    make_flow: MakeFlow, name: str
) -> None:
    odd, words = REFUSED[name]
    omnitron = odd_omnitron(odd)
    flow = make_flow(omnitron=omnitron)

    with pytest.raises((BadListing, ListingFailed), match=words):
        flow.run()
    assert not flow.sent()

    omnitron.odd = None
    assert flow.run().gate == "open"
    assert flow.states() == {"5001": "done", "5002": "done"}
