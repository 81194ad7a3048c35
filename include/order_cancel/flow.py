"""One run of a flow, task by task: log in, fetch, carry in lots, name what is open, carry one plan, report, judge.

Each function is one Airflow task; all they need from outside comes in `Surroundings` as plain values.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

from include.order_cancel import alerts
from include.order_cancel import erp as erp_system
from include.order_cancel import omnitron as omnitron_system
from include.order_cancel.adopting import Inside, OtherOmnitron, check_known, check_same
from include.order_cancel.batch import carry_all
from include.order_cancel.dry_run import DryRun, Preview
from include.order_cancel.dry_run import run_of as preview_run
from include.order_cancel.errors import JournalDown, OrderCancelError, Problem, SettingsError, StopFlow
from include.order_cancel.fetching import Found, fetch, in_words
from include.order_cancel.http import Endpoint, check_endpoint
from include.order_cancel.journal import ForeignRun, Journal, OnTheWire
from include.order_cancel.metrics import Measure, unmeasured
from include.order_cancel.omnitron import Omnitron
from include.order_cancel.params import Params, check_window
from include.order_cancel.restoring import check_not_behind
from include.order_cancel.rows import OPEN, Relation, Row, Run, State
from include.order_cancel.scripts.process import Limits, ScriptProcess
from include.order_cancel.searching import Asked
from include.order_cancel.settings import DAG_PREFIX, Alert, FlowSettings, from_snapshot
from include.order_cancel.steps import advance, begin, verdict
from include.order_cancel.text import printable
from include.order_cancel.under_way import Work
from include.order_cancel.whole_order import MAPPED, NOBODYS, NOT_YET, SETTLED

log = logging.getLogger("order_cancel")

T = TypeVar("T")

TITLES = {
    "login": "Login Step",
    "get_data_from_omnitron": "Get Data From Omnitron Step",
    "script": "Script Step",
    "mapping": "Mapping Step",
    "write_to_erp": "Write Data to ERP Step",
    "write_to_omnitron": "Write Data to Omnitron Step",
    "post_script": "Post Script Step",
}
_SHOWN = 50
_OPENED_WITHOUT_FAN_OUT = 50
_DRY_RUN_SHOWS = 10  # where neither a limit nor `fan_out` says
_WELL = frozenset({State.DONE, State.REJECTED, State.PASSED, State.LEFT, State.DISMISSED})


class GateClosed(OrderCancelError):
    """The run did not go as it should; the message says which plans and tasks."""


@dataclass(frozen=True)
class Surroundings:
    """What a flow gets from where it runs: its settings, Connections, journal and last query time.

    `last_begun`: when the newest run began, kept where the journal's backup is not; see `restoring`.
    `http`: options of every `Caller`, for a run under another clock or over another network. `notify` tells one
    notifier of the settings' alerts, `measure` takes metrics.
    `run_key`: the name of the task's own run; None where no run is carried on. `compare_home`: whether all tasks of
    a run have the same `home`.
    `page`: where the page of the plans is, for links in logs; its address or path, with a slash at the end.
    `lot_size`: a larger batch gets one lot for so many plans, up to the `lots` of the settings.
    """

    flow: str
    home: str
    settings: Callable[[], FlowSettings]
    endpoint: Callable[[str], Endpoint]
    journal: Callable[[], AbstractContextManager[Journal]]
    last_query: Callable[[], datetime | None]
    set_last_query: Callable[[datetime], None]
    last_begun: Callable[[], datetime | None] = lambda: None
    set_last_begun: Callable[[datetime], None] = lambda _: None
    http: Mapping[str, Any] = field(default_factory=dict)
    notify: alerts.Notify = alerts.untold
    measure: Measure = unmeasured
    run_key: str | None = None
    compare_home: bool = True
    lot_size: int = 1
    page: str = "/order-cancel/"


def _own_run(around: Surroundings, journal: Journal, run_id: int) -> Run:
    """The task's own run. Airflow keeps its number, and the journal may have been replaced since. Raises ForeignRun."""
    run = journal.run(run_id)
    elsewhere = around.compare_home and run.home != around.home
    if run.flow == around.flow and run.run_key == (around.run_key or run.run_key) and not elsewhere:
        return run
    raise ForeignRun(
        f"the journal holds another run under the number {run_id}: {printable(run.run_key, 260)} of flow {run.flow}"
        + (", of another Airflow" if elsewhere else "")
        + ". Was the journal replaced, or Airflow's configuration changed? Nothing was done; trigger a new run"
    )


@contextmanager
def group(title: str) -> Iterator[None]:
    """A foldable group in the task's log, titled by the step's name."""
    log.info("::group::%s", title)
    try:
        yield
    finally:
        log.info("::endgroup::")


# login


def login(around: Surroundings, run_key: str, params: Params) -> int | None:
    """Validate the settings, make sure of both systems' tokens, open the run. Returns its number; None for a dry run.

    Raises SettingsError with every problem, JournalBehind, OtherOmnitron, LoginFailed.
    """
    settings = around.settings()
    for warning in settings.warnings:
        log.warning("%s", warning)
    check_window(params, settings.omnitron.cancel_status)
    with group(TITLES["login"]), around.journal() as journal:
        endpoint = around.endpoint(settings.omnitron.conn_id)
        check_endpoint(endpoint)
        if not params.dry_run:
            check_not_behind(journal, around.flow, around.last_query(), around.last_begun())
            _check_known(journal, around.flow, settings, endpoint, journal.now())
        with _telling(around, settings, journal, run_key):
            asyncio.run(_log_in(around, settings, journal))
        log.info("logged in to Omnitron at %s", endpoint.identity)
        if params.dry_run:
            return None
        run = journal.begin_run(
            around.flow,
            run_key,
            around.home,
            endpoint.identity,
            params.as_dict(),
            check=lambda inside, now: _check_known(Inside(inside), around.flow, settings, endpoint, now),
        )
        check_same(endpoint, run.host, "this run")
        journal.go_on(run.id)
        return run.id


@contextmanager
def _telling(around: Surroundings, settings: FlowSettings, journal: Journal, run_key: str) -> Iterator[None]:
    """Tell the flow's notifiers of a stop that ends the task."""
    try:
        yield
    except StopFlow as stop:
        run, reason = f"{around.home}/{run_key}", printable(str(stop), 2000)
        alerts.tell_of_stop(journal, settings.alerts, around.notify, around.flow, stop.alert, reason, run)
        raise


async def _log_in(around: Surroundings, settings: FlowSettings, journal: Journal) -> None:
    async with _omnitron(around, settings, journal) as omnitron:
        await omnitron.login()
    async with erp_system.connect(
        around.endpoint(settings.erp.conn_id), settings.erp, journal, **around.http
    ) as erp:
        await erp.login()


@contextmanager
def noting_login(around: Surroundings, run_key: str) -> Iterator[None]:
    """Keep for the gate why the login failed, as long as the journal can be reached."""
    try:
        yield
    except OrderCancelError as error:
        reason = "\n".join(printable(line, 2000) for line in str(error).splitlines())
        with suppress(OrderCancelError), around.journal() as journal:
            journal.note_failed_login(around.flow, around.home, run_key, reason)
        raise


# get_data_from_omnitron


def get_data(around: Surroundings, run_id: int | None, params: Params) -> list[int]:
    """List the plans, commit their rows, freeze who belongs to the run. Returns the lots, none for a small batch.

    Repeated in one run it keeps its rows and their order. Only afterwards, and only for a run that nothing narrows,
    the last query time moves. Raises ForeignRun, OtherOmnitron, TooManyPlans, ListingFailed, BadListing, SettingsError.
    """
    settings = around.settings()
    check_window(params, settings.omnitron.cancel_status)
    with group(TITLES["get_data_from_omnitron"]), around.journal() as journal:
        _check_begun_so(journal, run_id, params)
        if run_id is None:
            asyncio.run(_dry_run(around, settings, journal, params))
            return []
        run = _own_run(around, journal, run_id)
        check_same(around.endpoint(settings.omnitron.conn_id), run.host, "this run")
        if not run.committed:
            journal.save_snapshot(around.flow, settings.digest, settings.snapshot())
            journal.set_snapshot(run_id, settings.digest)
            with _telling(around, settings, journal, run.run_key):
                found = asyncio.run(_fetch(around, settings, journal, run, params))
            lots = _commit(around, settings, journal, run, params, found)
            log.info("found: %s", in_words(found.counts) or "nothing")
        else:
            log.info("the plans of this run are fetched already; they stay as they are")
            lots = journal.lots(run_id)
        _move(around.last_begun, around.set_last_begun, run.started_at)
        queried_at = journal.run(run_id).queried_at
        if queried_at is not None and not params.narrows:
            _move(around.last_query, around.set_last_query, queried_at)
        return lots


def _commit(
    around: Surroundings,
    settings: FlowSettings,
    journal: Journal,
    run: Run,
    params: Params,
    found: Found,
) -> list[int]:
    endpoint = around.endpoint(settings.omnitron.conn_id)
    try:
        return journal.commit_run(
            run,
            fan_out=settings.fan_out,
            lots=settings.lots,
            lot_size=around.lot_size,
            counts=found.counts,
            queried_at=found.queried_at,
            not_kept=found.not_kept,
            limit=params.limit,
            # A run for another name may have begun while nothing was heard of this one.
            check=lambda inside, _: _check_known(
                Inside(inside), around.flow, settings, endpoint, run.started_at
            ),
        )
    except OtherOmnitron:
        journal.forget_listing(run)  # or its plans would be this name's, and the next run would send them
        raise


def _check_known(journal: Asked, flow: str, settings: FlowSettings, endpoint: Endpoint, since: float) -> None:
    check_known(journal, flow, endpoint, since, lists_finished=not settings.writes_status)


def _check_begun_so(journal: Journal, run_id: int | None, params: Params) -> None:
    """Raise SettingsError where these are not the Params with which `login` began: a dry run never becomes another."""
    if params.dry_run:
        begun_so = run_id is None
    else:
        begun_so = run_id is not None and journal.run(run_id).params == params.as_dict()
    if not begun_so:
        raise SettingsError([Problem("params", "are not those that this run began with; start another run")])


def _move(last: Callable[[], datetime | None], set_last: Callable[[datetime], None], seconds: float) -> None:
    """Never backward."""
    at, known = datetime.fromtimestamp(seconds, UTC), last()
    if known is None or known < at:
        set_last(at)


async def _fetch(
    around: Surroundings, settings: FlowSettings, journal: Journal, run: Run, params: Params
) -> Found:
    async with _omnitron(around, settings, journal) as omnitron:
        return await fetch(omnitron, settings, journal, run, params, around.last_query)


async def _dry_run(around: Surroundings, settings: FlowSettings, journal: Journal, params: Params) -> None:
    preview = Preview(journal)
    run = preview_run(around.flow, around.endpoint(settings.omnitron.conn_id).identity, journal.now())
    async with (
        _omnitron(around, settings, journal) as omnitron,
        ScriptProcess(Limits(**settings.scripts.model_dump())) as scripts,
    ):
        found = await fetch(omnitron, settings, preview, run, params, around.last_query)
        dry = DryRun(settings, journal, omnitron, scripts, around.endpoint(settings.erp.conn_id))
        await dry.show(preview.plans(), found, params.limit or settings.fan_out or _DRY_RUN_SHOWS)


def _omnitron(
    around: Surroundings, settings: FlowSettings, journal: Journal
) -> AbstractAsyncContextManager[Omnitron]:
    endpoint = around.endpoint(settings.omnitron.conn_id)
    return omnitron_system.connect(endpoint, settings.omnitron, journal, **around.http)


# bulk


def bulk(around: Surroundings, run_id: int, lot: int, again: bool) -> dict[str, int]:
    """Carry a lot's plans side by side through all steps. Never fails because of a plan. Returns how many ended how.

    Raises ForeignRun.
    """
    with around.journal() as journal:
        settings = _settings_of(journal, _own_run(around, journal, run_id))
        members = journal.lot(run_id, lot)
        if again:
            journal.go_on(run_id)
        parts = max(1, len(journal.lots(run_id)))
        in_flight = max(1, settings.erp.max_in_flight // parts)
        return dict(_run(_carry_lot(around, journal, run_id, members, in_flight, again, parts)))


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a lot in uvloop's event loop where it is installed, as it is with Airflow: a tenth less CPU for a plan."""
    try:
        import uvloop  # noqa: PLC0415  (only a lot is worth its 20 ms, and it need not be there)
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


async def _carry_lot(
    around: Surroundings,
    journal: Journal,
    run_id: int,
    members: list[Any],
    in_flight: int,
    again: bool,
    parts: int,
) -> Counter[str]:
    async with _work(around, journal, run_id, again, parts, many=True) as work:
        return await carry_all(work, members, in_flight)


# open_plans


def open_plans(around: Surroundings, run_id: int | None) -> list[int]:
    """The members that get tasks of their own in the group `plan`, by number. Raises ForeignRun."""
    if run_id is None:
        return []
    with around.journal() as journal:
        fan_out = _settings_of(journal, _own_run(around, journal, run_id)).fan_out
        return [member.id for member in journal.open_members(run_id, fan_out or _OPENED_WITHOUT_FAN_OUT)]


def _settings_of(journal: Journal, run: Run) -> FlowSettings:
    return from_snapshot(journal.snapshot(run.snapshot), flow=run.flow)


# plan.*


def carry_one(
    around: Surroundings, member_id: int, step: str, again: bool, named: Callable[[str], None]
) -> tuple[str, Row]:
    """Perform the steps of one plan up to `step`. Returns how the task ends (`green`, `skipped`, `red`) and the row.

    `named` is told the plan's name before anything happens. A request that may still be on the wire is waited for.
    Raises ForeignRun, OtherOmnitron, RowBusy where another run has the plan.
    """
    with around.journal() as journal:
        member = journal.member(member_id)
        _own_run(around, journal, member.run_id)
        named(journal.row(member.plan_id).name)
        journal.stay_alive(member.run_id)
        if again:
            journal.go_on(member.run_id)
        with group(TITLES[step]):
            row, post_error = asyncio.run(_carry_step(around, journal, member, step, again))
    ending = "red" if post_error else verdict(row)
    line = f"[{printable(row.name, 120)}] {row.state}"
    if ending == "red":
        log.error("%s: %s", line, row.error)
        log.info("its journey: %sflows/%s/plans/%d", around.page, around.flow, row.id)
    else:
        log.info("%s%s", line, f": {row.error}" if row.error else "")
    return ending, row


async def _carry_step(
    around: Surroundings, journal: Journal, member: Any, step: str, again: bool
) -> tuple[Row, str | None]:
    async with _work(around, journal, member.run_id, again) as work:
        row = await _claim_when_free(work, member.plan_id)
        try:
            plan = await begin(work, row, member)
        except OtherOmnitron:
            await work.give_back(row)
            raise
        return await advance(plan, step), plan.post_error


async def _claim_when_free(work: Work, plan_id: int) -> Row:
    while True:
        try:
            return await work.writer.call(work.journal.claim_one, plan_id, work.run.id, work.owner)
        except OnTheWire as busy:
            log.info("%s; waiting", busy)
            await asyncio.sleep(max(0.2, busy.seconds))


def _work(
    around: Surroundings, journal: Journal, run_id: int, again: bool, parts: int = 1, *, many: bool = False
) -> Work:
    return Work(
        journal,
        journal.run(run_id),
        current=around.settings,
        endpoint=around.endpoint,
        owner=f"{socket.gethostname()}:{os.getpid()}",
        again=again,
        parts=parts,
        many=many,
        http=around.http,
        measure=around.measure,
    )


# report and gate


def report(around: Surroundings, run_id: int | None, failed_tasks: Collection[str] = ()) -> dict[str, Any]:
    """The outcome table, printed and returned: counts by state, the plans that need a look, what was left out.

    Raises ForeignRun.
    """
    if run_id is None and "login" in failed_tasks:
        log.info("nothing to report: the login failed; the gate says why")
        return {}
    if run_id is None:
        log.info("nothing to report: this was a dry run, nothing was sent")
        return {}
    with around.journal() as journal:
        run = _own_run(around, journal, run_id)
        counts = journal.run_counts(run_id)
        journal.finish_run(run_id)
        open_rows = journal.run_rows(run_id, OPEN, limit=_SHOWN)
        warned = journal.warned(run_id, _SHOWN)
        stopped = journal.stopped(run_id)
        unmapped = _unmapped(journal, run_id)
        breaker_open = journal.stop_kind(run_id) == "breaker_open"
        open_plans = journal.open_plans(around.flow)
    outcomes: Counter[str] = Counter()
    for (state, _), number in counts.items():
        outcomes[str(state)] += number
    if run.finished_at is None:  # a report that was cleared counts nothing twice
        for name, number in outcomes.items():
            around.measure("incr", f"plans.{name}", number)
    around.measure("gauge", "breaker_open", float(breaker_open))
    _measure_open(around, *open_plans)
    table = _table(outcomes, run, open_rows, warned, stopped, unmapped)
    left_out = dict(run.counts)
    if unmapped:
        left_out["transactions held back"] = left_out.get("transactions held back", 0) + len(unmapped)
    log.info("outcome of this run\n%s", table)
    log.info("its plans: %s%s", around.page, _run_on_the_page(around.flow, run.run_key))
    return {"outcomes": dict(outcomes), "left_out": left_out, "stopped": stopped, "table": table}


def _run_on_the_page(flow: str, run_key: str) -> str:
    return "run?" + urlencode({"dag_id": DAG_PREFIX + flow, "run_id": run_key})


def _measure_open(around: Surroundings, number: int, oldest: float) -> None:
    around.measure("gauge", "open_plans", number)
    around.measure("gauge", "oldest_open_seconds", oldest)


def watch(around: Surroundings) -> None:
    """Between the runs: how old the oldest open plan is, and whether the flow has been silent for too long."""
    settings = around.settings()
    with around.journal() as journal:
        _measure_open(around, *journal.open_plans(around.flow))
        alerts.tell_of_silence(journal, settings.alerts, around.notify, around.flow)


def _table(
    outcomes: Counter[str],
    run: Run,
    open_rows: list[Row],
    warned: list[Row],
    stopped: str | None,
    unmapped: Sequence[tuple[str, str]],
) -> str:
    lines = [f"{'outcome':<14}{'plans':>7}", "-" * 21]
    lines += [f"{state:<14}{outcomes[state]:>7}" for state in State if outcomes[state]]
    lines.append(f"{'all':<14}{sum(outcomes.values()):>7}")
    left_out = {
        name: number for name, number in run.counts.items() if name not in ("new", "again", "repeated")
    }
    if left_out:
        lines += ["", f"not taken: {in_words(left_out)}"]
    if stopped:
        lines += ["", f"the run was stopped: {stopped}"]
    if open_rows:
        lines += ["", "open:"] + [
            f"  {printable(row.name, 60):<32} {row.state:<10} {printable(row.error or '', 200)}"
            for row in open_rows
        ]
        if (more := _open_count(outcomes) - len(open_rows)) > 0:
            lines.append(f"  and {more} more")
    if warned:
        lines += ["", "done with a warning:"]
        lines += [f"  {printable(row.name, 60):<32} {printable(row.error or '', 200)}" for row in warned]
    if unmapped:
        lines += ["", "not mapped yet, looked at again by the next run:"]
        lines += [f"  {printable(detail, 300)}" for _, detail in unmapped[:_SHOWN]]
        if (more := len(unmapped) - _SHOWN) > 0:
            lines.append(f"  and {more} more")
    return "\n".join(lines)


def _unmapped(journal: Journal, run_id: int) -> list[tuple[str, str]]:
    """The order transactions of the run's plans that wait for another plan, each with the journey's word and why."""
    last = journal.last_of_transactions(run_id, (MAPPED, SETTLED, NOT_YET, NOBODYS))
    return [(what, why) for what, why in last if what in (NOT_YET, NOBODYS)]


def _open_count(outcomes: Counter[str]) -> int:
    return sum(number for state, number in outcomes.items() if State(state) in OPEN)


def gate(
    around: Surroundings, run_id: int | None, failed_tasks: Sequence[str], run_key: str | None = None
) -> str:
    """Say whether the run went as it should, and tell the notifiers. Raises GateClosed with the reasons.

    `run_key`: the run's name, for one that the journal does not know.
    """
    reasons = [f"task {name} failed" for name in failed_tasks]
    try:
        with around.journal() as journal:
            reasons = _judged(around, journal, run_id, failed_tasks, run_key)
    except JournalDown as down:
        reasons.append(f"the journal is out of reach, so the gate cannot say how the plans ended: {down}")
    if reasons:
        raise GateClosed("\n".join(reasons))
    if run_id is None:
        return "this was a dry run: nothing was sent"
    return "all plans of this run are settled, or held by a script's own word"


def _judged(
    around: Surroundings,
    journal: Journal,
    run_id: int | None,
    failed_tasks: Sequence[str],
    run_key: str | None,
) -> list[str]:
    """Why the gate does not open, if so; the notifiers are told."""
    reasons = [
        _why_no_login(around, journal, run_key) if name == "login" else f"task {name} failed"
        for name in failed_tasks
    ]
    stopped = None
    try:
        if run_id is not None:
            _own_run(around, journal, run_id)
            stopped = journal.stopped(run_id)
            reasons += _reasons(journal, run_id, stopped)
    except ForeignRun as foreign:
        run_id = None
        reasons.append(str(foreign))
    _tell_after_run(around, journal, run_id, run_key, stopped, reasons)
    return reasons


def _why_no_login(around: Surroundings, journal: Journal, run_key: str | None) -> str:
    known = None if run_key is None else journal.failed_login(around.flow, around.home, run_key)
    return f"login failed: {known or 'the journal does not hold why, the log of the task login does'}"


def _reasons(journal: Journal, run_id: int, stopped: str | None) -> list[str]:
    bad = {key: number for key, number in journal.run_counts(run_id).items() if not _good(*key)}
    rows = journal.run_rows(run_id, {state for state, _ in bad}, limit=_SHOWN) if bad else []
    reasons = [f"the run was stopped: {stopped}"] if stopped else []
    by_state: Counter[str] = Counter()
    for (state, _), number in bad.items():
        by_state[state] += number
    if by_state:
        reasons.append(in_words(by_state))
    reasons += [
        f"{row.name}: {row.state}" + (f": {printable(row.error, 200)}" if row.error else "")
        for row in rows
        if not _good(row.state, row.relation or "")
    ]
    not_kept = journal.run(run_id).not_kept
    reasons += not_kept[:_SHOWN]
    if (more := len(not_kept) - _SHOWN) > 0:
        reasons.append(f"and {more} more that are not kept")
    stuck = [why for what, why in _unmapped(journal, run_id) if what == NOBODYS]
    return reasons + [f"not mapped: {printable(why, 300)}" for why in stuck[:_SHOWN]]


def _tell_after_run(
    around: Surroundings,
    journal: Journal,
    run_id: int | None,
    run_key: str | None,
    stopped: str | None,
    reasons: Sequence[str],
) -> None:
    wanted: tuple[Alert, ...] = ()
    try:
        wanted = around.settings().alerts
    except SettingsError:
        log.warning("the settings are invalid, so nobody can be told")
    told = (journal, wanted, around.notify, around.flow)
    if run_id is not None:
        run_key = journal.run(run_id).run_key
        reason = printable(stopped or "", 2000)
        alerts.tell_of_stop(*told, journal.stop_kind(run_id), reason, f"{around.home}/{run_key}")
        if not reasons:
            journal.succeed(run_id)
    if reasons and run_key is not None:
        alerts.tell_of_gate(*told, reasons, f"{around.home}/{run_key}")
    alerts.tell_of_doubt(*told)


def _good(state: State, relation: str) -> bool:
    return state in _WELL or (state is State.HELD and relation == Relation.DO_NOTHING)
