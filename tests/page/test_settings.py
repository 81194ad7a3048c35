"""The settings form: what the server says of a draft, of a change, and of who may see what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.order_cancel.errors import SettingsError
from include.order_cancel.journal import Journal
from include.order_cancel.settings import load, loads
from include.order_cancel.settings_schema import settings_table
from include.order_cancel_page import settings_form
from include.simulator import ErpSimulator, OmnitronSimulator, plans, running
from tests.harness import Flow, settings
from tests.page.conftest import FLOW, Site

PLACE = f"flows/{FLOW}/settings"
GOLDEN = sorted((Path(__file__).parents[1] / "cases" / "settings").glob("*.json"))


def checked(site: Site, **draft: Any) -> dict[str, Any]:
    answer = site.post(f"{PLACE}/check", draft)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def form_values(raw: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        **settings_form.values(raw),
        **{path.replace("__", "."): value for path, value in changes.items()},
    }


@pytest.fixture
def five_plans(tmp_path: Path, page_journal: Journal) -> Iterator[Flow]:
    """The page's journal after a run over five plans."""
    with running(OmnitronSimulator(plans(7, 5))) as omnitron, running(ErpSimulator(auth="basic")) as erp:
        flow = Flow(omnitron, erp, f"sqlite:///{tmp_path / 'order_cancel.db'}", settings(), name=FLOW)
        flow.run()
        yield flow
        flow.close()


def test_the_form_asks_for_every_field_of_the_settings(site: Site) -> None:
    html = site.get(PLACE).text

    missing = [
        row.path
        for row in settings_table()
        if f'data-path="{row.path}"' not in html and not row.path.startswith("alerts.")
    ]
    assert missing == []


def test_settings_go_through_the_form_unchanged() -> None:
    for raw in (
        settings(),
        settings(
            erp__login={"url": "/token"},
            omnitron__channel_ids=[1, 2],
            erp__idempotency_header=None,
            erp__login__prefix="",
        ),
    ):
        assert settings_form.assembled(raw, settings_form.values(raw)) == (raw, [])


def test_an_empty_form_writes_no_default() -> None:
    assert settings_form.assembled({}, settings_form.values({})) == ({}, [])


def test_what_the_form_does_not_know_stays() -> None:
    raw = settings(omnitron__surprise=1)

    changed, _ = settings_form.assembled(raw, form_values(raw, schedule="@hourly"))

    assert changed == {**raw, "schedule": "@hourly"}


def test_a_mapping_keeps_its_numbers() -> None:
    text = '[{"operation": "default", "spec": {"rate": 1.0, "big": 12345678901234567890, "small": 1e-7}}]'
    changed, _ = settings_form.assembled({}, {"mapping": {"form": "text", "text": text, "file": ""}})

    assert json.dumps(changed["mapping"]) == json.dumps(json.loads(text))
    assert repr(changed["mapping"][0]["spec"]["rate"]) == "1.0"


def test_what_the_form_types_has_the_meaning_that_it_shows() -> None:
    raw = settings()
    given = form_values(
        raw,
        max_attempts="3",
        erp__timeout_seconds="2.5",
        erp__idempotency_header="",
        omnitron__channel_ids="1, 2,3",
        erp__custom_response=True,
        erp__lookup=True,
        erp__lookup__url="/documents/{{ key }}",
        script={"form": "text", "text": "def transform(plan, attributes):\n    return plan\n", "file": ""},
    )

    found = load(settings_form.assembled(raw, given)[0], flow=FLOW)

    assert (found.max_attempts, found.erp.timeout_seconds, found.erp.idempotency_header) == (3, 2.5, None)
    assert found.omnitron.channel_ids == (1, 2, 3)
    assert found.erp.custom_response
    assert found.erp.lookup is not None
    assert found.script is not None


def test_every_problem_is_told_by_its_field(site: Site) -> None:
    raw = settings()
    values = form_values(
        raw, fan_out="many", omnitron__cancel_status="", erp__login=True, omnitron__api__plans__extra="{"
    )
    found = checked(site, text=json.dumps(raw), values=values)

    assert {"fan_out", "omnitron.cancel_status", "erp.login.url", "omnitron.api.plans.extra"} <= {
        problem["path"] for problem in found["problems"]
    }
    assert all(problem["message"] for problem in found["problems"])


def test_the_page_says_of_settings_what_the_product_says(site: Site) -> None:
    cases = [json.loads(case.read_text("utf-8")) for case in GOLDEN]
    texts = [case["text"] for case in cases if "text" in case] + ['{"omnitron": {"cancel_status": "wating"}}']

    for text in texts:
        with pytest.raises(SettingsError) as wrong:
            loads(text, flow=FLOW)
        told = [(problem.path, problem.message) for problem in wrong.value.problems]
        found = checked(site, text=text)["problems"]
        assert [(problem["path"], problem["message"]) for problem in found] == told, text


def test_a_change_is_shown_field_by_field_and_line_by_line(site: Site) -> None:
    raw = settings(schedule="@daily", script="def transform(plan, attributes):\n    return plan\n")
    site.door.texts[FLOW] = json.dumps(settings(script="def transform(plan, attributes):\n    return {}\n"))

    changes = {change["path"]: change for change in checked(site, text=json.dumps(raw))["changes"]}

    assert set(changes) == {"schedule", "script"}
    assert (changes["schedule"]["before"], changes["schedule"]["after"]) == (None, "@daily")
    assert changes["script"]["lines"] == [
        " def transform(plan, attributes):",
        "-    return {}",
        "+    return plan",
    ]


def test_the_second_of_two_editors_is_told_what_the_first_changed(site: Site) -> None:
    loaded = site.get(f"{PLACE}/stored").json()["text"]
    site.door.texts[FLOW] = json.dumps(settings(schedule="@daily"))

    found = checked(site, text=json.dumps(settings(fan_out=7)), loaded=loaded)

    assert [change["path"] for change in found["others"]] == ["schedule"]
    assert found["stored"] == site.door.texts[FLOW]
    assert {change["path"] for change in found["changes"]} == {"schedule", "fan_out"}


def test_a_viewer_sees_the_settings_and_no_secret_that_somebody_typed(site: Site) -> None:
    site.door.texts[FLOW] = json.dumps(
        settings(erp__login={"url": "/token", "body": {"password": "hunter22"}})
    )

    pages = [
        site.get(path, "viewer") for path in (PLACE, f"{PLACE}/stored", f"{PLACE}/export", f"{PLACE}/history")
    ]

    assert [page.status_code for page in pages] == [200] * 4
    assert not any("hunter22" in page.text for page in pages)
    assert "hunter22" in site.get(f"{PLACE}/export").text
    assert "Review and save" not in pages[0].text


def test_a_viewer_is_told_nothing_of_settings_that_are_no_json(site: Site) -> None:
    site.door.texts[FLOW] = '{"erp": {"login": {"body": {"password": "hunter22"'

    assert "hunter22" not in site.get(f"{PLACE}/stored", "viewer").text
    assert site.get(f"{PLACE}/export", "viewer").status_code == 404


def test_only_an_editor_comes_to_a_flow_that_is_not_there(site: Site) -> None:
    assert site.get("flows/brand_new/settings", "viewer").status_code == 404
    assert site.get("flows/brand_new/settings").status_code == 200
    assert site.get("flows/Not-A-Name/settings").status_code == 422


def test_what_is_exported_can_be_imported(site: Site) -> None:
    answer = site.get(f"{PLACE}/export")
    found = checked(site, text=answer.text)

    assert answer.headers["content-disposition"].endswith(f'filename="order_cancel_flow__{FLOW}.json"')
    assert (found["problems"], found["changes"]) == ([], [])


def test_tags_in_settings_stay_text(site: Site) -> None:
    site.door.texts[FLOW] = json.dumps(settings(script="# <script>alert(1)</script>\n"))

    assert "<script>alert" not in site.get(PLACE).text
    assert site.get(f"{PLACE}/stored").headers["content-type"] == "application/json"


def test_earlier_settings_come_back_as_one_would_type_them(site: Site, five_plans: Flow) -> None:
    [digest] = {row.snapshot for row in five_plans.rows().values()}
    site.door.texts[FLOW] = json.dumps(settings(fan_out=3))

    listed = site.get(f"{PLACE}/history", "viewer")
    found = site.get(f"{PLACE}/history/{digest}", "viewer").json()

    assert digest in listed.text
    assert load(json.loads(found["text"]), flow=FLOW).digest == digest
    assert [change["path"] for change in found["changes"]] == ["fan_out"]


def test_settings_of_another_flow_are_no_history_of_this_one(site: Site, five_plans: Flow) -> None:
    digest = next(iter(five_plans.rows().values())).snapshot

    assert site.get(f"flows/refunds/settings/history/{digest}", "viewer").status_code == 404


def test_a_changed_mapping_is_tried_on_the_last_plans_and_nothing_is_sent(
    site: Site, five_plans: Flow
) -> None:
    sent = len(five_plans.sent())
    mapping = [{"operation": "shift", "spec": {"pk": "plan", "order": {"number": "orderNo"}}}]

    found = site.post(f"{PLACE}/compare", {"text": json.dumps(settings(mapping=mapping)), "plans": 4}).json()

    assert (found["compared"], found["left"], len(found["differing"])) == (4, 0, 4)
    lines = found["differing"][0]["lines"]
    assert any(line.startswith('-  "orderNumber"') for line in lines)
    assert any(line.startswith('+  "orderNo"') for line in lines)
    assert len(five_plans.sent()) == sent


def test_a_change_without_effect_differs_in_nothing(site: Site, five_plans: Flow) -> None:
    script = "def transform(plan, attributes):\n    return plan\n"

    found = site.post(f"{PLACE}/compare", {"text": json.dumps(settings(script=script))}).json()

    assert (found["compared"], found["differing"]) == (5, [])


def test_a_script_that_breaks_is_told_of_every_plan(site: Site, five_plans: Flow) -> None:
    script = "def transform(plan, attributes):\n    return plan['missing']\n"

    found = site.post(f"{PLACE}/compare", {"text": json.dumps(settings(script=script))}).json()

    assert len(found["differing"]) == 5
    assert any("KeyError: 'missing' (line 2" in line for line in found["differing"][0]["lines"])


def test_without_a_plan_there_is_nothing_to_compare(site: Site) -> None:
    found = site.post(f"{PLACE}/compare", {"text": json.dumps(settings(fan_out=2))}).json()

    assert (found["compared"], found["differing"]) == (0, [])
