"""While a request is on the wire nobody else has its plan, wherever a pause falls and whatever the wall clock says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from include.order_cancel import flow as flow_module
from include.order_cancel.errors import RowBusy
from include.order_cancel.journal import Journal, OnTheWire
from include.order_cancel.rows import State
from tests.harness import Flow
from tests.integration.conftest import MakeFlow
from tests.journal_fixtures import Clocks
from tests.shares import thorough

# The journal's clock is read, or a transaction has ended: in turn, from the claim to the first byte.
BOUNDARIES = range(1, 7)


def on_arrival(flow: Flow, act: Callable[[], None]) -> None:
    """Do something whenever the ERP has got a request and not answered it."""
    simulator = flow.erp.simulator
    usual = simulator.handle

    def handle(call: Any) -> Any:
        act()
        return usual(call)

    simulator.handle = handle


def second_try(flow: Flow, found: list[object]) -> Callable[[], None]:
    """What Airflow's second try, or a person, is told of the plan."""

    def act() -> None:
        journal = Journal.open(flow.journal_url)
        row = journal.find(flow.name)[0]
        try:
            found.append(journal.claim_one(row.id, flow.run_id or 0, "second try").state)
        except RowBusy as busy:
            found.append(type(busy))
        journal.close()

    return act


def carry(flow: Flow, monkeypatch: pytest.MonkeyPatch, pause: Callable[[], None] | None = None) -> None:
    """Take the flow's plans through a lot; `pause` is called at every boundary of the journal meanwhile."""
    run_id = flow_module.login(flow.around, "paused", flow_module.Params())
    assert run_id is not None
    flow.run_id = run_id
    flow_module.get_data(flow.around, run_id, flow_module.Params())
    if pause is not None:
        _stop_at_boundaries(monkeypatch, pause)
    flow_module.bulk(flow.around, run_id, 0, False)


def _stop_at_boundaries(monkeypatch: pytest.MonkeyPatch, pause: Callable[[], None]) -> None:
    read, wrote = Journal._now, Journal._writing

    def now(journal: Journal, connection: Any) -> float:
        found = read(journal, connection)
        pause()
        return found

    @contextmanager
    def writing(journal: Journal) -> Iterator[Any]:
        with wrote(journal) as connection:
            yield connection
        pause()

    monkeypatch.setattr(Journal, "_now", now)
    monkeypatch.setattr(Journal, "_writing", writing)


@pytest.mark.parametrize(
    ("who", "boundary"),
    [("passed", boundary) for boundary in BOUNDARIES]
    + [thorough("slept", boundary) for boundary in BOUNDARIES],
)
def test_a_pause_anywhere_before_the_first_byte_leaves_no_deadline_in_the_past(
    make_flow: MakeFlow, journal_url: str, monkeypatch: pytest.MonkeyPatch, who: str, boundary: int
) -> None:
    flow = make_flow(1, url=journal_url, fan_out=0, lots=1, erp__timeout_seconds=3)
    clocks = Clocks(monkeypatch)
    found: list[object] = []
    ask = second_try(flow, found)
    passed: list[str] = []

    def arrived() -> None:
        passed.extend(["arrived"] * len(BOUNDARIES))
        ask()

    def pause() -> None:
        passed.append("boundary")
        if len(passed) == boundary:
            setattr(clocks, who, 9)

    on_arrival(flow, arrived)
    carry(flow, monkeypatch, pause)

    assert found == [OnTheWire]
    assert flow.state(5001) == "done"
    assert len(flow.sent()) == 1


@pytest.mark.parametrize("set_by", [-3600, 3600])
def test_a_wall_clock_that_is_set_while_a_request_is_on_the_wire_gives_its_plan_to_nobody(
    make_flow: MakeFlow, journal_url: str, monkeypatch: pytest.MonkeyPatch, set_by: float
) -> None:
    flow = make_flow(1, url=journal_url, fan_out=0, lots=1)
    clocks = Clocks(monkeypatch)
    found: list[object] = []

    ask = second_try(flow, found)

    def set_clock_and_ask() -> None:
        clocks.set_by = set_by
        ask()

    on_arrival(flow, set_clock_and_ask)
    carry(flow, monkeypatch)

    assert found == [OnTheWire]
    assert flow.state(5001) == "done"


def test_a_wall_clock_that_was_set_back_keeps_nobody_waiting_longer_than_the_request_may_take(
    make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow(1, fan_out=0, lots=1, erp__in_doubt="resend")
    clocks = Clocks(monkeypatch)
    found: list[object] = []
    again = second_try(flow, found)

    def pass_over() -> None:
        clocks.set_by -= 86_400
        again()
        clocks.passed += 11
        again()

    on_arrival(flow, pass_over)
    carry(flow, monkeypatch)

    assert found == [OnTheWire, State.SENDING]
