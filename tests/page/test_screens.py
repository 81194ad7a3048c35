"""What the screens show: to whom, in which state, and that whatever comes from outside stays text."""

from __future__ import annotations

import json
import re

import pytest

from include.order_cancel.adopting import others
from include.order_cancel.http import Endpoint
from include.order_cancel.journal import Journal
from include.order_cancel.placing import Placing
from include.order_cancel.rows import OPEN, Body, Event, Listed, Move, Row, State
from tests.journal_fixtures import HOST
from tests.page.conftest import FLOW, Site

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>"
CUSTOMER = {"first_name": "Zeynep", "email": "zeynep@example.com", "phone": "+90 532 111 22 33"}


def a_plan(journal: Journal, state: State, pk: str = "5001", **values: object) -> Row:
    """A plan that was sent, in any state, with a document that names a customer."""
    run = journal.begin_run(FLOW, f"manual__{pk}+00:00", "home", HOST, {})
    document = {"pk": pk, "order": {"number": f"N{pk}", "customer": CUSTOMER}, "reason": EVIL}
    journal.take_page(run, [Listed(pk, json.dumps(document), "d" * 64, order_number=f"N{pk}")], Placing())
    journal.commit_run(run, fan_out=50, lots=4, counts={}, queried_at=None)
    row = journal.claim_one(journal.run_rows(run.id)[0].id, run.id, "task")
    row.state, row.owner, row.lease_until, row.claim_run, row.attempts = state, "", 0.0, None, 1
    row.key, row.progress, row.outcome = "k" * 40, "request", "refused"
    row.attributes = {"log.note": EVIL}
    for name, value in values.items():
        setattr(row, name, value)
    meta = {
        "method": "POST",
        "url": "http://erp.example/x?token=abc",
        "key": row.key,
        "headers": {"Idempotency-Key": row.key},
    }
    bodies = [
        Body("request", json.dumps({"AD1": "Zeynep", "password": "hunter2", "text": EVIL}), meta),
        Body(
            "response",
            f"Zeynep is blocked {EVIL}",
            {"status": 422, "reason": "No", "url": "http://erp.example/x"},
        ),
    ]
    event = Event("write_to_erp", "refused", f"{EVIL} zeynep@example.com", 320.5, run=run.id)
    journal.apply([Move(row, bodies=bodies, events=[event])])
    return journal.row(row.id)


def path_of(row: Row) -> str:
    return f"flows/{row.flow}/plans/{row.id}"


@pytest.mark.parametrize("user", ["viewer", "editor"])
def test_whatever_comes_from_outside_stays_text(site: Site, page_journal: Journal, user: str) -> None:
    row = a_plan(page_journal, State.FAILED, error=EVIL, erp_reference=EVIL, order_number=EVIL)
    run_tab = "run?dag_id=order_cancel__cancels&run_id=manual__5001%2B00:00"

    for path in (
        "",
        "flows",
        "plans",
        run_tab,
        path_of(row),
        f"plans?number={EVIL}&error={EVIL}&before={EVIL}",
    ):
        answer = site.get(path, user)
        assert answer.status_code == 200, path
        assert "<script>alert" not in answer.text, path
        assert "<img" not in answer.text, path
    assert "&lt;script&gt;alert" in site.get(path_of(row), user).text


def test_secrets_are_shown_to_nobody(site: Site, page_journal: Journal) -> None:
    shown = site.get(path_of(a_plan(page_journal, State.FAILED)), "editor").text

    assert "hunter2" not in shown
    assert "token=abc" not in shown


def test_personal_data_are_for_those_who_may_act(site: Site, page_journal: Journal) -> None:
    row = a_plan(page_journal, State.FAILED, error="Zeynep is blocked, call +90 532 111 22 33")
    viewer = [site.get(path, "viewer").text for path in (path_of(row), "plans")]
    editor = site.get(path_of(row), "editor").text

    for secret in ("zeynep@example.com", "532 111 22 33"):
        assert not any(secret in text for text in viewer)
        assert secret in editor
    assert "Zeynep" not in viewer[0]
    assert "Zeynep" in editor
    assert "5001" in viewer[0]


def test_a_viewer_sees_no_actions(site: Site, page_journal: Journal) -> None:
    row = a_plan(page_journal, State.FAILED)

    assert "data-act=" not in site.get(path_of(row), "viewer").text
    assert "data-act=" not in site.get("plans", "viewer").text
    assert 'data-act="retry"' in site.get(path_of(row), "editor").text


def test_a_stranger_sees_no_flow_and_no_plan(site: Site, page_journal: Journal) -> None:
    row = a_plan(page_journal, State.FAILED)

    assert site.get(path_of(row), "stranger").status_code == 403
    for path in ("", "flows", "plans", "plans?flow=cancels", "plans?number=5001"):
        text = site.get(path, "stranger").text
        assert "N5001" not in text, path
        assert "cancels" not in text, path
    assert "may see" in site.get("flows", "stranger").text


def test_a_plan_is_not_found_by_another_flows_address(site: Site, page_journal: Journal) -> None:
    row = a_plan(page_journal, State.FAILED)

    assert site.get(f"flows/refunds/plans/{row.id}").status_code == 404
    assert site.get(f"flows/{FLOW}/plans/{row.id + 1}").status_code == 404


def test_the_journey_leads_to_airflows_logs(site: Site, page_journal: Journal) -> None:
    shown = site.get(path_of(a_plan(page_journal, State.FAILED))).text

    run = "../../../../dags/order_cancel__cancels/runs/manual__5001%2B00%3A00"
    assert f'href="{run}/tasks/plan.write_to_erp/mapped/0"' in shown
    assert "320 ms" in shown


def test_the_tabs_find_the_run_and_the_plan(site: Site, page_journal: Journal) -> None:
    row = a_plan(page_journal, State.FAILED)
    of_run = "dag_id=order_cancel__cancels&run_id=manual__5001%2B00:00"

    tab = site.get(f"task?{of_run}&task_id=plan.mapping&map_index=0")
    assert tab.url == site.url + path_of(row)
    assert "N5001 / 5001" in site.get(f"task?{of_run}&task_id=gate&map_index={{MAP_INDEX}}").text
    assert "N5001 / 5001" in site.get(f"run?{of_run}").text
    assert site.get("run?dag_id=somebody_elses&run_id=x").status_code == 404
    assert site.get(f"run?{of_run}", "stranger").status_code == 403
    assert "does not know this run" in site.get("run?dag_id=order_cancel__cancels&run_id=x").text


def test_a_paused_dag_is_said_to_those_who_act(site: Site, page_journal: Journal) -> None:
    row = a_plan(page_journal, State.FAILED)
    before = site.get(path_of(row)).text
    site.door.paused = True

    assert "Paused in Airflow" not in before
    assert "Paused in Airflow: cancels" in site.get(path_of(row)).text
    assert "Paused in Airflow: cancels" in site.get("plans").text


def test_searching_by_the_form(site: Site, page_journal: Journal) -> None:
    a_plan(page_journal, State.FAILED, "5001", error="customer blocked")
    a_plan(page_journal, State.DONE, "5002")

    assert "No plan fits" in site.get("plans?number=7").text
    searches = {"number=N5002": "5002", "number=5001": "5001", "state=done": "5002", "state=open": "5001"}
    for query, found in {**searches, "error=BLOCKED": "5001"}.items():
        text = site.get(f"plans?{query}").text
        assert f"N{found} / {found}" in text, query
        assert text.count('scope="row"') == 1, query
    assert site.get("plans?state=nonsense&relation=x&since=y").status_code == 200


def test_without_a_journal_every_screen_says_so(site: Site) -> None:
    site.door.kept = None

    assert "no journal yet" in site.get("").text
    assert "no journal yet" in site.get("plans").text
    assert "never" in site.get("flows").text
    assert site.get(f"flows/{FLOW}/plans/1").status_code == 404


def test_flows_show_what_is_wrong_with_their_settings(site: Site) -> None:
    text = site.get("flows").text

    assert "The settings are not valid" in text
    assert "order_cancel__cancels" in text


def test_whoever_may_add_flows_sees_what_is_wrong_with_their_list(site: Site) -> None:
    assert "order_cancel_flows: entry 3 is not a text" in site.get("flows").text
    assert "entry 3" not in site.get("flows", "viewer").text


def test_the_overview_counts(site: Site, page_journal: Journal) -> None:
    a_plan(page_journal, State.FAILED)
    a_plan(page_journal, State.DONE, "5002", outcome="accepted")
    text = site.get("").text

    assert "1 failed</title>" in text
    assert "1 done</title>" in text
    assert "50.0 %" in text


# Decisions


def decide(site: Site, row: Row, word: str, reason: str = "looked it up", user: str = "editor") -> object:
    return site.post(f"flows/{row.flow}/decisions", {"rows": [row.id], "word": word, "reason": reason}, user)


@pytest.mark.parametrize(
    ("state", "outcome", "word", "after"),
    [
        (State.IN_DOUBT, "unknown", "arrived", "answered"),
        (State.IN_DOUBT, "unknown", "not-arrived", "failed"),
        (State.DEAD, "refused", "release", "failed"),
        (State.FAILED, "refused", "dismiss", "dismissed"),
        (State.REJECTED, "refused", "resend", "fetched"),
    ],
)
def test_a_decision_is_kept_under_the_persons_name(
    site: Site, page_journal: Journal, state: State, outcome: str, word: str, after: str
) -> None:
    row = a_plan(page_journal, state, outcome=outcome)

    (said,) = decide(site, row, word).json()["plans"]

    assert said["done"], said
    now = page_journal.row(said["row"])
    assert now.state == after
    assert any("editor: looked it up" in event.detail for event in page_journal.journey(now.id)[0])


@pytest.mark.parametrize("word", ["arrived", "not-arrived", "release"])
def test_what_does_not_fit_the_state_is_refused_in_words(
    site: Site, page_journal: Journal, word: str
) -> None:
    row = a_plan(page_journal, State.FAILED)

    (said,) = decide(site, row, word).json()["plans"]

    assert not said["done"]
    assert said["message"].startswith("plan N5001 / 5001")
    assert page_journal.row(row.id).state is State.FAILED


@pytest.mark.parametrize("word", ["dismiss", "resend"])
def test_what_is_for_good_wants_a_reason(site: Site, page_journal: Journal, word: str) -> None:
    row = a_plan(page_journal, State.FAILED)

    assert decide(site, row, word, reason="  ").status_code == 422
    assert page_journal.row(row.id).state is State.FAILED


def test_a_viewer_decides_nothing(site: Site, page_journal: Journal) -> None:
    row = a_plan(page_journal, State.FAILED)

    assert decide(site, row, "dismiss", user="viewer").status_code == 403
    assert page_journal.row(row.id).state is State.FAILED


def test_an_edited_request_has_a_new_key_and_its_editor(site: Site, page_journal: Journal) -> None:
    row = a_plan(page_journal, State.FAILED)
    answer = site.post(f"{path_of(row)}/request", {"content": '{"AD1": "Z"}', "reason": "typo"})

    assert answer.status_code == 200, answer.text
    now, body = page_journal.row(row.id), page_journal.body(row.id, "request")
    assert (now.state, now.body_number, now.outcome) == (State.PREPARED, 2, "")
    assert body is not None
    assert now.key != row.key
    assert body.content == '{"AD1": "Z"}'
    assert body.meta["headers"] == {"Idempotency-Key": now.key}
    assert body.meta["edited_by"] == "editor"
    assert ("request edited", "editor: typo") in [(e.what, e.detail) for e in page_journal.journey(row.id)[0]]


def test_an_edited_request_keeps_its_numbers_as_they_are_written(site: Site, page_journal: Journal) -> None:
    row = a_plan(page_journal, State.FAILED)
    edited = '{"AD1": "Z", "amount": 12345678901234567.89, "rate": 1.10, "password": "***", "far": 1E400}'
    assert site.post(f"{path_of(row)}/request", {"content": edited, "reason": "typo"}).status_code == 200

    body = page_journal.body(row.id, "request")
    assert body is not None
    assert body.content == edited.replace("***", "hunter2")
    shown = site.get(path_of(row), "editor").text
    for literal in ("12345678901234567.89", "1.10", "1E400"):
        assert literal in shown


@pytest.mark.parametrize("outcome", ["unknown", "not_done", ""])
def test_without_a_definite_refusal_an_edit_wants_the_risk_named(
    site: Site, page_journal: Journal, outcome: str
) -> None:
    row = a_plan(page_journal, State.IN_DOUBT if outcome == "unknown" else State.FAILED, outcome=outcome)
    edited = {"content": "{}", "reason": "typo"}

    refused = site.post(f"{path_of(row)}/request", edited)
    assert (refused.status_code, page_journal.row(row.id).body_number) == (409, 1)
    assert "not definitely refused" in refused.json()["error"]

    taken = site.post(f"{path_of(row)}/request", {**edited, "despite_doubt": True})
    assert taken.status_code == 200, taken.text
    assert "though the last request was not refused" in page_journal.journey(row.id)[0][-1].what


@pytest.mark.parametrize("state", [State.DONE, State.REJECTED, State.CHANGED, State.ANSWERED])
def test_a_plan_that_is_over_or_answered_is_not_edited(
    site: Site, page_journal: Journal, state: State
) -> None:
    row = a_plan(page_journal, state)
    edited = {"content": "{}", "reason": "x", "despite_doubt": True}

    assert site.post(f"{path_of(row)}/request", edited).status_code == 409


def test_hidden_secrets_are_sent_as_they_were(site: Site, page_journal: Journal) -> None:
    row = a_plan(page_journal, State.FAILED)
    content = json.dumps({"AD1": "Z", "password": "***", "text": "***"})
    site.post(f"{path_of(row)}/request", {"content": content, "reason": "typo"})

    body = page_journal.body(row.id, "request")
    assert body is not None
    assert json.loads(body.content) == {"AD1": "Z", "password": "hunter2", "text": EVIL}


def test_an_edit_that_is_no_json_is_refused(site: Site, page_journal: Journal) -> None:
    row = a_plan(page_journal, State.FAILED)

    assert site.post(f"{path_of(row)}/request", {"content": "{", "reason": "x"}).status_code == 422
    assert site.post(f"{path_of(row)}/request", {"content": "{}", "reason": " "}).status_code == 422


# Another Omnitron


def points_to(site: Site, address: str) -> None:
    site.door.endpoints["omnitron"] = Endpoint("omnitron", address, "omnitron", "hunter2")


def test_a_flow_that_points_elsewhere_says_whose_plans_it_has(site: Site, page_journal: Journal) -> None:
    a_plan(page_journal, State.FAILED)
    points_to(site, "https://new.example/")
    shown = site.get("flows").text
    to_a_viewer = site.get("flows", "viewer").text
    points_to(site, "https://Omnitron.Example:443")

    words = f"points to Omnitron new.example, but it has plans of {HOST} (1 open)"
    assert words in shown
    assert words in to_a_viewer
    assert f'data-other="{HOST}" data-same="yes"' in shown
    assert "data-same" not in to_a_viewer
    assert "hunter2" not in shown
    assert "has plans of" not in site.get("flows").text


@pytest.mark.parametrize("same", [True, False])
def test_a_person_says_on_the_page_which_omnitron_it_is(
    site: Site, page_journal: Journal, same: bool
) -> None:
    row = a_plan(page_journal, State.FAILED)
    points_to(site, "https://new.example")
    said = {"other": HOST, "same": same, "reason": "moved"}

    refused = site.post(f"flows/{FLOW}/omnitron", said, "viewer")
    answer = site.post(f"flows/{FLOW}/omnitron", said)

    assert (refused.status_code, answer.status_code) == (403, 200)
    assert answer.json() == {"plans": 1}
    assert page_journal.row(row.id).host == ("new.example" if same else HOST)
    assert "has plans of" not in site.get("flows").text
    details = [event.detail for event in page_journal.journey(row.id)[0] if event.what == "adopted"]
    assert details == ([f"editor: {HOST} is new.example, moved"] if same else [])


def test_what_cannot_be_said_of_an_omnitron_is_refused_in_words(site: Site, page_journal: Journal) -> None:
    a_plan(page_journal, State.FAILED)
    said = {"other": "no.example", "same": True}
    without_connection = site.post(f"flows/{FLOW}/omnitron", said)
    points_to(site, "https://new.example")

    unknown = site.post(f"flows/{FLOW}/omnitron", said)

    assert without_connection.status_code == 422
    assert unknown.status_code == 409
    assert f"has no plans of no.example, only of {HOST}" in unknown.json()["error"]


def linked(site: Site, page: str, link: str) -> tuple[int, int]:
    """The number that a page shows as this link, and how many plans the list behind it has."""
    found = re.search(rf'href="[^"]*{re.escape(link)}">(\d+)</a>', site.get(page).text)
    assert found is not None
    return int(found[1]), len(set(re.findall(r"flows/cancels/plans/\d+", site.get(link).text)))


def test_every_count_is_the_length_of_the_list_that_it_links_to(site: Site, page_journal: Journal) -> None:
    rows = {state: a_plan(page_journal, state, str(5001 + place)) for place, state in enumerate(State)}
    for state in (State.DONE, State.CHANGED):  # an older generation is not open any more
        page_journal.resend(rows[state].id, who="a person", reason="asked for")
    waiting = {State.HELD, State.FAILED, State.IN_DOUBT, State.DEAD, State.CHANGED}
    on_the_way = {State.FETCHED, State.PREPARED, State.SENDING, State.ANSWERED, State.WRITTEN_BACK}
    expected = len(waiting | on_the_way) + 1  # `done` was sent again, `changed` too

    assert linked(site, "", "plans?state=open") == (expected, expected)
    assert linked(site, "", "plans?state=person") == (2, 2)
    assert linked(site, "flows", "plans?flow=cancels&amp;state=open")[0] == expected
    assert page_journal.open_plans(FLOW)[0] == expected
    assert len(page_journal.find(FLOW, OPEN)) == expected
    assert others(page_journal, FLOW, "another.example") == {HOST: expected}


@pytest.mark.parametrize("state", State)
def test_a_state_s_count_is_the_length_of_its_list(site: Site, page_journal: Journal, state: State) -> None:
    for pk in ("5001", "5002"):
        a_plan(page_journal, state, pk)
    a_plan(page_journal, State.FAILED if state is not State.FAILED else State.DONE, "5003")
    page = site.get("").text

    rows = set(re.findall(r"flows/cancels/plans/\d+", site.get(f"plans?state={state}").text))
    shown = re.search(rf'href="plans\?state={state}">.*?</a> (\d+)', page)

    assert shown is not None
    assert int(shown[1]) == len(rows) == 2
