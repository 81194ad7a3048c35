"""An ERP that books, and answers as no book says: it books once, and the words tell what came."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from tests.integration.conftest import MakeFlow
from tests.shares import thorough

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BODY = b'{"documentNumber": "D1"}'
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"
NOT_JSON = "the answer is not JSON: the ERP answered 200"
NOTHING_THERE = "nothing stands at erp.reference_path 'documentNumber': the ERP answered"
OFF = "whether it took effect is not known"


def said(body: bytes, head: bytes = HEAD) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def part_then_reset(sock: socket.socket) -> None:
    sock.sendall(HEAD + b"Content-Length: 100\r\n\r\n" + BODY)
    reset(sock)


def drip(sock: socket.socket) -> None:
    """A byte now and then: each single read is in time, the whole answer is not."""
    sock.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
    while True:
        sock.sendall(b" ")
        time.sleep(0.05)


def early(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    sock.recv(1)  # until the other side gives up


@dataclass(frozen=True)
class Odd:
    """An answer; the reference that is read from it, or the words of the doubt in which it leaves the plan."""

    answer: bytes | Callable[[socket.socket], None]
    reference: str = ""
    words: str = ""


ANSWERS = {
    "closed instead of a length": Odd(HEAD + b"\r\n" + BODY, "D1"),
    "closed in the middle": Odd(HEAD + b"\r\n" + BODY[:-1], words=NOT_JSON),
    "reset in the middle": Odd(part_then_reset, words=OFF),
    "reset at once": Odd(reset, words=OFF),
    "a byte now and then": Odd(drip, words="no complete answer within"),
    "hints and then silence": Odd(early, words="no complete answer within"),
    "continue, then the answer": Odd(b"HTTP/1.1 100 Continue\r\n\r\n" + said(BODY), "D1"),
    "two documents": Odd(said(BODY + BODY), words=NOT_JSON),
    "a script to call back": Odd(said(b"cb(" + BODY + b")"), words=NOT_JSON),
    "UTF-16 that it states": Odd(
        said(
            BODY.decode().encode("utf-16"), b"HTTP/1.1 200 OK\r\nContent-Type: text/json; charset=utf-16\r\n"
        ),
        "D1",
    ),
    "UTF-16 that it does not state": Odd(said(BODY.decode().encode("utf-16")), words=NOT_JSON),
    "NaN": Odd(said(b'{"documentNumber": "D1", "rate": NaN}'), words=NOT_JSON),
    "100,000 open lists": Odd(said(b"[" * 100_000), words=NOT_JSON),
    "nothing at all": Odd(said(b""), words=NOT_JSON),
    "a NUL in the number": Odd(said(b'{"documentNumber": "D\\u00001"}'), r"D\u00001"),
    "half a surrogate pair in the number": Odd(said(b'{"documentNumber": "D\\ud8001"}'), r"D\ud8001"),
    "a number of 5,000 letters": Odd(said(b'{"documentNumber": "' + b"D" * 5000 + b'"}'), "D" * 200 + "…"),
    "an object for a number": Odd(said(b'{"documentNumber": {"a": 1}}'), words=NOTHING_THERE),
    "a list for a number": Odd(said(b'{"documentNumber": ["D1"]}'), words=NOTHING_THERE),
    "blanks for a number": Odd(said(b'{"documentNumber": "  "}'), words=NOTHING_THERE),
    "false for a number": Odd(said(b'{"documentNumber": false}'), words=NOTHING_THERE),
    "only a part of it (206)": Odd(said(BODY, b"HTTP/1.1 206 Partial Content\r\n"), "D1"),
    "reset content (205)": Odd(b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", words="205"),
    "not modified (304)": Odd(b"HTTP/1.1 304 Not Modified\r\n\r\n", words="the ERP answered 304"),
    "switching protocols (101)": Odd(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", words="101"
    ),
    "HTTP/2": Odd(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64", words=OFF),
    "HTTP/0.9": Odd(BODY, words=OFF),
    "a length below nothing": Odd(HEAD + b"Content-Length: -5\r\n\r\n" + BODY, words=OFF),
    "a chunk without a length": Odd(CHUNKED + b"\r\nzz\r\n{}\r\n0\r\n\r\n", words=OFF),
    "no last chunk": Odd(CHUNKED + b"\r\n18\r\n" + BODY + b"\r\n", words=OFF),
    "a trailer": Odd(CHUNKED + b"Trailer: X\r\n\r\n18\r\n" + BODY + b"\r\n0\r\nX: y\r\n\r\n", "D1"),
    "blank lines first": Odd(b"\r\n\r\n" + said(BODY), "D1"),
}


class OddErp(socketserver.ThreadingTCPServer):
    """Books each request that it has read to its end, then does what the test says."""

    daemon_threads = True

    def __init__(self, odd: Odd) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.odd, self.bookings = odd, 0


class _Handler(socketserver.StreamRequestHandler):
    server: OddErp

    def handle(self) -> None:
        length = 0
        while line := self.rfile.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        self.rfile.read(length)
        self.server.bookings += 1
        answer = self.server.odd.answer
        try:
            if callable(answer):
                answer(self.connection)
            else:
                self.connection.sendall(answer)
        except OSError:
            pass  # the other side has hung up


@pytest.fixture
def book(request: pytest.FixtureRequest) -> Iterator[OddErp]:
    with OddErp(ANSWERS[request.param]) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


SOME = {"closed in the middle", "blanks for a number", "switching protocols (101)"}


@pytest.mark.parametrize(
    "book", [name if name in SOME else thorough(name) for name in ANSWERS], indirect=True
)
def test_an_odd_answer_books_once_and_says_what_it_is(make_flow: MakeFlow, book: OddErp) -> None:
    flow = make_flow(1, erp__timeout_seconds=1)
    flow.erp = SimpleNamespace(url=f"http://127.0.0.1:{book.server_address[1]}", simulator=flow.erp.simulator)

    flow.run()
    flow.run()

    row, odd = flow.row(5001), book.odd
    assert book.bookings == 1
    if odd.reference:
        assert (row.state, row.erp_reference) == ("done", odd.reference)
    else:
        assert (row.state, row.erp_reference) == ("in_doubt", None)
        assert odd.words in (row.error or "")
