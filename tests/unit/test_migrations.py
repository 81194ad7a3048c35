"""Journals of every released schema, as they were kept, and what the newest code makes of them. On both databases."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from include.order_cancel import schema
from include.order_cancel.journal import Journal
from include.order_cancel.placing import Placing
from include.order_cancel.rows import Relation, State
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
