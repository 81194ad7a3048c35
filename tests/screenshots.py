"""`python -m tests.screenshots`: the pictures in docs/screenshots, taken from a running Airflow with a refused plan."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Page, sync_playwright

from include.demo.airflow_server import LOGIN, PASSWORD, ROOT, AirflowServer
from include.simulator import ErpSimulator, OmnitronSimulator, plans, running
from tests.e2e.place import connection
from tests.harness import settings

FOLDER = ROOT / "docs" / "screenshots"
FLOW = "cancels"
DAG = f"order_cancel__{FLOW}"
REFUSED = 5002


def main() -> None:
    """Run one batch of five plans, one of them refused, and photograph what an operator then sees."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        running(OmnitronSimulator(plans(7, 5))) as omnitron,
        running(ErpSimulator(auth="basic")) as erp,
        tempfile.TemporaryDirectory() as folder,
    ):
        erp.simulator.fail("refuse", plan=REFUSED, body={"error": "müşteri bloke"})
        server = AirflowServer(
            Path(folder) / "airflow",
            connections={
                "omnitron": connection(omnitron.url, "omnitron"),
                "erp": connection(erp.url, "erp"),
            },
            variables={
                "order_cancel_flows": json.dumps([FLOW]),
                f"order_cancel_flow__{FLOW}": json.dumps(settings()),
            },
        )
        server.start()
        try:
            server.wait_for_dag(DAG)
            run = server.trigger(DAG)
            server.wait(DAG, run)
            photograph(server, run)
        finally:
            server.stop()


def photograph(server: AirflowServer, run: str) -> None:
    """Take each picture."""
    tis = server.task_instances(DAG, run)
    red = next(ti for ti in tis if ti["state"] == "failed" and ti["map_index"] >= 0)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"],
        )
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        log_in(page, server)
        base = f"{server.url}/dags/{DAG}"
        this_run = f"{base}/runs/{quote(run)}"
        shot(page, this_run, "grid", "gate")
        shot(
            page,
            f"{this_run}/tasks/{red['task_id']}/mapped/{red['map_index']}",
            "plan-log",
            "müşteri bloke",
            fold="AirflowFailException",
        )
        shot(page, f"{this_run}/tasks/report", "report", "outcome of this run")
        page.goto(this_run)
        page.get_by_label("Graph", exact=False).first.click()
        page.get_by_text("open_plans").first.wait_for()
        page.wait_for_timeout(3000)
        page.screenshot(path=FOLDER / "graph.png")
        browser.close()


def log_in(page: Page, server: AirflowServer) -> None:
    """The login form of the simple auth manager."""
    page.goto(server.url)
    page.get_by_label("Username").fill(LOGIN)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "login" not in url)


def shot(page: Page, url: str, name: str, awaited: str, fold: str | None = None) -> None:
    """One picture, once the awaited text is there; `fold` names a traceback to close first."""
    page.goto(url)
    page.get_by_text(awaited).first.wait_for(timeout=30000)
    if fold is not None:
        page.get_by_text(fold).first.click()
    page.wait_for_timeout(1500)
    page.screenshot(path=FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
