"""One history: some plans, some runs of a flow by Airflow, what goes wrong meanwhile, and how it must end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from include.order_cancel import flow as product
from include.order_cancel.errors import LeaseLost, OrderCancelError, RetryLater, RowBusy
from include.order_cancel.http import Endpoint
from include.order_cancel.params import Params
from include.order_cancel.rows import State
from tests.chaos.simulation.points import POINTS
from tests.chaos.simulation.rules import FINAL, Rules
from tests.chaos.simulation.seams import Database, SimulatedJournal, let_in, loaded
from tests.chaos.simulation.systems import (
    ANOTHER,
    CUSTOM_RESPONSE,
    ERP,
    HABITS,
    OMNITRON,
    SPELLINGS,
    STALE,
    Erp,
    Omnitron,
    Wire,
    _iso,
)
from tests.chaos.simulation.world import (
    CLOCKS_MISBEHAVE,
    EPOCH,
    HOSTS_RESPELT,
    ORDERS_GROW,
    PATHS_VARY,
    STALE_TOKENS_VARY,
    Process,
    World,
)

FLOW = "simulated"
RETRIES, RETRY_SECONDS = 3, 10.0
KINDS = {
    "waiting": "approved",
    "confirmation_waiting": "completed",
    "confirmed": "completed",
    "completed": None,
    "order_transaction": None,
}
_LOGIN = {"url": "/token", "body": {"user": "{{ login }}", "password": "{{ password }}"}}
_SCRIPT = "def transform(plan, attributes):\n    return plan\n"
_EDITS = ("amount", "status", "back", "gone")
_AFTER = "def after(request, response, attributes):\n    return None\n"


@dataclass
class Options:
    """What a history is made of; all of it is drawn from its seed."""

    kind: str
    in_doubt: str
    honours_key: bool
    custom_response: bool
    plans: int
    homes: int
    rounds: int
    target: str
    traits: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        traits = ", ".join(f"{name}={value}" for name, value in self.traits.items() if value)
        return (
            f"{self.kind}, in_doubt={self.in_doubt}, key {'honoured' if self.honours_key else 'ignored'}, "
            f"custom_response={self.custom_response}, plans={self.plans}, homes={self.homes}, "
            f"rounds={self.rounds}, target '{self.target}', {traits}"
        )


def options_of(seed: int, world: World) -> Options:
    """Draw what this history is made of. The seeds take the crash points as targets in turn."""
    draw, target = world.random, POINTS[seed % len(POINTS)]
    kind = draw.choice(
        ("waiting", "waiting", "confirmation_waiting", "confirmed", "completed", "order_transaction")
    )
    in_doubt = draw.choice(("hold", "lookup", "resend"))
    custom = draw.random() < 0.4
    traits: dict[str, Any] = {
        "token": draw.random() < 0.5,
        "script": draw.random() < 0.3,
        "mapping": draw.random() < 0.8,
        "post_script": draw.random() < 0.4,
        "refusal": draw.choice(("failed", "failure")),
        "fan_out": draw.choice((0, 0, 1, 50)),
        "max_attempts": draw.choice((None, None, None, 3)),
        "abandons": draw.random() < 0.3,
        "person": draw.random() < 0.5,
        "clears": draw.random() < 0.4,
        "changes": draw.random() < 0.3,
        "colleague": draw.random() < 0.4,
        "resends": draw.random() < 0.15,
        "narrow": draw.random() < 0.2,
        "rate": draw.random() < 0.1,
        "shipped": draw.random() < 0.4,
        "unbegun": draw.random() < 0.25,
        "stalls": draw.random() < 0.2,
        "wrong": draw.random() < 0.05,
    }
    habit = HABITS[seed * 2 // 3 % len(HABITS)] if seed % 3 else ""
    traits["habit"] = habit
    if seed % 12 == 6:  # the histories of an ERP that wants to be asked again
        kind, custom, traits["shipped"], traits["colleague"] = "waiting", True, False, True
    traits["late"] = (
        seed % 12 == 0
    )  # the first run's lots begin after the second run, which has taken one plan only
    if traits["late"]:
        kind, traits["mapping"], traits["unbegun"] = "waiting", True, True
    if seed % 12 == 3:  # the histories in which no worker is free
        kind, traits["stalls"], traits["colleague"] = "waiting", True, True
    traits["unread"] = seed % 13 == 9  # an answer that nobody has read, and a plan that changes then
    if traits["unread"]:
        kind, custom, target = "waiting", False, "move to answered: after its commit"
        habit = traits["habit"] = "429 instead"
        traits["colleague"] = traits["abandons"] = True
    if habit == "slow" and draw.random() < 0.7:
        in_doubt = "lookup"
    traits["not_done"] = habit[:3] in ("429", "408", "425")
    if traits["not_done"]:  # bytes that were not taken, and a mapping that would make others
        traits["changes"], traits["mapping"] = True, True
    if any(name in target for name in ("transaction", "mapping", "mappings")) and "mapping: at" not in target:
        kind = "order_transaction"
    if "last query" in target or "passed" in target:
        kind = "completed"
    if "passed" in target or "response" in target or "rejected" in target:
        custom, traits["shipped"] = True, False
    if "rejected" in target and kind in ("completed", "order_transaction"):
        kind = "waiting"
    if "lookup" in target:
        in_doubt = "lookup"
    if "in_doubt" in target or "resolve" in target:
        in_doubt = "hold"
    if "dismiss" in target:
        traits["refusal"] = "failed"
    for word, trait in (
        ("ERP token", "token"),
        ("token_", "token"),
        ("script script", "script"),
        ("prepared", "mapping"),
        ("mapping: at", "mapping"),
        ("post script", "post_script"),
        ("written_back", "post_script"),
        ("resolve", "person"),
        ("dismiss", "person"),
        ("resend", "resends"),
        ("begin_generations", "resends"),
        ("left", "colleague"),
        ("one plan", "colleague"),
    ):
        if word in target:
            traits[trait] = True
    if "open_members" in target:
        traits["fan_out"] = 0
    if "move to prepared" in target or "move to fetched" in target:
        traits["fan_out"], traits["mapping"], traits["script"] = 50, True, True
    plans = 3 if traits["late"] else draw.choice((1, 1, 2, 2, 3))
    if traits["wrong"] and not custom:
        traits["mapping"], traits["refusal"], plans = True, "failure", 9
    return Options(
        kind,
        in_doubt,
        draw.random() < 0.5,
        custom,
        plans,
        draw.choice((1, 1, 1, 2)),
        draw.choice((2, 3) if seed % 6 == 0 or traits["unread"] else (1, 2, 2, 3)),
        target,
        traits,
    )


@dataclass
class Home:
    """One Airflow installation: its Variables, its clock, its runs so far."""

    name: str
    skew: float
    last_query: datetime | None = None
    runs: list[tuple[int, list[int], list[int]]] = field(default_factory=list)
    unbegun: set[int] = field(default_factory=set)  # runs of which no lot has begun
    count: int = 0


@dataclass
class Result:
    """What came of one history."""

    seed: int
    options: str
    breaches: list[tuple[str, str]]
    hits: Counter[str]
    passed: Counter[str]
    digest: str
    trail: list[tuple[float, str, str]]
    states: Counter[str]
    effects: int = 0


class History:
    """All that one seed leads to."""

    def __init__(self, seed: int, database: Database) -> None:
        self.seed, self.database = seed, database
        self.world = World(seed)
        self.rules = Rules(self.world, journal=database)
        self.options = options_of(seed, self.world)
        self.omnitron = Omnitron(self.world, self.rules)
        traits = self.options.traits
        self.erp = Erp(self.world, self.rules, self.options.honours_key, traits["token"])
        self.rules.erp, self.rules.omnitron, self.rules.to_see = self.erp, self.omnitron, self._left_out
        self.rules.default_judged = not self.options.custom_response
        self.erp.wrong_version = int(traits["wrong"] and not self.options.custom_response)
        self.wire = Wire(self.world, self.rules, self.omnitron, self.erp, on_doubt=self._while_in_doubt)
        draw = self.world.random
        self.homes = [
            Home(name, draw.choice((0.0, 0.0, -600.0, 600.0))) for name in ("A", "B")[: self.options.homes]
        ]
        if STALE_TOKENS_VARY:
            self.omnitron.stale_status, self.erp.stale_status = draw.choice(STALE), draw.choice(STALE)
        self.omnitron.skew = draw.choice((0.0, 0.0, -600.0, 600.0))
        self.version = 1
        self.policy = self.options.in_doubt
        self.address = OMNITRON
        notations = ("documentNumber", "value[0].number", "$.value[0].number", "value.0.number")
        self.found_path = draw.choice(notations) if PATHS_VARY else notations[0]
        self.post_script = traits["post_script"]
        self.next_pk = 5001
        self.tasks: Counter[str] = Counter()
        self.begun_last: dict[tuple[str, str], str] = {}
        self._set_fate()
        self.raw = self._settings()
        self.omnitron.status_of_flow = self._status()

    def _set_fate(self) -> None:
        world, draw = self.world, self.world.random
        self.wire.habit = self.options.traits["habit"]
        world.target = self.options.target
        world.target_after = draw.choice((0, 0, 0, 1, 2, 5))
        world.kills_left = draw.choice((0, 0, 1, 2, 4))
        world.kill_rate = draw.choice((0.003, 0.01, 0.03))
        world.freezes_left = draw.choice((0, 0, 1, 2))
        world.freeze_rate = draw.choice((0.005, 0.02))
        world.switch_rate = draw.choice((0.0, 0.1, 0.4))
        world.journal_down_rate = draw.choice((0.0, 0.0, 0.003, 0.01))
        if self.seed % 4 == 3:  # the histories of the frozen
            world.freezes_left, world.freeze_rate = 5, 0.06
        world.pause_rate = draw.choice((0.0, 0.005, 0.02))
        world.machine_rate = draw.choice((0.0, 0.3))
        self.wire.fault_rate = draw.choice((0.0, 0.05, 0.15, 0.35))
        if self.options.traits["unread"] or self.options.target.startswith(
            ("dismiss:", "stop:")
        ):  # rare: the first that comes is taken
            world.target_after = 0
        if self.options.target.startswith("stop:"):
            self.wire.fault_rate = 0.8

    # What is configured

    @property
    def _dismisses(self) -> bool:
        """Whether this history is about the dismissal of plans that the ERP refuses for ever."""
        return self.options.target.startswith("dismiss:")

    @property
    def _own_script(self) -> bool:
        return self.options.custom_response and not self.options.traits["shipped"]

    def _status(self) -> str:
        return "completed" if self.options.kind == "order_transaction" else self.options.kind

    def _settings(self) -> dict[str, Any]:
        o, traits = self.options, self.options.traits
        omnitron: dict[str, Any] = {"channel_type": "web", "cancel_status": o.kind, "page_size": 2}
        if KINDS[o.kind]:
            omnitron["next_state"] = KINDS[o.kind]
        if o.kind == "completed":
            omnitron["start_from"] = _iso(EPOCH - 3600)
        if o.kind == "order_transaction":
            omnitron["transactions_since"] = _iso(EPOCH - 3600)
        erp: dict[str, Any] = {
            "cancellation_api_url": "/cancellations",
            "in_doubt": self.policy,
            "refusal": traits["refusal"],
            "reference_path": "documentNumber",
            "timeout_seconds": 20,
            "custom_response": o.custom_response,
            "lookup": {"url": "/lookup/{{ key }}", "found_path": self.found_path},
            "requests_per_second": 5 if traits["rate"] else None,
        }
        if o.custom_response and not traits["shipped"]:
            erp["custom_response_script"] = CUSTOM_RESPONSE
        if traits["token"]:
            erp["login"] = _LOGIN
        raw: dict[str, Any] = {
            "omnitron": omnitron,
            "erp": erp,
            "fan_out": traits["fan_out"],
            "lots": 2,
            "max_attempts": traits["max_attempts"],
            "mapping": [{"operation": "shift", "spec": {"pk": "plan", "version" * self.version: "v"}}],
        }
        if not traits["mapping"]:
            raw["mapping"] = None
        if traits["script"]:
            raw["script"] = _SCRIPT
        if self.post_script:
            raw["post_script"] = _AFTER
        return raw

    def settings(self) -> Any:
        settings = loaded(self.raw, FLOW)
        self.rules.policies[settings.digest] = settings.erp.in_doubt
        self.rules.mapped_versions[settings.digest] = self.version
        return settings

    def around(self, home: Home) -> product.Surroundings:
        return product.Surroundings(
            flow=FLOW,
            home=home.name,
            settings=self.settings,
            endpoint=self._endpoint,
            journal=self._journal,
            last_query=lambda: home.last_query,
            set_last_query=partial(self._set_last_query, home),
            http={"clock": self.world.time, "monotonic": self.world.monotonic},
        )

    def _endpoint(self, conn_id: str) -> Endpoint:
        if conn_id != "omnitron":
            return Endpoint(conn_id, ERP, "user", "secret")
        return Endpoint(conn_id, self.address, "user", "secret")

    def _journal(self) -> AbstractContextManager[SimulatedJournal]:
        return nullcontext(SimulatedJournal(self.world, self.database, self.rules))

    def _set_last_query(self, home: Home, moment: datetime) -> None:
        process = self.world.current
        awake_since = process.frozen_at if process else None
        self.world.point("last query time: before it moves")
        # Airflow writes a Variable under no condition: one that was frozen after its look may set it back.
        slept = process is not None and process.frozen_at != awake_since
        if home.last_query is not None and moment < home.last_query and not slept:
            self.rules.breach("the query time passes no plan", "it moved backward")
        home.last_query = moment
        self.rules.query_time(moment)
        self.world.point("last query time: after it moved")

    def _left_out(self, moment: datetime) -> list[int]:
        if self.options.kind != "completed":
            return []
        until = moment.timestamp() - self.settings().omnitron.overlap_seconds
        return [
            pk
            for pk, plan in self.omnitron.plans.items()
            if plan["status"] == "completed" and plan["modified_date"] < _iso(until)
        ]

    # What Omnitron has

    def more_plans(self, count: int) -> None:
        first = self.next_pk
        for _ in range(count):
            pk, self.next_pk = self.next_pk, self.next_pk + 1
            order = 4000 + pk - (pk - first) % 2 if self.options.kind == "order_transaction" else None
            if ORDERS_GROW and order in self.omnitron.transactions and self._draws(0.5):
                self.omnitron.add(pk, "confirmed", order)  # completed a while later
                self.world.at(self.world.random.choice((60.0, 800.0)), partial(self._complete, pk))
            else:
                self.omnitron.add(pk, self._status(), order)
            if order is not None and order not in self.omnitron.transactions:
                self.omnitron.transactions[order] = {
                    "pk": order,
                    "transaction_type": "return",
                    "order": order,
                    "created_date": self.omnitron.iso(),
                }
            draw = self.world.random
            if draw.random() < 0.2:
                self.erp.refuses[pk] = draw.choice((1, 2, 99))
            if self._dismisses:
                self.erp.refuses[pk] = 99
            if self._own_script and draw.random() < 0.5:
                self.erp.busy[pk] = draw.choice((1, 2))
            elif self._own_script and self.options.honours_key and draw.random() < 0.6:
                self.erp.shy[pk] = draw.choice((1, 2))
            if self._own_script and draw.random() < 0.3:
                self.erp.rejects.add(pk)

    def _draws(self, rate: float) -> bool:
        return self.world.random.random() < rate

    def _complete(self, pk: int) -> None:
        if pk in self.omnitron.plans:
            self.omnitron.plans[pk].update(status="completed", modified_date=self.omnitron.iso())
            self.omnitron.shows(pk)

    def colleague(self, pk: int | None = None, kinds: Sequence[str] = _EDITS) -> None:
        """Somebody works on a plan in Omnitron."""
        draw = self.world.random
        pk = draw.choice(sorted(self.omnitron.plans)) if pk is None else pk
        if pk not in self.omnitron.plans or self.world.calm:
            return
        what = draw.choice(kinds)
        if self.options.kind == "order_transaction" and what != "amount":
            return
        self.world.note(f"a colleague: {what} of plan {pk}")
        if what == "amount":
            self.omnitron.change(pk, refund_amount=draw.choice(("11.00", "12.00")))
        elif what == "status":
            self.omnitron.change(pk, status="cancelled")
        elif what == "back" and self.omnitron.plans[pk]["status"] == "cancelled":
            self.omnitron.change(pk, status=self._status())
        elif what == "gone" and len(self.omnitron.plans) > 1 and self.rules.newest(str(pk)) is not None:
            self.omnitron.remove(pk)

    def _while_in_doubt(self, pk: int) -> None:
        """A plan that is not settled by its answer is the one that a colleague works on."""
        draw = self.world.random
        if self.options.traits["colleague"] and draw.random() < 0.7:
            after = draw.choice((0.0, 0.5, 20.0, 200.0))
            self.world.at(after, partial(self.colleague, pk, ("amount", "amount", *_EDITS)))

    # Airflow

    def task(
        self,
        home: Home,
        name: str,
        body: Callable[[bool], Any],
        again: bool = False,
        run: int | None = None,
    ) -> tuple[bool, Any]:
        """One task with Airflow's retries. Returns whether it went well, and its value."""
        for attempt in range(1 + RETRIES):
            process = self._start(home, name, partial(body, again or attempt > 0))
            process.run, process.again = run, again or attempt > 0
            self.world.wait([process])
            if process.done and not process.dead and process.error is None:
                return True, process.value
            if process.done and process.error is not None and not self._retried(process, name):
                return False, None
            rate = 0.9 if self.options.traits["unread"] else 0.3
            if process.dead and self.options.traits["abandons"] and self.world.chance(rate):
                self.world.note(f"{name} is not tried again")
                return False, None
            self.world.sleep(0.5 if process.dead else RETRY_SECONDS)
        return False, None

    def _start(self, home: Home, name: str, body: Callable[[], Any]) -> Process:
        self.tasks[name] += 1
        process = self.world.spawn(f"{home.name}.{name}#{self.tasks[name]}", body, home, mortal=True)
        self.begun_last[home.name, _carried_by(name)] = process.name
        return process

    def _retried(self, process: Process, name: str) -> bool:
        """Whether Airflow tries a task again that ended in an error."""
        self.world.note(f"{name}: {type(process.error).__name__}")
        if isinstance(process.error, RetryLater):
            return True
        # Its row was taken by a later task of the same plan (this one had been given up for lost, or all of them were
        # cleared meanwhile), or by a task of the same run that had been given up for lost and woke up.
        overtaken = self.begun_last[process.home.name, _carried_by(name)] != process.name or any(
            one.home is process.home for one in self.world.risen
        )
        lost = isinstance(process.error, LeaseLost) and overtaken
        known = isinstance(process.error, OrderCancelError) and not isinstance(process.error, LeaseLost)
        if not (lost or known):
            self.rules.breach("no task breaks", f"{name}: {process.error!r}")
        return False

    def side_by_side(self, bodies: list[tuple[str, Callable[[], Any]]], home: Home) -> list[Any]:
        helpers = [self.world.spawn(f"{home.name}.{name}", body) for name, body in bodies]
        self.world.wait(helpers)
        for helper in helpers:
            if helper.error is not None:
                raise helper.error
        return [helper.value for helper in helpers]

    def dag_run(self, home: Home, params: Params) -> None:
        """The tasks of one run in their order."""
        around = self.around(home)
        home.count += 1
        key, run, began = f"run {home.count}", None, len(self.world.trail)
        well, run = self.task(home, "login", lambda again: product.login(around, key, params))
        if well:
            self.rules.runs[run] = (began, len(self.world.trail))
        lots: list[int] = []
        if well:
            well, lots = self.task(home, "get_data", lambda again: product.get_data(around, run, params))
        if well:
            assert run is not None
            home.runs.append((run, lots, []))
            if self.options.traits["stalls"] and not self.world.calm:
                if self.options.traits["colleague"]:
                    self.world.at(
                        self.world.random.choice((5.0, 100.0)), partial(self.colleague, kinds=_EDITS[:2])
                    )
                self.world.sleep(self.world.random.choice((500.0, 700.0, 1500.0)))  # no worker is free
            first = self.options.traits["late"] and home.count == 1
            if first or (self.options.traits["unbegun"] and self.world.chance(0.4)):
                self.world.note(f"run {run} ends before its lots")
                home.unbegun.add(run)
                return
            well = self.lots(home, run, lots)
        members: list[int] = []
        if well:
            well, members = self.task(home, "open_plans", lambda again: product.open_plans(around, run))
        if well:
            assert run is not None
            home.runs[-1] = (*home.runs[-1][:2], members)
            self.carry(home, run, members)
        if run is not None and not (self.options.traits["abandons"] and self.world.chance(0.3)):
            self.task(home, "report", lambda again: product.report(around, run))
            self.task(home, "gate", lambda again: self._gate(around, run))

    def _gate(self, around: product.Surroundings, run: int | None) -> None:
        try:
            product.gate(around, run, [])
        except product.GateClosed:
            return

    def lots(self, home: Home, run: int, lots: list[int], again: bool = False) -> bool:
        around = self.around(home)
        bodies = [
            (
                f"lot {lot}",
                partial(
                    self.task,
                    home,
                    f"bulk {lot}",
                    lambda more, lot=lot: product.bulk(around, run, lot, more),
                    again,
                    run,
                ),
            )
            for lot in lots
        ]
        return all(well for well, _ in self.side_by_side(bodies, home))

    def carry(self, home: Home, run: int, members: list[int], again: bool = False) -> None:
        bodies = [(f"plan {member}", partial(self._chain, home, run, member, again)) for member in members]
        self.side_by_side(bodies, home)

    def _chain(self, home: Home, run: int, member: int, again: bool) -> None:
        around = self.around(home)
        for step in self.settings().steps:
            well, value = self.task(
                home,
                f"{step} of {member}",
                lambda more, step=step: product.carry_one(around, member, step, more, lambda name: None)[0],
                again,
                run,
            )
            if not well or value != "green":
                return

    def life(self, home: Home) -> None:
        """Runs one after the other, as the schedule says, and what happens in between."""
        draw, traits = self.world.random, self.options.traits
        for number in range(self.options.rounds):
            if number:
                self.world.sleep(draw.choice((1.0, 60.0, 400.0, 700.0)))
                self.more_plans(draw.choice((0, 1)))
                if traits["colleague"]:
                    self.colleague()
                    self.world.at(draw.choice((0.5, 5.0, 90.0)), self.colleague)
                if traits["unread"]:
                    for pk in sorted(self.omnitron.plans):
                        self.colleague(pk, _EDITS[:1])
                if traits["changes"]:
                    self.change_settings("mapping" if traits["not_done"] else "")
                self._misbehave(home)
            if number == 1 and traits["late"]:
                self.change_settings("mapping")
                for pk in sorted(self.omnitron.plans):
                    self.colleague(pk, _EDITS[:1])
                self.dag_run(home, Params(limit=1))
            else:
                self.dag_run(home, self._params())
            if number == 0 and traits["late"]:
                continue
            helpers = []
            if home.runs and ((traits["clears"] and draw.random() < 0.6) or home.unbegun):
                helpers.append(self.world.spawn(f"{home.name}.clear", partial(self.clear, home)))
            if traits["person"] or traits["resends"]:
                self.person()
            if helpers and draw.random() < 0.5:
                self.world.wait(helpers)

    def _misbehave(self, home: Home) -> None:
        """Clocks are set, and somebody edits Omnitron's Connection."""
        draw = self.world.random
        if CLOCKS_MISBEHAVE and draw.random() < 0.5:
            self.world.at(draw.choice((0.5, 2.0, 30.0)), partial(self._set_clock, home))
        if not HOSTS_RESPELT:
            return
        self.address = draw.choice(SPELLINGS)
        if home.runs and not self.world.calm and len(self.homes) == 1 and draw.random() < 0.4:
            right, self.address = self.address, ANOTHER
            self.world.note("the Connection names another Omnitron")
            self.clear(home)
            self.address = right

    def _set_clock(self, home: Home) -> None:
        home.skew = self.world.random.choice((0.0, -600.0, -20.0, 600.0))

    def _params(self) -> Params:
        draw, traits = self.world.random, self.options.traits
        pks = sorted(self.omnitron.plans)
        if traits["resends"] and self.rules.rows and draw.random() < 0.5:
            return Params(resend_ids=(str(draw.choice(pks)),))
        if not traits["narrow"] or draw.random() < 0.5:
            return Params()
        return draw.choice(
            (Params(limit=1), Params(retry_only=True), Params(plan_ids=tuple(str(pk) for pk in pks[:2])))
        )

    def clear(self, home: Home) -> None:
        """Somebody clears tasks of an earlier run, perhaps while the next one is under way."""
        draw = self.world.random
        self.world.sleep(draw.choice((0.0, 0.5, 30.0, 350.0)))
        late = [one for one in home.runs if one[0] in home.unbegun]
        run, lots, members = draw.choice(late or home.runs)
        self.world.note(f"clears run {run}")
        if late:  # its tasks begin now, for the first time, perhaps beside a later run
            home.unbegun.remove(run)
            self.lots(home, run, lots)
        elif lots and draw.random() < 0.5:
            self.lots(home, run, lots, again=True)
        elif members:
            self.carry(home, run, members, again=True)
        self.task(home, "report", lambda again: product.report(self.around(home), run))

    def change_settings(self, what: str = "") -> None:
        draw = self.world.random
        what = what or draw.choice(("mapping", "policy", "post script"))
        self.world.note(f"settings: {what}")
        if what == "mapping":
            self.version += 1
            self.rules.versions.append((len(self.world.trail), self.version))
        elif what == "policy":
            self.policy = draw.choice(("hold", "lookup", "resend"))
        else:
            self.post_script = not self.post_script
        self.raw = self._settings()

    # A person

    def person(self) -> None:
        """Somebody looks after what waits for a person, and says the truth."""
        process = self.world.spawn("person", self._look_after, mortal=True)
        self.world.wait([process])
        if process.error is not None and not isinstance(process.error, RetryLater):
            raise process.error

    def _look_after(self, thorough: bool = False) -> None:
        draw, traits = self.world.random, self.options.traits
        with self._journal() as journal:
            for row in journal.find(FLOW):
                try:
                    if row.state in (State.IN_DOUBT, State.FAILED, State.HELD, State.ANSWERED) and (
                        thorough or draw.random() < 0.6
                    ):
                        self._resolve(journal, row)
                    elif row.state in (State.FAILED, State.DEAD, State.CHANGED) and not thorough:
                        if traits["person"] and draw.random() < (1.0 if self._dismisses else 0.3):
                            journal.dismiss(row.id, who="person", reason="settled")
                    elif row.finished and traits["resends"] and not thorough and draw.random() < 0.3:
                        journal.resend(row.id, who="person", reason="again")
                except RetryLater:
                    continue

    def _resolve(self, journal: SimulatedJournal, row: Any) -> None:
        sent = self.rules.sent[row.pk, row.generation]
        if row.outcome not in ("unknown", "accepted") or row.relation in (
            "continue",
            "failure",
            "do_nothing",
        ):
            return
        if any(one.pending or not one.process.done for one in sent):
            return  # it may still be booked: whoever is asked says "not yet"
        arrived = bool(self.rules.effects(row.pk, row.generation))
        self.rules.being_resolved.add(row.id)
        try:
            journal.resolve(row.id, arrived=arrived, who="person")
        except RowBusy:
            raise
        except OrderCancelError:
            return  # it moved on meanwhile
        finally:
            self.rules.being_resolved.discard(row.id)

    # From the beginning to the end

    def run(self) -> Result:
        """The whole history, its calm end included."""
        self.database.empty()
        self.more_plans(self.options.plans)
        with let_in(self.world, self.wire, self.seed):
            try:
                self.world.run(self.world.spawn("history", self._story))
            except RuntimeError as error:
                self.rules.breach("no task breaks", str(error))
        states = Counter(str(row.state) for row in self.rules.rows.values())
        effects = sum(one.effects for sent in self.rules.sent.values() for one in sent)
        return Result(
            self.seed,
            str(self.options),
            self.rules.breaches,
            self.world.hits,
            self.world.passed,
            self.world.digest(),
            self.world.trail,
            states,
            effects,
        )

    def _story(self) -> None:
        lives = [
            self.world.spawn(f"Airflow {home.name}", partial(self.life, home), home) for home in self.homes
        ]
        self.world.wait(lives)
        for life in lives:
            if life.error is not None:
                self.rules.breach("no task breaks", repr(life.error))
        self._calm_end()

    def _calm_end(self) -> None:
        """Nothing fails any more: now everything must come to an end."""
        world, home = self.world, self.homes[0]
        world.calm = True
        world.note("calm")
        self.raw = {**self.raw, "fan_out": 0, "lots": 1}
        while any(process.mortal for process in world.processes):
            world.sleep(400.0)
        for round_number in range(5):
            world.sleep(7 * 3600.0)
            self.dag_run(home, Params())
            self._look_after(thorough=True)
            if round_number and not self._open():
                break
        self._judge()

    def _open(self) -> list[Any]:
        newest = {row.pk: row for row in sorted(self.rules.rows.values(), key=lambda row: row.generation)}
        return [row for row in newest.values() if row.state not in FINAL]

    def _judge(self) -> None:
        breach, status = self.rules.breach, self._status()
        for pk, plan in self.omnitron.plans.items():
            if plan["status"] == status and self.rules.newest(str(pk)) is None:
                breach("no plan lost", f"plan {pk} has no row")
        for row in self._open():
            if not self._may_wait(row):
                breach("no plan lost", f"plan {row.pk} ends {row.state} (outcome {row.outcome or '-'})")
        for row in self.rules.rows.values():
            place = row.pk, row.generation
            if row.state is State.DONE and not self.rules.effects(*place):
                breach("no plan lost", f"plan {row.pk} is done, and the ERP has nothing")
            if row.state in (State.REJECTED, State.LEFT) and self.rules.effects_in_time(*place):
                breach("no plan lost", f"plan {row.pk} is {row.state}, and the ERP has it")
        self._judge_omnitron()

    def _may_wait(self, row: Any) -> bool:
        pk = int(row.pk)
        if row.state is State.FAILED and pk not in self.omnitron.plans:
            return False  # asked twice it ends
        if row.state in (State.FAILED, State.DEAD):
            for_ever = (
                self.erp.refuses[pk] > 0
                or (self.erp.wrong_version == self.version)
                or pk in self.omnitron.touched
            )
            return for_ever or row.state is State.DEAD
        return bool(row.state is State.CHANGED and (pk in self.omnitron.touched or row.generation > 1))

    def _judge_omnitron(self) -> None:
        for pk, plan in self.omnitron.plans.items():
            row = self.rules.newest(str(pk))
            if row is None or pk in self.omnitron.touched or row.generation > 1:
                continue
            if row.state is State.DONE and KINDS[self.options.kind] not in (None, plan["status"]):
                self.rules.breach("no plan lost", f"plan {pk} is done, and Omnitron shows {plan['status']}")
        if self.options.kind == "order_transaction":
            self._judge_transactions()

    def _judge_transactions(self) -> None:
        for transaction in self.omnitron.transactions:
            mine = [pk for pk, plan in self.omnitron.plans.items() if plan["order"]["pk"] == transaction]
            rows = [self.rules.newest(str(pk)) for pk in mine]
            if (
                all(row is not None and row.state is State.DONE for row in rows)
                and not self.omnitron.mapped[transaction]
            ):
                self.rules.breach("no plan lost", f"transaction {transaction} is delivered, but not mapped")


def _carried_by(task: str) -> str:
    """Whose tasks they are that take a row from one another: a plan's steps, or a lot's tries."""
    return task.rpartition(" of ")[2]


def run(seed: int, database: Database) -> Result:
    """The history of one seed."""
    return History(seed, database).run()


@contextmanager
def database(url: str = "sqlite://") -> Iterator[Database]:
    opened = Database(url)
    try:
        yield opened
    finally:
        opened.close()


def shown(result: Result, last: int = 0) -> str:
    """A history in words: its options, its breaches, and its trail or the end of it."""
    lines = [f"seed {result.seed}: {result.options}", f"digest {result.digest}"]
    lines += [f"  BREACH {name}: {what}" for name, what in result.breaches]
    trail = result.trail[-last:] if last else []
    lines += [f"  {at:10.2f} {who:<28} {what}" for at, who, what in trail]
    return "\n".join(lines)


__all__ = ["FLOW", "History", "Options", "Result", "database", "json", "run", "shown"]
