"""The PostgreSQL of tests, benchmarks and kept journals, and databases on it that last as long as they are needed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

POSTGRES = make_url(
    os.environ.get("ORDER_CANCEL_TEST_POSTGRES") or "postgresql+psycopg://postgres@127.0.0.1:5432/test"
)


def postgres_answers() -> bool:
    """Whether the PostgreSQL can be reached."""
    engine = create_engine(POSTGRES, connect_args={"connect_timeout": 5})
    try:
        with engine.connect():
            return True
    except OperationalError:
        return False
    finally:
        engine.dispose()


@contextmanager
def fresh_database() -> Iterator[str]:
    """The URL of an empty database, which is dropped in the end. Raises OperationalError without a PostgreSQL."""
    name = f"order_cancel_{uuid.uuid4().hex}"
    engine = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        try:
            yield POSTGRES.set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()
