"""The test bench: a call in the script process, its input from the journal or live, its bounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.order_cancel.cases import run_cases
from include.order_cancel.http import Endpoint
from include.order_cancel_page import marking
from include.order_cancel_page.trials import Trials
from include.simulator import ErpSimulator, OmnitronSimulator, plans, running
from tests.harness import Flow, settings
from tests.page.conftest import FLOW, Site

PLACE = f"flows/{FLOW}/bench"
PLAN = '{"pk": 7, "order": {"number": "1000"}, "amount": 1.0}'


SAME = "def transform(plan, attributes):\n    return plan\n"


def lines(*parts: str) -> str:
    return "".join(f"{part}\n" for part in parts)


def tried(site: Site, kind: str, text: str, given: str = PLAN, **more: Any) -> dict[str, Any]:
    answer = site.post(f"{PLACE}/try", {"kind": kind, "text": text, "input": given, **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
def one_run(tmp_path: Path, site: Site) -> Iterator[Flow]:
    with running(OmnitronSimulator(plans(7, 3))) as omnitron, running(ErpSimulator(auth="basic")) as erp:
        flow = Flow(omnitron, erp, f"sqlite:///{tmp_path / 'order_cancel.db'}", settings(), name=FLOW)
        flow.run()
        site.door.endpoints["omnitron"] = Endpoint("omnitron", omnitron.url, "omnitron", "secret")
        yield flow
        flow.close()


def test_a_script_gives_its_result_attributes_and_log(site: Site) -> None:
    script = lines(
        "def transform(plan, attributes):",
        "    attributes['log.seen'] = attributes['given']",
        "    print('hello')",
        "    return {**plan, 'x': 1}",
    )

    found = tried(site, "script", script, attributes={"given": "by hand"})

    assert json.loads(found["result_data"]) == {**json.loads(PLAN), "x": 1}
    assert '"amount": 1.0' in found["result_data"]
    assert found["attributes"]["log.seen"] == "by hand"
    assert found["attributes"]["channel_type"] == "sales_channel"
    assert any("hello" in line for line in found["log"])
    assert (found["error"], found["lines"]) == (None, [])


def test_an_error_names_its_line(site: Site) -> None:
    found = tried(site, "script", "def transform(plan, attributes):\n    return plan['missing']\n")

    assert "KeyError: 'missing'" in found["error"]
    assert found["lines"][-1] == 2
    assert found["result_data"] is None


def test_a_mapping_shows_the_document_after_each_operation(site: Site) -> None:
    chain = [
        {"operation": "shift", "spec": {"pk": "id", "amount": "total"}},
        {"operation": "default", "spec": {"currency": "TRY"}},
    ]

    found = tried(site, "mapping", json.dumps(chain))

    assert [(step["operation"], json.loads(step["document"])) for step in found["steps"]] == [
        ("shift", {"id": 7, "total": 1.0}),
        ("default", {"id": 7, "total": 1.0, "currency": "TRY"}),
    ]
    assert json.loads(found["result_data"])["currency"] == "TRY"


def test_a_mistake_in_a_mapping_is_found_by_its_path(site: Site) -> None:
    chain = lines(
        "[",
        ' {"operation": "shift", "spec": {"pk": "id"}},',
        ' {"operation": "modify-overwrite-beta",',
        '  "spec": {',
        '   "customer": {',
        '    "name": "=toUper(@(1,name))"',
        "   }}}",
        "]",
    )

    found = tried(site, "mapping", chain)

    assert "unknown function 'toUper'" in found["error"]
    assert found["lines"] == [6]


def test_a_mapping_that_is_no_json_names_the_line(site: Site) -> None:
    assert tried(site, "mapping", '[\n {"operation": "shift", "spec": {}},\n]')["lines"] == [3]


def test_a_response_script_judges_an_answer(site: Site) -> None:
    script = lines(
        "def respond(request, response, attributes):",
        "    if attributes['invokehttp.status.code'] == '409':",
        "        return 'failure', 'order ' + request['no']",
        "    return 'continue'",
    )

    found = tried(
        site,
        "response",
        script,
        '{"code": 1}',
        request='{"no": "1000"}',
        attributes={"invokehttp.status.code": "409"},
    )

    assert (found["relation"], found["reason"], found["error"]) == ("failure", "order 1000", None)


def test_a_post_script_sees_request_and_answer(site: Site) -> None:
    script = "def after(request, response, attributes):\n    attributes['log.crm'] = request['a'] + response['b']\n"

    assert tried(site, "post", script, '{"b": "y"}', request='{"a": "x"}')["attributes"]["log.crm"] == "xy"


@pytest.mark.parametrize(
    ("kind", "text", "given", "request_body"),
    [
        ("script", lines("def transform(plan, attributes):", "    return {'n': plan['amount']}"), PLAN, ""),
        ("script", lines("def transform(plan, attributes):", "    return plan['missing']"), PLAN, ""),
        ("mapping", '[{"operation": "shift", "spec": {"amount": "total"}}]', PLAN, ""),
        ("mapping", '[{"operation": "shift", "spec": {"nothing": "total"}}]', PLAN, ""),
        (
            "response",
            lines("def respond(request, response, attributes):", "    return 'failure', response['why']"),
            '{"why": "shipped"}',
            "{}",
        ),
        (
            "post",
            lines("def after(request, response, attributes):", "    attributes['log.a'] = request['a']"),
            "plain",
            '{"a": "1"}',
        ),
    ],
)
def test_what_was_tried_becomes_a_golden_case_that_holds(
    site: Site, tmp_path: Path, kind: str, text: str, given: str, request_body: str
) -> None:
    found = tried(site, kind, text, given, request=request_body, attributes={"x": "y"})
    folder = tmp_path / "cases"
    folder.mkdir()
    (folder / "case.json").write_text(found["case"], "utf-8")

    [outcome] = run_cases(folder)

    assert outcome.problems == []


def test_a_plan_of_the_journal_is_input(site: Site, one_run: Flow) -> None:
    listed = site.get(f"{PLACE}/plans").json()["plans"]
    found = site.get(f"{PLACE}/plans/{listed[0]['row']}").json()

    assert len(listed) == 3
    assert json.loads(found["bodies"]["document"])["pk"]
    assert "orderNumber" in json.loads(found["bodies"]["request"])
    assert found["answer_attributes"]["invokehttp.status.code"].startswith("2")
    assert (
        tried(site, "mapping", json.dumps(settings()["mapping"]), found["bodies"]["document"])["error"]
        is None
    )


def test_a_plan_of_another_flow_is_none_of_this_one(site: Site, one_run: Flow) -> None:
    row = site.get(f"{PLACE}/plans").json()["plans"][0]["row"]

    assert site.get(f"flows/refunds/bench/plans/{row}").status_code == 404
    assert site.get(f"{PLACE}/plans/99999").status_code == 404


def test_a_plan_comes_live_from_omnitron(site: Site, one_run: Flow) -> None:
    pk = min(one_run.rows())

    by_number = site.post(f"{PLACE}/live", {"pk": pk}).json()
    unknown = site.post(f"{PLACE}/live", {"pk": "424242"})
    none_listed = site.post(f"{PLACE}/live", {})

    assert str(json.loads(by_number["document"])["pk"]) == pk
    assert (unknown.status_code, none_listed.status_code) == (404, 404)


def test_a_connection_that_is_not_there_is_told(site: Site) -> None:
    answer = site.post(f"{PLACE}/live", {"pk": "1"})

    assert answer.status_code == 422
    assert "no Connection 'omnitron'" in answer.json()["error"]


def test_a_password_never_comes_back(site: Site, one_run: Flow) -> None:
    site.door.endpoints["omnitron"] = Endpoint("omnitron", one_run.omnitron.url, "omnitron", "wr0ng-s3cret")
    site.door.kept = None

    answer = site.post(f"{PLACE}/live", {"pk": "1"})

    assert answer.status_code >= 400
    assert "wr0ng-s3cret" not in answer.text


def test_input_that_is_no_json_is_refused_with_its_place(site: Site) -> None:
    answer = site.post(f"{PLACE}/try", {"kind": "script", "text": "x = 1", "input": "{\n 1}"})

    assert answer.status_code == 422
    assert "line 2" in answer.json()["error"]


def test_an_endless_script_ends(site: Site) -> None:
    site.door.texts[FLOW] = json.dumps(settings(scripts={"timeout_seconds": 1}))

    assert (
        "stopped after 1 s"
        in tried(site, "script", "def transform(plan, attributes):\n    while True:\n        pass\n")["error"]
    )


def test_a_script_finds_nothing_of_airflow_or_of_the_product(site: Site) -> None:
    script = "import os\ndef transform(plan, attributes):\n    return dict(os.environ)\n"

    environment = json.loads(tried(site, "script", script)["result_data"])

    assert not [name for name in environment if "AIRFLOW" in name or "PASSWORD" in name]


def test_the_bench_works_for_a_flow_that_has_no_settings_yet(site: Site) -> None:
    answer = site.post(
        "flows/brand_new/bench/try",
        {"kind": "script", "text": SAME, "input": "{}"},
    )

    assert answer.status_code == 200


def test_too_many_trials_are_told_to_wait() -> None:
    now = [0.0]
    trials = Trials(per_minute=2, at_once=1, clock=lambda: now[0])
    for _ in range(2):
        with trials.one("ann"):
            pass

    with pytest.raises(Exception, match="go on in 60 s"), trials.one("ann"):
        pass
    with trials.one("ben"):
        pass
    now[0] = 61.0
    with trials.one("ann"):
        pass


def test_the_page_counts_trials_by_user(site: Site) -> None:
    site.app.state.trials = Trials(per_minute=1)
    tried(site, "script", SAME)

    answer = site.post(f"{PLACE}/try", {"kind": "script", "text": "x = 1", "input": "{}"})

    assert answer.status_code == 429


def test_places_in_a_spec_are_told_by_their_nearest_line() -> None:
    text = '{\n "operation": "shift",\n "spec": {\n  "a": {"b": "x"},\n  "c": "}{"\n }\n}'

    assert marking.lines("mapping", text, "step 1 (shift) at a > b: 'x': no") == [4]
    assert marking.lines("mapping", text, "step 1 (shift) at c > deeper: 'x': no") == [5]
    assert marking.lines("mapping", text, "step 1 (shift): no") == [3]
    assert marking.lines("mapping", text, "nothing of a place") == []
