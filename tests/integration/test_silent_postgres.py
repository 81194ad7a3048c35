"""A PostgreSQL that goes silent in the middle: whatever waits for it ends with JournalDown."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, make_url, text

from include.order_cancel import postgres
from include.order_cancel.errors import JournalDown
from include.order_cancel.journal import Journal
from include.order_cancel.writer import Writer
from include.simulator import ErpSimulator
from tests.integration.conftest import MakeFlow

NO_ANSWER = r"the server has not answered for 0\.5 s"
pytestmark = pytest.mark.thorough


class Between:
    """A proxy before PostgreSQL. Silent, it still takes connections and acknowledges bytes, and passes nothing on."""

    def __init__(self, url: URL) -> None:
        self._to = (url.host or "127.0.0.1", url.port or 5432)
        self.silent = threading.Event()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = url.set(host="127.0.0.1", port=self._door.getsockname()[1])
        self._open = [self._door]
        threading.Thread(target=self._serve, daemon=True).start()

    def address(self, **query: str) -> str:
        return self.url.update_query_dict(query).render_as_string(hide_password=False)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._door.accept()
                far = socket.create_connection(self._to)
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while content := one.recv(65536):
                if not self.silent.is_set():
                    other.sendall(content)
        if not self.silent.is_set():
            with suppress(OSError):
                other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def between(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Between]:
    monkeypatch.setattr(postgres.Bounded, "answer_seconds", 0.5)
    monkeypatch.setattr(Writer, "try_again_seconds", 0.0)
    proxy = Between(make_url(postgres_url))
    yield proxy
    proxy.close()


@pytest.fixture
def quiet(between: Between) -> Iterator[Journal]:
    """A journal behind the proxy, which has a connection already; a new one is waited for 2 seconds."""
    journal = Journal.open(between.address(connect_timeout="2"))
    yield journal
    journal.close()


def settings_of(journal: Journal, *names: str) -> list[str]:
    with journal._reading() as connection:
        return [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names]


def test_a_connection_that_has_gone_silent_while_it_was_idle(between: Between, quiet: Journal) -> None:
    between.silent.set()

    with pytest.raises(JournalDown):  # it is given up, and no new one comes to be
        quiet.now()


def test_a_question_that_is_acknowledged_and_never_answered(between: Between, quiet: Journal) -> None:
    def ask() -> None:
        with quiet._writing() as connection:
            between.silent.set()
            connection.execute(text("SELECT 1"))

    with pytest.raises(JournalDown, match=NO_ANSWER):
        ask()


def test_a_commit_that_is_acknowledged_and_never_answered(between: Between, quiet: Journal) -> None:
    def commit() -> None:
        with quiet._writing() as connection:
            connection.execute(text("SELECT 1"))
            between.silent.set()

    with pytest.raises(JournalDown, match=NO_ANSWER):
        commit()


def test_a_server_that_takes_a_connection_and_says_nothing(between: Between) -> None:
    between.silent.set()

    with pytest.raises(JournalDown, match="timeout"):
        Journal.open(between.address(connect_timeout="2"))


class Silencing(ErpSimulator):
    """Once it is asked to cancel something, the journal goes silent."""

    silent: threading.Event

    def handle(self, call: Any) -> Any:
        if call.path == "/cancellations":
            self.silent.set()
        return super().handle(call)


@pytest.mark.parametrize("fan_out", [0, 50])
def test_a_task_ends_when_the_journal_goes_silent_while_a_request_is_on_the_wire(
    make_flow: MakeFlow, between: Between, fan_out: int
) -> None:
    erp = Silencing()
    erp.silent = between.silent
    flow = make_flow(3, erp=erp, url=between.address(connect_timeout="2"), fan_out=fan_out)

    with pytest.raises(JournalDown):
        flow.run()

    assert between.silent.is_set()


@pytest.mark.parametrize("task", ["login", "get_data", "open_plans"])
def test_every_task_ends_when_the_journal_has_gone_silent(
    make_flow: MakeFlow, between: Between, task: str
) -> None:
    flow = make_flow(1, url=between.address(connect_timeout="2"))
    flow.between = lambda name: between.silent.set() if name == task else None

    with pytest.raises(JournalDown):
        flow.run()


def test_what_is_not_acknowledged_ends_by_the_settings_of_the_socket(quiet: Journal) -> None:
    with quiet._reading() as connection:
        raw: Any = connection.connection.driver_connection
        with socket.socket(fileno=os.dup(raw.fileno())) as its:
            tcp, option = socket.IPPROTO_TCP, its.getsockopt
            found = [
                option(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                option(tcp, socket.TCP_KEEPIDLE),
                option(tcp, socket.TCP_KEEPINTVL),
                option(tcp, socket.TCP_KEEPCNT),
                option(tcp, socket.TCP_USER_TIMEOUT),
            ]

    assert found == [1, 15, 5, 3, 30_000]


def test_a_statement_and_a_lock_end_by_the_server(quiet: Journal) -> None:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")

    assert settings_of(quiet, *names) == ["1min", "30s", "1min"]


def test_what_changes_many_rows_may_take_longer(quiet: Journal) -> None:
    with quiet.transaction() as (connection, _):
        during = connection.execute(text("SHOW statement_timeout")).scalar_one()
        raw: Any = connection.connection.driver_connection
        bound = raw.answer_seconds

    assert (during, bound) == ("10min", 600.5)
    assert settings_of(quiet, "statement_timeout") == ["1min"]
    assert raw.answer_seconds == 0.5


def test_the_options_of_the_url_stand(postgres_url: str) -> None:
    url = make_url(postgres_url).update_query_dict(
        {"tcp_user_timeout": "5000", "options": "-c statement_timeout=200 -c lock_timeout=100"}
    )
    journal = Journal.open(url.render_as_string(hide_password=False))
    holder = create_engine(postgres_url)

    with holder.connect() as held:
        held.execute(text("LOCK TABLE order_cancel_plans"))
        with pytest.raises(JournalDown, match=r"lock timeout .*pg_stat_activity"):
            journal.find("cancels")
    with pytest.raises(JournalDown, match=r"statement timeout .*pg_stat_activity"), journal._reading() as one:
        one.execute(text("SELECT pg_sleep(20)"))
    with journal._reading() as one:
        said = one.connection.driver_connection.info.get_parameters()["tcp_user_timeout"]  # type: ignore[union-attr]

    assert said == "5000"
    journal.close()
    holder.dispose()


def test_too_many_that_wait_for_a_connection_are_told(quiet: Journal) -> None:
    quiet._reader.pool._timeout = 0.0  # type: ignore[attr-defined]
    taken = [quiet._reader.connect() for _ in range(10)]

    with pytest.raises(JournalDown, match="QueuePool"):
        quiet.now()
    for one in taken:
        one.close()
