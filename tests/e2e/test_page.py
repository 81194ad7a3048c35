"""The page in a real Airflow and a real Chromium: who may do what, and that it ends at the ERP as decided."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from include.order_cancel.rows import State
from tests.e2e.page_place import (
    DOUBTFUL,
    EDITED,
    FLOW,
    UNTOUCHED,
    PagePlace,
    carried,
    framed,
    run_url,
    serious,
    signed_in,
)
from tests.e2e.place import Place, of_flow


@pytest.fixture(scope="module")
def place(places: dict[str, Place]) -> PagePlace:
    return carried(places[FLOW])


def test_nobody_gets_in_without_signing_in(place: PagePlace) -> None:
    for path in ("", "flows", "plans", "assets/page.css", f"flows/{FLOW}/plans/1"):
        assert requests.get(f"{place.server.url}/order-cancel/{path}", timeout=30).status_code == 401


@pytest.mark.thorough
def test_a_viewer_sees_and_cannot_touch(place: PagePlace, browser: Browser) -> None:
    page = signed_in(browser, place, "viewer")
    frame = framed(page, place, place.plan_path(UNTOUCHED))

    expect(frame.get_by_text("You may look, not act")).to_be_visible()
    expect(frame.locator("[data-act], [data-edit]")).to_have_count(0)
    rows = [place.rows()[str(UNTOUCHED)].id]
    answer = page.request.post(
        f"{place.server.url}/order-cancel/flows/{FLOW}/decisions",
        data={"rows": rows, "word": "dismiss", "reason": "x"},
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert answer.status == 403
    assert place.rows()[str(UNTOUCHED)].state is State.FAILED


@pytest.mark.thorough
def test_answers_with_html_are_text(place: PagePlace, browser: Browser) -> None:
    page = signed_in(browser, place, "editor")
    frame = framed(page, place, place.plan_path(UNTOUCHED))

    expect(frame.get_by_text("<b>müşteri bloke</b>").first).to_be_visible()
    expect(frame.locator("main b")).to_have_count(0)
    assert "taken" not in [found.title() for found in page.frames]


def test_a_failed_plan_is_edited_and_sent(place: PagePlace, browser: Browser) -> None:
    page = signed_in(browser, place, "operator")
    frame = framed(page, place, f"order-cancel/plans?flow={FLOW}&state=failed")
    frame.get_by_role("link", name=f"/ {EDITED}").click()
    frame.get_by_role("button", name="Edit the request").click()
    body = frame.get_by_role("textbox", name="Request")
    edited = json.loads(body.input_value()) | {"corrected": "yes"}
    body.fill(json.dumps(edited))
    frame.locator("#edit-reason").fill("the ERP wants it so")
    frame.get_by_role("button", name="Keep it and start a run").click()

    expect(frame.get_by_text("A run of cancels has been started")).to_be_visible()
    place.await_state(str(EDITED), State.DONE)
    first, second = place.erp.simulator.calls(pk=EDITED)
    assert second.json["corrected"] == "yes"
    assert first.headers["Idempotency-Key"] != second.headers["Idempotency-Key"]
    page.reload()
    expect(frame.get_by_text("operator: the ERP wants it so")).to_be_visible()
    expect(frame.get_by_text("edited by operator")).to_be_visible()


@pytest.mark.thorough
def test_a_plan_in_doubt_is_resolved(place: PagePlace, browser: Browser) -> None:
    assert place.rows()[str(DOUBTFUL)].state is State.IN_DOUBT
    page = signed_in(browser, place, "operator")
    frame = framed(page, place, place.plan_path(DOUBTFUL))
    frame.get_by_role("button", name="It arrived").click()
    frame.locator("#decision-reason").fill("document 77 in the ERP")
    frame.get_by_role("button", name="Do it").click()

    expect(frame.get_by_text("A run of cancels has been started")).to_be_visible()
    place.await_state(str(DOUBTFUL), State.DONE)
    assert len(place.erp.simulator.calls(pk=DOUBTFUL)) == 1
    assert place.omnitron.simulator.status(DOUBTFUL) == "approved"


@pytest.mark.thorough
def test_the_tabs_of_a_run_and_of_a_task_show_their_plans(place: PagePlace, browser: Browser) -> None:
    runs = place.server.pages(f"/dags/{place.dag_id}/dagRuns", "dag_runs")
    run = next(found["dag_run_id"] for found in runs if not found["conf"])
    page = signed_in(browser, place, "viewer")
    page.goto(run_url(place, run))
    page.get_by_role("link", name="Plans", exact=True).click()
    expect(page.frame_locator("iframe").get_by_role("link", name=f"/ {UNTOUCHED}")).to_be_visible()

    instance = place.instance(run, "plan.write_to_erp", f"100000{UNTOUCHED} / {UNTOUCHED}")
    page.goto(f"{run_url(place, run)}/tasks/plan.write_to_erp/mapped/{instance['map_index']}")
    page.get_by_role("link", name="Plan", exact=True).click()
    expect(page.frame_locator("iframe").get_by_role("heading", name=f"/ {UNTOUCHED}")).to_be_visible()


@pytest.mark.thorough
def test_the_logs_lead_to_the_page(place: PagePlace, browser: Browser) -> None:
    runs = place.server.pages(f"/dags/{place.dag_id}/dagRuns", "dag_runs")
    run = next(found["dag_run_id"] for found in runs if not found["conf"])
    page = signed_in(browser, place, "viewer")
    page.goto(address_after("its plans: ", place.log(run, "report")))
    expect(page.get_by_role("link", name=f"/ {UNTOUCHED}")).to_be_visible()

    page.goto(
        address_after(
            "its journey: ", place.log(run, "plan.write_to_erp", f"100000{UNTOUCHED} / {UNTOUCHED}")
        )
    )
    expect(page.get_by_role("heading", name=f"/ {UNTOUCHED}")).to_be_visible()


def address_after(words: str, log: str) -> str:
    return log.partition(words)[2].split()[0]


@pytest.mark.thorough
def test_a_step_leads_to_its_log_in_airflow(place: PagePlace, browser: Browser) -> None:
    page = signed_in(browser, place, "viewer")
    framed(page, place, place.plan_path(UNTOUCHED)).get_by_role("link", name="log").last.click()

    page.wait_for_url(lambda url: "/tasks/plan." in url and "/plugin/" not in url)


@pytest.mark.thorough
def test_a_flow_is_copied_and_deleted_as_the_user(place: PagePlace, browser: Browser) -> None:
    flows = place.server.variable("order_cancel_flows")
    login = {"url": "/token", "body": {"password": "{{ password }}"}}  # Airflow's API shows stars for it
    place.change_settings(erp__login=login)
    page = signed_in(browser, place, "editor")
    frame = framed(page, place, "order-cancel/flows")
    frame.get_by_role("row", name=FLOW).get_by_role("button", name="Copy").click()
    frame.get_by_label("Name of the flow").fill("copied")
    frame.locator("#name-go").click()
    delete = frame.locator("[data-delete=copied]")
    delete.wait_for()
    assert exported(place, "copied") == of_flow(FLOW, erp__login=login) | {"schedule": None}
    place.change_settings()

    delete.click()
    frame.get_by_label("Name of the flow").fill("wrong")
    frame.locator("#name-go").click()
    expect(frame.get_by_text("Write copied to delete it.")).to_be_visible()
    frame.get_by_label("Name of the flow").fill("copied")
    frame.locator("#name-go").click()
    expect(delete).to_have_count(0)
    assert place.server.variable("order_cancel_flows") == flows
    assert place.server.variable("order_cancel_flow__copied") is None


def exported(place: PagePlace, flow: str) -> Any:
    """A flow's settings as the page writes them into a file."""
    url = f"{place.server.url}/order-cancel/flows/{flow}/settings/export"
    answer = requests.get(url, headers={"Authorization": f"Bearer {place.server.token()}"}, timeout=30)
    assert answer.ok, answer.text
    return answer.json()


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(place: PagePlace, browser: Browser, scheme: Any) -> None:
    page = signed_in(browser, place, "editor", color_scheme=scheme, bypass_csp=True)
    findings = {}
    for path in ("order-cancel/", "order-cancel/flows", "order-cancel/plans", place.plan_path(UNTOUCHED)):
        page.goto(f"{place.server.url}/{path}")
        findings[path] = serious(Axe().run(page))
    page.get_by_role("button", name="Edit the request").click()
    findings["edit"] = serious(Axe().run(page))

    assert not any(findings.values()), findings


@pytest.mark.thorough
def test_the_page_follows_airflows_colours(place: PagePlace, browser: Browser) -> None:
    page = signed_in(browser, place, "viewer", color_scheme="light")
    page.evaluate("localStorage.setItem('theme', 'dark')")
    html = framed(page, place).locator("html")

    expect(html).to_have_attribute("data-theme", "dark")


@pytest.mark.thorough
def test_a_phone_shows_the_page_without_scrolling_sideways(place: PagePlace, browser: Browser) -> None:
    page = signed_in(browser, place, "editor", viewport={"width": 390, "height": 800})
    for path in ("order-cancel/", "order-cancel/flows", "order-cancel/plans", place.plan_path(UNTOUCHED)):
        page.goto(f"{place.server.url}/{path}")
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{path} is {wide} px too wide"
