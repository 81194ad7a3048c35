"""`python -m tests.page_screenshots`: the page's pictures in docs/screenshots, light and dark, from a real Airflow."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.conftest import BROWSERS
from tests.e2e.page_place import FLOW, UNTOUCHED, PagePlace, browsing, page_place, run_url, signed_in
from tests.screenshots import FOLDER

SIZE = {"width": 1200, "height": 800}
PHONE = {"width": 390, "height": 800}
SHORTER = '[{"operation": "shift", "spec": {"pk": "plan", "refund_amount": "amount"}}]'


def main() -> None:
    """Carry five plans and photograph every screen."""
    chromium = next(path for name in BROWSERS if (path := shutil.which(name)))
    with (
        tempfile.TemporaryDirectory() as folder,
        page_place(Path(folder) / "airflow") as place,
        browsing(chromium) as browser,
    ):
        for scheme in ("light", "dark"):
            photograph(browser, place, scheme)


def photograph(browser: Browser, place: PagePlace, scheme: str) -> None:
    """Each screen in this colour scheme."""
    base = f"{place.server.url}/order-cancel"
    plan = f"{place.server.url}/{place.plan_path(UNTOUCHED)}"
    screens = {
        "overview": f"{base}/",
        "flows": f"{base}/flows",
        "plans": f"{base}/plans",
        "plans-empty": f"{base}/plans?number=none",
        "plan": plan,
        "failure": f"{base}/flows/{FLOW}/plans/999",
    }
    editor = signed_in(browser, place, "editor", viewport=SIZE, color_scheme=scheme)
    for name, url in screens.items():
        shot(editor, url, f"{name}-{scheme}")
    editor.goto(plan)
    editor.get_by_role("button", name="Edit the request").click()
    keep(editor, f"edit-{scheme}")
    photograph_settings(editor, f"{base}/flows/{FLOW}", scheme)
    runs = place.server.pages(f"/dags/{place.dag_id}/dagRuns", "dag_runs")
    editor.goto(run_url(place, next(iter(runs))["dag_run_id"]) + "/plugin/order-cancel-run")
    editor.frame_locator("iframe").get_by_role("link", name=f"/ {UNTOUCHED}").wait_for()
    keep(editor, f"run-tab-{scheme}")
    viewer = signed_in(browser, place, "viewer", viewport=SIZE, color_scheme=scheme)
    shot(viewer, plan, f"plan-viewer-{scheme}")
    phone = signed_in(browser, place, "editor", viewport=PHONE, color_scheme=scheme)
    screens |= {name: f"{base}/flows/{FLOW}/{name}" for name in ("settings", "bench")}
    for name in ("overview", "plan", "settings", "bench"):
        shot(phone, screens[name], f"{name}-phone-{scheme}")


def photograph_settings(page: Page, flow: str, scheme: str) -> None:
    """The settings, a mistake in them, the review of a change; the bench before, with an error, with a result."""
    shot(page, f"{flow}/settings", f"settings-{scheme}")
    page.get_by_label("Fan-out").fill("many")
    page.get_by_text("There is 1 thing to mend").wait_for()
    page.get_by_label("Fan-out").evaluate("field => field.scrollIntoView({block: 'center'})")
    keep(page, f"settings-mistake-{scheme}")
    page.get_by_label("Fan-out").fill("50")
    page.locator("#field-mapping").fill(SHORTER)
    page.get_by_role("button", name="Review and save").click()
    page.get_by_text("would differ").wait_for()
    keep(page, f"settings-review-{scheme}")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Forget them").click()
    shot(page, f"{flow}/settings/history", f"history-{scheme}")
    shot(page, f"{flow}/bench", f"bench-empty-{scheme}")
    page.locator("#plan").select_option(index=1)
    for name, script in (("error", "    return plan['number']"), ("result", "    return {'pk': plan['pk']}")):
        page.get_by_label("Script or mapping").fill(f"def transform(plan, attributes):\n{script}\n")
        page.get_by_role("button", name="Try it").click()
        shown = page.locator("#error:visible" if name == "error" else "#result h3:text('result_data')")
        shown.evaluate("found => found.scrollIntoView({block: 'center'})")
        keep(page, f"bench-{name}-{scheme}")


def shot(page: Page, url: str, name: str) -> None:
    """One picture of a whole address."""
    page.goto(url)
    keep(page, name)


def keep(page: Page, name: str) -> None:
    """What the browser shows now."""
    page.wait_for_timeout(300)
    page.screenshot(path=FOLDER / f"page-{name}.png")


if __name__ == "__main__":
    main()
