"""What is said of a request after its answer: by a script that was mended, by settings of now, by another try."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from include.order_cancel import steps
from include.simulator import ErpSimulator, RunningServer, running
from include.simulator.wire import Answer, answer
from tests.harness import MAPPING, Flow
from tests.integration.conftest import MakeFlow
from tests.integration.test_answers import at_once, responding
from tests.integration.test_order_transactions import a_flow, documents
from tests.shares import thorough

LOOKUP = {"url": "/documents?plan={{ plan.pk }}", "found_path": "documentNumber", "after_seconds": 60}
WRONG = [{"operation": "shift", "spec": {"pk": "plan", "order": {"amount": "amount"}}}]
WITHOUT_KEYS: dict[str, Any] = {"erp__idempotency_header": None}


def bookings(flow: Flow, pk: int = 5001) -> int:
    return len(flow.erp.simulator.effects_of(pk))


class LateErp:
    """Waiting takes no time; in the first long wait the ERP ends its work on what it got before."""

    def __init__(self, work: Callable[[], Any] | None = None) -> None:
        self.work = work

    async def __call__(self, seconds: float) -> None:
        if seconds > 5 and self.work is not None:
            work, self.work = self.work, None
            await asyncio.to_thread(work)

    def end(self) -> None:
        """Nobody waited: the ERP ends its work now."""
        if self.work is not None:
            self.work()


def looking_up(make_flow: MakeFlow, **settings: Any) -> Flow:
    usual = {"erp__in_doubt": "lookup", "erp__lookup": LOOKUP, "erp__reference_path": None, **WITHOUT_KEYS}
    return make_flow(1, mapping=MAPPING, **{**usual, **settings})


# A lookup's "not there" counts after the settling time, whoever made the outcome unknown


@pytest.mark.parametrize("status", [202, thorough(409), thorough(422), thorough(429), thorough(503)])
def test_a_scripts_unknown_of_an_answer_leaves_the_erp_its_time(make_flow: MakeFlow, status: int) -> None:
    say = f"return 'unknown' if attributes['invokehttp.status.code'] == '{status}' else 'continue'"
    flow = looking_up(make_flow, **responding(say))
    late = LateErp(lambda: flow.erp.simulator.handle(flow.sent()[0]))
    flow.http = {"sleep": late}
    flow.erp.simulator.fail("answer", status=status, times=1, body={"state": "queued"})

    flow.run()
    late.end()

    assert bookings(flow) == 1


def test_a_mended_scripts_unknown_of_a_stored_answer_leaves_the_erp_its_time(make_flow: MakeFlow) -> None:
    flow = looking_up(make_flow, **responding("raise ValueError('202?')"))
    late = LateErp()
    flow.http = {"sleep": late}
    flow.erp.simulator.fail("answer", status=202, times=1, body={"state": "queued"})
    flow.run()
    flow.raw["erp"] |= {
        "custom_response_script": "def respond(request, response, attributes):\n"
        "    return 'unknown' if attributes['invokehttp.status.code'] == '202' else 'continue'\n"
    }
    flow.run()
    late.work = lambda: flow.erp.simulator.handle(flow.sent()[0])

    flow.run()
    late.end()

    assert bookings(flow) == 1


def test_a_lost_repeat_after_do_nothing_leaves_the_erp_its_time(make_flow: MakeFlow) -> None:
    say = "return 'do_nothing' if attributes['invokehttp.status.code'] == '202' else 'continue'"
    flow = looking_up(make_flow, **responding(say))
    late = LateErp()
    flow.http = {"sleep": late}
    flow.erp.simulator.fail("answer", status=202, times=1, body={"state": "send it again later"})
    flow.erp.simulator.fail("drop", times=1)
    flow.run()
    late.work = lambda: flow.erp.simulator.handle(flow.sent()[1])

    flow.run()
    late.end()

    assert bookings(flow) == 1


# What a lookup found is not sent again


@pytest.mark.parametrize("word", ["do_nothing", thorough("auth_fail"), thorough("unknown")])
@pytest.mark.parametrize("how", ["run", thorough("clear"), thorough("hold")])
def test_a_mended_scripts_word_does_not_send_what_a_lookup_found(
    make_flow: MakeFlow, word: str, how: str
) -> None:
    flow = looking_up(
        make_flow,
        erp__lookup={**LOOKUP, "after_seconds": 0},
        **responding("return 'continue' if response['status'] == 'OK' else 'failure'"),  # a lookup's has none
    )
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail("drop", effect=True, times=1)
    outcome = flow.run()
    flow.raw["erp"] |= {
        "custom_response_script": "def respond(request, response, attributes):\n"
        f"    return 'continue' if response.get('status') == 'OK' else '{word}'\n",
        "in_doubt": "hold" if how == "hold" else "lookup",
    }

    for _ in range(2):
        outcome.clear(5001) if how == "clear" else flow.run()

    assert (bookings(flow), len(flow.sent()), flow.state(5001)) == (1, 1, "in_doubt")


class Killed(BaseException):
    """The worker is gone."""


def test_a_worker_that_dies_over_what_a_lookup_found_sends_nothing_later(
    make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = looking_up(
        make_flow,
        erp__lookup={**LOOKUP, "after_seconds": 0},
        **responding("return 'continue' if response.get('status') == 'OK' else 'do_nothing'"),
    )
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail("drop", effect=True, times=1)

    async def die(*args: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(steps, "_judge", die)
        with pytest.raises(Killed):
            flow.run()
    with flow.journal() as journal:
        journal.finish_run(flow.run_id or 0)

    for _ in range(3):
        flow.run()

    assert (bookings(flow), flow.state(5001)) == (1, "in_doubt")


# A refusal of what was said not to have arrived


@pytest.mark.parametrize("status", [403, thorough(404), thorough(410), thorough(426)])
@pytest.mark.parametrize("way", ["person", thorough("lookup")])
def test_a_refusal_that_may_be_a_gateways_keeps_the_key_of_a_repeat(
    make_flow: MakeFlow, status: int, way: str
) -> None:
    """The ERP honours keys, and had what was said not to have arrived; the repeat meets a gateway's refusal."""
    flow = make_flow(
        1, mapping=MAPPING, erp__in_doubt="lookup" if way == "lookup" else "hold", erp__lookup=LOOKUP
    )
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail("answer", path="/documents", status=404, body={"error": "none"})
    flow.erp.simulator.fail("drop", effect=True, plan=5001, times=1)
    flow.erp.simulator.fail("answer", status=status, plan=5001, times=1, body="<html>gateway</html>")
    flow.run()
    if way == "person":
        with flow.journal() as journal:
            journal.resolve(flow.row(5001).id, arrived=False, who="p")

    flow.run()
    flow.run()

    assert (bookings(flow), len(set(flow.keys(5001))), flow.state(5001)) == (1, 1, "done")


# Old bytes and old words reject no plan


def refusing_without_order_number(flow: Flow) -> None:
    own = flow.erp.simulator.handle
    flow.erp.simulator.handle = lambda call: (
        Answer(422, b'{"error":"orderNumber is missing"}', {"Content-Type": "application/json"})
        if call.path == "/cancellations" and "orderNumber" not in (call.json or {})
        else own(call)
    )


@pytest.mark.parametrize("how", [429, thorough(401), thorough(503)])
def test_what_a_mapping_made_that_was_mended_rejects_no_plan(make_flow: MakeFlow, how: int) -> None:
    flow = make_flow(9, mapping=WRONG, erp__refusal="failure", erp__max_in_flight=1)
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail("status", status=how)
    flow.run()
    for row in flow.rows().values():
        if row.state == "in_doubt":
            with flow.journal() as journal:
                journal.resolve(row.id, arrived=False, who="p")
    flow.erp.simulator.faults.clear()
    refusing_without_order_number(flow)
    flow.raw["mapping"] = MAPPING

    flow.run()
    flow.run(retry_only=True)  # the plan whose answer stopped the first run rests, too
    flow.run(retry_only=True)

    assert set(flow.states().values()) == {"done"}


def test_a_rejection_that_omnitron_was_not_told_is_told_whatever_the_settings_become(
    make_flow: MakeFlow,
) -> None:
    """A word that was judged stands: else a task that slept could tell it of a plan that was sent again since."""
    flow = make_flow(1, mapping=WRONG, erp__refusal="failure")
    refusing_without_order_number(flow)
    flow.omnitron.simulator.fail("status", status=500, method="PATCH", path="/5001/", times=3)
    flow.run()
    flow.raw["mapping"] = MAPPING

    flow.run()

    assert (flow.state(5001), len(flow.sent())) == ("rejected", 1)


# A status is written to a plan that still has the flow's own


@pytest.mark.parametrize("effect", [True, thorough(False)])
def test_a_plan_that_has_moved_on_is_not_set_back(make_flow: MakeFlow, effect: bool) -> None:
    flow = make_flow(1, mapping=MAPPING)
    flow.omnitron.simulator.fail("status", status=504, method="PATCH", path="/5001/", times=3, effect=effect)
    flow.run()
    flow.omnitron.simulator.change(5001, status="completed")
    written = len(flow.written())

    outcome = flow.run()

    assert (flow.state(5001), outcome.gate, len(flow.written())) == ("done", "open", written)


@pytest.mark.parametrize("status", ["rejected", thorough("confirmed")])
def test_a_booked_plan_that_a_colleague_gave_another_status_is_shown_to_a_person(
    make_flow: MakeFlow, status: str
) -> None:
    flow = make_flow(1, mapping=MAPPING)
    flow.erp.simulator.fail("drop", effect=True, times=1)
    flow.run()
    flow.omnitron.simulator.change(5001, status=status)
    with flow.journal() as journal:
        journal.resolve(flow.row(5001).id, arrived=True, who="p")

    flow.run()

    assert (flow.state(5001), flow.omnitron.simulator.status(5001)) == ("changed", status)
    assert f"Omnitron shows it as {status} by now" in (flow.row(5001).error or "")


@pytest.mark.parametrize("how", ["arrived", thorough("lost write-back")])
def test_the_next_state_of_other_settings_is_not_written_to_a_plan_of_before(
    make_flow: MakeFlow, how: str
) -> None:
    flow = make_flow(1, mapping=MAPPING)
    if how == "arrived":
        flow.erp.simulator.fail("drop", effect=True, times=1)
    else:
        flow.omnitron.simulator.fail("status", status=504, method="PATCH", path="/5001/", times=3)
    flow.run()
    flow.raw["omnitron"].update(cancel_status="confirmed", next_state="completed")
    if how == "arrived":
        with flow.journal() as journal:
            journal.resolve(flow.row(5001).id, arrived=True, who="p")

    flow.run()

    assert {"status": "completed"} not in [call.json for call in flow.written()]
    assert flow.state(5001) == "changed"


# Nothing was sent, and nobody failed


@pytest.mark.parametrize("reference", [None, thorough("documentNumber")])
def test_an_erp_that_does_not_listen_makes_no_doubt_of_do_nothing(
    make_flow: MakeFlow, reference: str | None
) -> None:
    say = "return 'do_nothing' if attributes['invokehttp.status.code'] == '202' else 'continue'"
    flow = make_flow(1, mapping=MAPPING, erp__reference_path=reference, **responding(say))
    usual, simulator = flow.erp, ErpSimulator()
    first = RunningServer(simulator, 0)
    first.start()
    port = int(first.url.rsplit(":", 1)[1])
    flow.erp, flow.http = first, {"sleep": at_once}
    simulator.fail("answer", status=202, times=1, body={"state": "not yet"})
    flow.run()
    first.stop()
    flow.run(retry_only=True)
    assert flow.state(5001) == "failed"
    with running(simulator, port) as back:
        flow.erp = back

        flow.run()

    assert (len(simulator.effects_of(5001)), flow.state(5001)) == (1, "done")
    flow.erp = usual


@pytest.mark.thorough
def test_runs_in_which_a_plan_waits_for_a_word_are_no_attempts(make_flow: MakeFlow) -> None:
    flow = make_flow(1, mapping=MAPPING, max_attempts=3)
    flow.erp.simulator.fail("drop", times=1)
    for _ in range(12):
        flow.run()
    with flow.journal() as journal:
        journal.resolve(flow.row(5001).id, arrived=False, who="p")
    flow.http = {"sleep": at_once}
    flow.erp.simulator.fail("status", status=429, times=3)
    flow.run()
    assert (flow.state(5001), flow.row(5001).attempts) == ("failed", 2)

    flow.run()

    assert flow.state(5001) == "done"


def test_a_rejection_that_nobody_has_to_be_told_stands_whatever_the_settings_become(
    make_flow: MakeFlow,
) -> None:
    """Nothing is written for a rejected plan of a transaction; the list of its order fails, and it is open again."""
    flow = a_flow(make_flow, documents(1), erp__refusal="failure")
    flow.erp.simulator.fail("refuse", plan=5001, times=1)
    own, broken = flow.omnitron.simulator.handle, [True]

    def handle(call: Any) -> Any:
        of_order = "order_id" in call.query and "status" not in call.query
        return answer(500, {"detail": "try again"}) if broken[0] and of_order else own(call)

    flow.omnitron.simulator.handle = handle
    flow.run()
    assert (flow.state(5001), flow.row(5001).relation) == ("failed", "failure")
    broken[0], flow.raw["mapping"] = False, MAPPING

    flow.run()

    assert (flow.state(5001), len(flow.sent())) == ("rejected", 1)
