"""ERPs that are hard to reach: what reached them is sent once, and what did not is sent by the next run."""

from __future__ import annotations

import base64
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from include.order_cancel.http import Endpoint
from tests.harness import Flow
from tests.integration.conftest import MakeFlow

BODY = b'{"documentNumber": "D1"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


class Book(socketserver.ThreadingTCPServer):
    """Books what it has read to its end; `refuse` answers before it has read the body."""

    daemon_threads = True

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.address_family = family
        super().__init__(("::1" if family is socket.AF_INET6 else "127.0.0.1", 0), _Handler)
        self.port: int = self.server_address[1]
        self.bookings: list[dict[str, str]] = []
        self.refuse = b""


class _Handler(socketserver.StreamRequestHandler):
    server: Book

    def handle(self) -> None:
        if self.connection.recv(1, socket.MSG_PEEK) == b"\x16":  # TLS says hello
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            return
        while self.rfile.readline().strip():
            headers = {}
            while line := self.rfile.readline().decode("latin-1").strip():
                name, _, value = line.partition(": ")
                headers[name.lower()] = value
            if self.server.refuse:
                self.wfile.write(self.server.refuse)
                return
            self.rfile.read(int(headers.get("content-length", 0)))
            self.server.bookings.append(headers)
            self.wfile.write(ANSWER)


Served = Callable[..., Book]


@pytest.fixture
def served() -> Iterator[Served]:
    with ExitStack() as stack:

        def serve(**options: Any) -> Book:
            book = stack.enter_context(Book(**options))
            threading.Thread(target=book.serve_forever, daemon=True).start()
            stack.callback(book.shutdown)
            return book

        yield serve


def lead(flow: Flow, url: str, **fields: Any) -> None:
    """Let the flow's Connection `erp` lead to `url`."""
    usual, flow.erp = flow.endpoint, SimpleNamespace(url=url, simulator=flow.erp.simulator)

    def endpoint(conn_id: str) -> Endpoint:
        return Endpoint("erp", url, **fields) if conn_id == "erp" else usual(conn_id)

    flow.endpoint = endpoint  # type: ignore[method-assign]


@pytest.mark.parametrize("host", ["[::1]", "[0:0:0:0:0:0:0:1]", "[::0001]", "localhost", "LOCALHOST"])
def test_every_spelling_of_a_host_reaches_it(make_flow: MakeFlow, served: Served, host: str) -> None:
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    book = served(family=family)
    flow = make_flow(1)
    lead(flow, f"http://{host}:{book.port}")

    assert flow.run().gate == "open"

    assert (flow.state(5001), len(book.bookings)) == ("done", 1)


def test_a_proxy_of_the_environment_sees_no_request(
    make_flow: MakeFlow, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, proxy = served(), served()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    flow = make_flow(1)
    lead(flow, f"http://127.0.0.1:{book.port}")

    assert flow.run().gate == "open"

    assert (len(book.bookings), len(proxy.bookings)) == (1, 0)


def test_https_to_a_port_that_speaks_http_sends_nothing_and_goes_on_once_it_is_set_right(
    make_flow: MakeFlow, served: Served
) -> None:
    book = served()
    flow = make_flow(1)
    lead(flow, f"https://127.0.0.1:{book.port}")

    assert "no TLS connection" in flow.run().gate
    assert flow.state(5001) == "failed"

    lead(flow, f"http://127.0.0.1:{book.port}")
    assert flow.run().gate == "open"
    assert len(book.bookings) == 1


@pytest.mark.parametrize(("login", "password"), [("müşteri", "şifre"), ("erp", "a:b:c"), ("erp", "")])
def test_every_login_and_password_arrives_as_it_is(
    make_flow: MakeFlow, served: Served, login: str, password: str
) -> None:
    book = served()
    flow = make_flow(1)
    lead(flow, f"http://127.0.0.1:{book.port}", login=login, password=password)

    assert flow.run().gate == "open"

    (headers,) = book.bookings
    scheme, _, packed = headers.get("authorization", "").partition(" ")
    assert (scheme, base64.b64decode(packed).decode()) == ("Basic", f"{login}:{password}")


def test_a_large_request_that_is_refused_before_it_was_read_is_a_refusal_or_a_doubt(
    make_flow: MakeFlow, served: Served
) -> None:
    book = served()
    book.refuse = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    flow = make_flow(
        1, script="def transform(plan, attributes):\n    return {'pk': plan['pk'], 'x': 'x' * 8_000_000}\n"
    )
    lead(flow, f"http://127.0.0.1:{book.port}")

    outcome = flow.run()

    assert (flow.state(5001), book.bookings) in [("failed", []), ("in_doubt", [])]
    assert outcome.gate != "open"
