"""The page's web app on a real server, with a door that stands for Airflow and remembers nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import uvicorn
from fastapi import FastAPI
from starlette.requests import Request

from include.order_cancel.errors import Problem, SettingsError
from include.order_cancel.http import Endpoint
from include.order_cancel.journal import Journal
from include.order_cancel.settings import FlowSettings, loads
from include.order_cancel_page.app import build
from include.order_cancel_page.door import Dag, NoJournal, NotSignedIn, Person, Right
from tests.harness import settings

FLOW, OTHER = "cancels", "refunds"
RIGHTS = {
    "viewer": {Right.SIGNED_IN, Right.READ},
    "editor": {Right.SIGNED_IN, Right.READ, Right.ACT, Right.CONFIGURE},
    "stranger": {Right.SIGNED_IN},
}


@dataclass
class FakeDoor:
    """Airflow's part: users by the header X-User, settings by flow, a journal or none."""

    kept: Journal | None = None
    texts: dict[str, str] = field(default_factory=lambda: {FLOW: json.dumps(settings())})
    paused: bool = False
    endpoints: dict[str, Endpoint] = field(default_factory=dict)

    async def person(self, request: Request) -> Person:
        name = request.headers.get("x-user", "")
        if name not in RIGHTS:
            raise NotSignedIn("no user")
        return Person(name, lambda right, flow: right in RIGHTS[name])

    def origins(self) -> frozenset[str]:
        return frozenset({"airflow.example"})

    def flows(self) -> list[str]:
        return [FLOW, OTHER]

    def index_problems(self) -> list[Problem]:
        return [Problem("order_cancel_flows", "entry 3 is not a text")]

    def settings_text(self, flow: str) -> str | None:
        return self.texts.get(flow)

    def settings(self, flow: str) -> FlowSettings:
        return loads(self.texts.get(flow, "{}"), flow=flow)

    def checked(self, flow: str, text: str) -> FlowSettings:
        return loads(text, flow=flow)

    def endpoint(self, conn_id: str) -> Endpoint:
        if conn_id not in self.endpoints:
            raise SettingsError([Problem("", f"there is no Connection '{conn_id}'")])
        return self.endpoints[conn_id]

    def dags(self, flows: Iterable[str]) -> dict[str, Dag]:
        return {flow: Dag(self.paused, "*/5 * * * *") for flow in flows}

    def journal(self) -> Journal:
        if self.kept is None:
            raise NoJournal("there is no journal yet")
        return self.kept


@dataclass
class Site:
    """The page below a base path, asked as one of the users."""

    url: str
    door: FakeDoor
    app: FastAPI

    def get(self, path: str, user: str | None = "editor", **options: Any) -> requests.Response:
        return self.ask("GET", path, user, **options)

    def post(self, path: str, body: Any, user: str | None = "editor", **options: Any) -> requests.Response:
        headers = {"Sec-Fetch-Site": "same-origin", **options.pop("headers", {})}
        return self.ask("POST", path, user, json=body, headers=headers, **options)

    def ask(self, method: str, path: str, user: str | None, **options: Any) -> requests.Response:
        headers = {"Accept": "text/html", **({"X-User": user} if user else {}), **options.pop("headers", {})}
        return requests.request(method, self.url + path, headers=headers, timeout=20, **options)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The app on a free port of loopback; its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def site_of(door: FakeDoor, url: str, app: FastAPI) -> Site:
    return Site(f"{url}/base/order-cancel/", door, app)


@pytest.fixture
def page_journal(sqlite_url: str) -> Iterator[Journal]:
    journal = Journal.open(sqlite_url)
    yield journal
    journal.close()


@pytest.fixture
def site(page_journal: Journal) -> Iterator[Site]:
    """The page as Airflow mounts it, below a base path."""
    door = FakeDoor(page_journal)
    app = build(door)
    airflow = FastAPI(root_path="/base")
    airflow.mount("/order-cancel", app)
    with serving(airflow) as url:
        yield site_of(door, url, app)
