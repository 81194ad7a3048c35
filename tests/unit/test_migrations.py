"""Journals of every released schema, as they were kept, and what the newest code makes of them. On both databases."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Table, UniqueConstraint, create_engine, inspect, text
from sqlalchemy.exc import IntegrityError

from include.order_cancel import schema
from include.order_cancel.adopting import others
from include.order_cancel.http import Endpoint
from include.order_cancel.journal import Journal, idempotency_key
from include.order_cancel.placing import Placing
from include.order_cancel.rows import Relation, Row, State
from tests.data.keep_journal import KEPT, load
from tests.journal_fixtures import FLOW, HOST, a_run, listed

RELEASED = sorted(path.stem for path in KEPT.glob("*.sqlite"))
assert RELEASED, "no kept journals"


def kept(schema_version: str, database: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a copy of a kept journal."""
    if database == "sqlite":
        file = tmp_path / "order_cancel.db"
        shutil.copy(KEPT / f"{schema_version}.sqlite", file)
        return f"sqlite:///{file}"
    url: str = request.getfixturevalue("postgres_url")
    load(KEPT / f"{schema_version}.sql", url)
    return url


@pytest.fixture(
    params=[
        pytest.param(
            (one, database), marks=[] if database == "sqlite" or one == RELEASED[-1] else pytest.mark.thorough
        )
        for one in RELEASED
        for database in ("sqlite", "postgresql")
    ],
    ids="-".join,
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return kept(*request.param, request, tmp_path)


def found_version(url: str) -> str | None:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = schema.version(connection)
    engine.dispose()
    return found


def test_a_kept_journal_is_migrated_with_all_that_it_holds(url: str) -> None:
    journal = Journal.open(url)

    assert found_version(url) == schema.HEAD
    rows = journal.find(FLOW, all_generations=True)
    first = [row for row in rows if row.generation == 1]
    assert [row.state for row in first] == list(State)
    assert {row.pruned for row in rows} == {0}
    (done,) = [row for row in first if row.state is State.DONE]
    events, bodies = journal.journey(done.id)
    assert (done.relation, done.erp_reference) == (Relation.CONTINUE, "D1")
    assert [body.kind for body in bodies] == ["document", "request", "response"]
    assert [event.what for event in events] == ["fetched", "done"]
    assert [row.generation for row in rows if row.pk == done.pk] == [1, 2]
    assert journal.known_transactions(HOST, FLOW, ["900"]) == {"900"}
    stored = journal.token_read("omnitron")
    assert stored is not None
    assert stored.secret == b"\x00secret"
    assert journal.stopped(1) == "nothing more is sent"
    assert journal.stop_kind(1) == ""
    assert journal.run(1).succeeded_at is None
    journal.close()


def test_a_migrated_journal_goes_on(url: str) -> None:
    journal = Journal.open(url)
    run = a_run(journal, "after the upgrade")
    known = {row.pk: row for row in journal.find(FLOW)}

    counts = journal.take_page(run, [listed(pk) for pk in [*known, "new"]], Placing())

    assert counts["new"] == 1
    assert sum(counts.values()) == len(known) + 1
    finished = sum(row.finished for row in known.values())
    assert counts["known"] + counts["changed"] >= finished
    journal.close()


def test_a_migrated_journal_has_the_declared_columns_and_indexes(url: str) -> None:
    Journal.open(url).close()

    engine = create_engine(url)
    looked_at = inspect(engine)
    for table in schema.metadata.sorted_tables:
        assert {one["name"] for one in looked_at.get_columns(table.name)} == set(table.columns.keys())
        indexes = {one["name"] for one in looked_at.get_indexes(table.name)}
        assert {index.name for index in table.indexes} <= indexes
    engine.dispose()


def test_a_journal_newer_than_the_code_is_refused_and_left_alone(url: str) -> None:
    Journal.open(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE order_cancel_version SET version_num = '9999'"))
    engine.dispose()

    with pytest.raises(schema.NewerJournal, match=r"schema 9999.*Install that version"):
        Journal.open(url)

    assert found_version(url) == "9999"


def open_and_read(url: str) -> int:
    journal = Journal.open(url)
    found = len(journal.find(FLOW))
    journal.close()
    return found


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_processes_that_migrate_at_once_wait_for_each_other(url: str, processes: ProcessPoolExecutor) -> None:
    found = list(processes.map(open_and_read, [url] * 3))

    assert found == [len(State)] * 3
    assert found_version(url) == schema.HEAD


def test_every_schema_but_the_newest_was_kept() -> None:
    migrations = Path(schema.__file__).with_name("migrations") / "versions"
    known = sorted(path.name[:4] for path in migrations.glob("[0-9]*.py"))

    assert known[-1] == schema.HEAD
    assert set(known[:-1]) <= set(RELEASED)
    assert all((KEPT / f"{one}.sql").exists() for one in RELEASED)


# 0005: one name for each Omnitron, numbers that are given once


@pytest.fixture
def old(new_url: str) -> str:
    """The URL of an empty journal of schema 0004."""
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).with_name("migrations")))
    engine = create_engine(new_url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
    engine.dispose()
    return new_url


def put(url: str, table: Table, *rows: dict[str, Any]) -> None:
    """Rows as the version before wrote them: without the columns that are younger."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for row in rows:
            connection.execute(table.insert().values(row))
    engine.dispose()


def plan(host: str, pk: str, state: State = State.FAILED, **values: Any) -> dict[str, Any]:
    row = Row(0, host, FLOW, pk, 1, state, **values)
    younger = {"id", "boot", "boot_began", "key_host", "key_generation"}
    return {
        **{f.name: getattr(row, f.name) for f in fields(Row) if f.name not in younger},
        "attributes": "{}",
    }


def a_run_of(host: str, key: str) -> dict[str, Any]:
    named = {"flow": FLOW, "run_key": key, "home": "home", "host": host}
    times = {"started_at": 1.0, "alive_until": 0.0, "next_turn_at": 0.0}
    return {**named, **times, "params": "{}", "snapshot": "", "committed": True, "counts": "{}"}


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("omnitron.example:443", "https://omnitron.example"),
        ("omnitron.example:80", "http://omnitron.example:80"),
        ("omnitron.example.", "https://omnitron.example/"),
        ("müller.example", "https://xn--mller-kva.example"),
        ("[2001:db8:0::a]:443", "https://[2001:DB8::a]"),
        ("omnitron.example:8443", "https://omnitron.example:8443"),
        ("omnitron.example", "https://omnitron.example"),
    ],
)
def test_rows_of_every_spelling_are_found_again(old: str, typed: str, address: str) -> None:
    row = plan(typed, "5001", State.IN_DOUBT, outcome="unknown", progress="", key="k")
    key_before = hashlib.sha256(json.dumps([typed, FLOW, "5001", 1, 1]).encode()).hexdigest()[:40]
    put(old, schema.plans, row)
    put(old, schema.runs, a_run_of(typed, "run 1"), a_run_of("", "restored"))
    put(old, schema.transactions, {"host": typed, "flow": FLOW, "pk": "900", "state": "mapped", "at": 1.0})

    journal = Journal.open(old)

    name = Endpoint("omnitron", address).identity
    (found,) = journal.find(FLOW)
    assert (found.host, found.state, found.key) == (name, State.IN_DOUBT, "k")
    assert idempotency_key(found) == key_before
    assert others(journal, FLOW, name) == {}
    assert [journal.run(number).host for number in (1, 2)] == [name, ""]
    assert journal.known_transactions(name, FLOW, ["900"]) == {"900"}
    counts = journal.take_page(journal.begin_run(FLOW, "new", "home", name, {}), [listed(5001)], Placing())
    assert counts == {"again": 1}
    journal.close()


def test_a_plan_of_two_spellings_loses_nothing_and_is_not_sent_twice(old: str) -> None:
    booked = {"key": "a", "outcome": "accepted", "relation": Relation.CONTINUE}
    put(
        old,
        schema.plans,
        plan("omnitron.example:443", "1", State.DONE, **booked),
        plan("omnitron.example", "1", State.IN_DOUBT, key="b", outcome="unknown"),
        plan("omnitron.example.", "2", State.FAILED),
        plan("omnitron.example:443", "2", State.DONE, **booked),
        plan("omnitron.example", "3", State.FETCHED),
        plan("omnitron.example.", "3", State.SENDING, key="c", request_deadline=1.0),
        plan("omnitron.example:443", "4", State.FAILED, key="d", outcome="refused"),
    )

    journal = Journal.open(old)

    rows = journal.find(FLOW, all_generations=True)
    assert {row.host for row in rows} == {"omnitron.example"}
    assert sorted((row.pk, row.generation, str(row.state), row.key) for row in rows) == [
        ("1", 1, "done", "a"),
        ("1", 2, "changed", "b"),
        ("2", 1, "dismissed", None),
        ("2", 2, "done", "a"),
        ("3", 1, "dismissed", None),
        ("3", 2, "sending", "c"),
        ("4", 1, "failed", "d"),
    ]
    run = journal.begin_run(FLOW, "new", "home", "omnitron.example", {})
    page = [listed(number) for number in range(1, 5)]
    assert journal.take_page(run, page, Placing()) == {"changed": 1, "known": 1, "again": 2}
    journal.close()


@pytest.mark.parametrize("new_url", ["sqlite"], indirect=True)  # PostgreSQL's sequences know by themselves
def test_numbers_go_on_above_all_that_are_known(old: str) -> None:
    put(old, schema.plans, {**plan("o.example", "1"), "id": 7, "attempt_run": 21, "created_run": 4})
    put(old, schema.runs, {**a_run_of("o.example", "run 1"), "id": 4})
    place = {"position": 0, "lane": "plan", "lot": 0, "listed": True}
    put(old, schema.members, {"id": 9, "run_id": 4, "plan_id": 7, **place})
    put(old, schema.events, {"plan_id": 7, "run_id": 30, "at": 1.0, "step": "x", "what": "x", "detail": ""})

    journal = Journal.open(old)

    run = journal.begin_run(FLOW, "new", "home", "o.example", {})
    journal.take_page(run, [listed(2)], Placing())
    (found,) = journal.run_rows(run.id)
    (member,) = journal.ask(schema.members.select().where(schema.members.c.run_id == run.id))
    assert (run.id, found.id, member.id) == (31, 8, 10)
    journal.close()


def test_a_rebuilt_table_keeps_what_hangs_on_it(url: str) -> None:
    Journal.open(url).close()

    engine = create_engine(url)
    with engine.connect() as connection:
        looked_at = inspect(connection)
        for table in schema.metadata.sorted_tables:
            keys = {one["referred_table"] for one in looked_at.get_foreign_keys(table.name)}
            assert keys == {key.column.table.name for key in table.foreign_keys}
            unique = {one["name"] for one in looked_at.get_unique_constraints(table.name)}
            assert unique == {one.name for one in table.constraints if isinstance(one, UniqueConstraint)}
            partial = {
                one["name"]: one["dialect_options"].get(f"{engine.dialect.name}_where")
                for one in looked_at.get_indexes(table.name)
            }
            for index in table.indexes:
                declared = index.dialect_options[engine.dialect.name]["where"]
                assert (declared is None) == (partial[index.name] is None)
        if engine.dialect.name == "sqlite":
            assert list(connection.exec_driver_sql("PRAGMA foreign_key_check")) == []
            assert list(connection.exec_driver_sql("PRAGMA integrity_check")) == [("ok",)]
    engine.dispose()


def test_foreign_keys_are_kept_to_after_a_migration(old: str) -> None:
    journal = Journal.open(old)

    with pytest.raises(IntegrityError), journal.transaction() as (connection, _):
        connection.execute(schema.events.insert().values(plan_id=5, at=1.0, step="x", what="x", detail=""))
    journal.close()
