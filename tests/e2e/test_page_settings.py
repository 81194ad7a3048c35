"""Setting a flow up on the page, in a real Airflow and a real Chromium: from nothing to a plan in the ERP."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, FrameLocator, Page, expect

from include.order_cancel.rows import State
from include.simulator import plans
from tests.e2e.page_place import framed, serious, signed_in
from tests.e2e.place import FRESH, Place

pytestmark = pytest.mark.thorough

STANDING = "standing"  # a flow that has never run
BROKEN = (
    "def transform(plan, attributes):\n    attributes['log.seen'] = 'yes'\n    return plan['no such field']\n"
)
MENDED = "def transform(plan, attributes):\n    attributes['log.seen'] = 'yes'\n    return {**plan, 'checked': True}\n"
MAPPING = '[{"operation": "shift", "spec": {"pk": "plan", "order": {"number": "orderNumber"}}}]'


@pytest.fixture(scope="module")
def fresh(places: dict[str, Place]) -> Place:
    """A flow that is still to be made; the Connections that it will use have two plans and an ERP behind them."""
    place = places[FRESH]
    place.omnitron.simulator.put_plans(plans(7, 2))
    return place


def stored(place: Place, flow: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(place.server.variable(f"order_cancel_flow__{flow}") or "{}")
    return found


def save(frame: FrameLocator) -> None:
    expect(frame.get_by_text("valid and not saved yet")).to_be_visible()
    frame.get_by_role("button", name="Review and save").click()
    frame.locator("#review-save").click()
    expect(frame.get_by_text("Saved. The next run uses these settings.")).to_be_visible()


def opened(page: Page, place: Place, flow: str) -> FrameLocator:
    frame = framed(page, place, f"order-cancel/flows/{flow}/settings")
    expect(frame.get_by_text("These settings are valid.")).to_be_visible()
    return frame


def test_a_new_flow_comes_from_nothing_to_a_delivered_plan(fresh: Place, browser: Browser) -> None:
    page = signed_in(browser, fresh, "editor")
    frame = framed(page, fresh, "order-cancel/flows")
    frame.get_by_role("button", name="New flow").click()
    frame.get_by_label("Name of the flow").fill(FRESH)
    frame.locator("#name-go").click()
    frame.get_by_role("row", name=FRESH).get_by_role("link", name="Settings").click()
    expect(frame.get_by_text("to mend", exact=False).first).to_be_visible()

    frame.get_by_label("Channel type").first.fill("sales_channel")
    frame.get_by_label("Cancel status").select_option("waiting")
    frame.get_by_label("Next state").select_option("approved")
    frame.get_by_label("Cancellation API URL").fill("/cancellations")
    frame.get_by_role("group", name="Mapping").get_by_label("Text").check()
    frame.get_by_label("Mapping", exact=True).last.fill(MAPPING)
    save(frame)

    switch = frame.get_by_role("button", name="Switch on")
    expect(switch).to_be_enabled(timeout=120_000)
    switch.click()
    expect(frame.get_by_text("Switched on")).to_be_visible()
    frame.get_by_role("button", name="Run now").click()
    expect(frame.get_by_text("A run has been started.")).to_be_visible()
    fresh.await_(lambda: _journal_exists(fresh), "the journal")
    fresh.await_(lambda: {row.state for row in fresh.rows().values()} == {State.DONE}, "delivered plans")

    assert sorted(json.loads(call.raw)["orderNumber"] for call in fresh.erp.simulator.calls()) == [
        "1000005001",
        "1000005002",
    ]
    frame.get_by_role("navigation", name=f"Flow {FRESH}").get_by_role("link", name="Plans").click()
    expect(frame.locator(".badge.state-done")).to_have_count(2)


def _journal_exists(place: Place) -> bool:
    try:
        return bool(place.rows())
    except Exception:  # the first run has not made its tables yet
        return False


def test_a_script_error_is_found_and_mended_in_the_bench(fresh: Place, browser: Browser) -> None:
    page = signed_in(browser, fresh, "editor")
    frame = opened(page, fresh, STANDING)
    frame.get_by_role("group", name="Script", exact=True).get_by_role("button", name="Test it").click()
    script = frame.get_by_label("Script or mapping")
    expect(script).to_be_visible()
    frame.get_by_label("From Omnitron, plan number").fill("5001")
    frame.get_by_role("button", name="Fetch").click()
    expect(frame.get_by_role("textbox", name="Input", exact=True)).to_have_value(re.compile("1000005001"))
    script.fill(BROKEN)
    frame.get_by_role("button", name="Try it").click()

    expect(frame.locator("#error")).to_have_text("KeyError: 'no such field' (line 3 in transform)")
    expect(frame.locator(".gutter .marked")).to_have_text("▶ 3")
    script.fill(MENDED)
    frame.get_by_role("button", name="+ Add attribute").click()
    frame.get_by_label("Attribute's name").fill("simulated")
    frame.get_by_label("Attribute's value").fill("by hand")
    frame.get_by_role("button", name="Try it").click()
    expect(frame.get_by_text('"checked": true')).to_be_visible()
    expect(frame.get_by_text('"simulated": "by hand"')).to_be_visible()
    with page.expect_download() as case:
        frame.get_by_role("button", name="Save as a golden case").click()
    assert json.loads(case.value.path().read_text("utf-8"))["expect"]["result"]["checked"] is True
    frame.get_by_role("button", name="Use it in the settings").click()
    save(frame)
    assert stored(fresh, STANDING)["script"] == MENDED


def test_the_second_of_two_editors_is_told(fresh: Place, browser: Browser) -> None:
    first, second = (signed_in(browser, fresh, user) for user in ("editor", "admin"))
    one, two = (opened(page, fresh, STANDING) for page in (first, second))
    two.get_by_label("Fan-out").fill("7")
    one.get_by_label("Lots").fill("3")
    save(one)

    expect(two.get_by_text("valid and not saved yet")).to_be_visible()
    two.get_by_role("button", name="Review and save").click()
    expect(two.get_by_text("Somebody else has saved these settings")).to_be_visible()
    expect(two.locator("#review-conflict").get_by_role("heading", name="lots")).to_be_visible()
    assert "fan_out" not in stored(fresh, STANDING)
    two.get_by_role("button", name="Save over theirs").click()
    expect(two.get_by_text("Saved. The next run")).to_be_visible()
    assert stored(fresh, STANDING)["fan_out"] == 7
    assert "lots" not in stored(fresh, STANDING)


def test_a_viewer_reads_the_settings_and_changes_nothing(fresh: Place, browser: Browser) -> None:
    page = signed_in(browser, fresh, "viewer")
    frame = opened(page, fresh, STANDING)

    expect(frame.get_by_label("Fan-out")).not_to_be_editable()
    expect(frame.get_by_role("button", name="Review and save")).to_have_count(0)
    page.goto(f"{fresh.server.url}/order-cancel/flows/{STANDING}/bench")
    expect(page.get_by_text("you may not change this flow's settings")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_settings_and_bench(fresh: Place, browser: Browser, scheme: Any) -> None:
    page = signed_in(browser, fresh, "editor", color_scheme=scheme, bypass_csp=True)
    findings = {}
    for screen in ("settings", "bench", "settings/history"):
        page.goto(f"{fresh.server.url}/order-cancel/flows/{STANDING}/{screen}")
        page.wait_for_load_state("networkidle")
        page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true })")
        findings[screen] = serious(Axe().run(page))

    assert not any(findings.values()), findings


def test_a_phone_shows_settings_and_bench_without_scrolling_sideways(fresh: Place, browser: Browser) -> None:
    page = signed_in(browser, fresh, "editor", viewport={"width": 390, "height": 800})
    for screen in ("settings", "bench", "settings/history"):
        page.goto(f"{fresh.server.url}/order-cancel/flows/{STANDING}/{screen}")
        page.wait_for_load_state("networkidle")
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{screen} is {wide} px too wide"
