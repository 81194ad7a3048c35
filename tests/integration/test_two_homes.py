"""The same flow from two Airflow homes on one PostgreSQL journal at once: no plan is taken by both."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from include.order_cancel.journal import Journal
from include.simulator import ErpSimulator
from tests.harness import MAPPING, Flow, Outcome
from tests.integration.conftest import MakeFlow
from tests.integration.test_answers import LOGIN
from tests.shares import thorough

COUNT = 24


def homes(flow: Flow, count: int = 2) -> list[Flow]:
    """The flow as several homes run it."""
    return [replace(flow, home=f"home {number}", _journal=None) for number in range(count)]


def at_once(flows: list[Flow]) -> list[Outcome]:
    """One run of each, begun together and listing together."""
    together = threading.Barrier(len(flows), timeout=30)

    def run(flow: Flow) -> Outcome:
        flow.between = lambda task: together.wait() and None if task == "login" else None
        return flow.run()

    with ThreadPoolExecutor(len(flows)) as pool:
        outcomes = list(pool.map(run, flows))
    for flow in flows:
        flow.between = lambda task: None
    return outcomes


def close(flows: list[Flow]) -> None:
    for flow in flows:
        flow.close()


@pytest.mark.parametrize("fan_out", [thorough(COUNT, id="plan by plan"), pytest.param(5, id="side by side")])
def test_no_plan_is_taken_by_both(make_flow: MakeFlow, postgres_url: str, fan_out: int) -> None:
    flow = make_flow(COUNT, url=postgres_url, fan_out=fan_out, lots=2, omnitron__page_size=7)
    flow.omnitron.simulator.set(latency_ms=3)
    both = homes(flow)

    outcomes = at_once(both)

    assert Counter(call.pk for call in flow.sent()) == dict.fromkeys(range(5001, 5001 + COUNT), 1)
    assert sum(outcome.report["outcomes"].get("done", 0) for outcome in outcomes) == COUNT
    assert {outcome.gate for outcome in outcomes} == {"open"}
    assert set(flow.states().values()) == {"done"}
    close(both)


@pytest.mark.thorough
def test_failed_plans_of_both_are_taken_once_by_the_next_runs(make_flow: MakeFlow, postgres_url: str) -> None:
    flow = make_flow(COUNT, url=postgres_url, fan_out=0, lots=1)
    flow.erp.simulator.fail("refuse", plan="*")
    both = homes(flow)
    at_once(both)
    flow.erp.simulator.faults.clear()

    at_once(both)

    assert Counter(effect.plan for effect in flow.erp.simulator.effects) == dict.fromkeys(
        range(5001, 5001 + COUNT), 1
    )
    assert set(flow.states().values()) == {"done"}
    close(both)


def test_an_expired_token_costs_both_one_login(make_flow: MakeFlow, postgres_url: str) -> None:
    flow = make_flow(
        COUNT, url=postgres_url, erp=ErpSimulator(auth="token"), erp__login=LOGIN, fan_out=0, lots=1
    )
    both = homes(flow)
    both[0].run(plan_ids=[5001])
    flow.erp.simulator.expire_tokens()
    flow.omnitron.simulator.expire_tokens()

    at_once(both)

    assert (flow.erp.simulator.logins, flow.omnitron.simulator.logins) == (2, 2)
    assert len(flow.erp.simulator.effects) == COUNT
    close(both)


def test_a_home_that_died_leaves_its_plans_to_the_other(make_flow: MakeFlow, postgres_url: str) -> None:
    flow = make_flow(4, url=postgres_url)
    dead, alive = homes(flow)

    def die(task: str) -> None:
        if task == "open_plans":
            raise ConnectionError(task)

    dead.between = die
    with pytest.raises(ConnectionError):
        dead.run()
    while_it_seems_alive = alive.run()
    with dead.journal() as journal:
        journal.finish_run(dead.run_id or 0)

    outcome = alive.run()

    assert while_it_seems_alive.report["left_out"] == {"elsewhere": 4}
    assert outcome.report["outcomes"] == {"done": 4}
    assert len(flow.sent()) == 4
    close([dead, alive])


def run_home(number: int, omnitron: str, erp: str, journal: str, raw: dict[str, Any]) -> str:
    flow = Flow(SimpleNamespace(url=omnitron), SimpleNamespace(url=erp), journal, raw, home=f"home {number}")
    outcome = flow.run()
    flow.close()
    return outcome.gate


@pytest.mark.thorough
def test_no_plan_is_taken_twice_by_homes_in_processes_of_their_own(
    make_flow: MakeFlow, postgres_url: str
) -> None:
    flow = make_flow(60, url=postgres_url, mapping=MAPPING, fan_out=0, lots=2, omnitron__page_size=10)
    Journal.open(postgres_url).close()
    given = (flow.omnitron.url, flow.erp.url, postgres_url, flow.raw)

    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        gates = [task.result() for task in [pool.submit(run_home, number, *given) for number in range(3)]]

    assert gates == ["open"] * 3
    assert Counter(call.pk for call in flow.sent()) == dict.fromkeys(range(5001, 5061), 1)
    assert set(flow.states().values()) == {"done"}
