"""A flow with a refused and a doubtful plan, and a browser in which people of different rights look at it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, FrameLocator, Page, sync_playwright

from include.demo.airflow_server import AirflowServer
from include.simulator import ErpSimulator, OmnitronSimulator, plans, running
from tests.e2e.place import Place, connection, with_users
from tests.harness import settings

FLOW = "cancels"
EVIL = "<script>document.title = 'taken'</script><b>müşteri bloke</b>"
FIRST = 9001
EDITED, DOUBTFUL, UNTOUCHED = 9002, 9003, 9004


@dataclass
class PagePlace(Place):
    """The flow, and the way to its screens."""

    def plan_path(self, pk: int) -> str:
        return f"order-cancel/flows/{self.flow}/plans/{self.rows()[str(pk)].id}"


def carried(place: Place) -> PagePlace:
    """The flow once five plans have been carried: two are refused, one is in doubt, two are done."""
    place.omnitron.simulator.put_plans(plans(7, 5, first_pk=FIRST))
    for pk in (EDITED, UNTOUCHED):
        place.erp.simulator.fail("refuse", plan=pk, body=EVIL, times=1)
    place.erp.simulator.fail("drop", plan=DOUBTFUL, times=1, effect=True)
    assert place.run()[1] == "failed"
    return PagePlace(place.server, place.flow, place.omnitron, place.erp, place.journal_url)


@contextmanager
def page_place(home: Path) -> Iterator[PagePlace]:
    """An Airflow with this one flow, its five plans carried."""
    with running(OmnitronSimulator()) as omnitron, running(ErpSimulator(auth="basic")) as erp:
        server = AirflowServer(
            home,
            connections={"omnitron": connection(omnitron.url, "omnitron"), "erp": connection(erp.url, "erp")},
            variables={
                "order_cancel_flows": json.dumps([FLOW]),
                f"order_cancel_flow__{FLOW}": json.dumps(settings()),
            },
            env=with_users(home.parent),
        )
        with server:
            yield carried(Place(server, FLOW, omnitron, erp, f"sqlite:///{home / 'order_cancel.db'}"))


@contextmanager
def browsing(chromium: str) -> Iterator[Browser]:
    """The machine's Chromium, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"],
        )
        yield browser
        browser.close()


def signed_in(browser: Browser, place: PagePlace, user: str, **context: Any) -> Page:
    """A tab in which this user has signed in to Airflow."""
    page = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **context}).new_page()
    page.set_default_timeout(90_000)
    page.goto(place.server.url)
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password", exact=True).fill(user)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "login" not in url)
    return page


def framed(page: Page, place: PagePlace, path: str = "order-cancel/") -> FrameLocator:
    """A screen as people meet it: in Airflow's own frame."""
    page.goto(f"{place.server.url}/plugin/order-cancel/{path}")
    return page.frame_locator("iframe")


def run_url(place: PagePlace, run: str) -> str:
    return f"{place.server.url}/dags/{place.dag_id}/runs/{quote(run)}"


def serious(found: Any) -> list[str]:
    """What axe found that is serious or critical, by rule and element."""
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in found.response["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
