"""Answers at the edge of HTTP, byte by byte: each is read, or says why not; none says that nothing was sent."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest

from include.order_cancel.http import Answer, Caller, OutcomeUnknown, Request
from tests.unit.local_server import Exchange, LocalServer

BODY = b'{"documentNumber": "C-1"}'
PACKED = gzip.compress(BODY)
BOMB = gzip.compress(b" " * 20_000_000)


def said(*headers: str | bytes, line: bytes = b"HTTP/1.1 200 OK", body: bytes = BODY) -> bytes:
    """An answer with these headers and its true length."""
    return bare(*headers, f"Content-Length: {len(body)}", line=line, body=body)


def bare(*headers: str | bytes, line: bytes = b"HTTP/1.1 200 OK", body: bytes = BODY) -> bytes:
    """An answer with these headers and none that states its length."""
    lines = [line, *(header.encode() if isinstance(header, str) else header for header in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def in_chunks(*headers: str, size: str = f"{len(BODY):x}", end: bytes = b"\r\n0\r\n\r\n") -> bytes:
    return bare("Transfer-Encoding: chunked", *headers, body=size.encode() + b"\r\n" + BODY + end)


def ask(data: bytes) -> Answer:
    """Send one POST to a server that answers with these bytes and closes the connection."""

    async def handler(exchange: Exchange) -> None:
        await exchange.raw(data)
        exchange.cut()

    async def run() -> Answer:
        async with LocalServer(handler) as server, Caller(server.endpoint(), max_bytes=1024 * 1024) as caller:
            return await caller.send(Request("POST", server.url + "/cancellations", {}, b"{}"))

    return asyncio.run(run())


READ = {
    "a header of 9 kB": said("X-Policy: " + "a" * 9000),
    "a header of 60 kB": said("X-Policy: " + "a" * 60_000),
    "a reason of 9 kB": said(line=b"HTTP/1.1 200 " + b"O" * 9000),
    "150 headers": said(*(f"X-{number}: a" for number in range(150))),
    "450 cookies": said(*(f"Set-Cookie: c{number}=1" for number in range(450))),
    "HTTP/1.0 without a length": bare(line=b"HTTP/1.0 200 OK"),
    "HTTP/1.1 without a length": bare(),
    "100 before": b"HTTP/1.1 100 Continue\r\n\r\n" + said(),
    "three times 102 before": b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + said(),
    "103 with headers before": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + said(),
    "an empty reason": said(line=b"HTTP/1.1 200 "),
    "no reason": said(line=b"HTTP/1.1 200"),
    "a reason in UTF-8": said(line="HTTP/1.1 200 Başarılı".encode()),
    "a reason in Latin-1": said(line=b"HTTP/1.1 200 \xfc"),
    "a header in UTF-8": said("X-Note: ü€"),
    "a header in Latin-1": said(b"X-Note: \xfc"),
    "a folded header": said("X-Note: a\r\n b"),
    "line feeds alone": said().replace(b"\r\n", b"\n"),
    "line breaks before": b"\r\n\r\n" + said(),
    "chunks": in_chunks(),
    "chunks with extensions": in_chunks(size=f"{len(BODY):x};note=a"),
    "chunks with a trailer": in_chunks(end=b"\r\n0\r\nX-Sum: 1\r\n\r\n"),
    "gzip": said("Content-Encoding: gzip", body=PACKED),
    "deflate": said("Content-Encoding: deflate", body=zlib.compress(BODY)),
    "plain text under a wrong encoding": said("Content-Encoding: UTF-8"),
    "a content type that is none": said("Content-Type: ;;;"),
}

UNREADABLE = {
    "a header of 300 kB": (said("X-Policy: " + "a" * 300_000), "head is longer than 64 KiB"),
    "a reason of 100 kB": (said(line=b"HTTP/1.1 200 " + b"O" * 100_000), "head is longer than 64 KiB"),
    "2000 headers": (said(*(f"X-{number}: a" for number in range(2000))), "more than 500 headers"),
    "a length, then chunks": (said("Transfer-Encoding: chunked"), "both a length and chunks"),
    "chunks, then a length": (in_chunks("Content-Length: 25"), "both a length and chunks"),
    "one length twice": (said("Content-Length: 25"), "states its length twice"),
    "two lengths": (said("Content-Length: 7"), "states its length twice"),
    "a list of lengths": (bare("Content-Length: 25, 25"), "length that the answer states is no number"),
    "a negative length": (bare("Content-Length: -25"), "length that the answer states is no number"),
    "an endless length": (bare("Content-Length: " + "9" * 30), "length that the answer states is no number"),
    "a status of two digits": (said(line=b"HTTP/1.1 20 OK"), "status line is malformed"),
    "a status of four digits": (said(line=b"HTTP/1.1 2000 OK"), "status line is malformed"),
    "an unknown version": (said(line=b"HTTP/1.7 200 OK"), "status line is malformed"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n", "no HTTP"),
    "a TLS alert": (b"\x15\x03\x01\x00\x02\x02\x46", "no HTTP"),
    "HTML alone": (b"<html>no</html>", "no HTTP"),
    "a body after 204": (said(line=b"HTTP/1.1 204 No Content"), "more than the length stated"),
    "more than the length": (said() + b"more", "more than the length stated"),
    "more than the length, closed": (said("Connection: close") + b"more", "goes on after the end"),
    "a header without a colon": (said("X-Note"), "header of the answer is malformed"),
    "a blank in a header's name": (said("X Note: a"), "header of the answer is malformed"),
    "a NUL in a header": (said("X-Note: a\0b"), "header of the answer is malformed"),
    "a chunk's size that is none": (in_chunks(size="zz"), "chunks of the answer are malformed"),
    "a chunk's size that is wrong": (in_chunks(size="5"), "chunks of the answer are malformed"),
    "a missing last chunk": (in_chunks(end=b"\r\n"), "broke off before its end"),
    "less than the length": (bare("Content-Length: 100"), "broke off before its end"),
    "nothing": (b"", "closed without an answer"),
    "half a status line": (b"HTTP/1.1 20", "broke off in its headers"),
    "half a header": (b"HTTP/1.1 200 OK\r\nContent-Le", "broke off in its headers"),
    "gzip that is none": (said("Content-Encoding: gzip"), "cannot be unpacked"),
    "gzip with more behind it": (said("Content-Encoding: gzip", body=PACKED + b"more"), "cannot be unpacked"),
    "a bomb": (said("Content-Encoding: gzip", body=BOMB), "larger than 1 MiB"),
    "an unknown packing": (said("Content-Encoding: lzma", body=b"\xfd7zXZ\xff"), "packed as 'lzma'"),
    "packed twice": (said("Content-Encoding: gzip, gzip", body=PACKED), "packed as 'gzip, gzip'"),
    "packed on its way": (
        bare("Transfer-Encoding: gzip, chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(PACKED), PACKED)),
        "packed as 'gzip, chunked'",
    ),
}


@pytest.mark.parametrize("data", READ.values(), ids=READ)
def test_an_answer_that_is_odd_and_whole_is_read(data: bytes) -> None:
    answer = ask(data)

    assert (answer.status, answer.json()) == (200, {"documentNumber": "C-1"})
    assert answer.reason.isascii() or answer.reason.encode()  # fit for the journal


@pytest.mark.parametrize(("data", "words"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_answer_that_cannot_be_read_says_why_and_may_follow_a_booking(data: bytes, words: str) -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        ask(data)

    assert words in str(caught.value)
    assert "whether it took effect is not known" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "status"), [(b"999 X", 999), (b"099 X", 99), (b"000", 0), (b"101 Switching", 101)]
)
def test_a_status_that_means_nothing_is_an_answer(line: bytes, status: int) -> None:
    assert ask(said(line=b"HTTP/1.1 " + line)).status == status
