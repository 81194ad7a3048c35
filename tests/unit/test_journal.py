"""The journal: who may move a row, what a run takes, and that nothing is lost between processes.

Every test that takes `journal_url` runs on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import json
import multiprocessing
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, create_engine, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError

from include.order_cancel import journal as journal_module
from include.order_cancel import schema
from include.order_cancel.errors import JournalDown, LeaseLost, OrderCancelError, RowBusy
from include.order_cancel.journal import ALIVE_SECONDS, Journal, OnTheWire, idempotency_key
from include.order_cancel.placing import Placing
from include.order_cancel.restoring import JournalBehind, check_not_behind, note_restore
from include.order_cancel.rows import Body, Event, Move, Post, Relation, Row, Run, State
from tests.journal_fixtures import (
    FLOW,
    HOST,
    Clocks,
    a_run,
    let_deadline_pass,
    let_lease_lapse,
    let_pass,
    let_run_die,
    listed,
    settle,
    with_plans,
)

PROCESSES = 4


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Real processes, each with its own connections."""
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=spawned) as pool:
        yield pool


# Opening


def open_and_count_runs(url: str) -> int:
    journal = Journal.open(url)
    run = journal.begin_run(FLOW, "run 1", "home", HOST, {})
    journal.close()
    return run.id


def test_many_processes_that_open_a_new_journal_at_once_find_one_schema(
    new_url: str, processes: ProcessPoolExecutor
) -> None:
    found = list(processes.map(open_and_count_runs, [new_url] * (2 * PROCESSES)))

    engine = create_engine(new_url)
    with engine.connect() as connection:
        versions = list(connection.execute(text("SELECT version_num FROM order_cancel_version")).scalars())
    assert versions == [schema.HEAD]
    assert set(found) == {found[0]}
    engine.dispose()


def test_the_migrated_schema_is_the_declared_one(journal: Journal, journal_url: str) -> None:
    engine = create_engine(journal_url)

    there = inspect(engine)
    for table in schema.metadata.sorted_tables:
        assert {column["name"] for column in there.get_columns(table.name)} == set(table.columns.keys())
        indexed = {index["name"] for index in there.get_indexes(table.name)}
        assert {index.name for index in table.indexes} <= indexed
    engine.dispose()


def test_the_files_of_a_new_journal_can_be_read_by_their_owner_only(tmp_path: Path) -> None:
    journal = Journal.open(f"sqlite:///{tmp_path / 'deep' / 'order_cancel.db'}")
    a_run(journal)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep").iterdir()}
    journal.close()

    assert modes
    assert set(modes.values()) == {0o600}


def test_a_journal_whose_folder_is_a_file_is_down(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(JournalDown):
        Journal.open(f"sqlite:///{tmp_path / 'file' / 'order_cancel.db'}")


def test_a_file_that_is_no_database_is_a_journal_that_is_down(tmp_path: Path) -> None:
    (tmp_path / "order_cancel.db").write_text("no database, but long enough to look for a header" * 20)

    with pytest.raises(JournalDown):
        Journal.open(f"sqlite:///{tmp_path / 'order_cancel.db'}")


def test_a_server_that_does_not_listen_is_a_journal_that_is_down() -> None:
    with pytest.raises(JournalDown, match=r"cannot be used: .*127\.0\.0\.1:1/nothing"):
        Journal.open("postgresql+psycopg://nobody@127.0.0.1:1/nothing")


def test_a_connection_that_the_server_ended_is_replaced(postgres_url: str) -> None:
    journal = Journal.open(postgres_url)
    journal.now()
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        connection.execute(text(f"{ended} AND pid <> pg_backend_pid()"))

    assert journal.now() > 0
    journal.close()
    engine.dispose()


def test_nothing_is_kept_of_a_plan_that_is_not_there(journal: Journal) -> None:
    stray = insert(schema.events).values(plan_id=404, at=1.0, step="", what="", detail="")

    with pytest.raises(IntegrityError), journal.transaction() as (connection, _):
        connection.execute(stray)


def test_the_clock_is_the_databases(journal: Journal) -> None:
    assert abs(journal.now() - time.time()) < 5


# Runs and settings


def test_a_run_is_the_same_one_when_asked_for_again_and_another_in_another_home(journal: Journal) -> None:
    first = a_run(journal)

    assert a_run(journal).id == first.id
    assert a_run(journal, home="elsewhere").id != first.id
    assert a_run(journal, "run 2").id != first.id
    assert journal.run(first.id).run_key == "run 1"


def test_a_run_that_is_not_there_is_said(journal: Journal) -> None:
    with pytest.raises(OrderCancelError, match="no run 77"):
        journal.run(77)
    with pytest.raises(OrderCancelError, match="no member 77"):
        journal.member(77)
    with pytest.raises(OrderCancelError, match="no row 77"):
        journal.row(77)


def test_settings_are_kept_once_by_their_digest(journal: Journal) -> None:
    journal.save_snapshot(FLOW, "d1", {"script": "ş\x00"})
    journal.save_snapshot(FLOW, "d1", {"script": "another"})

    assert journal.snapshot("d1") == {"script": "ş\x00"}
    with pytest.raises(OrderCancelError):
        journal.snapshot("d2")


def test_the_first_reason_of_a_stop_stays_until_it_is_lifted(journal: Journal) -> None:
    run = a_run(journal)
    journal.stop(run.id, "token refused")
    journal.stop(run.id, "another")

    assert journal.stopped(run.id) == "token refused"
    journal.go_on(run.id)
    assert journal.stopped(run.id) is None


# Taking plans into a run


def test_a_listing_that_is_repeated_takes_each_plan_once(journal: Journal) -> None:
    run = a_run(journal)
    first = journal.take_page(run, [listed(1), listed(2)], Placing())
    again = journal.take_page(run, [listed(2), listed(1), listed(3)], Placing())
    journal.commit_run(run, fan_out=50, lots=4, counts={}, queried_at=None)

    rows = journal.run_rows(run.id)
    assert first == {"new": 2}
    assert again == {"new": 3}
    assert sorted(row.pk for row in rows) == ["1", "2", "3"]
    for row in rows:
        happened, bodies = journal.journey(row.id)
        assert [body.kind for body in bodies] == ["document"]
        assert [event.what for event in happened] == ["fetched"]


def test_what_the_last_reading_of_a_list_does_not_show_is_not_listed(journal: Journal) -> None:
    first, rows = with_plans(journal, 1, 2)
    for row in rows.values():
        settle(journal, first, row, State.FAILED)
    journal.finish_run(first.id)
    run = a_run(journal, "run 2")
    journal.take_page(run, [listed(pk) for pk in (1, 2, 3, 4)], Placing())

    journal.begin_listing(run)
    journal.take_page(run, [listed(2), listed(4, content="newer")], Placing())
    journal.commit_run(run, fan_out=50, lots=4, counts={}, queried_at=None)

    members = journal.open_members(run.id, 50)
    assert {journal.row(m.plan_id).pk: m.listed for m in members} == {
        "1": False,
        "2": True,
        "3": False,
        "4": True,
    }
    (newer,) = (row for row in journal.run_rows(run.id) if row.pk == "4")
    assert newer.digest == listed(4, content="newer").digest
    assert [json.loads(body.content)["content"] for body in journal.journey(newer.id)[1]] == [
        "first",
        "newer",
    ]


def test_a_plan_that_a_person_names_and_that_was_tried_is_not_listed(journal: Journal) -> None:
    first, rows = with_plans(journal, 1)
    settle(journal, first, rows["1"], State.DEAD)
    journal.finish_run(first.id)
    run = a_run(journal, "run 2")
    journal.take_page(run, [listed(1), listed(2)], Placing(named=True))
    journal.commit_run(run, fan_out=50, lots=4, counts={}, queried_at=None)

    members = journal.open_members(run.id, 50)
    assert {journal.row(m.plan_id).pk: m.listed for m in members} == {"1": False, "2": True}


def test_a_listing_task_that_slept_takes_nothing_once_its_retry_has_frozen_the_run(journal: Journal) -> None:
    run, _ = with_plans(journal, 1, 2)
    before = (journal.open_members(run.id, 50), journal.find(FLOW))

    journal.begin_listing(run)
    counts = journal.take_page(run, [listed(1, content="older"), listed(3)], Placing())

    assert counts == journal.take_open(run, Placing()) == {}
    assert before == (journal.open_members(run.id, 50), journal.find(FLOW))


def test_a_page_that_names_a_plan_twice_makes_one_row(journal: Journal) -> None:
    run = a_run(journal)
    journal.take_page(run, [listed(1), listed(1)], Placing())

    assert [row.pk for row in journal.find(FLOW)] == ["1"]
    assert len(journal.run_rows(run.id)) == 1


def test_plans_of_two_hosts_and_flows_are_told_apart(journal: Journal) -> None:
    here = journal.begin_run(FLOW, "run 1", "home", "one.example", {})
    there = journal.begin_run(FLOW, "run 2", "home", "two.example", {})
    other = journal.begin_run("refunds", "run 1", "home", "one.example", {})
    for run in (here, there, other):
        assert journal.take_page(run, [listed(1)], Placing()) == {"new": 1}

    keys = {idempotency_key(row) for flow in (FLOW, "refunds") for row in journal.find(flow)}
    assert len(keys) == 3


def test_a_plan_of_another_live_run_is_left_to_it(journal: Journal) -> None:
    with_plans(journal, 1)
    second = a_run(journal, "run 2", home="elsewhere")

    assert journal.take_page(second, [listed(1), listed(2)], Placing()) == {"elsewhere": 1, "new": 1}
    assert journal.take_open(second, Placing()) == {"elsewhere": 1}


@pytest.mark.parametrize("ending", ["ended", "died"])
def test_a_plan_that_a_run_left_behind_is_taken_by_the_next(
    journal: Journal, journal_url: str, ending: str
) -> None:
    first, _ = with_plans(journal, 1)
    if ending == "ended":
        journal.finish_run(first.id)
    else:
        let_run_die(journal_url, first)
    second = a_run(journal, "run 2")

    assert journal.take_page(second, [listed(1)], Placing()) == {"again": 1}


def test_a_run_lives_for_so_many_seconds_after_it_was_heard_of(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(Journal, "_now", lambda self, connection: now[0])
    with_plans(journal, 1)
    second = a_run(journal, "run 2")

    now[0] += ALIVE_SECONDS - 1
    counts = journal.take_page(second, [listed(1)], Placing())
    now[0] += 1
    later = journal.take_page(second, [listed(1)], Placing())

    assert (counts, later) == ({"elsewhere": 1}, {"again": 1})


def test_a_writer_waits_a_minute_for_another_process(tmp_path: Path) -> None:
    journal = Journal.open(f"sqlite:///{tmp_path / 'order_cancel.db'}")

    with journal._writing() as connection:
        waits = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
    journal.close()

    assert waits == 60_000


def test_taking_a_page_keeps_a_run_alive(journal: Journal, journal_url: str) -> None:
    first, _ = with_plans(journal, 1)
    let_run_die(journal_url, first)
    journal.take_page(first, [listed(2)], Placing())

    assert journal.take_page(a_run(journal, "run 2"), [listed(1)], Placing()) == {"elsewhere": 1}


def test_open_rows_of_earlier_runs_are_taken_unlisted(journal: Journal) -> None:
    first, rows = with_plans(journal, *range(1, 7))
    settle(journal, first, rows["1"], State.FAILED)
    settle(journal, first, rows["2"], State.HELD)
    settle(journal, first, rows["3"], State.DONE)
    settle(journal, first, rows["4"], State.DEAD)
    settle(journal, first, rows["5"], State.FAILED, next_attempt_at=journal.now() + 3600)
    journal.finish_run(first.id)
    second = a_run(journal, "run 2")
    journal.take_page(second, [listed(2)], Placing())

    assert journal.take_open(second, Placing()) == {"again": 2, "resting": 1}
    assert journal.take_open(second, Placing(ignore_backoff=True)) == {"again": 1}
    journal.commit_run(second, fan_out=50, lots=4, counts={}, queried_at=None)
    members = {journal.row(m.plan_id).pk: m.listed for m in journal.open_members(second.id, 50)}
    assert members == {"1": False, "2": True, "5": False, "6": False}


def test_only_the_named_open_rows_are_taken(journal: Journal) -> None:
    first, _ = with_plans(journal, 1, 2)
    journal.finish_run(first.id)
    second = a_run(journal, "run 2")

    assert journal.take_open(second, Placing(named=True), ["2", "9"]) == {"again": 1}
    assert [row.pk for row in journal.run_rows(second.id)] == ["2"]


def test_a_listing_that_is_forgotten_leaves_the_journal_as_it_was(journal: Journal) -> None:
    first, rows = with_plans(journal, 1)
    settle(journal, first, rows["1"], State.FAILED)
    journal.finish_run(first.id)
    second = a_run(journal, "run 2")
    journal.take_page(second, [listed(1), listed(2), listed(3)], Placing())

    journal.forget_listing(second)

    assert [row.pk for row in journal.find(FLOW)] == ["1"]
    assert journal.run_rows(second.id) == []
    third = a_run(journal, "run 3")
    assert journal.take_page(third, [listed(1), listed(2)], Placing()) == {"again": 1, "new": 1}


def test_a_row_that_another_run_took_over_is_not_forgotten(journal: Journal, journal_url: str) -> None:
    first = a_run(journal)
    journal.take_page(first, [listed(1)], Placing())
    let_run_die(journal_url, first)
    second = a_run(journal, "run 2")
    journal.take_page(second, [listed(1)], Placing())

    journal.forget_listing(first)

    assert [row.pk for row in journal.run_rows(second.id)] == ["1"]


def test_open_rows_are_taken_part_by_part(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    first, rows = with_plans(journal, *range(7))
    for row in rows.values():
        settle(journal, first, row, State.FAILED)
    journal.finish_run(first.id)
    monkeypatch.setattr("include.order_cancel.journal._CHUNK", 3)

    counts = journal.take_open(a_run(journal, "run 2"), Placing(ignore_backoff=True))

    assert counts == {"again": 7}


def test_the_oldest_plans_come_first_and_a_limit_drops_the_youngest(journal: Journal) -> None:
    run = a_run(journal)
    journal.take_page(run, [listed(1, day=3), listed(2, day=1), listed(3, day=2)], Placing())
    journal.commit_run(run, fan_out=50, lots=4, counts={}, queried_at=None, limit=2)

    assert [row.pk for row in journal.run_rows(run.id)] == ["2", "3"]
    assert journal.take_open(a_run(journal, "run 2"), Placing()) == {"elsewhere": 2, "again": 1}


@pytest.mark.parametrize("fan_out", [10, 0], ids=["own tasks", "lots"])
def test_a_plan_that_changed_after_it_was_sent_is_shown_by_the_run_and_gets_no_task(
    journal: Journal, fan_out: int
) -> None:
    first, rows = with_plans(journal, 1, 2)
    settle(journal, first, rows["1"], State.DONE)
    settle(journal, first, rows["2"], State.FAILED)
    journal.finish_run(first.id)
    run = a_run(journal, "run 2")

    counts = journal.take_page(run, [listed(1, content="another"), listed(2)], Placing())
    lots = journal.commit_run(run, fan_out=fan_out, lots=1, counts=counts, queried_at=None)

    in_lots = [member.plan_id for lot in lots for member in journal.lot(run.id, lot)]
    own = [member.plan_id for member in journal.open_members(run.id, 10)] if fan_out else []
    assert counts == {"changed": 1, "again": 1}
    assert in_lots + own == [rows["2"].id]
    assert [row.pk for row in journal.run_rows(run.id, [State.CHANGED])] == ["1"]


def test_a_batch_above_fan_out_goes_to_lots(journal: Journal) -> None:
    small, _ = with_plans(journal, *range(10), fan_out=10)
    journal.finish_run(small.id)
    large = a_run(journal, "run 2")
    journal.take_page(large, [listed(pk) for pk in range(11)], Placing())

    lots = journal.commit_run(large, fan_out=10, lots=4, counts={"new": 1}, queried_at=5.0)

    assert journal.lots(small.id) == []
    assert len(journal.open_members(small.id, 10)) == 10
    assert lots == journal.lots(large.id) == [0, 1, 2, 3]
    assert [len(journal.lot(large.id, lot)) for lot in lots] == [3, 3, 3, 2]
    assert journal.open_members(large.id, 10) != []
    found = journal.run(large.id)
    assert (found.committed, found.counts, found.queried_at) == (True, {"new": 1}, 5.0)


def test_a_task_that_slept_leaves_what_its_retry_froze(journal: Journal) -> None:
    run = a_run(journal)
    journal.take_page(run, [listed(pk) for pk in range(6)], Placing())
    frozen = {"fan_out": 5, "lots": 2, "counts": {"new": 6}, "queried_at": 9.0}
    journal.commit_run(run, **frozen)
    journal.take_page(run, [listed(6)], Placing())

    lots = journal.commit_run(run, fan_out=50, lots=4, counts={"new": 7}, queried_at=5.0)

    assert lots == [0, 1]
    assert [len(journal.lot(run.id, lot)) for lot in lots] == [3, 3]
    found = journal.run(run.id)
    assert (found.counts, found.queried_at) == ({"new": 6}, 9.0)


def test_what_a_lot_left_open_gets_indexes_up_to_fan_out_and_the_same_ones_again(journal: Journal) -> None:
    run, rows = with_plans(journal, *range(1, 9), fan_out=3)
    for pk in ("1", "2"):
        settle(journal, run, rows[pk], State.DONE)
    settle(journal, run, rows["3"], State.HELD, relation=Relation.DO_NOTHING)
    for pk in ("4", "5", "6"):
        settle(journal, run, rows[pk], State.FAILED)
    settle(journal, run, rows["7"], State.IN_DOUBT)
    settle(journal, run, rows["8"], State.DEAD)

    opened = journal.open_members(run.id, 3)
    settle(journal, run, rows["4"], State.DONE)

    assert [journal.row(member.plan_id).pk for member in opened] == ["4", "5", "6"]
    assert journal.open_members(run.id, 3) == opened


# Leases and fences


def test_a_row_of_another_live_run_is_refused(journal: Journal) -> None:
    run, rows = with_plans(journal, 1)
    journal.claim_one(rows["1"].id, run.id, "task")
    other = a_run(journal, "run 2")

    with pytest.raises(RowBusy, match="N1 / 1"):
        journal.claim_one(rows["1"].id, other.id, "task")


def test_a_row_that_a_live_run_has_not_come_to_is_refused_too(journal: Journal) -> None:
    _, rows = with_plans(journal, 1)

    with pytest.raises(RowBusy):
        journal.claim_one(rows["1"].id, a_run(journal, "run 2").id, "task")


def test_the_lease_of_a_run_that_ended_is_free_at_once(journal: Journal) -> None:
    run, rows = with_plans(journal, 1)
    journal.claim_one(rows["1"].id, run.id, "task")
    journal.finish_run(run.id)

    assert journal.claim_one(rows["1"].id, a_run(journal, "run 2").id, "task").pk == "1"


def test_the_lease_of_a_run_that_died_must_lapse_first(journal: Journal, journal_url: str) -> None:
    run, rows = with_plans(journal, 1)
    journal.claim_one(rows["1"].id, run.id, "task")
    let_run_die(journal_url, run)
    second = a_run(journal, "run 2")
    with pytest.raises(RowBusy):
        journal.claim_one(rows["1"].id, second.id, "task")

    let_lease_lapse(journal_url, rows["1"])
    assert journal.claim_one(rows["1"].id, second.id, "task").claim_run == second.id


def test_a_later_try_of_the_same_run_takes_over_and_fences_the_earlier_one_off(journal: Journal) -> None:
    run, rows = with_plans(journal, 1)
    earlier = journal.claim_one(rows["1"].id, run.id, "task")
    later = journal.claim_one(rows["1"].id, run.id, "task")
    earlier.state, later.state = State.FAILED, State.PREPARED

    lost = journal.apply([Move(earlier, [Body("response", "late")], [Event("plan", "late")])])
    kept = journal.apply([Move(later)])

    assert isinstance(lost[0], LeaseLost)
    assert kept == [None]
    assert journal.row(later.id).state is State.PREPARED
    happened, bodies = journal.journey(later.id)
    assert "late" not in {event.what for event in happened}
    assert {body.kind for body in bodies} == {"document"}


def test_a_row_on_the_wire_is_had_by_nobody_before_its_deadline(journal: Journal, journal_url: str) -> None:
    run, rows = with_plans(journal, 1)
    row = journal.claim_one(rows["1"].id, run.id, "task")
    row.state, row.request_deadline = State.SENDING, journal.now() + 60
    journal.apply([Move(row)])

    with pytest.raises(OnTheWire) as refused:
        journal.claim_one(row.id, run.id, "retry")
    let_deadline_pass(journal_url, row)
    taken = journal.claim_one(row.id, run.id, "retry")

    assert refused.value.seconds == pytest.approx(60, abs=30)
    assert taken.state is State.SENDING


def sent(journal: Journal, wire_seconds: float = 35.0) -> tuple[Run, Row]:
    """A row whose request went out just now, and may be on the wire for so long."""
    run, rows = with_plans(journal, 1)
    row = journal.claim_one(rows["1"].id, run.id, "task")
    row.state = State.SENDING
    assert journal.apply([Move(row, wire_seconds=wire_seconds)]) == [None]
    return run, row


def test_a_deadline_counts_from_inside_the_transaction_however_long_it_waited_for_its_turn(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks(monkeypatch)
    run, rows = with_plans(journal, 1)
    row = journal.claim_one(rows["1"].id, run.id, "task")
    row.state = State.SENDING
    began = journal._writing

    @contextmanager
    def waits_for_another() -> Iterator[Any]:
        with began() as connection:
            clocks.passed += 60
            yield connection

    monkeypatch.setattr(journal, "_writing", waits_for_another)
    journal.apply([Move(row, wire_seconds=35)])
    monkeypatch.setattr(journal, "_writing", began)

    assert journal.wire_seconds_left(row) == pytest.approx(35, abs=20)
    assert journal.row(row.id).request_deadline == pytest.approx(journal.now() + 35, abs=20)
    with pytest.raises(OnTheWire):
        journal.claim_one(row.id, run.id, "retry")


@pytest.mark.parametrize("set_by", [-86_400, -30, 30, 86_400])
def test_a_wall_clock_that_is_set_changes_nothing_of_a_deadline(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, set_by: float
) -> None:
    clocks = Clocks(monkeypatch)
    run, row = sent(journal)

    clocks.set_by = set_by

    with pytest.raises(OnTheWire) as refused:
        journal.claim_one(row.id, run.id, "retry")
    assert refused.value.seconds == pytest.approx(35, abs=20)
    with pytest.raises(RowBusy):
        journal.resolve(row.id, arrived=False, who="a person")
    clocks.passed = 36
    assert journal.wire_seconds_left(row) == 0
    assert journal.wire_seconds_left(row, 60) == pytest.approx(59, abs=20)
    assert journal.claim_one(row.id, run.id, "retry").state is State.SENDING


@pytest.mark.parametrize("set_by", [-86_400, 0, 86_400])
def test_a_start_of_the_machine_has_ended_every_request_of_before(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, set_by: float
) -> None:
    clocks = Clocks(monkeypatch)
    journal = Journal.open(sqlite_url)
    run, row = sent(journal)

    clocks.start_anew(up=20)
    clocks.set_by = set_by

    assert journal.wire_seconds_left(row) == 0
    assert journal.wire_seconds_left(row, 60) == 40, (
        "the other side may have gone on since then, and for no longer"
    )
    assert journal.claim_one(row.id, run.id, "retry").state is State.SENDING
    journal.close()


def test_where_a_machine_does_not_say_when_it_started_its_wall_clock_counts(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks(monkeypatch)
    monkeypatch.setattr(journal_module, "_boot_id", lambda: "")
    journal = Journal.open(sqlite_url)
    run, row = sent(journal)

    assert journal.row(row.id).boot == ""
    with pytest.raises(OnTheWire):
        journal.claim_one(row.id, run.id, "retry")
    clocks.passed = 36
    assert journal.claim_one(row.id, run.id, "retry").state is State.SENDING
    journal.close()


@pytest.mark.parametrize("journal_url", ["postgresql"], indirect=True)
def test_a_database_elsewhere_keeps_deadlines_by_its_own_clock_alone(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks(monkeypatch)
    clocks.set_by = 86_400
    run, row = sent(journal)

    clocks.start_anew(up=5)

    assert row.boot == ""
    assert row.request_deadline < clocks.time() - 80_000
    with pytest.raises(OnTheWire):
        journal.claim_one(row.id, run.id, "retry")


def test_a_row_that_waits_for_nothing_on_the_wire_has_nothing_left(journal: Journal) -> None:
    _, row = sent(journal)
    row.request_deadline = 0.0

    assert journal.wire_seconds_left(row, 60) == 0


def test_a_move_renews_the_lease_and_a_release_ends_it(journal: Journal, journal_url: str) -> None:
    run, rows = with_plans(journal, 1)
    row = journal.claim_one(rows["1"].id, run.id, "task")
    let_pass(journal_url, schema.plans, row.id, lease_until=1.0)
    journal.apply([Move(row)])
    renewed = journal.row(row.id).lease_until
    row.owner, row.lease_until = "", 0.0
    journal.apply([Move(row)])

    assert renewed > journal.now() + journal.lease_seconds - 30
    assert journal.row(row.id).owner == ""


def test_one_lost_lease_in_a_commit_does_not_touch_its_neighbours(journal: Journal) -> None:
    run, rows = with_plans(journal, 1, 2, 3)
    held, _ = journal.claim([row.id for row in rows.values()], run.id, "task")
    journal.claim_one(held[1].id, run.id, "retry")
    for row in held:
        row.state = State.PREPARED

    results = journal.apply([Move(row) for row in held])

    assert [type(result) for result in results] == [type(None), LeaseLost, type(None)]
    states = Counter(row.state for row in journal.run_rows(run.id))
    assert states == {State.PREPARED: 2, State.FETCHED: 1}


def test_a_move_carries_every_value_of_the_row(journal: Journal) -> None:
    run, rows = with_plans(journal, 1)
    row = journal.claim_one(rows["1"].id, run.id, "task")
    row.state, row.relation, row.outcome, row.http_status = State.ANSWERED, Relation.CONTINUE, "accepted", 201
    row.erp_reference, row.error, row.progress, row.body_number = "C-1", "none", "mapping", 3
    row.key, row.attributes, row.attempts, row.next_attempt_at = "k", {"a": "ş"}, 4, 12.5
    row.snapshot, row.transaction_pk = "digest", "800002"

    journal.apply([Move(row)])

    assert journal.row(row.id) == row


def test_an_event_keeps_its_step_its_words_and_how_long_it_took(journal: Journal) -> None:
    run, rows = with_plans(journal, 1)
    row = journal.claim_one(rows["1"].id, run.id, "task")
    took = Event("write_to_erp", "accepted", "HTTP 201", 12.5, at=7.0, run=run.id)

    journal.apply([Move(row, [], [took])])

    events, _ = journal.journey(row.id)
    assert events[-1] == took


def test_a_run_s_warnings_are_its_own_plans_whose_post_script_failed(journal: Journal) -> None:
    run, rows = with_plans(journal, 1, 2, 3, 4)
    for pk, state, post in (
        ("1", State.DONE, Post.DONE),
        ("2", State.DONE, Post.FAILED),
        ("3", State.DONE, Post.FAILED),
        ("4", State.FAILED, Post.FAILED),
    ):
        settle(journal, run, rows[pk], state, post=post)
    other, others = with_plans(journal, 5, key="run 2")
    settle(journal, other, others["5"], State.DONE, post=Post.FAILED)

    assert [row.pk for row in journal.warned(run.id, 10)] == ["2", "3"]
    assert [row.pk for row in journal.warned(run.id, 1)] == ["2"]
    assert [row.pk for row in journal.warned(other.id, 10)] == ["5"]


@pytest.mark.parametrize("content", ["a\x00b", "a\ud800b", "\udfff\x00", "ş\x00"])
def test_what_no_database_stores_does_not_break_a_commit(journal: Journal, content: str) -> None:
    run, rows = with_plans(journal, 1, 2)
    held, _ = journal.claim([row.id for row in rows.values()], run.id, "task")
    held[0].error, held[0].attributes = content, {"said": content}
    moves = [Move(held[0], [Body("response", content, {"reason": content})], [Event("plan", "x", content)])]

    assert journal.apply([*moves, Move(held[1])]) == [None, None]
    found = journal.body(held[0].id, "response")
    assert found is not None
    assert len(found.content) == len(content)
    assert journal.row(held[0].id).attributes == {"said": content}


# Generations


def test_a_new_generation_of_a_finished_plan_has_its_document_and_another_key(journal: Journal) -> None:
    run, rows = with_plans(journal, 1, 2)
    settle(journal, run, rows["1"], State.DONE)
    settle(journal, run, rows["2"], State.FAILED)
    journal.finish_run(run.id)
    second = a_run(journal, "run 2")

    left = journal.begin_generations(second, ["1", "2", "3"], "asked for")
    again = journal.begin_generations(second, ["1"], "the task was repeated")

    first, new = journal.generations(FLOW, "1")
    assert left == ["2", "3"]
    assert again == []
    assert (first.state, new.state, new.generation) == (State.DONE, State.FETCHED, 2)
    assert idempotency_key(first) != idempotency_key(new)
    document = journal.body(new.id, "document")
    assert document is not None
    assert json.loads(document.content)["pk"] == 1
    assert [row.generation for row in journal.find(FLOW, [State.FETCHED])] == [2]


def test_the_newest_body_of_a_kind_counts(journal: Journal) -> None:
    run, rows = with_plans(journal, 1)
    row = journal.claim_one(rows["1"].id, run.id, "task")
    journal.apply([Move(row, [Body("response", "first"), Body("response", "second")])])

    found = journal.body(row.id, "response")
    assert found is not None
    assert found.content == "second"
    assert journal.body(row.id, "request") is None


# A person's word


def test_a_plan_in_doubt_that_arrived_has_only_its_write_back_due(journal: Journal) -> None:
    run, rows = with_plans(journal, 1)
    settle(journal, run, rows["1"], State.IN_DOUBT, outcome="unknown")

    row = journal.resolve(rows["1"].id, arrived=True, who="ayşe")

    assert (row.state, row.relation, journal.row(row.id).state) == (
        State.ANSWERED,
        Relation.CONTINUE,
        State.ANSWERED,
    )


def test_a_plan_in_doubt_that_did_not_arrive_keeps_its_key(journal: Journal) -> None:
    run, rows = with_plans(journal, 1)
    before = settle(journal, run, rows["1"], State.IN_DOUBT, outcome="unknown")

    row = journal.resolve(rows["1"].id, arrived=False, who="ayşe")

    assert row.state is State.FAILED
    assert idempotency_key(row) == idempotency_key(before)


def test_a_request_is_edited_as_often_as_it_is_refused(journal: Journal) -> None:
    run, rows = with_plans(journal, 1)
    row = journal.claim_one(rows["1"].id, run.id, "task")
    journal.apply([Move(row, [Body("request", "first", {"headers": {}})])])
    keys = {row.key}
    for content in ("second", "third"):
        settle(journal, run, row, State.FAILED, outcome="refused")

        row = journal.edit_request(row.id, content, who="ayşe", reason="typo")

        found = journal.body(row.id, "request")
        assert found is not None
        assert (found.content, row.state, row.outcome) == (content, State.PREPARED, "")
        keys.add(row.key)
    assert len(keys) == 3


REFUSED = {"outcome": "refused"}


@pytest.mark.parametrize(
    ("state", "values", "word", "why"),
    [
        (State.DONE, REFUSED, "edit", "is done: its request cannot be edited"),
        (State.FAILED, REFUSED | {"relation": Relation.FAILURE}, "edit", "the ERP's answer stands"),
        (State.IN_DOUBT, {"outcome": "unknown"}, "edit", "has not definitely refused the last request"),
        (State.FAILED, REFUSED, "edit", "the journal holds no request body to edit"),
        (State.FAILED, REFUSED, "resolve", "is failed: its outcome is not in doubt"),
        (State.DONE, {}, "dismiss", "is done already, which is final"),
        (State.FAILED, REFUSED, "release", "is failed: only a dead one is released"),
        (State.FAILED, REFUSED, "resend", "it is not over; the next run takes it up by itself"),
        (State.IN_DOUBT, {"outcome": "unknown"}, "resend", "it is not over; `resolve` it first"),
    ],
)
def test_a_word_that_does_not_fit_the_plan_is_refused_and_changes_nothing(
    journal: Journal, state: State, values: dict[str, Any], word: str, why: str
) -> None:
    run, rows = with_plans(journal, 1)
    row = settle(journal, run, rows["1"], state, **values)
    before = journal.row(row.id), journal.journey(row.id)
    say: dict[str, Callable[[], Any]] = {
        "edit": lambda: journal.edit_request(row.id, "{}", who="ayşe", reason="typo"),
        "resolve": lambda: journal.resolve(row.id, arrived=True, who="ayşe"),
        "dismiss": lambda: journal.dismiss(row.id, who="ayşe", reason="by hand"),
        "release": lambda: journal.release(row.id, who="ayşe"),
        "resend": lambda: journal.resend(row.id, who="ayşe", reason="again"),
    }

    with pytest.raises(OrderCancelError) as told:
        say[word]()

    assert why in str(told.value)
    assert (journal.row(row.id), journal.journey(row.id)) == before


def test_only_the_newest_generation_is_sent_again(journal: Journal) -> None:
    run, rows = with_plans(journal, 1)
    settle(journal, run, rows["1"], State.DONE)
    settle(journal, run, journal.resend(rows["1"].id, who="ayşe", reason="again"), State.DONE)

    with pytest.raises(OrderCancelError, match="has a newer generation than 1"):
        journal.resend(rows["1"].id, who="ayşe", reason="once more")


def test_a_row_in_a_tasks_hands_is_not_a_persons(journal: Journal) -> None:
    run, rows = with_plans(journal, 1)
    journal.claim_one(rows["1"].id, run.id, "task")

    with pytest.raises(RowBusy):
        journal.dismiss(rows["1"].id, who="ayşe", reason="by hand")


def test_a_persons_word_fences_off_a_task_that_slept(journal: Journal, journal_url: str) -> None:
    run, rows = with_plans(journal, 1)
    asleep = journal.claim_one(rows["1"].id, run.id, "task")
    let_lease_lapse(journal_url, rows["1"])
    journal.dismiss(rows["1"].id, who="ayşe", reason="settled by hand")

    lost = journal.apply([Move(asleep)])

    assert isinstance(lost[0], LeaseLost)
    assert journal.row(asleep.id).state is State.DISMISSED


# Order transactions


def test_mapped_and_settled_transactions_are_remembered(journal: Journal) -> None:
    journal.note_transactions(HOST, FLOW, ["1", "2"], "mapped")
    journal.note_transactions(HOST, FLOW, ["2", "3"], "settled")

    assert journal.known_transactions(HOST, FLOW, ["1", "2", "3", "4"]) == {"1", "2", "3"}
    assert journal.known_transactions(HOST, "refunds", ["1"]) == set()


def test_one_task_maps_a_transaction(journal: Journal) -> None:
    assert journal.claim_transaction(HOST, FLOW, "1")
    assert not journal.claim_transaction(HOST, FLOW, "1")
    assert journal.known_transactions(HOST, FLOW, ["1"]) == set()
    journal.free_transaction(HOST, FLOW, "1")
    assert journal.claim_transaction(HOST, FLOW, "1")
    journal.note_transactions(HOST, FLOW, ["1"], "mapped")
    journal.free_transaction(HOST, FLOW, "1")
    assert not journal.claim_transaction(HOST, FLOW, "1")


def test_the_claim_of_a_task_that_died_passes_on(journal: Journal, journal_url: str) -> None:
    journal.claim_transaction(HOST, FLOW, "1")
    engine = create_engine(journal_url)
    with engine.begin() as connection:
        connection.execute(schema.transactions.update().values(at=1.0))
    engine.dispose()

    assert journal.claim_transaction(HOST, FLOW, "1")


def test_two_flows_do_not_map_a_transaction_at_once(journal: Journal) -> None:
    assert journal.claim_transaction(HOST, FLOW, "1")
    assert journal.claim_transaction(HOST, "refunds", "1") is None
    assert journal.claim_transaction(HOST, "refunds", "2")
    assert journal.claim_transaction("another.host", "refunds", "1")
    journal.free_transaction(HOST, "refunds", "1")
    assert journal.claim_transaction(HOST, "refunds", "1") is None
    journal.free_transaction(HOST, FLOW, "1")
    assert journal.claim_transaction(HOST, "refunds", "1")


def test_a_claim_leaves_what_another_flow_knows_of_the_transaction(journal: Journal) -> None:
    journal.note_transactions(HOST, "refunds", ["1"], "settled")
    journal.note_transactions("another.host", FLOW, ["1"], "settled")

    assert journal.claim_transaction(HOST, FLOW, "1")
    assert journal.known_transactions(HOST, "refunds", ["1"]) == {"1"}
    assert journal.known_transactions("another.host", FLOW, ["1"]) == {"1"}


def test_a_claim_is_kept_while_it_is_the_caller_s_and_has_not_run_out(journal: Journal) -> None:
    claimed = journal.claim_transaction(HOST, FLOW, "1")
    assert claimed is not None
    for host, flow, pk, at in [
        (HOST, FLOW, "1", claimed - 1),
        (HOST, FLOW, "2", claimed),
        (HOST, "refunds", "1", claimed),
        ("another.host", FLOW, "1", claimed),
    ]:
        assert not journal.keep_transaction(host, flow, pk, at)

    assert journal.keep_transaction(HOST, FLOW, "1", claimed)
    assert not journal.keep_transaction(HOST, FLOW, "1", claimed)


def test_a_claim_that_has_run_out_is_not_kept(journal: Journal) -> None:
    journal.claim_transaction(HOST, FLOW, "1")
    with journal.transaction() as (connection, _):
        connection.execute(schema.transactions.update().values(at=1.0))

    assert not journal.keep_transaction(HOST, FLOW, "1", 1.0)


def test_a_mapped_transaction_s_claim_is_not_kept(journal: Journal) -> None:
    claimed = journal.claim_transaction(HOST, FLOW, "1")
    with journal.transaction() as (connection, _):
        connection.execute(schema.transactions.update().values(state="mapped"))

    assert claimed is not None
    assert not journal.keep_transaction(HOST, FLOW, "1", claimed)


def claim_in_process(url: str, flow: str) -> bool:
    journal = Journal.open(url)
    claimed = journal.claim_transaction(HOST, flow, "1")
    journal.close()
    return claimed is not None


def test_of_many_flows_that_claim_a_transaction_at_once_one_has_it(
    journal_url: str, processes: ProcessPoolExecutor
) -> None:
    flows = [f"flow_{number}" for number in range(4 * PROCESSES)]

    claimed = list(processes.map(claim_in_process, [journal_url] * len(flows), flows))

    assert sum(claimed) == 1


@pytest.mark.parametrize(
    ("status", "counts"),
    [("completed", True), ("order_transaction", True), ("waiting", False), ("confirmed", False)],
)
def test_other_flows_carry_a_plan_where_they_take_completed_ones(
    journal: Journal, status: str, counts: bool
) -> None:
    for flow, takes in ((FLOW, "waiting"), ("refunds", status)):
        run = journal.begin_run(flow, "run 1", "home", HOST, {})
        journal.save_snapshot(flow, f"of {flow}", {"omnitron": {"cancel_status": takes}})
        journal.take_page(run, [listed(5001), listed(5002)], Placing())
        with journal.transaction() as (connection, _):
            mine = schema.plans.update().where(schema.plans.c.flow == flow)
            connection.execute(mine.values(snapshot=f"of {flow}"))
    elsewhere = journal.begin_run(FLOW, "run 1", "another home", "another.host", {})
    journal.take_page(elsewhere, [listed(5001)], Placing())

    found = journal.carried(HOST, FLOW, ["5001", "5003"])

    expected = {(HOST, FLOW, "5001")} | ({(HOST, "refunds", "5001")} if counts else set())
    assert {(row.host, row.flow, row.pk) for row in found} == expected
    assert len(found) == len(expected)


def test_a_plan_that_another_flow_has_not_begun_counts_as_carried_by_it(journal: Journal) -> None:
    run = journal.begin_run("refunds", "run 1", "home", HOST, {})
    journal.save_snapshot("refunds", "digest", {"omnitron": {"cancel_status": "waiting"}})
    journal.take_page(run, [listed(5001)], Placing())

    (found,) = journal.carried(HOST, FLOW, ["5001"])

    assert (found.flow, found.snapshot, found.state) == ("refunds", "", State.FETCHED)


def test_the_newest_generation_of_a_carried_plan_counts(journal: Journal) -> None:
    run, rows = with_plans(journal, 5001)
    journal.save_snapshot(FLOW, "digest", {})
    settle(journal, run, rows["5001"], State.DONE)
    journal.resend(rows["5001"].id, who="a tester", reason="again")

    (found,) = journal.carried(HOST, FLOW, ["5001"])

    assert (found.generation, found.state) == (2, State.FETCHED)


def test_what_a_run_did_last_with_each_transaction_is_found(journal: Journal) -> None:
    def happens(run: Run, pk: int, what: str, detail: str) -> None:
        row = journal.claim_one(rows[str(pk)].id, run.id, "task")
        journal.apply([Move(row, events=[Event("write_to_omnitron", what, detail, run=run.id)])])

    run = a_run(journal)
    page = [listed(5001, transaction="1"), listed(5002, transaction="1"), listed(5003, transaction="2")]
    journal.take_page(run, [*page, listed(5004)], Placing())
    rows = {row.pk: row for row in journal.find(FLOW)}
    happens(run, 5003, "waits", "earlier")
    happens(run, 5001, "waits", "first")
    happens(run, 5002, "mapped", "last")
    happens(run, 5001, "something else", "")
    happens(run, 5004, "waits", "of no transaction")
    journal.finish_run(run.id)
    later = a_run(journal, "run 2")
    journal.take_page(later, page, Placing())
    happens(later, 5001, "waits", "of another run")

    assert journal.last_of_transactions(run.id, ["waits", "mapped"]) == [
        ("waits", "earlier"),
        ("mapped", "last"),
    ]
    assert journal.last_of_transactions(later.id, ["waits", "mapped"]) == [("waits", "of another run")]


# Tokens


def test_a_token_is_fetched_by_one_and_read_by_all(journal: Journal) -> None:
    assert journal.token_read("k") is None
    assert journal.token_claim("k", 0, "one", 60)
    assert not journal.token_claim("k", 0, "two", 60)
    journal.token_write("k", 1, b"\x00secret", "one")

    stored = journal.token_read("k")
    assert stored is not None
    assert (stored.version, stored.secret) == (1, b"\x00secret")
    assert not journal.token_claim("k", 0, "two", 60)
    assert journal.token_claim("k", 1, "two", 60)


def test_a_claim_that_lapsed_passes_on_and_its_late_write_is_refused(journal: Journal) -> None:
    assert journal.token_claim("k", 0, "one", -1)
    assert journal.token_claim("k", 0, "two", 60)
    journal.token_write("k", 1, b"late", "one")
    assert journal.token_read("k") is None
    journal.token_write("k", 1, b"good", "two")

    stored = journal.token_read("k")
    assert stored is not None
    assert stored.secret == b"good"


@pytest.fixture
def at(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the journal's clock."""
    return lambda now: monkeypatch.setattr(journal, "_now", lambda _: now)


def test_a_token_s_end_is_kept_by_the_journal_s_clock(journal: Journal, at: Callable[[float], None]) -> None:
    def left(version: int, seconds: float | None) -> float | None:
        journal.token_claim("k", version - 1, "one", 60)
        journal.token_write("k", version, b"s", "one", seconds)
        at(1500.0)
        stored = journal.token_read("k")
        assert stored is not None
        return stored.seconds

    at(1000.0)
    assert left(1, 600.0) == 100.0
    assert left(2, None) is None
    assert left(3, 1.0) == 1.0


def test_that_a_token_is_valid_is_known_for_a_while_and_for_this_one_only(
    journal: Journal, at: Callable[[float], None]
) -> None:
    def trusted() -> bool:
        stored = journal.token_read("k")
        assert stored is not None
        return stored.trusted

    def write(version: int) -> None:
        journal.token_claim("k", version - 1, "one", 60)
        journal.token_write("k", version, b"s", "one")

    at(1000.0)
    write(1)
    assert not trusted()
    journal.token_trust("k", 2, 300)
    assert not trusted()
    journal.token_trust("k", 1, 300)
    assert trusted()
    at(1301.0)
    assert not trusted()
    journal.token_trust("k", 1, 300)
    write(2)
    assert not trusted()


def test_a_claim_that_was_given_back_is_free(journal: Journal) -> None:
    journal.token_claim("k", 0, "one", 60)
    journal.token_release("k", "two")
    assert not journal.token_claim("k", 0, "two", 60)
    journal.token_release("k", "one")
    assert journal.token_claim("k", 0, "two", 60)


# Rests


def test_a_host_s_wish_is_kept_until_it_is_over_and_the_longest_one_stands(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(Journal, "_now", lambda self, connection: now[0])
    assert journal.rest_read("erp.example") == 0

    journal.rest_write("erp.example", 40)
    journal.rest_write("erp.example", 20)
    journal.rest_write("omnitron.example", 5)
    now[0] += 10
    assert (journal.rest_read("erp.example"), journal.rest_read("omnitron.example")) == (30, 0)

    journal.rest_write("erp.example", 50)
    assert journal.rest_read("erp.example") == 50
    now[0] += 51
    assert journal.rest_read("erp.example") == 0


# Many processes at once


def claim_all(url: str, number: int) -> list[int]:
    """One process with a run of its own tries to have every row."""
    journal = Journal.open(url)
    run = journal.begin_run(FLOW, f"run of {number}", f"home {number}", HOST, {})
    rows = [row.id for row in journal.find(FLOW)]
    had, _ = journal.claim(rows if number % 2 else rows[::-1], run.id, "task")
    journal.close()
    return [row.id for row in had]


def test_processes_that_claim_the_same_rows_share_them(
    journal: Journal, journal_url: str, processes: ProcessPoolExecutor
) -> None:
    run, rows = with_plans(journal, *range(200))
    journal.finish_run(run.id)

    had = list(processes.map(claim_all, [journal_url] * PROCESSES, range(PROCESSES)))

    assert sorted(row_id for part in had for row_id in part) == sorted(row.id for row in rows.values())


def take_all(url: str, number: int) -> list[str]:
    """One process with a run of its own takes the same listing, page by page."""
    journal = Journal.open(url)
    run = journal.begin_run(FLOW, f"run of {number}", f"home {number}", HOST, {})
    pks = list(range(120))
    for start in range(0, 120, 20):
        page = pks[start : start + 20]
        journal.take_page(run, [listed(pk) for pk in (page if number % 2 else page[::-1])], Placing())
    journal.commit_run(run, fan_out=500, lots=4, counts={}, queried_at=None)
    taken = [row.pk for row in journal.run_rows(run.id)]
    journal.close()
    return taken


def test_homes_that_list_the_same_plans_at_once_take_each_plan_once(
    journal: Journal, journal_url: str, processes: ProcessPoolExecutor
) -> None:
    taken = list(processes.map(take_all, [journal_url] * PROCESSES, range(PROCESSES)))

    assert Counter(pk for part in taken for pk in part) == {str(pk): 1 for pk in range(120)}
    assert len(journal.find(FLOW)) == 120


def take_open_all(url: str, number: int) -> list[str]:
    journal = Journal.open(url)
    run = journal.begin_run(FLOW, f"run of {number}", f"home {number}", HOST, {})
    journal.take_open(run, Placing())
    taken = [row.pk for row in journal.run_rows(run.id)]
    journal.close()
    return taken


def test_homes_that_take_open_rows_at_once_take_each_row_once(
    journal: Journal, journal_url: str, processes: ProcessPoolExecutor
) -> None:
    run, _ = with_plans(journal, *range(120))
    journal.finish_run(run.id)

    taken = list(processes.map(take_open_all, [journal_url] * PROCESSES, range(PROCESSES)))

    assert Counter(pk for part in taken for pk in part) == {str(pk): 1 for pk in range(120)}


def increment(url: str, run_id: int, plan_id: int, times: int) -> int:
    """Raise a row's attempts so many times; where another task took the row over, once more."""
    journal, lost = Journal.open(url), 0
    left = times
    while left:
        row: Row = journal.claim_one(plan_id, run_id, "task")
        row.attempts += 1
        if journal.apply([Move(row)]) == [None]:
            left -= 1
        else:
            lost += 1
    journal.close()
    return lost


def test_processes_that_move_one_row_lose_no_move(
    journal: Journal, journal_url: str, processes: ProcessPoolExecutor
) -> None:
    run, rows = with_plans(journal, 1)
    times = 25

    tasks = [processes.submit(increment, journal_url, run.id, rows["1"].id, times) for _ in range(PROCESSES)]
    for task in tasks:
        task.result()

    assert journal.row(rows["1"].id).attempts == PROCESSES * times


def claim_token(url: str, number: int) -> bool:
    journal = Journal.open(url)
    claimed = journal.token_claim("k", 0, f"process {number}", 60)
    journal.close()
    return claimed


def test_one_of_many_processes_fetches_a_token(
    journal: Journal, journal_url: str, processes: ProcessPoolExecutor
) -> None:
    claimed = list(processes.map(claim_token, [journal_url] * 12, range(12)))

    assert claimed.count(True) == 1


@pytest.mark.parametrize(("count", "expected"), [(11, 1), (20, 1), (21, 2), (40, 2), (61, 3), (100, 3)])
def test_a_lot_is_begun_only_for_so_many_plans(journal: Journal, count: int, expected: int) -> None:
    run = a_run(journal)
    journal.take_page(run, [listed(pk) for pk in range(count)], Placing())

    lots = journal.commit_run(run, fan_out=10, lots=3, lot_size=20, counts={}, queried_at=None)

    assert len(lots) == expected
    assert sum(len(journal.lot(run.id, lot)) for lot in lots) == count


def test_open_plans_are_those_of_the_flow_that_is_asked_about(journal: Journal) -> None:
    run, rows = with_plans(journal, 1, 2, 3)
    settle(journal, run, rows["1"], State.DONE)
    settle(journal, run, rows["2"], State.FAILED)
    other = a_run(journal, flow="refunds")
    journal.take_page(other, [listed(9)], Placing())

    assert journal.open_plans(FLOW)[0] == 2
    assert journal.open_plans("refunds")[0] == 1
    assert journal.open_plans("another") == (0, 0.0)


@pytest.mark.parametrize(
    "table", [schema.plans, schema.runs, schema.members], ids=lambda table: str(table.name)
)
def test_a_number_is_given_once_whatever_is_deleted(journal: Journal, table: Table) -> None:
    numbers: list[int] = []
    for key in ("first", "second", "third"):
        with journal.transaction() as (connection, _):
            for one in (schema.members, schema.events, schema.bodies, schema.plans, schema.runs):
                connection.execute(one.delete())
        journal.take_page(a_run(journal, key), [listed(1)], Placing())
        numbers += [record.id for record in journal.ask(table.select())]

    assert len(set(numbers)) == 3


# Another flow, another host


def a_run_of(journal: Journal, flow: str, host: str, key: str = "run 1") -> Run:
    return journal.begin_run(flow, key, f"home of {host}", host, {})


OTHERS = [
    pytest.param("refunds", HOST, id="another flow"),
    pytest.param(FLOW, "two.example", id="another host"),
]


def test_a_flow_s_first_run_waits_for_no_other_flow_s_turn(journal: Journal) -> None:
    journal.take_turn(a_run(journal, flow="refunds").id, 3600.0)

    assert journal.take_turn(a_run(journal).id, 1.0) == 0.0


@pytest.mark.parametrize(("flow", "host"), OTHERS)
def test_what_another_flow_or_host_has_open_is_not_taken(journal: Journal, flow: str, host: str) -> None:
    theirs = a_run_of(journal, flow, host)
    journal.take_page(theirs, [listed(1)], Placing())
    journal.finish_run(theirs.id)

    assert journal.take_open(a_run_of(journal, FLOW, HOST, "run 2"), Placing()) == {}


def test_a_restore_puts_no_other_flow_s_plans_in_doubt(journal: Journal) -> None:
    note_restore(journal, "refunds", "a tester")

    journal.take_page(a_run(journal), [listed(1)], Placing())

    assert [row.state for row in journal.find(FLOW)] == [State.FETCHED]


@pytest.mark.parametrize(("flow", "host"), OTHERS)
def test_another_flow_s_or_host_s_generations_are_its_own(journal: Journal, flow: str, host: str) -> None:
    run, rows = with_plans(journal, 1)
    settle(journal, run, rows["1"], State.DONE)
    theirs = a_run_of(journal, flow, host)
    journal.take_page(theirs, [listed(1)], Placing())
    (there,) = (row for row in journal.find(flow) if row.host == host)
    settle(journal, theirs, there, State.DONE)
    journal.resend(there.id, who="a tester", reason="again")

    assert rows["1"].id in {row.id for row in journal.find(FLOW)}
    assert journal.resend(rows["1"].id, who="a tester", reason="again").generation == 2
    expected = [1, 2] if flow != FLOW else [1, 2, 1, 2]
    assert [row.generation for row in journal.generations(FLOW, "1")] == expected


@pytest.mark.parametrize(("flow", "host"), OTHERS)
def test_another_flow_s_or_host_s_plans_are_of_another_transaction(
    journal: Journal, flow: str, host: str
) -> None:
    journal.take_page(a_run(journal), [listed(1, transaction="800002")], Placing())
    journal.take_page(a_run_of(journal, flow, host), [listed(2, transaction="800002")], Placing())

    assert [row.pk for row in journal.of_transaction(HOST, FLOW, "800002")] == ["1"]
    assert [row.pk for row in journal.of_transaction(host, flow, "800002")] == ["2"]


@pytest.mark.parametrize(("flow", "host"), OTHERS)
def test_another_flow_s_or_host_s_transactions_are_its_own(journal: Journal, flow: str, host: str) -> None:
    journal.note_transactions(host, flow, ["1"], "mapped")
    journal.note_transactions(host, flow, ["2"], "mapping")

    journal.free_transaction(HOST, FLOW, "2")

    assert journal.known_transactions(HOST, FLOW, ["1"]) == set()
    assert journal.known_transactions(host, flow, ["1"]) == {"1"}
    question = select(schema.transactions.c.state).where(schema.transactions.c.pk == "2")
    assert [state for (state,) in journal.ask(question)] == ["mapping"]


def test_a_flow_is_silent_though_another_succeeds(journal: Journal, journal_url: str) -> None:
    journal.succeed(a_run(journal, flow="refunds").id)
    run = a_run(journal)
    let_pass(journal_url, schema.runs, run.id, started_at=7.0)

    assert journal.silent_since(FLOW) == 7.0


def test_a_flow_that_never_ran_is_watched_from_its_own_first_question_on(
    journal: Journal, journal_url: str
) -> None:
    journal.silent_since("refunds")
    with journal.transaction() as (connection, _):
        connection.execute(schema.alerts.update().values(at=7.0))

    assert journal.silent_since(FLOW) > 7.0
    assert journal.silent_since("refunds") == 7.0


@pytest.mark.parametrize("others", [False, True])
def test_alerts_of_another_flow_are_not_forgotten(journal: Journal, others: bool) -> None:
    for flow in (FLOW, "refunds"):
        journal.remember_alerts(flow, "doubt", ["1"], "somebody")

    journal.forget_alerts(FLOW, "doubt", [] if others else ["1"], "somebody", others=others)

    assert journal.remember_alerts("refunds", "doubt", ["1"], "somebody") == []
    assert journal.remember_alerts(FLOW, "doubt", ["1"], "somebody") == ["1"]


def test_one_host_s_longer_wish_leaves_another_s_as_it_is(journal: Journal) -> None:
    journal.rest_write("one.example", 10.0)

    journal.rest_write("two.example", 3600.0)

    assert journal.rest_read("one.example") <= 10.0


def test_another_flow_s_later_question_does_not_make_an_older_journal_new(journal: Journal) -> None:
    now = journal.now()
    theirs = a_run(journal, flow="refunds")
    journal.commit_run(theirs, fan_out=50, lots=4, counts={}, queried_at=now)

    check_not_behind(journal, "refunds", datetime.fromtimestamp(now - 10, UTC))
    with pytest.raises(JournalBehind):
        check_not_behind(journal, FLOW, datetime.fromtimestamp(now - 10, UTC))
