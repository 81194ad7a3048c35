"""A running Omnitron and a running ERP, and a client that speaks to Omnitron with its token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from include.simulator import ErpSimulator, OmnitronSimulator, RunningServer, plans, running, transactions

SEED = 20250301


class OmnitronClient:
    """Asks a simulated Omnitron over its socket; logs in first."""

    def __init__(self, server: RunningServer[OmnitronSimulator]) -> None:
        self.server = server
        self.simulator = server.simulator
        self.session = requests.Session()
        self.log_in()

    def log_in(self) -> str:
        credentials = {"username": "omnitron", "password": "secret"}
        answer = self.session.post(f"{self.server.url}/api/v1/auth/login/", json=credentials, timeout=10)
        key: str = answer.json()["key"]
        self.session.headers["Authorization"] = f"Token {key}"
        return key

    def ask(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        url = f"{self.server.url}/api/v1/{path}"
        return self.session.request(method, url, timeout=10, allow_redirects=False, **kwargs)

    def plans(self, **query: Any) -> requests.Response:
        return self.ask("GET", "cancellation_plans/", params=query)

    def pks(self, **query: Any) -> list[int]:
        return [plan["pk"] for plan in self.plans(limit=500, **query).json()["results"]]

    def write_back(self, pk: int, status: str) -> requests.Response:
        return self.ask("PATCH", f"cancellation_plans/{pk}/", json={"status": status})


@pytest.fixture
def omnitron() -> Iterator[OmnitronClient]:
    documents = plans(SEED, 60)
    simulator = OmnitronSimulator(documents, transactions(SEED, documents), channel_types={3: "web"})
    with running(simulator) as server:
        client = OmnitronClient(server)
        yield client
        client.session.close()


@pytest.fixture
def erp() -> Iterator[RunningServer[ErpSimulator]]:
    with running(ErpSimulator()) as server:
        yield server
