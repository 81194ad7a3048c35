"""However an address is spelt, a flow reaches its systems over a real socket, or is told why it cannot."""

from __future__ import annotations

import functools
import socket
from dataclasses import replace
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from include.order_cancel.connections import Connector
from include.order_cancel.errors import SettingsError
from include.order_cancel.http import Endpoint
from tests.harness import Flow
from tests.integration.conftest import MakeFlow
from tests.shares import thorough


class EveryNameIsHere(AbstractResolver):
    """A resolver to which every name is this machine's."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = ResolveResult(
            hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0
        )
        return [found]

    async def close(self) -> None: ...


def at(flow: Flow, spelling: str) -> None:
    """Let both Connections name their hosts so; `{port}` is each server's own."""
    usual = flow.endpoint

    def endpoint(conn_id: str) -> Endpoint:
        found = usual(conn_id)
        return replace(found, base_url=spelling.format(port=found.base_url.rpartition(":")[2]))

    flow.endpoint = endpoint  # type: ignore[method-assign]
    flow.http = {"connector": functools.partial(Connector, resolver=EveryNameIsHere())}


@pytest.mark.parametrize(
    "spelling",
    [
        "http://erp.örnek.com.tr:{port}",
        "http://ERP.ÖRNEK.com.tr.:{port}/",
        "http://erp.xn--rnek-4qa.com.tr:{port}",
        "http://[0:0:0:0:0:ffff:7f00:0001]:{port}",
        "http://[::FFFF:127.0.0.1]:0{port}",
        "HTTP://LOCALHOST:{port}",
        "http://sap_erp.example.:{port}",
    ],
)
@pytest.mark.parametrize("method", ["POST", thorough("GET")])
def test_a_flow_reaches_its_systems_however_their_addresses_are_spelt(
    make_flow: MakeFlow, spelling: str, method: str
) -> None:
    bodies: dict[str, Any] = {"mapping": [{"operation": "shift", "spec": {"pk": "pk"}}]}
    flow = make_flow(2, erp__http_method=method, omnitron__page_size=1, erp__reference_path=None, **bodies)
    at(flow, spelling)

    outcome = flow.run()

    assert outcome.gate == "open"
    assert flow.states() == {"5001": "done", "5002": "done"}


@pytest.mark.parametrize(
    "spelling", ["http://erp.örnek.com.tr:{port}", "http://[0:0:0:0:0:ffff:7f00:1]:{port}"]
)
@pytest.mark.parametrize("policy", [thorough("resend"), "lookup"])
def test_a_plan_in_doubt_is_settled_at_a_long_address(
    make_flow: MakeFlow, spelling: str, policy: str
) -> None:
    lookup = {"url": "/documents?plan={{ plan.pk }}", "found_path": "documentNumber", "after_seconds": 0}
    flow = make_flow(1, erp__in_doubt=policy, erp__lookup=lookup)
    flow.erp.simulator.fail("drop", plan=5001, times=1, effect=True)
    at(flow, spelling)

    flow.run()

    assert flow.state(5001) == "done"
    assert len(flow.erp.simulator.effects_of(5001)) == 1


def test_absolute_addresses_in_the_settings_may_be_international(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    port = flow.erp.url.rpartition(":")[2]
    flow.raw["erp"]["cancellation_api_url"] = f"http://İPTAL.örnek.com.tr:{port}/cancellations"
    flow.http = {"connector": functools.partial(Connector, resolver=EveryNameIsHere())}

    assert flow.run().gate == "open"
    assert flow.state(5001) == "done"


@pytest.mark.parametrize(
    ("spelling", "words"),
    [
        ("http://[fe80::1%25eth0]:{port}", "network interfaces"),
        ("http://localhost:0", "has the port 0"),
        ("http://localhost:70000", "is not an http"),
        ("http://127.1:{port}", "is no IP address"),
        ("http://2130706433:{port}", "is no IP address"),
        ("http://[v1.a]:{port}", "is no IP address"),
        ("http://the erp:{port}", "is no name of a host"),
        ("http://erp..example:{port}", "is no name of a host"),
        ("http://somebody:secret@localhost:{port}", "more than an address"),
    ],
)
def test_an_address_that_cannot_be_asked_is_refused_before_anything_is_sent(
    make_flow: MakeFlow, spelling: str, words: str
) -> None:
    flow = make_flow(1)
    at(flow, spelling)

    with pytest.raises(SettingsError, match=words):
        flow.run()

    assert flow.omnitron.simulator.calls() == []
    assert flow.erp.simulator.calls() == []
