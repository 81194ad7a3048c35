"""A journal for each measurement: an SQLite file or a PostgreSQL database of its own, empty or with rows in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, make_url, text, update

from include.order_cancel import schema
from include.order_cancel.fetching import listed
from include.order_cancel.journal import Journal
from include.order_cancel.placing import Placing
from include.order_cancel.rows import State
from include.simulator import plans
from tests.databases import fresh_database

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
_PAGE = 500
_OLD_PK = 10_000_001


@contextmanager
def journal(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a journal that holds the newest schema and no rows."""
    if kind == POSTGRESQL:
        with fresh_database() as url:
            Journal.open(url).close()
            yield url
        return
    file = folder / "journal.db"
    for old in folder.glob("journal.db*"):
        old.unlink()
    Journal.open(f"sqlite:///{file}").close()
    yield f"sqlite:///{file}"


def size_mb(url: str) -> float:
    """What the journal takes on its disk."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        assert parsed.database
        return sum(file.stat().st_size for file in Path(parsed.database).parent.glob("journal.db*")) / 2**20
    engine = create_engine(url)
    with engine.connect() as connection:
        size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    engine.dispose()
    return float(size) / 2**20


def fill(url: str, rows: int, flow: str, host: str) -> None:
    """Put finished plans of an earlier run into the journal, each with its document.

    The database looks at its tables once they hold a page and once they are full, as autovacuum would see to it.
    """
    opened = Journal.open(url)
    try:
        run = opened.begin_run(flow, "an earlier run", "home", host, {})
        documents = plans(1, _PAGE)
        for first in range(_OLD_PK, _OLD_PK + rows, _PAGE):
            page = [{**document, "pk": first + number} for number, document in enumerate(documents)]
            kept = page[: _OLD_PK + rows - first]
            opened.take_page(run, [listed(document) for document in kept], Placing())
            if first == _OLD_PK:
                _analyze(url)
        opened.finish_run(run.id)
    finally:
        opened.close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(update(schema.plans).values(state=State.DONE, claim_run=None))
    engine.dispose()
    _analyze(url)


def _analyze(url: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("ANALYZE"))
    engine.dispose()
