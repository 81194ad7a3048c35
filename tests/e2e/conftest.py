"""One real Airflow for most end-to-end tests: a flow, an Omnitron and an ERP of its own for each of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from include.demo.airflow_server import AirflowServer
from include.simulator import ErpSimulator, OmnitronSimulator, running
from tests.e2e.page_place import browsing
from tests.e2e.place import BROKEN, FLOWS, FRESH, Place, connection, of_flow, with_users


@pytest.fixture(scope="package")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Place]]:
    home = Path(os.environ.get("E2E_HOME") or tmp_path_factory.mktemp("e2e") / "airflow")
    with ExitStack() as stack:
        systems = {
            flow: (
                stack.enter_context(running(OmnitronSimulator())),
                stack.enter_context(running(ErpSimulator(auth="basic"))),
            )
            for flow in FLOWS
        }
        connections, variables = {}, {"order_cancel_flows": json.dumps([*FLOWS, BROKEN])}
        for flow, (omnitron, erp) in systems.items():
            connections[f"omnitron_{flow}"] = connection(omnitron.url, "omnitron")
            connections[f"erp_{flow}"] = connection(erp.url, "erp")
            variables[f"order_cancel_flow__{flow}"] = json.dumps(of_flow(flow))
        variables[f"order_cancel_flow__{BROKEN}"] = json.dumps({"omnitron": {"cancel_status": "wating"}})
        connections["omnitron_bad_login"]["password"] = "wrong"
        # What a flow asks that the page makes without naming Connections.
        connections |= {name: connections[f"{name}_standing"] for name in ("omnitron", "erp")}
        server = AirflowServer(
            home,
            connections=connections,
            variables=variables,
            env=with_users(tmp_path_factory.mktemp("users")),
            patience=0,
        )
        stack.enter_context(server)
        journal_url = f"sqlite:///{home / 'order_cancel.db'}"
        yield {
            **{flow: Place(server, flow, *systems[flow], journal_url) for flow in FLOWS},
            FRESH: Place(server, FRESH, *systems["standing"], journal_url),
            BROKEN: Place(server, BROKEN, None, None, journal_url),
        }


@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[Browser]:
    """The machine's Chromium, without a window. Its event loop, which would disturb other tests, ends with these."""
    expect.set_options(timeout=90_000)  # the machine may be busy with other tests
    with browsing(chromium) as found:
        yield found
