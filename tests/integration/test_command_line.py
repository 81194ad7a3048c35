"""The command line through `main`, on journals that real runs have filled and against both simulators."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from include.order_cancel import schema
from include.order_cancel.__main__ import main
from include.order_cancel.cli import places
from include.order_cancel.cli.hiding import url_without_secrets, without_secrets
from include.order_cancel.cli.looking import pk_value
from include.order_cancel.journal import Journal
from include.order_cancel.rows import Body, Event, Move, Row, State
from include.order_cancel.settings import load, overlaps
from include.simulator import ErpSimulator, OmnitronSimulator, plans, running, transactions
from include.simulator.wire import Answer, Request, dump
from tests.harness import Flow, settings
from tests.integration.test_listings import Changed, keyed_by_id
from tests.journal_fixtures import let_pass

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """\
def transform(plan, attributes):
    attributes["seen"] = attributes.get("channel", "none")
    print("plan", plan["pk"])
    return {"number": plan["pk"]}
"""
POST_SCRIPT = """\
def after(request, response, attributes):
    attributes["told"] = f"{request['plan']} {response['documentNumber']}"
"""

Command = Callable[..., "Ran"]


class Ran:
    """What one call came to."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    with (
        running(OmnitronSimulator(plans(seed=7, count=3))) as omnitron,
        running(ErpSimulator(auth="basic")) as erp,
    ):
        yield Flow(omnitron, erp, f"sqlite:///{tmp_path}/order_cancel.db", settings(mapping=None))


@pytest.fixture
def run(flow: Flow, capsys: pytest.CaptureFixture[str]) -> Command:
    """A command on the flow's journal."""

    def call(*arguments: str) -> Ran:
        code = main([*arguments, "--flow", flow.name, "--journal", flow.journal_url])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return call


@pytest.fixture
def bare(capsys: pytest.CaptureFixture[str]) -> Command:
    """A command as it is typed; a wrong call ends with its exit code."""

    def call(*arguments: str) -> Ran:
        try:
            code = main(list(arguments))
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return call


def change(flow: Flow, pk: str, **values: Any) -> Row:
    """Put a row into a state that takes a crash or much time to reach."""
    row = flow.rows()[pk]
    for name, value in values.items():
        setattr(row, name, value)
    with flow.journal() as journal:
        assert journal.apply([Move(row)]) == [None]
    return row


def lease(flow: Flow, pk: str) -> None:
    with flow.journal() as journal:
        journal.claim_one(flow.rows()[pk].id, 1, "a live task")


def in_doubt(flow: Flow, pk: int = 5002) -> None:
    """A first run in which the ERP takes this plan and its answer is lost."""
    flow.erp.simulator.fail("drop", plan=pk, effect=True, times=1)
    flow.run()
    assert flow.states()[str(pk)] == "in_doubt"


def written(folder: Path, name: str, content: Any) -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return str(path)


# plans


def test_plans_as_json_have_the_stable_keys(flow: Flow, run: Command) -> None:
    flow.erp.simulator.fail("refuse", plan=5002)
    flow.run()

    found = run("plans", "--json")

    assert found.code == 0
    first, second, _ = found.json
    assert list(first) == [
        "pk",
        "order_number",
        "generation",
        "state",
        "relation",
        "attempts",
        "erp_reference",
        "error",
        "updated_at",
    ]
    assert (first["pk"], first["state"], first["relation"], first["erp_reference"]) == (
        5001,
        "done",
        "continue",
        "C-000001",
    )
    assert second["state"] == "failed"
    assert "422" in second["error"]
    assert datetime.fromisoformat(first["updated_at"]).utcoffset() is not None


def test_a_plan_number_is_a_number_in_json_only_where_it_is_one() -> None:
    found = [pk_value(pk) for pk in ("5001", "0", "007", "A-17", "٣", "")]

    assert found == [5001, 0, "007", "A-17", "٣", ""]


def test_plans_are_narrowed_by_state(flow: Flow, run: Command) -> None:
    flow.erp.simulator.fail("refuse", plan=5002)
    flow.run()

    failed = run("plans", "--state", "failed", "--json").json
    both = run("plans", "--state", "failed", "--state", "done", "--json").json
    none = run("plans", "--state", "dead", "--json").json

    assert [plan["pk"] for plan in failed] == [5002]
    assert len(both) == 3
    assert none == []


def test_the_table_of_plans_is_aligned_with_times_in_utc(flow: Flow, run: Command) -> None:
    flow.run()

    head, *lines, count = run("plans").out.splitlines()

    assert len(lines) == 3
    assert count == "3 plans"
    assert {line.index("done") for line in lines} == {head.index("state")}
    assert all(re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line) for line in lines)


def test_a_flow_without_plans_is_told(flow: Flow, run: Command) -> None:
    flow.run()

    found = run("plans", "--state", "dead")

    assert (found.code, found.out) == (0, "the journal holds no plans of flow cancels in state dead\n")


@pytest.mark.parametrize(
    "command",
    [
        ("plans",),
        ("plan", "5001"),
        ("resolve", "5001", "--arrived"),
        ("resend", "5001", "--reason", "asked for"),
        ("dismiss", "5001", "--reason", "asked for"),
        ("adopt", "--from", "old.example", "--to", "https://new.example"),
        ("export", "--from", "2025-01-01", "--to", "2026-01-01"),
        ("restored",),
    ],
    ids=lambda words: words[0],
)
def test_a_flow_that_is_nowhere_is_a_failure_that_names_those_that_are(
    flow: Flow, bare: Command, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(places, "_has_settings", lambda name: False)
    flow.run()

    found = bare(*command, "--flow", "cancel", "--journal", flow.journal_url)

    assert (found.code, found.out) == (1, "")
    assert "there is no flow 'cancel'" in found.err
    assert "flows of the journal: cancels" in found.err


def test_a_flow_that_has_settings_is_known_to_a_new_journal(
    flow: Flow, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_has_settings", lambda name: name == "cancels")
    with flow.journal():
        found = run("restored")

    assert found.code == 0


def test_the_newest_generation_is_shown_and_all_of_them_on_demand(flow: Flow, run: Command) -> None:
    flow.run()
    run("resend", "5001", "--reason", "the ERP lost it")

    newest = run("plans", "--json").json
    every = run("plans", "--json", "--generations").json

    assert {plan["pk"]: plan["generation"] for plan in newest} == {5001: 2, 5002: 1, 5003: 1}
    assert len(every) == 4


# plan


def test_a_plan_shows_its_whole_journey(flow: Flow, run: Command) -> None:
    flow.run()

    found = run("plan", "5001").out

    assert "plan 1000005001 / 5001, generation 1, on 127.0.0.1:" in found
    assert "channel_type = sales_channel" in found
    for what in ("fetched", "sending", "accepted", "written back"):
        assert re.search(rf"T\d\d:\d\d:\d\d\.\d{{3}}Z +(-|[\d.]+ ms) +\w+ +{what}", found), what
    assert re.search(r"[\d.]+ ms", found)
    assert '"refund_amount": ' in found
    assert '"documentNumber": "C-000001"' in found


def test_a_plan_as_json_has_events_bodies_and_attributes(flow: Flow, run: Command) -> None:
    flow.run()

    (generation,) = run("plan", "5001", "--json").json["generations"]

    kinds = {body["kind"]: body for body in generation["bodies"]}
    assert {"document", "request", "response"} <= kinds.keys()
    assert kinds["request"]["content"]["pk"] == 5001
    assert kinds["request"]["meta"]["url"].endswith("/cancellations")
    assert generation["attributes"] == {"channel_type": "sales_channel"}
    assert generation["events"][0]["what"] == "fetched"
    assert any(event["milliseconds"] is not None for event in generation["events"])


def test_an_unknown_plan_is_a_failure_in_one_line(flow: Flow, run: Command) -> None:
    flow.run()

    found = run("plan", "77")

    assert (found.code, found.out) == (1, "")
    assert found.err.count("\n") == 1
    assert "knows no plan 77 of flow cancels; `plans --flow cancels` lists those it knows" in found.err


def test_secrets_in_bodies_attributes_and_urls_are_not_shown(flow: Flow, run: Command) -> None:
    flow.run()
    row = flow.rows()["5001"]
    row.attributes = {"api_token": "canary"}
    body = Body(
        "request", '{"password": "canary"}', {"url": "https://u:canary@erp.example/?api_key=canary&a=b"}
    )
    with flow.journal() as journal:
        journal.apply([Move(row, [body], [Event("write_to_erp", "sending")])])

    as_text, as_json = run("plan", "5001").out, run("plan", "5001", "--json").out

    assert "canary" not in as_text + as_json
    assert "***@erp.example/?api_key=***&a=b" in as_text


def test_what_names_no_secret_is_left_as_it_is() -> None:
    value = {"amount": "9.90", "rows": [{"token": "x", "note": None}], "password": ""}

    assert without_secrets(value) == {
        "amount": "9.90",
        "rows": [{"token": "***", "note": None}],
        "password": "",
    }
    assert url_without_secrets("http://erp.example:80/a?b=c") == "http://erp.example:80/a?b=c"


# resolve


def test_arrived_goes_on_with_the_write_back_and_sends_nothing_again(flow: Flow, run: Command) -> None:
    in_doubt(flow)

    said = run("resolve", "5002", "--arrived", "--reason", "document C-000002 is in the ERP")
    resolved = flow.rows()["5002"]
    flow.run()

    assert (said.code, resolved.state, resolved.relation) == (0, "answered", "continue")
    assert "in_doubt > answered" in said.out
    assert flow.states()["5002"] == "done"
    assert flow.omnitron.simulator.status(5002) == "approved"
    assert len(flow.erp.simulator.calls(pk=5002)) == 1


def test_not_arrived_is_sent_again_with_the_same_key(flow: Flow, run: Command) -> None:
    flow.erp.simulator.fail("drop", plan=5002, times=1)
    flow.run()
    key = flow.rows()["5002"].key

    said = run("resolve", "5002", "--not-arrived")
    resolved = flow.rows()["5002"]
    flow.run()

    assert (said.code, resolved.state, resolved.outcome, resolved.next_attempt_at) == (
        0,
        "failed",
        "not_arrived",
        0,
    )
    assert flow.states()["5002"] == "done"
    (effect,) = flow.erp.simulator.effects_of(5002)
    assert effect.key == key


def test_who_resolved_and_why_stands_in_the_journey(
    flow: Flow, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ayse")
    in_doubt(flow)

    run("resolve", "5002", "--arrived", "--reason", "seen in the ERP")

    (generation,) = run("plan", "5002", "--json").json["generations"]
    last = generation["events"][-1]
    assert (last["step"], last["what"], last["detail"]) == (
        "person",
        "resolved: arrived",
        "ayse: seen in the ERP",
    )


def test_an_interrupted_sending_can_be_resolved_once_its_deadline_has_passed(
    flow: Flow, run: Command
) -> None:
    in_doubt(flow)
    row = change(flow, "5002", state=State.SENDING, owner="1:a task that died")
    let_pass(flow.journal_url, schema.plans, row.id, lease_until=1.0, request_deadline=time.time() + 60)

    early = run("resolve", "5002", "--arrived")
    let_pass(flow.journal_url, schema.plans, row.id, request_deadline=time.time() - 1)
    late = run("resolve", "5002", "--arrived")

    assert (early.code, late.code) == (1, 0)
    assert "a task works on it; try again after it" in early.err
    assert flow.states()["5002"] == "answered"


@pytest.mark.parametrize(
    "arguments", [("resolve", "5002", "--arrived"), ("dismiss", "5002", "--reason", "by hand")]
)
def test_a_plan_in_the_hands_of_a_live_task_is_left_to_it(
    flow: Flow, run: Command, arguments: tuple[str, ...]
) -> None:
    in_doubt(flow)
    lease(flow, "5002")

    said = run(*arguments)

    assert said.code == 1
    assert "a task works on it" in said.err
    assert flow.states()["5002"] == "in_doubt"


def test_a_task_that_comes_back_after_a_persons_word_cannot_undo_it(flow: Flow, run: Command) -> None:
    in_doubt(flow)
    stale = flow.rows()["5002"]

    run("dismiss", "5002", "--reason", "by hand")

    with flow.journal() as journal:
        (lost,) = journal.apply([Move(replace(stale, state=State.DONE))])
    assert lost is not None
    assert flow.states()["5002"] == "dismissed"


def test_a_plan_that_is_not_in_doubt_cannot_be_resolved(flow: Flow, run: Command) -> None:
    flow.run()

    said = run("resolve", "5001", "--not-arrived")

    assert said.code == 1
    assert "is done: its outcome is not in doubt" in said.err
    assert flow.states()["5001"] == "done"


# dismiss and resend


def test_a_dismissed_plan_is_never_sent(flow: Flow, run: Command) -> None:
    flow.erp.simulator.fail("refuse", plan=5002, times=1)
    flow.run()

    said = run("dismiss", "5002", "--reason", "settled by phone")
    flow.run()

    assert said.code == 0
    assert flow.states()["5002"] == "dismissed"
    assert "settled by phone" in (flow.rows()["5002"].error or "")
    assert len(flow.erp.simulator.calls(pk=5002)) == 1


def test_a_finished_plan_cannot_be_dismissed(flow: Flow, run: Command) -> None:
    flow.run()

    said = run("dismiss", "5001", "--reason", "no more")

    assert said.code == 1
    assert "is done already, which is final" in said.err


def test_a_plan_that_changed_can_be_dismissed(flow: Flow, run: Command) -> None:
    flow.run()
    change(flow, "5001", state=State.CHANGED)

    said = run("dismiss", "5001", "--reason", "the change is right")

    assert said.code == 0
    assert flow.states()["5001"] == "dismissed"


def test_a_resent_plan_goes_to_the_erp_with_a_new_key(flow: Flow, run: Command) -> None:
    flow.run()
    flow.omnitron.simulator.change(5001, status="waiting")

    said = run("resend", "5001", "--reason", "the ERP was restored from a backup")
    flow.run()

    assert said.code == 0
    assert "generation 2 has begun" in said.out
    first, second = flow.erp.simulator.effects_of(5001)
    assert first.key != second.key
    assert flow.rows()["5001"].generation == 2
    assert flow.states()["5001"] == "done"


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        ("accepted", "WARNING: the ERP has taken it under C-1, and would book it a second time"),
        ("unknown", "WARNING: the ERP may have taken it, and would book it a second time"),
        ("refused", ""),
        ("", ""),
    ],
)
def test_who_resends_a_dead_plan_that_the_erp_may_have_is_told(
    flow: Flow, run: Command, outcome: str, told: str
) -> None:
    flow.run()
    change(flow, "5001", state=State.DEAD, outcome=outcome, erp_reference="C-1")

    found = run("resend", "5001", "--reason", "asked for")

    assert found.code == 0
    assert ("WARNING" in found.out) == bool(told)
    assert told in found.out


def test_a_run_that_resends_a_dead_plan_that_the_erp_has_says_so(
    flow: Flow, caplog: pytest.LogCaptureFixture
) -> None:
    flow.run()
    change(flow, "5001", state=State.DEAD, outcome="accepted", erp_reference="C-1")

    flow.run(resend_ids=[5001])

    assert "plan 5001 is sent anew, though the ERP has taken it under C-1" in caplog.text


def test_a_plan_that_is_not_over_is_not_resent(flow: Flow, run: Command) -> None:
    in_doubt(flow)

    said = run("resend", "5002", "--reason", "impatience")

    assert said.code == 1
    assert "is in_doubt: it is not over; `resolve` it first" in said.err


def test_a_decision_needs_its_reason(flow: Flow, run: Command, bare: Command) -> None:
    flow.run()

    missing = bare("resend", "5001", "--flow", flow.name, "--journal", flow.journal_url)
    empty = run("resend", "5001", "--reason", "  ")

    assert (missing.code, empty.code) == (2, 2)
    assert "--reason" in missing.err
    assert "--reason is empty" in empty.err


def test_a_plan_number_of_two_omnitrons_needs_the_host(flow: Flow, run: Command) -> None:
    flow.run()
    with (
        running(OmnitronSimulator(plans(seed=7, count=1))) as other,
        flow.journal() as journal,
    ):
        elsewhere = Flow(other, flow.erp, flow.journal_url, flow.raw)
        elsewhere.erp.simulator.fail("refuse", plan=5001)
        elsewhere.runs = 9
        elsewhere.run()
        hosts = sorted(row.host for row in journal.generations(flow.name, "5001"))

    unclear = run("dismiss", "5001", "--reason", "by hand")
    clear = run("dismiss", "5001", "--reason", "by hand", "--host", f"127.0.0.1:{other.port}")

    assert unclear.code == 2
    assert f"add --host, one of {', '.join(hosts)}" in unclear.err
    assert clear.code == 0


# adopt


def moved(flow: Flow) -> tuple[str, str]:
    """A plan is left open, then the Connection names Omnitron in another way: both names."""
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    flow.run()
    return flow.endpoint("omnitron").identity, f"http://localhost:{flow.omnitron.port}/"


def test_a_person_says_that_it_is_the_same_omnitron(flow: Flow, run: Command) -> None:
    old, new = moved(flow)

    said = run("adopt", "--from", f"http://{old.upper()}/", "--to", new, "--reason", "it has moved")

    name = f"localhost:{flow.omnitron.port}"
    assert said.code == 0
    assert (
        f"flow cancels: what it has of {old} (3 plans) is known as {name} now; the next run goes on"
        in said.out
    )
    assert {row.host for row in flow.rows().values()} == {name}
    assert "adopted" in run("plan", "5001").out
    assert f"{old} is {name}, it has moved" in run("plan", "5001").out


def test_a_person_says_that_it_is_another_omnitron(flow: Flow, run: Command) -> None:
    old, new = moved(flow)
    before = flow.rows()

    said = run("adopt", "--from", old, "--to", new, "--other")

    assert said.code == 0
    assert f"{old} is another Omnitron than localhost:{flow.omnitron.port}. What it" in said.out
    assert "has open (1 plan) stays as it is" in said.out
    assert flow.rows() == before


def test_adopting_what_is_not_there_says_what_is(flow: Flow, run: Command) -> None:
    old, new = moved(flow)

    said = run("adopt", "--from", "no.example", "--to", new)

    assert said.code == 1
    assert f"flow cancels has no plans of no.example, only of {old}" in said.err


def test_the_new_address_is_a_whole_one(flow: Flow, run: Command) -> None:
    old, _ = moved(flow)

    said = run("adopt", "--from", old, "--to", "new.example:443")

    assert said.code == 1
    assert "not an http:// or https:// address" in said.err
    assert {row.host for row in flow.rows().values()} == {old}


def test_nothing_is_adopted_from_under_a_task(flow: Flow, run: Command) -> None:
    old, new = moved(flow)
    lease(flow, "5001")

    said = run("adopt", "--from", old, "--to", new)

    assert said.code == 1
    assert "a task works on its plans; try again after it, or in" in said.err
    assert {row.host for row in flow.rows().values()} == {old}


# export


def test_the_export_has_one_line_for_each_generation(flow: Flow, run: Command) -> None:
    flow.run()
    run("resend", "5001", "--reason", "once more")

    found = run("export", "--from", "2020-01-01", "--to", "2100-01-01T00:00:00Z")

    rows = list(csv.DictReader(io.StringIO(found.out)))
    assert [(row["plan"], row["generation"]) for row in rows] == [
        ("5001", "1"),
        ("5002", "1"),
        ("5003", "1"),
        ("5001", "2"),
    ]
    plan = flow.omnitron.simulator.plan(5001)
    assert rows[0]["order"] == plan["order"]["number"]
    assert (rows[0]["amount"], rows[0]["currency"]) == (plan["refund_amount"], "TRY")
    assert (rows[0]["relation"], rows[0]["state"], rows[0]["erp_reference"]) == (
        "continue",
        "done",
        "C-000001",
    )
    assert rows[0]["idempotency_key"] == flow.erp.simulator.effects_of(5001)[0].key


def test_the_export_holds_only_what_moved_in_its_time(flow: Flow, run: Command) -> None:
    flow.run()

    found = run("export", "--from", "2020-01-01", "--to", "2020-02-01")

    assert found.out.count("\n") == 1
    assert found.out.startswith("plan,order,")


def test_the_export_runs_no_formula_in_a_spreadsheet(flow: Flow, run: Command) -> None:
    flow.omnitron.simulator.change(5001, refund_amount="-12.50")
    flow.run()
    change(flow, "5001", erp_reference='=HYPERLINK("http://evil.example")', order_number=" @SUM(1)")

    found = run("export", "--from", "2020-01-01", "--to", "2100-01-01")

    row = next(csv.DictReader(io.StringIO(found.out)))
    assert row["erp_reference"] == '\'=HYPERLINK("http://evil.example")'
    assert row["order"] == "' @SUM(1)"
    assert row["amount"] == "-12.50"


@pytest.mark.parametrize(
    ("since", "until", "told"),
    [
        ("yesterday", "2025-01-01", "--from: 'yesterday' is not an ISO time"),
        ("2025-01-02", "2025-01-01", "before"),
    ],
)
def test_a_wrong_time_for_the_export_is_a_wrong_call(
    flow: Flow, run: Command, since: str, until: str, told: str
) -> None:
    found = run("export", "--from", since, "--to", until)

    assert found.code == 2
    assert told in found.err


# validate


def test_all_problems_of_a_file_are_listed_by_field(bare: Command, tmp_path: Path) -> None:
    broken = settings(omnitron__next_state=None, omnitron__cancel_status="waiting", erp__http_method="SEND")
    file = written(tmp_path, "cancels.json", broken)

    found = bare("validate", "--file", file)

    assert found.code == 1
    title, *lines = found.out.splitlines()
    assert title == "flow cancels: 2 problems"
    assert any(line.startswith("  omnitron.next_state: ") for line in lines)
    assert any(line.startswith("  erp.http_method: ") for line in lines)


def test_a_valid_file_shows_its_steps_and_warnings(bare: Command, tmp_path: Path) -> None:
    file = written(tmp_path, "cancels.json", settings(omnitron__next_state="waiting"))
    good = written(
        tmp_path, "good.json", settings(omnitron__cancel_status="confirmed", omnitron__next_state="confirmed")
    )

    wrong, right = bare("validate", "--file", file), bare("validate", "--file", good)

    assert wrong.code == 1
    assert right.code == 0
    assert right.out.splitlines() == [
        "flow good: valid (mapping > write_to_erp > write_to_omnitron)",
        "  warning: omnitron.next_state: equals cancel_status: no status is written",
    ]


def test_flows_that_overlap_are_told(bare: Command, tmp_path: Path) -> None:
    files = [written(tmp_path, f"{name}.json", settings()) for name in ("cancels", "again")]

    found = bare("validate", "--file", files[0], "--file", files[1])

    assert found.code == 0
    assert "overlap: flows 'again' and 'cancels' both take waiting plans" in found.out


def test_a_chain_of_flows_is_told(bare: Command, tmp_path: Path) -> None:
    first = settings(omnitron__next_state="completed")
    then = settings(
        omnitron__cancel_status="completed",
        omnitron__next_state=None,
        omnitron__start_from="2025-01-01T00:00:00Z",
    )
    files = [written(tmp_path, "first.json", first), written(tmp_path, "then.json", then)]

    found = bare("validate", "--file", files[0], "--file", files[1])

    assert found.code == 0
    assert (
        "overlap: flow 'first' gives its plans the status completed, in which flow 'then' takes plans of channel type "
        "'sales_channel' in all channels from Connection 'omnitron'; such a plan would be sent by each"
        in found.out
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"omnitron__conn_id": "omnitron2"}, True),
        ({"omnitron__conn_id": "elsewhere"}, False),
        ({"omnitron__channel_type": "shop"}, False),
    ],
    ids=["another name", "another system", "another channel type"],
)
def test_flows_that_meet_by_two_connections_to_one_omnitron_are_told(
    changes: dict[str, str], told: bool
) -> None:
    flows = {"one": load(settings(), flow="one"), "two": load(settings(**changes), flow="two")}
    systems = {"omnitron": "shop.example", "omnitron2": "shop.example", "elsewhere": "elsewhere.example"}

    (found,) = overlaps(flows, systems) or [""]

    assert bool(found) == told
    assert not told or "from Connections 'omnitron' and 'omnitron2', one system" in found


def test_the_schema_is_printed_as_json(bare: Command) -> None:
    found = bare("validate", "--schema")

    assert found.code == 0
    assert "cancel_status" in json.dumps(found.json)


def test_settings_that_are_no_json_are_told_with_their_place(bare: Command, tmp_path: Path) -> None:
    file = written(tmp_path, "cancels.json", '{"omnitron": ')

    found = bare("validate", "--file", file)

    assert found.code == 1
    assert "line 1" in found.out


def test_other_commands_name_the_first_problem_in_one_line(bare: Command, tmp_path: Path) -> None:
    file = written(tmp_path, "cancels.json", settings(omnitron__next_state=None, erp__http_method="SEND"))

    found = bare("test", "mapping", "--flow", "cancels", "--file", file, "--input", file)

    assert found.code == 1
    assert found.err.count("\n") == 1
    assert "; and 1 more problem, see `validate`" in found.err


# test


def tried(bare: Command, folder: Path, kind: str, raw: dict[str, Any], given: Any, *more: str) -> Ran:
    file = written(folder, "settings.json", raw)
    document = written(folder, "input.json", given)
    return bare("test", kind, "--flow", "cancels", "--file", file, "--input", document, *more)


def test_a_script_shows_its_result_attributes_and_prints(bare: Command, tmp_path: Path) -> None:
    raw = settings(script=SCRIPT)

    found = tried(bare, tmp_path, "script", raw, {"pk": 5001}, "--attribute", "channel=a=b")

    assert found.code == 0
    assert found.json["result_data"] == {"number": 5001}
    assert found.json["attributes"] == {"channel_type": "sales_channel", "channel": "a=b", "seen": "a=b"}
    assert any("plan 5001" in line for line in found.json["log"])


def test_a_script_that_raises_shows_the_error_and_what_it_set_before(bare: Command, tmp_path: Path) -> None:
    raw = settings(script=SCRIPT)

    found = tried(bare, tmp_path, "script", raw, {})

    assert found.code == 1
    assert found.json["result_data"] is None
    assert "KeyError" in found.json["error"]
    assert found.json["attributes"]["seen"] == "none"


def test_a_mapping_shows_the_document_after_every_step(bare: Command, tmp_path: Path) -> None:
    chain = [
        {"operation": "shift", "spec": {"pk": "plan"}},
        {"operation": "default", "spec": {"kind": "cancel"}},
    ]

    found = tried(bare, tmp_path, "mapping", settings(mapping=chain), {"pk": 5001})

    assert found.code == 0
    assert found.json["steps"] == [
        {"operation": "shift", "document": {"plan": 5001}},
        {"operation": "default", "document": {"plan": 5001, "kind": "cancel"}},
    ]
    assert found.json["result_data"] == {"plan": 5001, "kind": "cancel"}


def test_a_mapping_that_produces_nothing_is_an_error(bare: Command, tmp_path: Path) -> None:
    found = tried(bare, tmp_path, "mapping", settings(), {"other": 1})

    assert found.code == 1
    assert "the mapping produced nothing" in found.json["error"]


@pytest.mark.parametrize(
    ("status", "relation"), [("200", "continue"), ("401", "auth_fail"), ("503", "unknown")]
)
def test_the_shipped_response_script_says_its_relation(
    bare: Command, tmp_path: Path, status: str, relation: str
) -> None:
    raw = settings(erp__custom_response=True)

    said, code = {"documentNumber": "C-1"}, f"invokehttp.status.code={status}"
    found = tried(bare, tmp_path, "response", raw, said, "--attribute", code)

    assert (found.code, found.json["relation"]) == (0, relation)


def test_a_response_script_gets_the_request_that_was_sent(bare: Command, tmp_path: Path) -> None:
    script = """\
def respond(request, response, attributes):
    return ("failure", f"{request['a']} {response['b']}")
"""
    raw = settings(erp__custom_response=True, erp__custom_response_script=script)
    request = written(tmp_path, "request.json", {"a": 1})

    found = tried(bare, tmp_path, "response", raw, {"b": 2}, "--request", request)

    assert found.code == 0
    assert (found.json["relation"], found.json["reason"]) == ("failure", "1 2")


def test_a_response_script_without_a_known_relation_is_an_error(bare: Command, tmp_path: Path) -> None:
    raw = settings(
        erp__custom_response=True,
        erp__custom_response_script="def respond(request, response, attributes):\n    return 'perhaps'\n",
    )

    found = tried(bare, tmp_path, "response", raw, "{}")

    assert found.code == 1
    assert "the unknown relation 'perhaps'" in found.json["error"]


@pytest.mark.parametrize("whole", [True, False], ids=["one object", "answer and request"])
def test_a_post_script_gets_request_and_answer(bare: Command, tmp_path: Path, whole: bool) -> None:
    request, answer = {"plan": 5001}, {"documentNumber": "C-1"}
    given = {"request_data": request, "response_data": answer} if whole else answer
    more = () if whole else ("--request", written(tmp_path, "request.json", request))

    found = tried(bare, tmp_path, "post", settings(post_script=POST_SCRIPT), given, *more)

    assert found.code == 0
    assert found.json["attributes"]["told"] == "5001 C-1"


def test_what_is_not_set_cannot_be_tested(bare: Command, tmp_path: Path) -> None:
    found = tried(bare, tmp_path, "script", settings(), {})

    assert found.code == 1
    assert "flow cancels has none to test: `script` is not set" in found.err


def test_cases_are_run_and_a_wrong_one_fails(bare: Command, tmp_path: Path) -> None:
    spec = {"operation": "shift", "spec": {"a": "b"}}
    case = {"kind": "mapping", "spec": spec, "input": {"a": 1}, "expect": {"result": {"b": 1}}}
    written(tmp_path, "right.json", case)

    right = bare("test", "cases", str(tmp_path))
    written(tmp_path, "wrong.json", {**case, "expect": {"result": {"b": 2}}})
    wrong = bare("test", "cases", str(tmp_path))

    assert (right.code, wrong.code) == (0, 1)
    assert right.out.splitlines()[-1] == "1 case, 0 failed"
    assert "FAILED wrong.json" in wrong.out


# check


class Different(OmnitronSimulator):
    """Differs from the API profile in six ways; `write_back` and `ignore_page` are the simulator's own."""

    def handle(self, call: Request) -> Answer:
        call.query.pop("channel_id__in", None)
        answer = super().handle(call)
        if call.method != "GET" or answer.status != 200:
            return answer
        if call.path.endswith("/cancellation_plan_statuses/"):
            return self._with(answer, [word for word in json.loads(answer.body) if word != "confirmed"])
        if call.path.endswith("/cancellation_plans/"):
            return self._with(answer, _without(json.loads(answer.body), "refund_amount"))
        if call.path.endswith("/order_transactions/"):
            return self._with(answer, _without(json.loads(answer.body), "order"))
        return answer

    def _with(self, answer: Answer, content: Any) -> Answer:
        return replace(answer, body=dump(content))


def _without(page: dict[str, Any], name: str) -> dict[str, Any]:
    page["results"] = [{key: value for key, value in row.items() if key != name} for row in page["results"]]
    for row in page["results"]:
        row.pop("cancellationplanorderitem_set", None)
    return page


@pytest.fixture
def check(bare: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    for prefix, login in (("OMNITRON", "omnitron"), ("ERP", "erp")):
        monkeypatch.setenv(f"{prefix}_LOGIN", login)
        monkeypatch.setenv(f"{prefix}_PASSWORD", "secret")

    def call(omnitron: str, erp: str, raw: dict[str, Any] | None = None) -> Ran:
        file = written(tmp_path, "settings.json", raw or settings())
        urls = ("--omnitron-url", omnitron, "--erp-url", erp)
        return bare("check", "--flow", "cancels", "--file", file, *urls)

    return call


def omnitron_of(kind: type[OmnitronSimulator], **values: Any) -> OmnitronSimulator:
    made = plans(seed=7, count=20, channels=(1, 2, 3))
    return kind(made, transactions(7, made), **values)


def entries(found: Ran, word: str) -> set[str]:
    return {line.split()[1] for line in found.out.splitlines() if line.startswith(f"{word} ")}


def writes(simulator: Any) -> list[str]:
    return [
        f"{call.method} {call.path}"
        for call in simulator.requests
        if call.method not in ("GET", "OPTIONS") and not call.path.endswith(("/login/", "/token"))
    ]


@pytest.mark.parametrize("status", ["waiting", "completed", "order_transaction"])
def test_check_finds_nothing_to_say_of_an_omnitron_that_is_as_assumed(
    check: Callable[..., Ran], status: str
) -> None:
    raw = settings(
        omnitron__cancel_status=status,
        omnitron__start_from="2025-01-01T00:00:00Z",
        omnitron__transactions_since="2025-01-01T00:00:00Z",
    )
    with running(omnitron_of(OmnitronSimulator)) as omnitron, running(ErpSimulator(auth="basic")) as erp:
        found = check(omnitron.url, erp.url, raw)

        assert found.code == 0, found.out
        assert entries(found, "differs") == set()
        assert entries(found, "unknown") == set()
        assert len(entries(found, "holds")) > 30
        assert writes(omnitron.simulator) == writes(erp.simulator) == []


def test_check_names_all_six_ways_in_which_an_omnitron_differs(check: Callable[..., Ran]) -> None:
    different = omnitron_of(Different, write_back=False, ignore_page=True)
    with running(different) as omnitron, running(ErpSimulator(auth="basic")) as erp:
        found = check(omnitron.url, erp.url)

        assert found.code == 1
        assert entries(found, "differs") == {
            "omnitron.api.words.confirmed",
            "omnitron.api.write_back.method",
            "omnitron.api.plans.page",
            "omnitron.api.plans.channel_ids",
            "plan.refund_amount",
            "omnitron.api.transactions.order_path",
        }
        assert writes(omnitron.simulator) == writes(erp.simulator) == []
        assert set(different.writes.elements()) == set()


def test_what_only_other_flows_need_does_not_fail_the_check(check: Callable[..., Ran]) -> None:
    made = plans(seed=7, count=20)
    without_orders = [
        {name: value for name, value in one.items() if name != "order"} for one in transactions(7, made)
    ]
    with (
        running(OmnitronSimulator(made, without_orders)) as omnitron,
        running(ErpSimulator(auth="basic")) as erp,
    ):
        found = check(omnitron.url, erp.url)

    assert found.code == 0
    assert entries(found, "differs") == {"omnitron.api.transactions.order_path"}
    assert "(not used by this flow)" in found.out


@pytest.mark.parametrize("named", [True, False], ids=["in the profile", "not in the profile"])
def test_check_reads_the_numbers_of_plans_and_transactions_where_the_profile_says(
    check: Callable[..., Ran], named: bool
) -> None:
    made = plans(seed=7, count=20)
    simulator = Changed(made, transactions(7, made), change=keyed_by_id)
    api = {"plans": {"pk": "id"}, "transactions": {"pk": "id"}} if named else {}
    with running(simulator) as omnitron, running(ErpSimulator(auth="basic")) as erp:
        found = check(omnitron.url, erp.url, settings(omnitron__api=api))

    differ = set() if named else {"omnitron.api.plans.pk", "omnitron.api.transactions.pk"}
    assert (found.code, entries(found, "differs")) == (0 if named else 1, differ)
    assert ("omnitron.api.plan.path" in entries(found, "holds")) is named


def test_a_number_that_no_run_would_take_does_not_hold(check: Callable[..., Ran]) -> None:
    simulator = Changed(plans(seed=7, count=3), change=lambda one: {**one, "pk": float(one["pk"])})
    with running(simulator) as omnitron, running(ErpSimulator(auth="basic")) as erp:
        found = check(omnitron.url, erp.url)

    assert "omnitron.api.plans.pk" in entries(found, "differs")


def test_check_works_on_bare_lists(check: Callable[..., Ran]) -> None:
    bare_lists = omnitron_of(OmnitronSimulator, bare_lists=True)
    with running(bare_lists) as omnitron, running(ErpSimulator(auth="basic")) as erp:
        found = check(omnitron.url, erp.url)

    assert found.code == 0, found.out
    assert entries(found, "differs") == set()


def test_check_says_what_an_empty_omnitron_leaves_open(check: Callable[..., Ran]) -> None:
    with running(OmnitronSimulator()) as omnitron, running(ErpSimulator(auth="basic")) as erp:
        found = check(omnitron.url, erp.url)

    assert found.code == 0
    assert {"plan", "omnitron.api.write_back", "omnitron.api.transactions"} <= entries(found, "unknown")


def test_a_wrong_password_is_named_and_not_shown(
    check: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNITRON_PASSWORD", "canary-one")
    monkeypatch.setenv("ERP_PASSWORD", "canary-two")
    with running(omnitron_of(OmnitronSimulator)) as omnitron, running(ErpSimulator(auth="basic")) as erp:
        found = check(omnitron.url, erp.url)

    assert found.code == 1
    assert entries(found, "differs") == {"omnitron.api.login", "erp.login"}
    assert "canary" not in found.out + found.err


def test_an_erp_that_is_down_is_named(check: Callable[..., Ran]) -> None:
    with running(omnitron_of(OmnitronSimulator)) as omnitron, running(ErpSimulator()) as erp:
        erp.stop()
        found = check(omnitron.url, erp.url)
        erp.start()

    assert found.code == 1
    assert entries(found, "differs") == {"erp.conn_id"}
    assert "cannot be reached" in found.out


def test_a_token_login_is_tried_and_a_method_that_the_erp_has_not_is_named(check: Callable[..., Ran]) -> None:
    login = {"url": "/token", "body": {"user": "{{ login }}", "password": "{{ password }}"}}
    raw = settings(erp__login=login, erp__cancellation_api_url="/documents", erp__http_method="PUT")
    with running(omnitron_of(OmnitronSimulator)) as omnitron, running(ErpSimulator(auth="token")) as erp:
        found = check(omnitron.url, erp.url, raw)

        assert erp.simulator.logins == 1

    assert entries(found, "differs") == {"erp.http_method"}
    assert "erp.login" in entries(found, "holds")


# Wrong calls, and where things are found


def test_without_a_command_the_call_is_wrong(bare: Command) -> None:
    assert bare().code == 2
    assert bare("plans", "--flow", "cancels", "--state", "lost").code == 2
    assert bare("resolve", "5001", "--flow", "cancels").code == 2


def test_check_on_a_file_needs_both_urls(bare: Command, tmp_path: Path) -> None:
    found = bare("check", "--flow", "cancels", "--file", written(tmp_path, "s.json", settings()))

    assert found.code == 2
    assert "give --omnitron-url and --erp-url" in found.err


@pytest.mark.parametrize(
    ("url", "code", "told"),
    [
        ("sqlite:////nowhere/order_cancel.db", 1, "there is no journal at /nowhere/order_cancel.db"),
        ("order_cancel.db", 2, "is not a database URL; write sqlite:"),
        ("mysql://host/database", 2, "SQLite or PostgreSQL"),
        ("postgresql://nobody:canary@127.0.0.1:1/test", 1, "the journal cannot be used"),
    ],
)
def test_a_journal_that_cannot_be_opened_is_told_in_one_line(
    bare: Command, url: str, code: int, told: str
) -> None:
    found = bare("plans", "--flow", "cancels", "--journal", url)

    assert (found.code, found.out) == (code, "")
    assert found.err.count("\n") == 1
    assert told in found.err
    assert "canary" not in found.err


def test_a_file_that_is_no_journal_is_told_and_left_alone(bare: Command, tmp_path: Path) -> None:
    file = written(tmp_path, "letters.txt", "these are letters, not a database" * 100)

    found = bare("plans", "--flow", "cancels", "--journal", f"sqlite:///{file}")

    assert found.code == 1
    assert "the journal cannot be used: file is not a database" in found.err
    assert Path(file).read_text("utf-8").startswith("these are letters")


def test_a_missing_or_unreadable_input_is_a_wrong_call(bare: Command, tmp_path: Path) -> None:
    file = written(tmp_path, "settings.json", settings())
    call = ("test", "mapping", "--flow", "cancels", "--file", file, "--input")

    missing = bare(*call, str(tmp_path / "none.json"))
    garbled = bare(*call, written(tmp_path, "garbled.json", "{"))

    assert (missing.code, garbled.code) == (2, 2)
    assert "cannot be read: No such file" in missing.err
    assert "is not JSON" in garbled.err


def command_line(home: Path, *arguments: str, **given: Any) -> subprocess.CompletedProcess[str]:
    """A process of its own that finds nothing of the test's environment."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "AIRFLOW_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **given,
    )


def test_it_runs_as_a_process_and_reads_a_document_from_stdin(tmp_path: Path) -> None:
    file = written(tmp_path, "settings.json", settings())
    call = ("test", "mapping", "--flow", "cancels", "--file", file, "--input", "-")

    found = command_line(tmp_path, "-m", "include.order_cancel", *call, input='{"pk": 5001}')

    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["result_data"] == {"plan": 5001}
    assert found.stderr == ""


def test_with_file_and_journal_airflow_is_not_imported(flow: Flow, tmp_path: Path) -> None:
    flow.run()
    code = (
        "import sys\n"
        "from include.order_cancel.__main__ import main\n"
        f"main(['plans', '--flow', 'cancels', '--journal', {flow.journal_url!r}])\n"
        f"main(['validate', '--file', {written(tmp_path, 'cancels.json', settings())!r}])\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] == 'airflow']\n"
    )

    found = command_line(tmp_path, "-c", code)

    assert found.returncode == 0, found.stderr
    assert "3 plans" in found.stdout
    assert "flow cancels: valid" in found.stdout


def test_help_starts_without_database_and_http_libraries(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from include.order_cancel.__main__ import parser\n"
        "parser().format_help()\n"
        "heavy = {'sqlalchemy', 'aiohttp', 'pydantic', 'airflow', 'pyjolt'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )

    found = command_line(tmp_path, "-c", code)

    assert found.returncode == 0, found.stderr


def test_a_reader_who_has_seen_enough_causes_no_traceback(flow: Flow) -> None:
    flow.run()
    call = (
        f"{sys.executable} -m include.order_cancel plans --flow cancels --journal {flow.journal_url} | true"
    )

    found = subprocess.run(
        ["/bin/sh", "-c", call], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert found.stderr == ""


@pytest.mark.thorough
def test_without_a_journal_to_be_found_the_mend_is_told_in_one_line(tmp_path: Path) -> None:
    found = command_line(tmp_path, "-m", "include.order_cancel", "plans", "--flow", "cancels")

    assert (found.returncode, found.stdout) in ((1, ""), (2, ""))
    assert found.stderr.startswith("order_cancel: ")
    assert found.stderr.count("\n") == 1


def test_events_of_a_person_carry_the_time_of_the_journal(flow: Flow) -> None:
    flow.run()
    with flow.journal() as journal:
        row = flow.rows()["5001"]
        journal.resend(row.id, who="ayse", reason="once more")
        newest = flow.rows()["5001"]
        events, bodies = journal.journey(newest.id)

        assert abs(events[0].at - journal.now()) < 60
        assert (events[0].what, events[0].detail) == ("generation 2", "ayse: once more")
        assert [body.kind for body in bodies] == ["document"]
        assert isinstance(journal, Journal)
