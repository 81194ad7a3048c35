"""A commit fails while requests of other plans are on the wire: all that was sent is known, nothing is sent twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from include.order_cancel import flow as flow_module
from include.order_cancel.errors import JournalDown
from include.order_cancel.journal import Journal
from include.order_cancel.rows import Move, State
from include.order_cancel.writer import Writer
from include.simulator import ErpSimulator
from tests.harness import Flow
from tests.integration.conftest import MakeFlow

PLANS = 8
ALL = [5001 + number for number in range(PLANS)]
Fails = Callable[[Sequence[Move]], bool]


class Commits:
    """Lets chosen commits fail, once made or instead of being made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails: Fails = lambda moves: False
        self.made = False
        self.failed = 0
        self.after = threading.Event()
        self.states: list[State] = []
        real = Journal.apply

        def apply(journal: Journal, moves: Sequence[Move]) -> Any:
            if not self.fails(moves):
                return real(journal, moves)
            self.failed += 1
            if self.made:
                real(journal, moves)
            self.after.set()
            raise JournalDown("the database restarts")

        monkeypatch.setattr(Journal, "apply", apply)

    def fail_once(self, state: State, *, made: bool = False) -> None:
        """The first commit that holds a move to this state fails; `made`: the database has made it all the same."""
        self.made = made
        self.fails = lambda moves: not self.failed and any(move.row.state is state for move in moves)


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> Commits:
    monkeypatch.setattr(Writer, "try_again_seconds", 0.0)  # once more, at once
    return Commits(monkeypatch)


class OneQuick(ErpSimulator):
    """An ERP that has got every request before it answers the first, and answers the others once `go_on` is set."""

    def __init__(self, go_on: threading.Event) -> None:
        super().__init__()
        self._go_on, self._came, self._all_came = go_on, 0, asyncio.Event()

    async def _respond(self, call: Any, request: Any) -> Any:
        response = await super()._respond(call, request)
        if call.path == "/cancellations":
            self._came += 1
            first = self._came == 1
            if self._came == PLANS:
                self._all_came.set()
            await (self._all_came.wait() if first else asyncio.to_thread(self._go_on.wait, 20))
        return response


def a_lot(make_flow: MakeFlow, **more: Any) -> Flow:
    return make_flow(PLANS, fan_out=0, lots=1, erp__max_in_flight=PLANS, **more)


def bulk_once_more(flow: Flow) -> dict[str, int]:
    """Airflow's retry of the task."""
    assert flow.run_id is not None
    return flow_module.bulk(flow.in_run(f"run {flow.runs}"), flow.run_id, 0, True)


def once_each(flow: Flow) -> bool:
    effects = sorted(effect.plan for effect in flow.erp.simulator.effects)
    return effects == ALL and all(len(flow.sent(pk)) == 1 for pk in ALL)


@pytest.mark.parametrize("made", [False, True])
def test_requests_on_the_wire_end_and_are_written_when_a_neighbour_s_commit_fails(
    make_flow: MakeFlow, commits: Commits, made: bool
) -> None:
    flow = a_lot(make_flow, erp=OneQuick(commits.after))
    commits.fail_once(State.ANSWERED, made=made)

    with pytest.raises(JournalDown, match="the database restarts"):
        flow.run()

    assert set(flow.states().values()) <= {"answered", "written_back", "done"}
    assert once_each(flow)
    bulk_once_more(flow)
    assert set(flow.states().values()) == {"done"}
    assert once_each(flow)
    assert flow.omnitron.simulator.writes == dict.fromkeys(ALL, 1)


@pytest.mark.parametrize("state", [State.SENDING, State.ANSWERED, State.DONE])
def test_a_commit_that_was_made_though_it_failed_is_not_made_twice(
    make_flow: MakeFlow, commits: Commits, state: State
) -> None:
    flow = a_lot(make_flow)
    commits.fail_once(state, made=True)

    with pytest.raises(JournalDown):
        flow.run()
    bulk_once_more(flow)

    assert commits.failed == 1
    assert set(flow.states().values()) == {"done"}
    assert once_each(flow)
    with flow.journal() as journal:
        for row in flow.rows().values():
            happened, bodies = journal.journey(row.id)
            assert len({(event.at, event.step, event.what) for event in happened}) == len(happened)
            assert [body.kind for body in bodies].count("response") == 1


@pytest.mark.parametrize("made", [False, True])
def test_a_request_whose_intent_could_not_be_committed_at_once_is_not_sent_and_not_in_doubt(
    make_flow: MakeFlow, commits: Commits, made: bool
) -> None:
    flow = a_lot(make_flow)
    commits.fail_once(State.SENDING, made=made)

    with pytest.raises(JournalDown):
        flow.run()

    assert flow.sent() == []
    assert set(flow.states().values()) == {"fetched"}
    bulk_once_more(flow)
    assert set(flow.states().values()) == {"done"}
    assert once_each(flow)


@pytest.mark.parametrize("state", [State.SENDING, State.ANSWERED, State.DONE])
def test_one_plan_s_commit_that_was_made_though_it_failed_leaves_nothing_in_doubt(
    make_flow: MakeFlow, commits: Commits, state: State
) -> None:
    flow = make_flow(1)
    commits.fail_once(state, made=True)

    with pytest.raises(JournalDown):
        flow.run()
    kept = flow.state(5001)
    outcome = flow.run_again()

    assert kept == {State.SENDING: "fetched"}.get(state, str(state))
    assert outcome.gate == "open"
    assert flow.states() == {"5001": "done"}
    assert len(flow.sent()) == 1
    assert flow.omnitron.simulator.writes == {5001: 1}


def test_no_plan_is_begun_after_a_commit_that_failed(make_flow: MakeFlow, commits: Commits) -> None:
    flow = make_flow(PLANS, fan_out=0, lots=1, erp__max_in_flight=1)
    commits.fail_once(State.ANSWERED)

    with pytest.raises(JournalDown):
        flow.run()

    assert len(flow.sent()) == 1
    bulk_once_more(flow)
    assert once_each(flow)


def test_a_journal_that_stays_away_ends_the_task(make_flow: MakeFlow, commits: Commits) -> None:
    flow = a_lot(make_flow, erp=OneQuick(commits.after))
    commits.fails = lambda moves: any(move.row.state is State.ANSWERED for move in moves)

    with pytest.raises(JournalDown, match="the database restarts"):
        flow.run()

    assert set(flow.states().values()) == {"sending"}
