"""An ERP that answers twice: the second answer is taken for no other plan's, and every plan is sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from tests.integration.conftest import MakeFlow


class TwiceAnswering(ThreadingHTTPServer):
    """An ERP whose answers name the plan that they are to; `answer_again` repeats the last one, unasked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.seen: list[int] = []
        self.last: tuple[Any, bytes] | None = None

    def answer_again(self) -> None:
        if self.last is not None:
            to, said = self.last
            to.write(said)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TwiceAnswering

    def do_POST(self) -> None:
        plan = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["pk"]
        self.server.seen.append(plan)
        body = json.dumps({"documentNumber": f"D{plan}"}).encode()
        said = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.server.last = (self.wfile, said + body)
        self.wfile.write(said + body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def erp() -> Iterator[TwiceAnswering]:
    with TwiceAnswering() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("policy", ["hold", "resend"])
def test_a_second_answer_is_taken_for_no_other_plan_s(
    make_flow: MakeFlow, erp: TwiceAnswering, policy: str
) -> None:
    flow = make_flow(3, fan_out=0, lots=1, erp__max_in_flight=1, erp__in_doubt=policy)
    flow.erp = SimpleNamespace(url=erp.url, simulator=flow.erp.simulator)
    omnitron = flow.omnitron.simulator
    usual = omnitron.handle

    def handle(call: Any) -> Any:
        if call.method == "PATCH":  # the ERP's answer has been read
            erp.answer_again()
        return usual(call)

    omnitron.handle = handle
    outcome = flow.run()

    assert outcome.gate == "open"
    assert sorted(erp.seen) == [5001, 5002, 5003]
    assert {row.pk: row.erp_reference for row in flow.rows().values()} == {
        "5001": "D5001",
        "5002": "D5002",
        "5003": "D5003",
    }
