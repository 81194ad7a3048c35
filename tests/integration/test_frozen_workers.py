"""Workers that sleep longer than their lease (SIGSTOP) and wake up at the worst moments, when others have gone on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.order_cancel import flow as flow_module
from include.order_cancel import under_way
from include.order_cancel.erp import Erp
from include.order_cancel.errors import LeaseLost
from include.order_cancel.omnitron import Omnitron
from include.order_cancel.rows import State
from tests.harness import Flow, Outcome
from tests.integration.conftest import MakeFlow
from tests.integration.test_bulk import PATIENCE_SECONDS, until
from tests.journal_fixtures import let_deadline_pass, let_lease_lapse, let_run_die
from tests.shares import thorough

INTENT, LOOK, WIRE, ANSWER, WRITE_BACK = (
    "after the intent's commit, before the last look",
    "after the last look's own commit",
    "after the last look, before the first byte",
    "after the answer, before its commit",
    "before the write-back",
)
MOMENTS = (INTENT, LOOK, WIRE, ANSWER, WRITE_BACK)
LANES = {"bulk": {"fan_out": 0, "lots": 1}, "plan": {"fan_out": 5}}
QUICK_ONES = {("plan", LOOK), ("bulk", WIRE), ("plan", WRITE_BACK)}
NOTICED_SECONDS = 2.7  # from so long a pause on, the last look before the first byte asks the journal again


def freeze_at(moment: str) -> None:
    """Let this process stop itself, once, when it comes to the moment."""
    places: dict[str, tuple[Any, str, bool]] = {
        INTENT: (under_way.Plan, "before_first_byte", True),
        LOOK: (under_way.Plan, "commit", False),
        WIRE: (under_way.Plan, "before_first_byte", False),
        ANSWER: (Erp, "send", False),
        WRITE_BACK: (Omnitron, "write_back", True),
    }
    owner, name, before = places[moment]
    usual = getattr(owner, name)

    async def frozen(*given: Any, **named: Any) -> Any:
        setattr(owner, name, usual)
        if before:
            os.kill(os.getpid(), signal.SIGSTOP)
        result = await usual(*given, **named)
        if not before:
            os.kill(os.getpid(), signal.SIGSTOP)
        return result

    setattr(owner, name, frozen)


def freeze_in_the_last_look() -> None:
    """Let this process stop itself at the end of the commit that sets a used-up deadline anew."""
    usual = under_way.Plan.before_first_byte

    async def waited_long(plan: under_way.Plan) -> None:
        under_way.Plan.before_first_byte = usual
        plan.deadline_set_at = float("-inf")
        freeze_at(LOOK)
        await usual(plan)

    under_way.Plan.before_first_byte = waited_long


def work(
    lane: str, moment: str, omnitron: str, erp: str, journal: str, raw: dict[str, Any], run: int
) -> None:
    """The worker: one lot, or one plan's tasks."""
    flow = Flow(SimpleNamespace(url=omnitron), SimpleNamespace(url=erp), journal, raw)
    if moment == LOOK:
        freeze_in_the_last_look()
    else:
        freeze_at(moment)
    if lane == "bulk":
        flow_module.bulk(flow.around, run, 0, False)
        return
    (member,) = flow_module.open_plans(flow.around, run)
    try:
        flow_module.carry_one(flow.around, member, "write_to_omnitron", False, lambda name: None)
    except LeaseLost:
        return


@contextmanager
def frozen_worker(flow: Flow, lane: str, moment: str) -> Iterator[BaseProcess]:
    """A worker that has stopped at this moment, and its run, not heard of for so long that others may go on."""
    run_id = flow_module.login(flow.around, "frozen", flow_module.Params())
    assert run_id is not None
    flow_module.get_data(flow.around, run_id, flow_module.Params())
    arguments = (lane, moment, flow.omnitron.url, flow.erp.url, flow.journal_url, flow.raw, run_id)
    worker = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    worker.start()
    try:
        until(lambda: is_stopped(worker.pid))
        with flow.journal() as journal:
            let_run_die(flow.journal_url, journal.run(run_id))
        let_lease_lapse(flow.journal_url, flow.row(5001))
        let_deadline_pass(flow.journal_url, flow.row(5001))
        yield worker
    finally:
        worker.kill()
        worker.join(PATIENCE_SECONDS)


def is_stopped(pid: int | None) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def wake(worker: BaseProcess) -> None:
    """Let the worker go on to its end."""
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGCONT)
    worker.join(PATIENCE_SECONDS)
    assert worker.exitcode == 0


@pytest.fixture
def frozen(make_flow: MakeFlow, journal_url: str) -> Callable[..., Flow]:
    def make(lane: str, policy: str) -> Flow:
        return make_flow(1, url=journal_url, erp__timeout_seconds=20, erp__in_doubt=policy, **LANES[lane])

    return make


@pytest.mark.parametrize(
    ("lane", "moment"),
    [
        pytest.param(lane, moment, marks=[] if (lane, moment) in QUICK_ONES else pytest.mark.thorough)
        for lane, moment in product(LANES, MOMENTS)
    ],
)
def test_a_plan_whose_worker_slept_is_delivered_once_by_its_successor(
    frozen: Callable[..., Flow], lane: str, moment: str
) -> None:
    flow = frozen(lane, "resend")
    with frozen_worker(flow, lane, moment) as worker:
        if moment in (INTENT, LOOK):
            time.sleep(NOTICED_SECONDS)
        outcome = flow.run()
        after = flow.row(5001)
        wake(worker)

    assert (outcome.gate, after.state) == ("open", State.DONE)
    assert flow.row(5001) == after, "what the sleeper knew is old, and refused"
    assert len(flow.erp.simulator.effects_of(5001)) == 1
    assert len(flow.sent()) == {INTENT: 1, LOOK: 1, WIRE: 2, ANSWER: 2, WRITE_BACK: 1}[moment]
    assert len(set(flow.keys(5001))) == 1
    assert len({call.raw for call in flow.sent()}) == 1
    assert flow.omnitron.simulator.transitions == [(5001, "waiting", "approved")]


@pytest.mark.parametrize("moment", [INTENT, thorough(LOOK), thorough(WIRE), thorough(ANSWER)])
def test_where_doubt_is_held_a_worker_that_slept_repeats_nothing_and_writes_nothing_back(
    frozen: Callable[..., Flow], moment: str
) -> None:
    flow = frozen("bulk", "hold")
    with frozen_worker(flow, "bulk", moment) as worker:
        if moment in (INTENT, LOOK):
            time.sleep(NOTICED_SECONDS)
        flow.run()
        wake(worker)

    assert flow.state(5001) == "in_doubt"
    assert len(flow.sent()) == {INTENT: 0, LOOK: 0, WIRE: 1, ANSWER: 1}[moment]
    assert flow.written() == []


@pytest.mark.parametrize("lane", LANES)
def test_a_run_that_is_cleared_while_the_next_is_under_way_leaves_its_plans_to_it(
    make_flow: MakeFlow, journal_url: str, lane: str
) -> None:
    flow = make_flow(4, url=journal_url, **LANES[lane])
    flow.erp.simulator.fail("refuse", plan="*", times=4 if lane == "plan" else 8)
    first = flow.run()
    first_run = flow.run_id
    endings: list[str] = []

    def clear(task: str) -> None:
        if task != "get_data":
            return
        flow.between = lambda task: None
        for lot in first.lots:
            flow_module.bulk(flow.around, first_run or 0, lot, True)
        endings.extend(first.carry(member, again=True) for member in first.members)

    flow.between = clear
    sent_before = len(flow.sent())
    second: Outcome = flow.run()

    assert endings == ["busy"] * 4
    assert second.report["outcomes"] == {"done": 4}
    assert len(flow.sent()) == sent_before + 4
    assert len(flow.erp.simulator.effects) == 4
    assert [first.carry(member, again=True) for member in first.members] == ["green"] * 4
    assert len(flow.sent()) == sent_before + 4
