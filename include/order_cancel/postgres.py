"""Connections to a PostgreSQL that may go silent: whatever a task waits for there has an end.

| silent | what ends it |
|---|---|
| the server does not take a connection | `connect_timeout`, 10 s for each of its addresses |
| what was sent is not acknowledged: packets are dropped | `tcp_user_timeout`, 30 s |
| it was acknowledged, then packets are dropped | keepalives: the first after 15 s, 3 of them 5 s apart |
| it was acknowledged, the connection lives, no answer comes | ANSWER_SECONDS, counted here |
| a statement works, or waits for a lock | `statement_timeout`, `lock_timeout`, counted by the server |
| a task has gone silent and left a transaction open | `idle_in_transaction_session_timeout`, counted by the server |

What the journal's URL says itself, in its query or in its `options`, stands; so do PGCONNECT_TIMEOUT and PGOPTIONS.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event, text

CONNECTING = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
# In milliseconds. A move takes some of them; a page's search among ten million plans some thousands.
SESSION = {
    "lock_timeout": 30_000,
    "statement_timeout": 60_000,
    "idle_in_transaction_session_timeout": 60_000,
}
# Longer than a statement may take, so that the server's own word is heard first.
ANSWER_SECONDS = 75.0


class Bounded(psycopg.Connection[Any]):
    """A connection that is closed where an answer has not come within `answer_seconds`: the server is silent."""

    answer_seconds = ANSWER_SECONDS

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """As psycopg's own. Raises OperationalError where the server stays silent."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_seconds)
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"the server has not answered for {self.answer_seconds:g} s; the connection is given up"
            ) from None


def engine(url: URL) -> Engine:
    """An engine whose connections have these bounds."""
    unsaid = {name: value for name, value in CONNECTING.items() if name not in url.query}
    if "PGCONNECT_TIMEOUT" in os.environ:
        unsaid.pop("connect_timeout", None)
    made = create_engine(
        url, hide_parameters=True, pool_pre_ping=True, pool_size=2, max_overflow=8, connect_args=unsaid
    )
    said = f"{url.query.get('options', '')} {os.environ.get('PGOPTIONS', '')}"
    session = "; ".join(f"SET {name} = {value}" for name, value in SESSION.items() if name not in said)

    @event.listens_for(made, "do_connect")
    def _connect(_: Any, __: Any, arguments: Any, named: Any) -> Bounded:
        connection = Bounded.connect(*arguments, autocommit=True, **named)
        if session:
            connection.execute(session)
        connection.autocommit = False
        return connection

    return made


@contextmanager
def patient(connection: Connection, seconds: float) -> Iterator[None]:
    """Let each statement of the transaction that is open take so many seconds."""
    raw: Any = connection.connection.driver_connection
    milliseconds = round(seconds * 1000)
    connection.execute(
        text(f"SET LOCAL statement_timeout = {milliseconds}; SET LOCAL lock_timeout = {milliseconds}")
    )
    usual, raw.answer_seconds = raw.answer_seconds, seconds + raw.answer_seconds
    try:
        yield
    finally:
        raw.answer_seconds = usual
