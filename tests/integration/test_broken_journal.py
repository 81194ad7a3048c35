"""The journal's disk is full, the file cannot be written, is held by another process, is no database any more."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, make_url

from include.order_cancel.errors import JournalDown
from include.order_cancel.journal import Journal
from include.order_cancel.rows import Move, State
from include.order_cancel.writer import Writer
from tests.harness import Flow
from tests.integration.conftest import MakeFlow


@pytest.fixture(autouse=True)
def once_more_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that failed is tried once more, without a pause."""
    monkeypatch.setattr(Writer, "try_again_seconds", 0.0)


def spoil(flow: Flow, pragma: str) -> None:
    """Every new connection to the journal begins with this; its file has no free pages left."""
    with flow.journal() as journal:
        journal.release_pages(10_000)
        engine = journal._reader
    engine.dispose()

    def begin(connection: Any, _: Any) -> None:
        connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", begin, insert=True)


def forget(flow: Flow) -> None:
    """The next task opens the journal anew."""
    flow.close()
    flow._journal = None


def file_of(flow: Flow) -> str:
    return str(make_url(flow.journal_url).database)


FULL = (
    "max_page_count=1",
    "free space on its disk",
)  # the file keeps the pages that it has, and gets no more
READ_ONLY = ("query_only=1", "let the user of Airflow's workers write")


@pytest.mark.parametrize(
    ("pragma", "mend", "task"),
    [(*FULL, "login"), *((*READ_ONLY, task) for task in ("login", "get_data", "mapping", "write_to_erp"))],
)
def test_a_journal_that_cannot_be_written_stops_the_run_and_the_next_one_goes_on(
    make_flow: MakeFlow, pragma: str, mend: str, task: str
) -> None:
    flow = make_flow(3, mapping=[{"operation": "shift", "spec": {"pk": "plan"}}])
    flow.between = lambda name: spoil(flow, pragma) if name == task else None

    with pytest.raises(JournalDown) as told:
        flow.run()
    forget(flow)
    flow.between = lambda name: None
    flow.run_again()
    flow.run()

    assert file_of(flow) in str(told.value)
    assert mend in str(told.value)
    assert set(flow.states().values()) == {"done"}
    assert sorted(effect.plan for effect in flow.erp.simulator.effects) == [5001, 5002, 5003]
    assert flow.omnitron.simulator.writes == dict.fromkeys((5001, 5002, 5003), 1)


def test_a_journal_held_by_another_process_says_so(make_flow: MakeFlow) -> None:
    flow = make_flow(1)
    spoil(flow, "busy_timeout=50")
    holder = sqlite3.connect(file_of(flow), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(JournalDown, match=r"is locked .*another process holds it"):
        flow.run()
    holder.close()
    flow.run()

    assert flow.states() == {"5001": "done"}


def test_a_journal_that_is_no_database_is_restored_from_its_backup(make_flow: MakeFlow) -> None:
    flow = make_flow(2)
    flow.run()
    forget(flow)
    file = Path(file_of(flow))
    backup = shutil.copy(file, file.with_suffix(".backup"))
    file.write_bytes(b"no database any more " * 500)

    with pytest.raises(JournalDown, match=r"not a database .*restore it from its backup"):
        flow.run()
    shutil.copy(backup, file)
    flow.run()

    assert len(flow.sent()) == 2


@pytest.mark.parametrize("state", [State.SENDING, State.ANSWERED, State.DONE])
def test_a_commit_that_failed_once_is_made_and_ends_the_task_and_its_retry_goes_on(
    make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    flow = make_flow(1, erp__in_doubt="resend")
    applied, failed = Journal.apply, []

    def apply(self: Journal, moves: Sequence[Move]) -> Any:
        if not failed and moves[0].row.state is state:
            failed.append(moves[0].row.state)
            raise JournalDown("gone for a moment")
        return applied(self, moves)

    monkeypatch.setattr(Journal, "apply", apply)

    with pytest.raises(JournalDown, match="gone for a moment"):
        flow.run()
    kept = flow.state(5001)
    flow.run_again()

    assert kept == ("fetched" if state is State.SENDING else state)
    assert flow.states() == {"5001": "done"}
    assert len(flow.erp.simulator.effects) == 1
    assert len(flow.sent()) == 1
