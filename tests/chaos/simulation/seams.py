"""Where the simulation is let into the product: the journal's transactions, the wire, the clock, the script process."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import sqlalchemy
from sqlalchemy.pool import StaticPool

from include.order_cancel import erp, flow, journal, omnitron, postgres, schema, tokens, under_way
from include.order_cancel.errors import JournalDown
from include.order_cancel.journal import Journal
from include.order_cancel.settings import FlowSettings, from_snapshot, load
from tests.chaos.simulation import world as worlds
from tests.chaos.simulation.rules import Rules
from tests.chaos.simulation.systems import SimulatedCaller, SimulatedScripts, Wire
from tests.chaos.simulation.world import World

_TABLES = [
    "members",
    "events",
    "bodies",
    "plans",
    "runs",
    "snapshots",
    "tokens",
    "transactions",
    "stops",
    "rests",
    "omnitrons",
]
NAMED = [
    "save_snapshot",
    "begin_run",
    "set_snapshot",
    "stay_alive",
    "take_turn",
    "finish_run",
    "begin_listing",
    "take_page",
    "take_open",
    "begin_generations",
    "forget_listing",
    "commit_run",
    "open_members",
    "claim",
    "give_back",
    "resolve",
    "dismiss",
    "resend",
    "note_transactions",
    "claim_transaction",
    "free_transaction",
    "stop",
    "go_on",
    "token_claim",
    "token_write",
    "token_release",
    "rest_write",
]


class Database:
    """One database for all histories; emptied before each."""

    def __init__(self, url: str = "sqlite://") -> None:
        if url == "sqlite://":
            options: dict[str, Any] = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
            self.engine = sqlalchemy.create_engine(url, **options)
            journal._prepare_sqlite(self.engine)
        else:
            self.engine = postgres.engine(sqlalchemy.make_url(url))
        Journal(self.engine)._migrate()
        self._raw = self.engine.raw_connection()

    def empty(self) -> None:
        names = [f"order_cancel_{name}" for name in _TABLES]
        with self.engine.begin() as connection:
            if self.engine.dialect.name == "sqlite":
                for name in names:
                    connection.exec_driver_sql(f"DELETE FROM {name}")  # noqa: S608
                connection.exec_driver_sql("DELETE FROM sqlite_sequence")
            else:
                connection.exec_driver_sql(f"TRUNCATE {', '.join(names)} RESTART IDENTITY")

    def raw(self, question: str) -> list[tuple[Any, ...]]:
        cursor = self._raw.cursor()
        cursor.execute(question)
        found = cursor.fetchall()
        cursor.close()
        if self.engine.dialect.name != "sqlite":
            self._raw.rollback()
        return [tuple(row) for row in found]

    def deadline(self, row_id: int) -> tuple[float, str, float]:
        """A row's deadline, and by which start of the machine it counts (none: by the journal's clock)."""
        names = {column.name for column in schema.plans.columns}
        boot = "boot, boot_began" if "boot" in names else "'', 0.0"
        question = f"SELECT request_deadline, {boot} FROM order_cancel_plans WHERE id = {row_id}"  # noqa: S608
        deadline, booted, began = self.raw(question)[0]
        return float(deadline), str(booted), float(began)

    def close(self) -> None:
        self._raw.close()
        self.engine.dispose()


class SimulatedJournal(Journal):
    """The real journal, whose commits are boundaries. Each task has one of its own over the same database."""

    def __init__(self, world: World, database: Database, rules: Rules) -> None:
        super().__init__(database.engine)
        self.world, self.rules = world, rules
        self.doing = "another"

    def _now(self, connection: Any) -> float:
        now = self.world.true_time()
        if worlds.CLOCKS_MISBEHAVE and self.world.chance(self.world.pause_rate):
            self.world.lag(9.0)  # the process stood still after it had read the clock
            self.world.note("nine seconds pass")
        return now

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        self.world.breathe()
        with super()._reading() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        world, doing = self.world, self.doing
        world.breathe()
        if world.chance(world.journal_down_rate):
            world.note(f"journal down before {doing}")
            raise JournalDown("the journal cannot be used: simulated")
        with super()._writing() as connection:
            yield connection
            world.point(f"{doing}: before its commit", inside=True)
        self.rules.committed(doing)
        if doing == "forget_listing":
            self.rules.forgotten()
        world.point(f"{doing}: after its commit")
        if world.chance(world.journal_down_rate):
            world.note(f"journal down after {doing}")
            raise JournalDown("the journal's connection broke: simulated")

    def apply(self, moves: Any) -> Any:
        with self._called(f"move to {moves[0].row.state}"):
            return super().apply(moves)

    @contextmanager
    def _called(self, name: str) -> Iterator[None]:
        before, self.doing = self.doing, name
        try:
            yield
        finally:
            self.doing = before


def _named(name: str) -> Callable[..., Any]:
    real = getattr(Journal, name)

    def call(self: SimulatedJournal, *args: Any, **kwargs: Any) -> Any:
        with self._called(name):
            return real(self, *args, **kwargs)

    return call


for _name in NAMED:
    setattr(SimulatedJournal, _name, _named(_name))


@lru_cache(maxsize=4000)
def _loaded(text: str, flow_name: str) -> FlowSettings:
    return load(json.loads(text), flow=flow_name)


def loaded(raw: dict[str, Any], flow_name: str) -> FlowSettings:
    """Validated settings; the same ones are validated once for all histories."""
    return _loaded(json.dumps(raw, sort_keys=True), flow_name)


@lru_cache(maxsize=4000)
def _from_snapshot(text: str, flow_name: str) -> FlowSettings:
    return from_snapshot(json.loads(text), flow=flow_name)


def _cached_from_snapshot(raw: Any, *, flow: str) -> FlowSettings:
    return _from_snapshot(json.dumps(raw), flow)


@contextmanager
def let_in(world: World, wire: Wire, seed: int) -> Iterator[None]:
    """Put the world in the place of clock, event loop, network and script process."""
    caller = type("Caller", (SimulatedCaller,), {"wire": wire})
    scripts = type("Scripts", (SimulatedScripts,), {"world": world})
    places: list[tuple[Any, str, Any]] = [
        (time, "time", world.time),
        (time, "monotonic", world.monotonic),
        (time, "clock_gettime", lambda clock: world.monotonic()),
        (asyncio, "run", world.run_coroutine),
        (omnitron, "Caller", caller),
        (erp, "Caller", caller),
        (under_way, "ScriptProcess", scripts),
        (under_way, "from_snapshot", _cached_from_snapshot),
        (flow, "from_snapshot", _cached_from_snapshot),
    ]
    if importlib.util.find_spec("uvloop"):
        places.append((importlib.import_module("uvloop"), "run", world.run_coroutine))
    before = [(place, name, getattr(place, name)) for place, name, _ in places]
    given = tokens.Tokens.__init__.__kwdefaults__
    poll_seconds = given["poll_seconds"]
    given["poll_seconds"] = 3.0  # a claim lasts a minute: ten looks a second would be most of a history
    state = random.getstate()
    random.seed(seed)
    logging.disable(logging.CRITICAL)
    try:
        for place, name, value in places:
            setattr(place, name, value)
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)
        given["poll_seconds"] = poll_seconds
        logging.disable(logging.NOTSET)
        random.setstate(state)
