"""What an answer proves in an untidy world: gateways that answer for the ERP, late bookings, sign-in pages."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from include.order_cancel import schema
from include.order_cancel.rows import State
from include.simulator import ErpSimulator
from include.simulator.wire import Answer, answer
from tests.harness import MAPPING, Flow
from tests.integration.conftest import MakeFlow
from tests.integration.test_answers import responding
from tests.journal_fixtures import let_pass
from tests.shares import thorough

LOOKUP = {"url": "/documents?plan={{ plan.pk }}", "found_path": "documentNumber"}
OTHER_MAPPING = [{"operation": "default", "spec": {"other": True}}]
GATEWAYS = [302, 303, 499, 501, 503, 505, 520, 522, 524, 529, 598]
WITHOUT_KEYS = {"erp__idempotency_header": None}


def bookings(flow: Flow, pk: int = 5001) -> int:
    return len(flow.erp.simulator.effects_of(pk))


# Only a listed status is a refusal


@pytest.mark.parametrize(
    "status", [status if status in (503, 524) else thorough(status) for status in GATEWAYS]
)
@pytest.mark.parametrize("refusal", ["failed", "failure"])
@pytest.mark.parametrize("custom", [False, thorough(True)])
def test_a_booking_behind_a_gateways_answer_stays_one(
    make_flow: MakeFlow, status: int, refusal: str, custom: bool
) -> None:
    flow = make_flow(1, erp__refusal=refusal, erp__custom_response=custom)
    flow.erp.simulator.set(idempotency=False)
    flow.erp.simulator.fail("answer", plan=5001, status=status, effect=True, body="the gateway's own words")

    gates = [flow.run().gate for _ in range(3)]

    assert (flow.state(5001), bookings(flow)) == ("in_doubt", 1)
    assert flow.omnitron.simulator.status(5001) == "waiting"
    assert "open" not in gates


def test_a_setting_says_that_a_status_is_not_done(make_flow: MakeFlow) -> None:
    flow = make_flow(1, erp__not_done=[408, 425, 429, 503])
    flow.erp.simulator.fail("status", status=503, times=2)

    flow.run()

    assert (flow.state(5001), len(flow.sent()), len(set(flow.keys(5001)))) == ("done", 3, 1)


# Bytes and key stay


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 425}, {"status": 503, "effect": True}])
def test_bytes_and_key_stay_whatever_becomes_of_the_mapping(
    make_flow: MakeFlow, fault: dict[str, Any]
) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__not_done=[425, 429, 503])
    flow.erp.simulator.fail("status", **{"times": 3, **fault})
    flow.run()
    flow.raw["mapping"] = OTHER_MAPPING

    flow.run()

    assert len({(call.raw, call.headers["Idempotency-Key"]) for call in flow.sent()}) == 1
    assert (flow.state(5001), bookings(flow)) == ("done", 1)


def test_what_never_left_is_built_again(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING, erp__cancellation_api_url="http://127.0.0.1:1/cancellations")
    flow.run()
    state = flow.state(5001)
    flow.raw["mapping"] = OTHER_MAPPING
    flow.raw["erp"]["cancellation_api_url"] = "/cancellations"

    flow.run()

    assert (state, flow.state(5001)) == ("failed", "done")
    assert [call.json.get("other") for call in flow.sent()] == [True]


def test_a_plan_that_a_person_says_did_not_arrive_keeps_bytes_and_key(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING)
    flow.erp.simulator.fail("status", status=503, effect=True, times=1)
    flow.run()
    flow.raw["mapping"] = OTHER_MAPPING
    with flow.journal() as journal:
        journal.resolve(flow.row(5001).id, arrived=False, who="a person")

    flow.run()

    assert len({(call.raw, call.headers["Idempotency-Key"]) for call in flow.sent()}) == 1
    assert (flow.state(5001), bookings(flow)) == ("done", 1)


def test_a_run_that_stops_before_an_accepting_answer_is_judged_judges_it_later(make_flow: MakeFlow) -> None:
    counting = "def respond(request, response, attributes):\n    attributes['rejected_count']\n    return 'continue'\n"
    flow = make_flow(1, erp__custom_response=True, erp__custom_response_script=counting)
    flow.omnitron.simulator.fail("status", status=401, path="/cancellation_plans/", after=1, times=2)
    flow.run()
    state = flow.row(5001).state

    flow.run(plan_ids=[5001])  # whose own answer stopped the run rests

    assert state in (State.FAILED, State.HELD)
    assert (flow.state(5001), len(flow.sent()), bookings(flow)) == ("done", 1, 1)


# What rejects a plan


@pytest.mark.parametrize("status", [403, 404, 405, 413, 402, 451])
def test_a_refusal_of_the_infrastructure_rejects_nothing(make_flow: MakeFlow, status: int) -> None:
    flow = make_flow(2, erp__refusal="failure")
    flow.erp.simulator.fail("status", status=status, plan="*")

    outcome = flow.run()

    assert set(flow.states().values()) == {"failed"}
    assert not flow.written()
    assert outcome.gate != "open"


@pytest.mark.parametrize("fan_out", [0, thorough(50)])
def test_a_mapping_that_is_wrong_for_every_plan_rejects_five_at_most(
    make_flow: MakeFlow, journal_url: str, fan_out: int
) -> None:
    flow = make_flow(20, url=journal_url, erp__refusal="failure", fan_out=fan_out)
    flow.erp.simulator.fail("refuse", plan="*")

    flow.run()
    flow.run()

    states = list(flow.states().values())
    assert (states.count("rejected"), states.count("failed")) == (5, 15)
    assert len(flow.written()) == 5
    assert "accepted none" in (next(row for row in flow.rows().values() if row.state == "failed").error or "")


def test_after_one_acceptance_every_refusal_rejects(make_flow: MakeFlow) -> None:
    flow = make_flow(12, erp__refusal="failure", erp__max_in_flight=1)
    for pk in range(5002, 5013):
        flow.erp.simulator.fail("refuse", plan=pk)

    flow.run()

    assert list(flow.states().values()).count("rejected") == 11


def test_other_settings_have_an_acceptance_to_make_of_their_own(make_flow: MakeFlow) -> None:
    flow = make_flow(8, erp__refusal="failure", erp__max_in_flight=1)
    flow.run(plan_ids=[5001])
    flow.raw["mapping"] = OTHER_MAPPING
    flow.erp.simulator.fail("refuse", plan="*")

    flow.run()

    assert list(flow.states().values()).count("rejected") == 5


# 2xx without what it should carry


@pytest.mark.parametrize(
    "body", ["<html>Please sign in</html>", {"status": "OK"}, {"documentNumber": None}, ""]
)
def test_200_without_a_reference_is_no_acceptance(make_flow: MakeFlow, body: Any) -> None:
    flow = make_flow(1)
    flow.erp.simulator.fail("answer", status=200, body=body, times=1)

    flow.run()

    assert (flow.state(5001), bookings(flow)) == ("in_doubt", 0)
    assert not flow.written()


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, "failed"),
        ({"erp__refusal": "failure"}, "failed"),
        ({"erp__refusal": "failure", "erp__rejects": [200, 422]}, "rejected"),
    ],
)
def test_200_with_something_at_the_refused_path_is_a_refusal(
    make_flow: MakeFlow, more: dict[str, Any], state: str
) -> None:
    flow = make_flow(1, erp__refused_path="errors", **more)
    said = {"documentNumber": "X", "errors": [{"text": "the period is closed"}]}
    flow.erp.simulator.fail("answer", status=200, body=said)

    flow.run()

    assert flow.state(5001) == state


# Response scripts and doubt


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_the_shipped_script_leaves_nothing_final_that_nobody_knows(make_flow: MakeFlow, status: int) -> None:
    flow = make_flow(
        1,
        status="completed",
        omnitron__cancel_status="completed",
        omnitron__next_state=None,
        omnitron__start_from="2025-01-01T00:00:00Z",
        erp__custom_response=True,
    )
    flow.erp.simulator.fail("status", status=status, times=1, effect=status != 429)

    first = flow.run()
    state = flow.state(5001)
    flow.run()

    assert first.gate != "open"
    assert (state, bookings(flow)) == ("failed" if status == 429 else "in_doubt", 1)


@pytest.mark.parametrize(("policy", "sent"), [("hold", 1), ("resend", 2), ("lookup", 1)])
def test_unknown_is_a_word_of_every_script(make_flow: MakeFlow, policy: str, sent: int) -> None:
    word = "return 'continue' if attributes['invokehttp.status.code'] == '200' else ('unknown', 'no idea')"
    flow = make_flow(1, erp__in_doubt=policy, erp__lookup=LOOKUP, **responding(word))
    flow.erp.simulator.fail("status", status=422, times=1, effect=True)

    flow.run()

    assert (len(flow.sent()), bookings(flow)) == (sent, 1)
    assert flow.state(5001) == ("in_doubt" if policy == "hold" else "done")


def test_unknown_of_a_stored_answer_is_a_doubt(make_flow: MakeFlow) -> None:
    flow = make_flow(1, **responding("raise ValueError('boom')"))
    flow.run()
    flow.raw["erp"].update(
        {"custom_response_script": "def respond(request, response, attributes):\n    return 'unknown'\n"}
    )

    flow.run()

    assert (flow.state(5001), flow.row(5001).relation, len(flow.sent())) == ("in_doubt", None, 1)


def test_do_nothing_after_an_accepting_answer_then_new_content_is_for_a_person(make_flow: MakeFlow) -> None:
    script = "return 'do_nothing' if attributes['invokehttp.status.code'] == '202' else 'continue'"
    flow = make_flow(1, mapping=MAPPING, **responding(script))
    flow.erp.simulator.fail("answer", status=202, effect=True, times=1, body={"state": "being processed"})
    flow.run()
    state = flow.state(5001)
    flow.omnitron.simulator.change(5001, refund_amount="7.77")

    outcome = flow.run()

    assert (state, flow.state(5001), bookings(flow)) == ("held", "changed", 1)
    assert outcome.gate != "open"


@pytest.mark.parametrize("first", [{"status": 202}, {"status": 500}])
def test_a_refused_repeat_of_what_was_accepted_gets_no_new_key(
    make_flow: MakeFlow, first: dict[str, int]
) -> None:
    script = (
        "status = attributes['invokehttp.status.code']\n"
        "    if status == '409':\n"
        "        raise ValueError('a duplicate?')\n"
        "    return 'do_nothing' if status in ('202', '500') else 'continue'"
    )
    flow = make_flow(1, mapping=MAPPING, **responding(script))
    flow.erp.simulator.fail("answer", effect=True, times=1, **first)
    flow.erp.simulator.fail("status", status=409, times=1)

    for _ in range(4):
        flow.run()

    assert len(set(flow.keys(5001))) == 1
    assert bookings(flow) == 1


# A lookup's word


class Killed(BaseException):
    """Ends the worker in the midst of a wait."""


class Slow:
    """Takes the Caller's place in waiting: a long wait takes no time, and `late` happens in it."""

    def __init__(self, late: Any = None) -> None:
        self.waits: list[float] = []
        self._late = late

    async def __call__(self, seconds: float) -> None:
        if seconds > 5:
            self.waits.append(seconds)
            late, self._late = self._late, None
            if late is not None:
                await asyncio.to_thread(late)


def late_booking(flow: Flow) -> None:
    """The ERP, which was slow, books the first request now."""
    flow.erp.simulator.handle(flow.sent()[0])


@pytest.mark.parametrize("fault", [{"kind": "drop"}, {"kind": "status", "status": 504}])
def test_a_slow_erp_that_tells_the_truth_books_once(make_flow: MakeFlow, fault: dict[str, Any]) -> None:
    flow = make_flow(1, erp__in_doubt="lookup", erp__lookup=LOOKUP, **WITHOUT_KEYS)
    flow.http = {"sleep": Slow(lambda: late_booking(flow))}
    flow.erp.simulator.fail(**fault, times=1)

    flow.run()

    assert (flow.state(5001), bookings(flow), len(flow.sent())) == ("done", 1, 1)


def test_not_there_counts_after_the_settling_time_only(make_flow: MakeFlow) -> None:
    flow = make_flow(1, erp__in_doubt="lookup", erp__lookup={**LOOKUP, "after_seconds": 300}, **WITHOUT_KEYS)
    waiting = Slow()
    flow.http = {"sleep": waiting}
    flow.erp.simulator.fail("drop", times=1)

    flow.run()

    asked = flow.erp.simulator.calls("GET")
    assert 300 < sum(waiting.waits) <= 311
    assert (flow.state(5001), bookings(flow), len(asked)) == ("done", 1, 2)


def test_what_is_found_counts_at_once(make_flow: MakeFlow) -> None:
    flow = make_flow(1, erp__in_doubt="lookup", erp__lookup=LOOKUP, **WITHOUT_KEYS)
    waiting = Slow()
    flow.http = {"sleep": waiting}
    flow.erp.simulator.fail("drop", effect=True, times=1)

    flow.run()

    assert (flow.state(5001), waiting.waits, len(flow.sent())) == ("done", [], 1)


def test_a_later_run_waits_for_what_is_left_of_the_settling_time(make_flow: MakeFlow) -> None:
    flow = make_flow(1, erp__in_doubt="hold", erp__lookup=LOOKUP, **WITHOUT_KEYS)
    waiting = Slow()
    flow.http = {"sleep": waiting}
    flow.erp.simulator.fail("drop", times=1)
    flow.run()
    flow.raw["erp"]["in_doubt"] = "lookup"

    flow.run()

    assert 10 < sum(waiting.waits) <= 71
    assert (flow.state(5001), bookings(flow)) == ("done", 1)


def test_the_neighbours_go_on_while_a_plan_waits_for_its_lookup(make_flow: MakeFlow) -> None:
    flow = make_flow(6, fan_out=0, lots=1, erp__max_in_flight=1, erp__in_doubt="lookup", erp__lookup=LOOKUP)
    seen: list[int] = []

    async def sleep(seconds: float) -> None:
        if seconds > 10:
            for _ in range(2000):
                seen.append(len(flow.erp.simulator.effects))
                if seen[-1] == 5:
                    return
                await asyncio.sleep(0.01)

    flow.http = {"sleep": sleep}
    flow.erp.simulator.fail("drop", plan=5001, times=1)

    flow.run()

    assert seen[-1] == 5
    assert set(flow.states().values()) == {"done"}


@pytest.mark.parametrize(
    "page",
    [
        Answer(404, b"<html>default backend - 404</html>", {"Content-Type": "text/html"}),
        Answer(404, b"", {}),
        Answer(404, b"404 page not found\n", {"Content-Type": "text/plain"}),
        Answer(200, b"<html>Please sign in</html>", {"Content-Type": "text/html"}),
    ],
    ids=["ingress", "empty", "text", "sign-in page"],
)
@pytest.mark.parametrize("found_path", ["documentNumber", thorough(None)])
def test_a_gateways_page_is_no_word_of_the_erp(
    make_flow: MakeFlow, page: Answer, found_path: str | None
) -> None:
    lookup = {**LOOKUP, "found_path": found_path, "after_seconds": 0}
    flow = make_flow(1, erp__in_doubt="lookup", erp__lookup=lookup, **WITHOUT_KEYS)
    flow.http = {"sleep": Slow()}
    own = flow.erp.simulator.handle
    flow.erp.simulator.handle = lambda call: page if call.method == "GET" else own(call)
    flow.erp.simulator.fail("drop", effect=True, times=1)

    flow.run()
    flow.run()

    assert (flow.state(5001), bookings(flow), len(flow.sent())) == ("in_doubt", 1, 1)


@pytest.mark.parametrize(
    "page",
    [
        Answer(200, b"<html>Please sign in</html>", {"Content-Type": "application/xhtml+xml"}),
        thorough(Answer(200, b"<html>Please sign in</html>", {})),
        thorough(Answer(200, b"Please sign in", {"Content-Type": "text/plain"})),
        Answer(200, b"", {}),
        thorough(Answer(204, b"", {})),
    ],
    ids=["xhtml", "no type", "text", "empty", "no content"],
)
def test_where_any_answer_will_do_it_still_is_the_erps_own(make_flow: MakeFlow, page: Answer) -> None:
    lookup = {**LOOKUP, "found_path": None, "after_seconds": 0}
    flow = make_flow(1, erp__in_doubt="lookup", erp__lookup=lookup, **WITHOUT_KEYS)
    flow.http = {"sleep": Slow()}
    own = flow.erp.simulator.handle
    flow.erp.simulator.handle = lambda call: page if call.method == "GET" else own(call)
    flow.erp.simulator.fail("drop", times=1)

    flow.run()

    assert (flow.state(5001), bookings(flow), len(flow.sent())) == ("in_doubt", 0, 1)
    assert flow.omnitron.simulator.status(5001) == "waiting"


RECORDED = {"request": 5001, "status": "ERROR", "errors": [{"text": "the period is closed"}]}
REFUSING = {
    "erp__in_doubt": "lookup",
    "erp__lookup": {"url": "/documents?plan={{ plan.pk }}", "found_path": "request", "after_seconds": 0},
    "erp__refused_path": "errors",
}


@pytest.mark.parametrize(
    ("more", "state", "status"),
    [
        ({}, "failed", "waiting"),
        thorough({"erp__refusal": "failure"}, "failed", "waiting"),
        ({"erp__refusal": "failure", "erp__rejects": [200, 400]}, "rejected", "rejected"),
        thorough({"erp__custom_response": True}, "failed", "waiting"),
        (
            responding("return 'failure' if attributes['answer.meaning'] == 'refused' else 'continue'"),
            "rejected",
            "rejected",
        ),
        thorough(responding("return 'unknown'"), "in_doubt", "waiting"),
        thorough(responding("return 'do_nothing'"), "in_doubt", "waiting"),
    ],
    ids=["failed", "failure", "listed", "shipped script", "own script", "unknown", "do_nothing"],
)
def test_a_lookup_that_finds_a_refusal_is_a_refusal(
    make_flow: MakeFlow, more: dict[str, Any], state: str, status: str
) -> None:
    flow = make_flow(1, mapping=MAPPING, **REFUSING, **more)
    flow.erp.simulator.fail("drop", times=1)
    flow.erp.simulator.fail("answer", path="/documents", status=200, body=RECORDED)

    flow.run()

    assert (flow.state(5001), flow.omnitron.simulator.status(5001)) == (state, status)
    assert (bookings(flow), len(flow.sent())) == (0, 1)


def test_what_a_lookup_found_refused_is_built_again_under_a_new_key(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING, **REFUSING)
    flow.erp.simulator.fail("drop", times=1)
    flow.erp.simulator.fail("answer", path="/documents", status=200, body=RECORDED)
    flow.run()
    error = str(flow.row(5001).error)

    outcome = flow.run()

    assert "the period is closed" in error
    assert (flow.state(5001), outcome.gate, bookings(flow)) == ("done", "open", 1)
    assert len(set(flow.keys(5001))) == 2


def test_a_refusal_that_may_be_of_an_earlier_request_settles_nothing(make_flow: MakeFlow) -> None:
    """The first request is refused, the mended one is booked; the ERP's record by number is still of the first."""
    flow = make_flow(1, mapping=MAPPING, **REFUSING)
    flow.erp.simulator.fail("status", status=400, times=1)
    flow.run()
    flow.erp.simulator.fail("drop", times=1, effect=True)
    flow.erp.simulator.fail("answer", path="/documents", status=200, body=RECORDED)

    flow.run()
    flow.run()

    assert (flow.state(5001), bookings(flow), len(flow.sent())) == ("in_doubt", 1, 2)


def test_a_crash_while_a_plan_waits_for_its_lookup_sends_nothing_twice(make_flow: MakeFlow) -> None:
    flow = make_flow(1, erp__in_doubt="lookup", erp__lookup=LOOKUP, **WITHOUT_KEYS)

    async def die(seconds: float) -> None:
        if seconds > 10:
            raise Killed

    flow.http = {"sleep": die}
    flow.erp.simulator.fail("drop", times=1)
    with pytest.raises(Killed):
        flow.run()
    let_pass(flow.journal_url, schema.plans, flow.row(5001).id, request_deadline=time.time() - 1)
    flow.http = {"sleep": Slow(lambda: late_booking(flow))}

    flow.run_again()

    assert (flow.state(5001), bookings(flow), len(flow.sent())) == ("done", 1, 1)


@pytest.mark.parametrize("status", [403, 419, 440])
def test_a_response_script_is_asked_of_the_answer_to_a_new_token(make_flow: MakeFlow, status: int) -> None:
    login = {"url": "/token", "body": {"user": "{{ login }}", "password": "{{ password }}"}}
    word = "return 'continue' if attributes['invokehttp.status.code'] == '200' else 'unknown'"
    flow = make_flow(1, erp=ErpSimulator(auth="token"), erp__login=login, **responding(word))
    flow.erp.simulator.unauthorised = lambda: answer(status, {"error": "the session has ended"})
    flow.between = lambda task: flow.erp.simulator.expire_tokens() if task == "open_plans" else None

    flow.run()

    assert (flow.state(5001), bookings(flow)) == ("done", 1)
