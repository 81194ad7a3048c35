"""The fault matrix: what goes wrong (rows) at which call (columns), and what must come of it (cells).

A cell is a whole flow over real HTTP through a faulty proxy: one run with the fault, one run after it. The cell's text
says what must be seen, in the words of `Seen`; where a cell makes no sense, it says why.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from include.order_cancel import flow as flow_module
from include.order_cancel.errors import OrderCancelError, RetryLater
from include.order_cancel.journal import Journal
from include.simulator import ErpSimulator, OmnitronSimulator, plans, running, transactions
from tests.chaos.expected import EXPECTED
from tests.chaos.fault_proxy import (
    Act,
    Cut,
    Door,
    Exchange,
    Fault,
    Network,
    Reply,
    SkippedTime,
    a_gigabyte,
    answering,
    changed,
    dripping,
    instead,
    never_closing,
    reset_after_reading,
    silence,
    truncated,
    with_header,
)
from tests.harness import Flow, settings

SEED = 20250301
PLAN = 5001
API = "/api/v1/"
LISTING = f"{API}cancellation_plans/"
LOGIN = {
    "url": "/token",
    "body": {"user": "{{ login }}", "password": "{{ password }}"},
    "token_path": "token",
}
BERLIN = "Europe/Berlin"
SPRING, AUTUMN = datetime(2025, 3, 30, 1, tzinfo=UTC), datetime(2025, 10, 26, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Column:
    """A call. `after`: the task after which a door that is out of order is found so."""

    name: str
    system: str
    method: str
    path: Callable[[str], bool]
    after: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


COLUMNS = {
    column.name: column
    for column in (
        Column("login", "omnitron", "POST", lambda path: path == f"{API}auth/login/"),
        Column("list", "omnitron", "GET", lambda path: path == LISTING, "login"),
        Column("ERP token", "erp", "POST", lambda path: path == "/token"),
        Column("ERP write", "erp", "POST", lambda path: path == "/cancellations", "open_plans"),
        Column(
            "lookup",
            "erp",
            "GET",
            lambda path: path == "/documents",
            "the write",
            {
                "erp__in_doubt": "lookup",
                "erp__lookup": {"url": "/documents?key={{ key }}", "found_path": "documentNumber"},
            },
        ),
        Column(
            "one plan",
            "omnitron",
            "GET",
            lambda path: path.startswith(LISTING) and path != LISTING,
            "open_plans",
            {"omnitron__look_again_seconds": 0},
        ),
        Column("write-back", "omnitron", "PATCH", lambda path: path.startswith(LISTING), "write_to_erp"),
        Column(
            "mapping",
            "omnitron",
            "POST",
            lambda path: path.endswith("/create_mapping/"),
            "write_to_erp",
            {
                "omnitron__cancel_status": "order_transaction",
                "omnitron__next_state": None,
                "omnitron__transactions_since": "2025-01-01T00:00:00Z",
            },
        ),
    )
}


@dataclass
class Seen:
    """What a cell's two runs left.

    how: how the first run ended. state: of its plans then. asked: how often the column's call reached the door.
    booked, told: what took effect in the ERP and in Omnitron. later: the plans' state after the next run.
    """

    how: str
    state: str
    asked: int
    booked: int
    told: int
    later: str
    later_booked: int
    later_told: int

    def __str__(self) -> str:
        first = f"{self.how}, {self.state}: {self.asked}, {self.booked}, {self.told}"
        return f"{first}; then {self.later}: {self.later_booked}, {self.later_told}"


class World:
    """One cell's simulators, doors, clock and flow."""

    def __init__(
        self, column: Column, network: Network, omnitron: OmnitronSimulator, erp: ErpSimulator
    ) -> None:
        self.column, self.network, self.omnitron, self.erp = column, network, omnitron, erp
        self.door: Door = getattr(network, column.system)
        self.simulator = getattr(self, column.system)
        self.time = SkippedTime(time.time, time.monotonic)
        self.at: dict[str | None, Callable[[], None]] = {}
        self.between_runs: Callable[[], None] = lambda: None
        self.flow: Flow

    def call(self, act: Act, times: int | None = None) -> None:
        """The column's call goes wrong."""
        self.door.faults.append(Fault(self.column.method, self.column.path, act, times))

    def moment(self, happens: Callable[[], None]) -> None:
        """Something happens just before the column's call."""
        self.at[self.column.after] = happens

    def write_is_cut(self) -> None:
        """The ERP takes the plan, but its answer is lost: only so is it looked up."""

        async def act(exchange: Exchange) -> None:
            await exchange.reply()
            self.happens("the write")
            raise Cut(reset=True)

        write = COLUMNS["ERP write"]
        self.network.erp.faults.append(Fault(write.method, write.path, act, 1))

    def let_rest(self) -> None:
        """So much time passes that a plan is asked for or sent once more that waits for ten minutes."""
        self.time.slept.append(660.0)

    def happens(self, moment: str | None) -> None:
        self.at.pop(moment, lambda: None)()

    def mend(self) -> None:
        """After the first run nothing goes wrong any more."""
        self.network.gone.clear()
        for door in (self.network.omnitron, self.network.erp):
            door.faults.clear()
            door.resets = False
            door.show_certificate(trusted=True)
            if not door.listens:
                self.network.run(door.open())
        self.between_runs()


Arm = Callable[[World], None]


@dataclass(frozen=True)
class Row:
    """A fault: how it is made, and what the cell's world must be for it."""

    name: str
    arm: Arm
    count: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    list_settings: dict[str, Any] = field(default_factory=dict)
    secure: bool = False
    together: bool = False


def door(break_it: Callable[[World], None]) -> Arm:
    """From the column's call on, the door is out of order."""
    return lambda world: world.moment(lambda: break_it(world))


def call(act: Act, times: int | None = None) -> Arm:
    return lambda world: world.call(act, times)


def shut(world: World) -> None:
    world.network.shut(world.door)


def forget_name(world: World) -> None:
    world.network.gone.add(f"{world.door.name}.test")


def show_unknown_certificate(world: World) -> None:
    world.door.show_certificate(trusted=False)


def reset_all(world: World) -> None:
    world.door.resets = True


def outstanding(world: World) -> None:
    """The answer of the first request is lost, and the second one finds the first still at work."""
    world.call(reset_after_reading, 1)
    world.call(answering(409, b'{"error": "a request with this key is under way"}'))


def refused_for_ever(world: World) -> None:
    world.call(answering(401))
    world.between_runs = world.let_rest


def redirect(world: World) -> None:
    world.call(answering(307, Location=f"{world.network.trap_url}/elsewhere"))


def gateway(status: int) -> Act:
    """The system does what it was asked for, and a gateway before it answers in its own words."""

    async def act(exchange: Exchange) -> None:
        await exchange.reply()
        page = b"<html><body><h1>The gateway speaks</h1></body></html>"
        await exchange.send(Reply(status, {"Content-Type": "text/html", "Location": "/elsewhere"}, page))

    return act


def not_found_page(world: World) -> None:
    """An ingress that knows no such address, for whatever is asked."""
    page = b"<html><body>default backend - 404</body></html>"

    async def act(exchange: Exchange) -> None:
        await exchange.send(Reply(404, {"Content-Type": "text/html"}, page))

    world.call(act)


def twice_each(body: bytes) -> bytes:
    """Every key that counts stands twice, the right value last."""
    return b'{"key":"x","token":"x","count":9,"results":[],"documentNumber":"x",' + body[1:]


# Pages


def paged(change: Callable[[World, int, dict[str, Any]], None], asked_as: int | None = None) -> Arm:
    """`change` alters a page (its number, its document); every page is asked for as page `asked_as`."""

    def arm(world: World) -> None:
        async def act(exchange: Exchange) -> None:
            number = int(re.search(r"[?&]page=(\d+)", exchange.target)[1])  # type: ignore[index]
            if asked_as is not None:
                exchange.raw = re.sub(rb"([?&]page=)\d+", rb"\g<1>%d" % asked_as, exchange.raw, count=1)
            reply = await exchange.reply()
            document = json.loads(reply.body)
            change(world, number, document)
            await exchange.send(Reply(reply.status, reply.headers, json.dumps(document).encode()))

        world.call(act)

    return arm


def page_url(world: World, number: int, base: str | None = None) -> str:
    query = "status=waiting&channel_type=sales_channel&limit=2"
    return f"{base or world.door.url}{LISTING}?{query}&page={number}"


def repeats(world: World, number: int, document: dict[str, Any]) -> None:
    document["next"] = page_url(world, number + 1)


def shrinks(world: World, number: int, document: dict[str, Any]) -> None:
    if number == 1:
        for pk in (PLAN, PLAN + 1):
            world.omnitron.change(pk, status="approved")


def skips(world: World, number: int, document: dict[str, Any]) -> None:
    if number == 1:
        document["next"] = page_url(world, 3)


def loops(world: World, number: int, document: dict[str, Any]) -> None:
    if number == 3:
        document["next"] = page_url(world, 1)


def points_elsewhere(world: World, number: int, document: dict[str, Any]) -> None:
    document["next"] = page_url(world, number + 1, world.network.trap_url)


# The plan in other hands


def change_plan(world: World) -> None:
    world.omnitron.change(PLAN, refund_amount="0.01")
    if world.column.name != "mapping":
        world.omnitron.change(PLAN, status="completed")


def remove_plan(world: World) -> None:
    world.omnitron.remove(PLAN)
    world.between_runs = world.let_rest


def in_other_hands(act: Callable[[World], None]) -> Arm:
    """Just before the column's call; at the list, just after the plan was listed."""

    def arm(world: World) -> None:
        if world.column.name != "list":
            world.moment(lambda: act(world))
            return

        async def listed(exchange: Exchange) -> None:
            reply = await exchange.reply()
            act(world)
            await exchange.send(reply)

        world.call(listed, 1)

    return arm


def partly(world: World) -> None:
    """The ERP takes the first plan of the transaction and refuses the second."""
    write = COLUMNS["ERP write"]

    async def first(exchange: Exchange) -> None:
        await exchange.send(await exchange.reply())

    world.network.erp.faults += [
        Fault(write.method, write.path, first, 1),
        Fault(write.method, write.path, answering(422)),
    ]


# Clocks


def skewed(seconds: float, later: float = 0.0) -> Arm:
    """The column's system is this far ahead of us; at the second run by `later` more."""

    def arm(world: World) -> None:
        world.simulator.set(clock_skew_seconds=seconds)
        if world.column.name == "ERP write":
            world.call(busy_until(world), 1)

        def next_run() -> None:
            if world.column.name == "list":
                (late,) = plans(SEED, 1, status="completed", first_pk=PLAN + 1)
                world.omnitron.put_plans([late])
                world.omnitron.change(PLAN + 1, status="completed")
            world.simulator.set(clock_skew_seconds=seconds + later)

        world.between_runs = next_run

    return arm


def busy_until(world: World) -> Act:
    """429 with a date 20 seconds ahead, by the system's own clock."""

    async def act(exchange: Exchange) -> None:
        now = world.simulator.now()
        wanted = format_datetime(now + timedelta(seconds=20), usegmt=True)
        await answering(429, Date=format_datetime(now, usegmt=True), Retry_After=wanted)(exchange)

    return act


def around_change(moment: datetime) -> Arm:
    """Both runs lie around a change of Berlin's clocks; the machine lives by them."""

    def arm(world: World) -> None:
        skew = (moment - timedelta(minutes=20) - datetime.now(UTC)).total_seconds()
        skewed(skew, later=2400.0)(world)
        world.time.skipped = skew

    return arm


WINDOWS = {
    "omnitron__cancel_status": "completed",
    "omnitron__next_state": None,
    "omnitron__start_from": "2025-01-01T00:00:00Z",
}

ROWS = {
    row.name: row
    for row in (
        Row("connection refused", door(shut)),
        Row("name not resolved", door(forget_name)),
        Row("TLS refused", door(show_unknown_certificate), secure=True),
        Row("reset before bytes", door(reset_all)),
        Row("reset after the request", call(reset_after_reading)),
        Row("timeout", call(silence)),
        Row("truncated body", call(truncated)),
        *(Row(str(status), call(answering(status))) for status in (400,)),
        Row("401 once", call(answering(401), 1)),
        Row("401 for ever", refused_for_ever),
        *(Row(str(status), call(answering(status))) for status in (403, 404, 406, 408)),
        Row("409 outstanding", outstanding, settings={"erp__in_doubt": "resend"}),
        Row("409 conflict", call(answering(409))),
        *(Row(str(status), call(answering(status))) for status in (422, 425)),
        Row("429 with Retry-After", call(answering(429, Retry_After="7"))),
        Row("429 without Retry-After", call(answering(429))),
        *(Row(str(status), call(answering(status))) for status in (500, 501, 502, 503, 504, 520)),
        *(Row(f"{status} of a gateway, done", call(gateway(status), 1)) for status in (302, 303, 503, 524)),
        Row("404 of a gateway", not_found_page),
        Row("redirect to another host", redirect),
        Row("2xx, empty", call(instead(b""))),
        Row("2xx, HTML", call(instead(b"<html><body>Welcome</body></html>", "text/html"))),
        Row("2xx, broken JSON", call(instead(b'{"key": "x", "documentNumber": "C-1", "results": ['))),
        Row("2xx, NaN", call(instead(b'{"key": NaN, "token": NaN, "results": [NaN]}'))),
        Row("2xx, duplicate keys", call(changed(twice_each))),
        Row("2xx, byte order mark", call(changed(lambda body: b"\xef\xbb\xbf" + body))),
        Row("2xx, a header of 9 kB", call(with_header("X-Policy", "a" * 9000))),
        Row("2xx, length and chunks", call(with_header("Transfer-Encoding", "chunked"))),
        Row("2xx, nested deeply", call(instead(b"[" * 200_000))),
        Row("2xx, 1 GB", call(a_gigabyte)),
        Row("2xx, slow drip", call(dripping)),
        Row("2xx, slow close", call(never_closing)),
        Row("pages repeat", paged(repeats, asked_as=1), 6, {"omnitron__page_size": 2}),
        Row("pages shrink", paged(shrinks), 6, {"omnitron__page_size": 2}),
        Row("pages skip", paged(skips), 6, {"omnitron__page_size": 2}),
        Row("pages loop", paged(loops), 6, {"omnitron__page_size": 2}),
        Row("next page elsewhere", paged(points_elsewhere), 6, {"omnitron__page_size": 2}),
        Row("plan changes", in_other_hands(change_plan)),
        Row("plan disappears", in_other_hands(remove_plan)),
        Row("partial success", partly, 2, together=True),
        Row("clock 10 minutes ahead", skewed(600.0), list_settings=WINDOWS),
        Row("clock 10 minutes behind", skewed(-600.0), list_settings=WINDOWS),
        Row("clocks go forward", around_change(SPRING), list_settings=WINDOWS, settings={"timezone": BERLIN}),
        Row("clocks go back", around_change(AUTUMN), list_settings=WINDOWS, settings={"timezone": BERLIN}),
    )
}


# A cell


@dataclass(frozen=True)
class System:
    """What `harness.Flow` wants to know of a system: the simulator, and the address where it is asked."""

    simulator: Any
    door: Door

    @property
    def url(self) -> str:
        return self.door.url


@contextmanager
def built(row: Row, column: Column, network: Network, journal: Path) -> Iterator[World]:
    """The world of a cell, with the fault in place. `journal`: an empty one, for this cell alone."""
    given = {**column.settings, **row.settings, **(row.list_settings if column.name == "list" else {})}
    wanted = given.get("omnitron__cancel_status", "waiting")
    status = "waiting" if wanted == "waiting" else "completed"
    made = plans(SEED, row.count, status=status, plan_type="refund")
    for position, plan in enumerate(made):
        number = 0 if row.together else position
        plan["order"] = {**made[0]["order"], "pk": 20001 + number, "number": f"100000500{number}"}
    returns = transactions(SEED, made) if wanted == "order_transaction" else []
    omnitron, erp = OmnitronSimulator(made, returns), ErpSimulator(auth="token")
    with ExitStack() as stack:
        network.omnitron.behind = stack.enter_context(running(omnitron)).port
        network.erp.behind = stack.enter_context(running(erp)).port
        network.renew(secure=row.secure)
        world = World(column, network, omnitron, erp)
        stack.enter_context(patch.object(Journal, "_now", lambda *_: time.time() + sum(world.time.slept)))
        if column.name == "lookup":
            world.write_is_cut()
        row.arm(world)
        world.flow = Flow(
            System(omnitron, network.omnitron),
            System(erp, network.erp),
            f"sqlite:///{journal}",
            settings(**{"mapping": None, "erp__login": LOGIN, **given}),
            http=network.options(world.time),
        )
        stack.callback(world.flow.close)
        yield world


def tried(row: Row, column: Column, network: Network, journal: Path) -> tuple[Seen, World]:
    """Both runs of a cell. Raises AssertionError for what no cell may do."""
    with built(row, column, network, journal) as world, living_in(row.settings.get("timezone")):
        world.happens(None)
        how = run(world)
        state = states(world)
        asked = world.door.asked(column.method, column.path)
        booked, told = effects(world)
        world.mend()
        run(world)
        seen = Seen(how, state, asked, booked, told, states(world), *effects(world))
        check(world)
        return seen, world


def run(world: World) -> str:
    """One run as Airflow would do it, and how it ended."""
    ended: list[str] = []

    def between(task: str) -> None:
        ended.append(task)
        world.happens(task)

    flow = world.flow
    flow.between = between
    try:
        outcome = flow.run()
    except OrderCancelError as error:
        task = "list" if "login" in ended else "login"
        if "login" in ended:
            flow_module.report(flow.around, flow.run_id)
        return f"{task} {'retried' if isinstance(error, RetryLater) else 'red'}"
    return "green" if outcome.gate == "open" else "red"


def states(world: World) -> str:
    """The plans' states, those that most plans have first."""
    found = Counter(world.flow.states().values())
    return " and ".join(state for state, _ in found.most_common()) or "none"


def effects(world: World) -> tuple[int, int]:
    mapped = sum(map(len, world.omnitron.mappings.values()))
    return len(world.erp.effects), len(world.omnitron.transitions) + mapped


def check(world: World) -> None:
    """What holds in every cell: nothing twice, nothing elsewhere, nothing told before the ERP has taken it."""
    booked = Counter(effect.plan for effect in world.erp.effects)
    moved = Counter(pk for pk, _, _ in world.omnitron.transitions)
    assert max(booked.values(), default=0) <= 1, booked
    assert max(moved.values(), default=0) <= 1, moved
    assert all(len(found) <= 1 for found in world.omnitron.mappings.values())
    assert moved.keys() <= booked.keys()
    assert world.network.trapped == 0


@contextmanager
def living_in(timezone: str | None) -> Iterator[None]:
    """The process in another time zone."""
    before = os.environ.get("TZ")
    try:
        if timezone is not None:
            os.environ["TZ"] = timezone
            time.tzset()
        yield
    finally:
        if before is None:
            os.environ.pop("TZ", None)
        else:
            os.environ["TZ"] = before
        time.tzset()


def cell(row: str, column: str, network: Network, empty: Path, folder: Path) -> tuple[str, World]:
    """What a cell shows, on a copy of the empty journal."""
    journal = folder / "order_cancel.db"
    shutil.copy(empty, journal)
    seen, world = tried(ROWS[row], COLUMNS[column], network, journal)
    return str(seen), world


CELLS = [(row, column) for row in ROWS for column in COLUMNS]
RUN = [place for place in CELLS if not EXPECTED[place].startswith("—")]
