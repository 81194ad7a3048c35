"""What each answer of the ERP means: the plan's state, what the ERP saw, and under which key it is sent again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from include.order_cancel import steps
from include.order_cancel.omnitron import Omnitron
from include.order_cancel.rows import State
from include.order_cancel.under_way import Plan
from include.simulator import ErpSimulator, OmnitronSimulator, plans
from tests.harness import MAPPING, Crash, Flow
from tests.integration.conftest import SEED, MakeFlow
from tests.journal_fixtures import let_deadline_pass

LOGIN = {
    "url": "/token",
    "body": {"user": "{{ login }}", "password": "{{ password }}"},
    "token_path": "token",
}
LOOKUP = {"url": "/documents?key={{ key }}", "found_path": "documentNumber"}
AUTH_FAILED = 401


async def at_once(seconds: float) -> None:
    """A wait that takes no time."""


def responding(body: str) -> dict[str, Any]:
    """Settings with a response script whose `respond` has this body."""
    script = f"def respond(request, response, attributes):\n    {body}\n"
    return {"erp__custom_response": True, "erp__custom_response_script": script}


def crash_after(task: str) -> Callable[[str], None]:
    def between(ended: str) -> None:
        if ended == task:
            raise Crash(task)

    return between


# One answer, and what it means by default


@dataclass(frozen=True)
class Case:
    """One fault of the ERP and what it leads to; `requests`: in this run, `body_number`: in the next one."""

    fault: dict[str, Any]
    state: str
    requests: int = 1
    body_number: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    omnitron: str = "waiting"
    effects: int = 0


def answered(status: int, **more: Any) -> dict[str, Any]:
    return {"kind": "status", "status": status, **more}


REFUSED = [Case(answered(status), "failed", body_number=2) for status in (301, 400, 403, 404, 409, 422, 451)]
NOT_DONE = [
    *(Case(answered(status), "failed", requests=3) for status in (408, 425, 429)),
    Case(answered(503), "failed", requests=3, settings={"erp__not_done": [503]}),
]
UNKNOWN = [
    *(Case(answered(status), "in_doubt") for status in (300, 302, 303, 304, 500, 501, 502, 503, 504, 524)),
    *(
        Case({"kind": "answer", "status": 200, "body": body, "effect": True}, "in_doubt", effects=1)
        for body in ("<html>Sign in</html>", "", {"documentNumber": None}, [1, 2])
    ),
]
REJECTED = [
    Case(answered(status), "rejected", settings={"erp__refusal": "failure"}, omnitron="rejected")
    for status in (400, 409, 410, 422)
]
CUT = [
    Case({"kind": "drop"}, "in_doubt"),
    Case({"kind": "drop", "effect": True}, "in_doubt", effects=1),
    Case({"kind": "truncate"}, "in_doubt", effects=1),
    Case({"kind": "delay", "seconds": 2}, "in_doubt", settings={"erp__timeout_seconds": 0.4}, effects=1),
]
TAKEN = [
    Case(
        {"kind": "answer", "status": status, "body": body, "effect": True},
        "done",
        omnitron="approved",
        effects=1,
        settings={"erp__reference_path": None},
    )
    for status, body in ((200, {"documentNumber": "X"}), (201, "created"), (202, ""), (299, [1, 2]))
]


@pytest.mark.parametrize(
    "case",
    [*REFUSED, *NOT_DONE, *UNKNOWN, *REJECTED, *CUT, *TAKEN],
    ids=lambda case: f"{case.fault['kind']} {case.fault.get('status', '')} > {case.state}",
)
def test_an_answer_means_what_the_table_says(make_flow: MakeFlow, case: Case) -> None:
    flow = make_flow(1, **case.settings)
    flow.erp.simulator.fail(**{"times": case.requests, **case.fault})

    outcome = flow.run()
    requests, state = len(flow.sent()), flow.state(5001)
    flow.erp.simulator.faults.clear()
    flow.run()

    assert (state, requests) == (case.state, case.requests)
    assert len(set(flow.keys(5001)[:requests])) == 1
    assert len(flow.erp.simulator.effects) == case.effects or state == "failed"
    if state == "failed":
        assert flow.row(5001).body_number == case.body_number
        assert len(set(flow.keys(5001))) == case.body_number
        assert (flow.state(5001), len(flow.sent())) == ("done", requests + 1)
    else:
        assert (flow.state(5001), len(flow.sent())) == (state, requests)
        assert flow.omnitron.simulator.status(5001) == case.omnitron
    assert (outcome.gate == "open") is (state in ("done", "rejected"))


@pytest.mark.parametrize("case", REJECTED[:1])
@pytest.mark.parametrize("status", ["completed"])
def test_a_refusal_that_rejects_writes_nothing_where_the_plan_is_over(
    make_flow: MakeFlow, case: Case, status: str
) -> None:
    flow = make_flow(
        1,
        status=status,
        omnitron__cancel_status=status,
        omnitron__next_state=None,
        omnitron__start_from="2025-01-01T00:00:00Z",
        erp__refusal="failure",
    )
    flow.erp.simulator.fail(**case.fault)

    outcome = flow.run()

    assert flow.state(5001) == "rejected"
    assert flow.written() == []
    assert outcome.report["outcomes"] == {"rejected": 1}
    assert outcome.gate == "open"


def test_an_erp_that_does_not_listen_has_not_got_the_plan(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.erp.stop()
    flow.run()
    state, row = flow.state(5001), flow.row(5001)
    flow.erp.start()

    flow.run()

    assert (state, row.outcome, row.body_number) == ("failed", "not_done", 1)
    assert flow.keys(5001) == [row.key]
    assert flow.state(5001) == "done"


def test_an_answer_that_comes_after_two_busy_ones_counts(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("status", status=429, times=1, retry_after=1)
    flow.erp.simulator.fail("status", status=425, times=1)

    flow.run()

    first, second, _ = flow.sent()
    assert flow.state(5001) == "done"
    assert len(set(flow.keys(5001))) == 1
    assert second.time - first.time >= 1


def test_a_busy_erp_that_asks_for_hours_is_not_waited_for(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("status", status=429, retry_after=7200)

    flow.run()

    assert len(flow.sent()) == 1
    assert flow.state(5001) in ("failed", "held")


# In doubt


def test_held_doubt_sends_nothing_more_in_any_run(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("drop", effect=True, times=1)
    outcome = flow.run()

    for params in ({}, {"retry_only": True}, {"plan_ids": [5001]}):
        flow.run(**params)
    outcome.clear(5001)

    assert "1 in_doubt" in outcome.gate
    assert flow.state(5001) == "in_doubt"
    assert len(flow.sent()) == 1
    assert flow.written() == []


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 500}, {"kind": "drop", "effect": True}])
def test_resent_doubt_keeps_bytes_and_key(make_flow: MakeFlow, fault: dict[str, Any]) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__in_doubt="resend")
    flow.erp.simulator.fail(**fault, times=1)

    outcome = flow.run()

    first, second = flow.sent()
    assert (first.raw, first.headers["Idempotency-Key"]) == (second.raw, second.headers["Idempotency-Key"])
    assert (flow.state(5001), outcome.gate) == ("done", "open")
    assert len(flow.erp.simulator.effects) == 1


def test_resent_doubt_keeps_bytes_and_key_over_runs_whatever_changes(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__in_doubt="resend")
    flow.erp.simulator.fail("status", status=500, times=3)
    flow.run()
    state = flow.state(5001)
    flow.raw["mapping"] = [{"operation": "default", "spec": {"other": True}}]

    flow.run()

    assert state == "in_doubt"
    assert len({(call.raw, call.headers["Idempotency-Key"]) for call in flow.sent()}) == 1
    assert len(flow.sent()) == 4
    assert flow.state(5001) == "done"


@pytest.mark.parametrize("later", [{"kind": "status", "status": 503}, {"kind": "status", "status": 429}])
def test_a_busy_answer_after_an_unknown_one_leaves_the_doubt(
    make_flow: MakeFlow, later: dict[str, Any]
) -> None:
    flow = make_flow(1, erp__in_doubt="resend", mapping=MAPPING)
    flow.erp.simulator.fail("drop", effect=True, times=1)
    flow.erp.simulator.fail(**later, times=2)
    flow.run()
    row = flow.row(5001)
    flow.raw["mapping"] = [{"operation": "default", "spec": {"other": True}}]

    flow.run()

    assert (row.state, row.outcome) == (State.IN_DOUBT, "unknown")
    assert len({(call.raw, call.headers["Idempotency-Key"]) for call in flow.sent()}) == 1
    assert len(flow.erp.simulator.effects) == 1
    assert flow.state(5001) == "done"


@pytest.mark.parametrize(
    ("status", "settled"), [(409, False), (403, False), (404, False), (422, True), (400, True)]
)
def test_a_refused_repeat_settles_a_doubt_only_where_the_request_itself_was_refused(
    make_flow: MakeFlow, status: int, settled: bool
) -> None:
    flow = make_flow(1, erp__in_doubt="resend", mapping=MAPPING)
    flow.erp.simulator.fail("drop", effect=not settled, times=1)
    flow.erp.simulator.fail("status", status=status, times=2)

    flow.run()
    row, keys = flow.row(5001), set(flow.keys(5001))
    flow.run()

    assert (row.state, row.outcome) == (("failed", "refused") if settled else ("in_doubt", "unknown"))
    assert len(keys) == 1
    assert len(flow.erp.simulator.effects) == (0 if settled else 1)
    assert settled or (flow.state(5001), set(flow.keys(5001))) == ("done", keys)


def test_a_refused_token_after_an_unknown_answer_leaves_the_doubt(make_flow: MakeFlow) -> None:
    flow = make_flow(1, erp__in_doubt="resend")
    flow.erp.simulator.fail("drop", effect=True, times=1)
    flow.erp.simulator.fail("status", status=AUTH_FAILED, times=2)

    outcome = flow.run()

    assert flow.state(5001) == "in_doubt"
    assert "stopped" in outcome.gate


def test_a_request_that_the_erp_has_is_found_and_not_sent_again(make_flow: MakeFlow) -> None:
    flow = make_flow(1, erp__in_doubt="lookup", erp__lookup=LOOKUP)
    flow.erp.simulator.fail("drop", effect=True, times=1)

    outcome = flow.run()

    (effect,) = flow.erp.simulator.effects
    assert (flow.state(5001), outcome.gate) == ("done", "open")
    assert len(flow.sent()) == 1
    assert flow.row(5001).erp_reference == effect.document_number
    assert flow.omnitron.simulator.status(5001) == "approved"


def test_what_a_lookup_found_is_kept_before_the_write_back_starts(
    make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow(1, erp__in_doubt="lookup", erp__lookup=LOOKUP, fan_out=0, lots=1)
    flow.erp.simulator.fail("drop", effect=True, times=1)
    kept = relations_at_the_write_back(flow, monkeypatch)

    flow.run()

    assert flow.state(5001) == "done"
    assert kept == ["continue"]


def relations_at_the_write_back(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """What the journal holds of plan 5001 each time that Omnitron is told."""
    kept: list[str | None] = []
    write = Omnitron.write_back

    async def look(omnitron: Omnitron, pk: object, word: str) -> Any:
        kept.append(flow.row(5001).relation)
        return await write(omnitron, pk, word)

    monkeypatch.setattr(Omnitron, "write_back", look)
    return kept


def test_a_request_that_the_erp_has_not_is_sent_again_with_the_same_key(make_flow: MakeFlow) -> None:
    flow = make_flow(1, erp__in_doubt="lookup", erp__lookup=LOOKUP)
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail("drop", times=1)

    flow.run()

    assert flow.state(5001) == "done"
    assert len(flow.sent()) == 2
    assert len(set(flow.keys(5001))) == 1


def test_a_lookup_that_does_not_tell_leaves_the_doubt_to_the_next_run(make_flow: MakeFlow) -> None:
    flow = make_flow(1, erp__in_doubt="lookup", erp__lookup=LOOKUP)
    flow.erp.simulator.fail("drop", effect=True, times=1)
    flow.erp.simulator.fail("status", status=403, path="/documents", times=1)
    flow.run()
    state = flow.state(5001)

    flow.run()

    assert state == "in_doubt"
    assert len(flow.sent()) == 1
    assert flow.state(5001) == "done"


@pytest.mark.parametrize(
    ("url", "method"),
    [
        ("/documents?plan={{ body.plan }}", "POST"),
        ("/documents?plan={{ body.plan }}", "GET"),
        ("/documents?plan={{ plan.pk }}", "POST"),
        ("/documents/{{ key }}", "PUT"),
    ],
)
def test_a_lookup_may_name_plan_body_and_key(make_flow: MakeFlow, url: str, method: str) -> None:
    flow = make_flow(
        1,
        mapping=MAPPING,
        erp__http_method=method,
        erp__in_doubt="lookup",
        erp__lookup={"url": url, "found_path": "documentNumber"},
    )
    flow.erp.simulator.fail("drop", effect=True, times=1)

    flow.run()

    assert flow.state(5001) == "done"
    assert len(flow.sent()) == 1


@pytest.mark.parametrize(
    ("policy", "state", "requests"), [("hold", "in_doubt", 0), ("resend", "done", 1), ("lookup", "done", 1)]
)
def test_a_request_whose_task_died_on_the_way_is_unknown(
    make_flow: MakeFlow, policy: str, state: str, requests: int
) -> None:
    """The intent is in the journal, its task is gone: how a kill -9 between intent and answer looks."""
    flow = make_flow(1, mapping=MAPPING, erp__in_doubt=policy, erp__lookup=LOOKUP)
    flow.erp.simulator.fail("drop", times=1)
    flow.raw["erp"]["in_doubt"] = "hold"
    flow.run()
    with flow.journal() as journal:
        row = journal.find("cancels")[0]
        held = journal.claim_one(row.id, flow.run_id or 0, "task")
        held.state, held.outcome, held.error, held.request_deadline = State.SENDING, "", None, 0.0
        from include.order_cancel.rows import Move

        journal.apply([Move(held)])
    let_deadline_pass(flow.journal_url, held)
    flow.raw["erp"]["in_doubt"] = policy

    flow.run()

    assert flow.state(5001) == state
    assert len(flow.sent()) == 1 + requests
    assert len(set(flow.keys(5001))) == 1


# Refused tokens


def token_flow(make_flow: MakeFlow, count: int, **changes: Any) -> Flow:
    return make_flow(count, erp=ErpSimulator(auth="token"), erp__login=LOGIN, **changes)


@pytest.mark.parametrize("fan_out", [50, 0], ids=["plan by plan", "side by side"])
def test_an_expired_token_costs_one_login_for_all_plans(make_flow: MakeFlow, fan_out: int) -> None:
    flow = token_flow(make_flow, 12, fan_out=fan_out, lots=2)
    flow.between = lambda task: flow.erp.simulator.expire_tokens() if task == "get_data" else None

    outcome = flow.run()

    assert flow.erp.simulator.logins == 2
    assert outcome.gate == "open"
    assert len(flow.erp.simulator.effects) == 12
    assert set(flow.states().values()) == {"done"}


def test_two_plans_refused_at_once_cost_one_login(make_flow: MakeFlow) -> None:
    flow = token_flow(make_flow, 2, fan_out=0, lots=1)
    flow.erp.simulator.set(latency_ms=150)
    flow.between = lambda task: flow.erp.simulator.expire_tokens() if task == "get_data" else None

    flow.run()

    assert [call.status for call in flow.sent()].count(401) == 2
    assert flow.erp.simulator.logins == 2
    assert set(flow.states().values()) == {"done"}


@pytest.mark.parametrize("fan_out", [50, 0], ids=["plan by plan", "side by side"])
def test_a_second_refused_token_stops_the_sending_and_rejects_nothing(
    make_flow: MakeFlow, fan_out: int
) -> None:
    flow = token_flow(make_flow, 6, fan_out=fan_out, lots=1, erp__max_in_flight=2, erp__refusal="failure")
    flow.erp.simulator.fail("status", status=AUTH_FAILED, plan="*")

    outcome = flow.run()

    assert set(flow.states().values()) == {"held"}
    assert "the run was stopped" in outcome.gate
    assert "token" in outcome.gate
    assert flow.written() == []
    assert len(flow.sent()) <= 2 * 2
    assert outcome.report["stopped"]


def test_plans_that_were_held_by_a_stop_are_sent_by_the_next_run_and_its_cause_after_a_rest(
    make_flow: MakeFlow,
) -> None:
    flow = token_flow(make_flow, 3)
    flow.erp.simulator.fail("status", status=AUTH_FAILED, times=2)
    flow.run()

    outcome = flow.run()
    assert (outcome.gate, [effect.plan for effect in flow.erp.simulator.effects]) == ("open", [5003, 5002])
    outcome = flow.run(plan_ids=[5001])  # a person need not wait for the end of its rest

    assert outcome.gate == "open"
    assert len(flow.erp.simulator.effects) == 3
    assert [len(set(flow.keys(pk))) for pk in (5001, 5002, 5003)] == [1, 1, 1]


def test_a_cleared_plan_is_tried_although_the_run_was_stopped(make_flow: MakeFlow) -> None:
    flow = token_flow(make_flow, 2)
    flow.erp.simulator.fail("status", status=AUTH_FAILED, times=2)
    outcome = flow.run()

    endings = [outcome.clear(pk) for pk in (5001, 5002)]

    assert (endings, outcome.gate) == (["green", "green"], "open")


def test_a_401_without_a_login_is_tried_once_more_and_stops(make_flow: MakeFlow) -> None:
    flow = make_flow(2, erp=ErpSimulator(auth="basic"))
    flow.erp_password = "wrong"

    outcome = flow.run()

    assert set(flow.states().values()) == {"held"}
    assert len(flow.sent()) == 2
    assert "stopped" in outcome.gate


def test_basic_auth_is_the_connections(make_flow: MakeFlow) -> None:
    flow = make_flow(1, erp=ErpSimulator(auth="basic"))

    assert flow.run().gate == "open"


def test_a_login_that_is_refused_in_mid_run_holds_the_plans(make_flow: MakeFlow) -> None:
    flow = token_flow(make_flow, 2)

    def lock_out(task: str) -> None:
        if task == "get_data":
            flow.erp.simulator.expire_tokens()
            flow.erp.simulator.fail("status", status=403, path="/token")

    flow.between = lock_out
    outcome = flow.run()

    assert set(flow.states().values()) == {"held"}
    assert flow.erp.simulator.effects == []
    assert "stopped" in outcome.gate


# A response script


def test_do_nothing_holds_the_plan_and_offers_it_again_under_the_same_key(make_flow: MakeFlow) -> None:
    flow = make_flow(2, **responding("return 'do_nothing', 'come again'"))
    first = flow.run()
    state, error = flow.state(5001), flow.row(5001).error
    flow.raw["erp"]["custom_response_script"] = (
        "def respond(request, response, attributes):\n    return 'continue'\n"
    )

    second = flow.run()

    assert (first.endings, first.gate) == ({"5001": "skipped", "5002": "skipped"}, "open")
    assert (state, error) == ("held", "come again")
    assert second.gate == "open"
    assert flow.states() == {"5001": "done", "5002": "done"}
    assert len(set(flow.keys(5001))) == 1
    assert len(flow.erp.simulator.effects) == 2


def test_a_refused_plan_that_its_script_held_is_another_request_once_its_content_changed(
    make_flow: MakeFlow,
) -> None:
    flow = make_flow(1, mapping=MAPPING, **responding("return 'do_nothing'"))
    flow.erp.simulator.fail("status", status=422, times=1)
    flow.run()
    flow.omnitron.simulator.change(5001, refund_amount="7.77")

    flow.run()

    assert [call.json["amount"] for call in flow.sent()][1:] == ["7.77"]
    assert len(set(flow.keys(5001))) == 2


def test_do_nothing_is_final_in_a_completed_flow_until_a_person_names_the_plan(make_flow: MakeFlow) -> None:
    flow = make_flow(
        1,
        status="completed",
        omnitron__cancel_status="completed",
        omnitron__next_state=None,
        omnitron__start_from="2025-01-01T00:00:00Z",
        **responding("return 'do_nothing'"),
    )
    first = flow.run()
    state = flow.state(5001)
    flow.run(since="2025-01-01T00:00:00Z")
    sent = len(flow.sent())

    flow.run(plan_ids=[5001])

    assert (state, first.endings, first.gate) == ("passed", {"5001": "skipped"}, "open")
    assert sent == 1
    assert len(flow.sent()) == 2
    assert len(set(flow.keys(5001))) == 1


def test_failure_rejects_the_plan_with_the_scripts_reason(make_flow: MakeFlow) -> None:
    post = "def after(request, response, attributes):\n    raise ValueError('must not run')\n"
    flow = make_flow(1, post_script=post, **responding("return 'failure', 'kredi yok'"))

    outcome = flow.run()

    row = flow.row(5001)
    assert (row.state, row.error, outcome.gate) == (State.REJECTED, "kredi yok", "open")
    assert flow.omnitron.simulator.status(5001) == "rejected"


def test_a_script_may_call_any_answer_a_success(make_flow: MakeFlow) -> None:
    body = "return 'continue' if 'already' in response['error'] else 'failure'"
    flow = make_flow(1, **responding(body))
    flow.erp.simulator.fail("refuse", status=409, body={"error": "already booked"})

    flow.run()

    assert flow.state(5001) == "done"


def test_auth_fail_by_a_script_renews_the_token_once(make_flow: MakeFlow) -> None:
    body = "return 'auth_fail' if isinstance(response, dict) and 'expired' in response else 'continue'"
    flow = token_flow(make_flow, 1, **responding(body))
    flow.erp.simulator.fail("answer", body={"expired": True}, times=1)

    outcome = flow.run()

    assert (outcome.gate, flow.state(5001)) == ("open", "done")
    assert flow.erp.simulator.logins == 2
    assert len(set(flow.keys(5001))) == 1


def test_a_plan_that_learns_late_of_a_refused_token_takes_the_one_that_is_there(make_flow: MakeFlow) -> None:
    script = (
        "import time\n"
        "def respond(request, response, attributes):\n"
        "    if 'expired' not in response:\n"
        "        return 'continue'\n"
        "    time.sleep(0.3)\n"
        "    return 'auth_fail'\n"
    )
    flow = token_flow(
        make_flow, 2, fan_out=0, lots=1, erp__custom_response=True, erp__custom_response_script=script
    )
    flow.erp.simulator.set(latency_ms=100)
    for pk in (5001, 5002):
        flow.erp.simulator.fail("answer", plan=pk, body={"expired": True}, times=1)

    flow.run()

    assert set(flow.states().values()) == {"done"}
    assert flow.erp.simulator.logins == 2


def test_auth_fail_by_a_script_twice_stops_the_run(make_flow: MakeFlow) -> None:
    flow = token_flow(make_flow, 3, **responding("return 'auth_fail'"))

    outcome = flow.run()

    assert set(flow.states().values()) == {"held"}
    assert len(flow.sent()) == 2
    assert "stopped" in outcome.gate


def test_auth_fail_by_a_script_on_a_repeat_leaves_the_first_request_in_doubt(make_flow: MakeFlow) -> None:
    body = "return 'auth_fail' if 'expired' in response else 'continue' if 'documentNumber' in response else None"
    flow = token_flow(make_flow, 1, erp__in_doubt="resend", **responding(body))
    flow.erp.simulator.fail("drop", effect=True, times=1)
    flow.erp.simulator.fail("answer", body={"expired": True}, times=1)
    flow.erp.simulator.fail("refuse", status=403, times=1)

    flow.run()
    row = flow.row(5001)
    flow.raw["erp"]["custom_response_script"] = (
        "def respond(request, response, attributes):\n"
        "    return 'continue' if 'documentNumber' in response else 'do_nothing'\n"
    )
    flow.run()
    flow.run()

    assert (row.state, row.outcome) == (State.FAILED, "unknown")
    assert flow.state(5001) == "done"
    assert len(set(flow.keys(5001))) == 1
    assert len(flow.erp.simulator.effects) == 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("return None", "no relation"),
        ("return 'perhaps'", "unknown relation 'perhaps'"),
        ("raise ValueError('boom')", "boom"),
    ],
)
def test_a_script_without_a_good_word_fails_the_plan_and_judges_the_same_answer_again(
    make_flow: MakeFlow, body: str, why: str
) -> None:
    flow = make_flow(1, **responding(body))
    flow.run()
    row = flow.row(5001)
    flow.raw["erp"]["custom_response_script"] = (
        "def respond(request, response, attributes):\n    return 'continue'\n"
    )

    outcome = flow.run()

    assert row.state is State.FAILED
    assert why in (row.error or "")
    assert outcome.gate == "open"
    assert len(flow.sent()) == 1
    assert flow.state(5001) == "done"


@pytest.mark.parametrize(
    ("fault", "state", "requests"),
    [
        (None, "done", 1),
        ({"kind": "status", "status": 422}, "failed", 1),
        ({"kind": "status", "status": 429}, "failed", 1),
        ({"kind": "status", "status": 503}, "in_doubt", 1),
        ({"kind": "status", "status": 500}, "in_doubt", 1),
        ({"kind": "answer", "body": "<html>Sign in</html>", "effect": True}, "in_doubt", 1),
        ({"kind": "drop"}, "in_doubt", 1),
    ],
    ids=["200", "422", "429", "503", "500", "200 without a reference", "no answer"],
)
def test_the_shipped_script_judges_where_none_is_given(
    make_flow: MakeFlow, fault: dict[str, Any] | None, state: str, requests: int
) -> None:
    flow = make_flow(1, erp__custom_response=True)
    if fault:
        flow.erp.simulator.fail(**fault)

    flow.run()

    assert (flow.state(5001), len(flow.sent())) == (state, requests)


def test_an_answer_with_characters_that_no_database_keeps_breaks_nothing(
    make_flow: MakeFlow, journal_url: str
) -> None:
    flow = make_flow(3, url=journal_url, fan_out=0, erp__reference_path=None)
    said = "a\x00b"
    flow.erp.simulator.fail("answer", plan=5001, body=said, effect=True)
    flow.erp.simulator.fail("answer", plan=5002, body={"documentNumber": said}, effect=True)
    flow.erp.simulator.fail("status", plan=5003, status=422, body=said)

    flow.run()

    assert flow.states() == {"5001": "done", "5002": "done", "5003": "failed"}


@pytest.mark.parametrize("charset", ["utf-7", "utf-16", "nonsense", "cp1254"])
def test_an_answer_in_any_charset_breaks_nothing(make_flow: MakeFlow, charset: str) -> None:
    flow = make_flow(2, fan_out=0, erp__reference_path=None)
    headers = {"Content-Type": f"text/plain; charset={charset}"}
    flow.erp.simulator.fail("answer", plan=5001, body="+2AA-", headers=headers, effect=True)

    flow.run()

    assert flow.states() == {"5001": "done", "5002": "done"}


# A post script


def test_a_post_script_that_fails_is_a_warning_and_can_be_cleared(make_flow: MakeFlow) -> None:
    flow = make_flow(
        2, post_script="def after(request, response, attributes):\n    raise ValueError('boom')\n"
    )
    outcome = flow.run()
    before = (outcome.endings["5001"], outcome.gate, flow.state(5001))
    flow.raw["post_script"] = "def after(request, response, attributes):\n    pass\n"

    ending = outcome.clear(5001)

    assert before == ("red", "open", "done")
    assert "done with a warning" in outcome.report["table"]
    assert ending == "green"
    assert (flow.row(5001).error, len(flow.sent(5001)), len(flow.written(5001))) == (None, 1, 1)


def test_a_post_script_sees_what_was_sent_and_answered(make_flow: MakeFlow) -> None:
    post = (
        "def after(request, response, attributes):\n"
        "    print(request['plan'], response['documentNumber'], attributes['channel_type'])\n"
    )
    flow = make_flow(1, mapping=MAPPING, post_script=post)

    outcome = flow.run()

    assert outcome.gate == "open"
    assert flow.happened(5001)[-1] == "done"


# Rejected plans of the order


def test_a_script_that_asks_for_it_is_given_the_count_of_rejected_plans(make_flow: MakeFlow) -> None:
    documents = plans(SEED, 2)
    documents[1]["order"] = documents[0]["order"]
    documents[1]["status"] = "rejected"
    flow = make_flow(
        omnitron=OmnitronSimulator(documents),
        **responding("return 'failure', attributes['rejected_count']"),
    )

    flow.run()

    assert flow.row(5001).error == "1"


# What nobody expected


@pytest.mark.parametrize("fan_out", [50, 0], ids=["plan by plan", "side by side"])
def test_a_fault_of_the_package_fails_its_plan_alone_and_tells_no_value(
    make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch, fan_out: int
) -> None:
    flow = make_flow(3, mapping=MAPPING, fan_out=fan_out, lots=1)
    real = steps._STEPS["mapping"]

    async def mapping(plan: Plan) -> None:
        if plan.row.pk == "5002":
            raise ZeroDivisionError("canary-secret")
        await real(plan)

    with monkeypatch.context() as patched:
        patched.setitem(steps._STEPS, "mapping", mapping)
        flow.run()
    state, error = flow.state(5002), flow.row(5002).error
    flow.run()

    assert (state, error) == ("failed", "unexpected error, a fault of this package: ZeroDivisionError")
    assert set(flow.states().values()) == {"done"}
    assert sorted(effect.plan for effect in flow.erp.simulator.effects) == [5001, 5002, 5003]
