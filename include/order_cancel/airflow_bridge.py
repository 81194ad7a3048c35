"""The only module that knows Airflow: Connections and Variables in, plain values out; our errors into Airflow's.

Two doors: the Task SDK inside tasks (`surroundings`), `airflow.models` in the command line and the DAG file's parse
by the dag-processor (outside a task the SDK does not find a Variable that exists).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, BaseNotifier
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.sdk.observability import stats

from include.order_cancel import flow as flow_module
from include.order_cancel import params as params_module
from include.order_cancel import pruning
from include.order_cancel.alerts import Happening
from include.order_cancel.errors import OrderCancelError, Problem, RetryLater, SettingsError
from include.order_cancel.flow import Surroundings
from include.order_cancel.http import Endpoint
from include.order_cancel.identity import base_url
from include.order_cancel.journal import Journal
from include.order_cancel.settings import Alert, FlowSettings, check_flow_name, loads

FLOWS_FOLDER = Path(__file__).resolve().parents[1] / "flows"
JOURNAL_CONNECTION = "order_cancel_journal"
INDEX_VARIABLE = "order_cancel_flows"
LOT_SIZE = 500  # a task costs about a second of CPU, as much as 500 plans
RETRY_DELAY = timedelta(seconds=10)
log = logging.getLogger("order_cancel")


def settings_variable(flow: str) -> str:
    """The Variable that holds a flow's settings."""
    return f"order_cancel_flow__{flow}"


def last_run_variable(flow: str) -> str:
    """The Variable that holds a flow's last query time."""
    return f"order_cancel_last_run__{flow}"


def last_begun_variable(flow: str) -> str:
    """The Variable that holds when a flow's newest run began."""
    return f"order_cancel_last_begun__{flow}"


# Tasks: what the DAG file calls. The run's number comes from `login`; everything else from the task's context.


def login(flow: str) -> int | None:
    """Task `login`: the run's number in the journal, None for a dry run."""
    with _airflow_errors():
        around, run_key = surroundings(flow), _context()["run_id"]
        with flow_module.noting_login(around, run_key):
            _warn_of_deaf_alerts(around.settings())
            return flow_module.login(around, run_key, _params())


def get_data_from_omnitron(flow: str, run: int | None) -> list[int]:
    """Task `get_data_from_omnitron`: the lots of a large batch."""
    with _airflow_errors():
        return flow_module.get_data(_in_run(flow), run, _params())


def bulk(flow: str, run: int, lot: int) -> dict[str, int]:
    """Mapped task `bulk`: one lot's plans through all steps."""
    _context()["name"] = f"lot {lot + 1}"
    with _airflow_errors():
        return flow_module.bulk(_in_run(flow), run, lot, _again())


def open_plans(flow: str, run: int | None) -> list[int]:
    """Task `open_plans`: the members that get tasks of their own."""
    with _airflow_errors():
        return flow_module.open_plans(_in_run(flow), run)


def carry_one(flow: str, member: int, step: str) -> None:
    """One task of the mapped group `plan`: green, skipped (held by a script's word) or red."""
    context = _context()

    def named(name: str) -> None:
        context["name"] = name

    with _airflow_errors():
        ending, row = flow_module.carry_one(_in_run(flow), member, step, _again(), named)
    if ending == "skipped":
        raise AirflowSkipException(f"plan {row.name}: {row.state}")
    if ending == "red":
        raise AirflowFailException(f"plan {row.name}: {row.state}: {row.error}")


def report(flow: str, run: int | None) -> dict[str, Any]:
    """Task `report`: the outcome table."""
    with _airflow_errors():
        done = flow_module.report(_in_run(flow), run, _failed_tasks())
    counted = {name: done.get(name, {}) for name in ("outcomes", "left_out")}
    _context()["outlet_events"][run_asset(flow)].extra = {"flow": flow, "run": run, **counted}
    return done


def gate(flow: str, run: int | None) -> str:
    """Task `gate`: fails where a task before it failed or a plan is not settled."""
    with _airflow_errors():
        return flow_module.gate(_in_run(flow), run, _failed_tasks(), _context()["run_id"])


def run_asset(flow: str) -> Asset:
    """The asset that changes with every finished run of a flow, so that other DAGs can follow."""
    return Asset(f"order_cancel/{flow}")


# Maintenance and watching


def watch(flow: str) -> None:
    """Mapped task `watch`: the gauges of one flow, and its alert for too long a silence."""
    _context()["name"] = flow
    with _airflow_errors():
        flow_module.watch(surroundings(flow))


def needs_watching() -> bool:
    """Whether any flow wants to be told of its silence, by the settings as the dag-processor reads them."""
    try:
        return any(_wants_watching(flow) for flow in index())
    except OrderCancelError:
        return False


def _wants_watching(flow: str) -> bool:
    try:
        return any(alert.no_success_minutes is not None for alert in parsed_settings(flow).alerts)
    except OrderCancelError:
        return False


def task_index() -> list[str]:
    """Task `flows` of the maintenance: the flows' names."""
    with _airflow_errors():
        names, problems = _names(_task_variable(INDEX_VARIABLE))
        if problems and not names:
            raise SettingsError(problems)
    for problem in problems:
        log.warning("%s", problem)
    return names


def check_index() -> str:
    """Task `check` of the DAG `order_cancel_flows`: fails with every problem of the index."""
    with _airflow_errors():
        if problems := _names(_task_variable(INDEX_VARIABLE))[1]:
            raise SettingsError(problems)
    return f"the Variable {INDEX_VARIABLE} is in order; this DAG goes when the DAG file is read again"


def prune(flow: str) -> dict[str, int]:
    """Mapped task `prune`: one flow's plans, as its settings say."""
    _context()["name"] = flow
    around = surroundings(flow)
    with _airflow_errors(), around.journal() as journal:
        done = pruning.prune_flow(journal, flow, around.settings().retention)
        log.info("%s", pruning.in_words(done))
        return dict(done)


def give_space_back() -> int:
    """Task `give_space_back`: how many pages an SQLite file gave back."""
    with _airflow_errors(), _journal(_task_journal_url()) as journal:
        return pruning.give_space_back(journal)


# What tasks are given


def surroundings(flow: str) -> Surroundings:
    """A flow's surroundings inside a task."""
    return Surroundings(
        flow=flow,
        home=_home(),
        settings=lambda: _settings(flow, _task_variable(settings_variable(flow))),
        endpoint=_task_endpoint,
        journal=lambda: _journal(_task_journal_url()),
        last_query=lambda: _moment(last_run_variable(flow)),
        set_last_query=lambda moment: _set_moment(last_run_variable(flow), moment),
        last_begun=lambda: _moment(last_begun_variable(flow)),
        set_last_begun=lambda moment: _set_moment(last_begun_variable(flow), moment),
        notify=_notify,
        measure=lambda kind, name, value: _measure(flow, kind, name, value),
        lot_size=LOT_SIZE,
        page=_page(),
    )


def _in_run(flow: str) -> Surroundings:
    """A flow's surroundings inside a task of one of its runs."""
    one_machine = (
        _executor() == "LocalExecutor"
    )  # else workers of one Airflow may be configured in several ways
    return replace(surroundings(flow), run_key=_context()["run_id"], compare_home=one_machine)


def _notify(alert: Alert, happening: Happening) -> None:
    """Call a notifier in this task's context, with `order_cancel` in it for its templates."""
    context = {**_context(), "order_cancel": happening.as_dict()}
    _notifier(alert)(**alert.arguments)(context)


def _notifier(alert: Alert) -> Any:
    """The notifier's class. Raises SettingsError where there is none."""
    module, _, name = alert.notifier.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        raise SettingsError([Problem("alerts", f"there is no class {alert.notifier} here")]) from None
    if not (isinstance(found, type) and issubclass(found, BaseNotifier)):
        raise SettingsError([Problem("alerts", f"{alert.notifier} is not an Airflow notifier")])
    return found


def _warn_of_deaf_alerts(settings: FlowSettings) -> None:
    for alert in settings.alerts:
        try:
            _notifier(alert)
        except SettingsError as error:
            log.warning("%s; nobody hears of %s", error, ", ".join(alert.on))


def _measure(flow: str, kind: str, name: str, value: float) -> None:
    """One metric into Airflow's stats; metrics that cannot be written never hold a plan up."""
    full, tags = f"order_cancel.{flow}.{name}", {"flow": flow}
    try:
        if kind == "incr":
            stats.incr(full, int(value), tags=tags)
        elif kind == "timing":
            stats.timing(full, timedelta(milliseconds=value), tags=tags)
        else:
            stats.gauge(full, value, tags=tags)
    except Exception as error:  # whatever the backend raises
        log.warning("the metric %s was not written: %s", full, type(error).__name__)


def _settings(flow: str, text: str | None) -> FlowSettings:
    if text is None:
        raise SettingsError(
            [Problem("", f"the Variable {settings_variable(flow)} does not exist; create it")]
        )
    return loads(text, flow=flow, files=FLOWS_FOLDER)


def _moment(variable: str) -> datetime | None:
    text = _task_variable(variable)
    if not text:
        return None
    try:
        return params_module.moment(text)
    except ValueError as error:
        raise SettingsError([Problem(variable, str(error))]) from None


def _set_moment(variable: str, moment: datetime) -> None:
    from airflow.sdk import Variable

    Variable.set(variable, moment.astimezone(UTC).isoformat())


def _task_variable(name: str) -> str | None:
    from airflow.sdk import Variable

    found = Variable.get(name, default=None)
    return None if found is None else str(found)


def _task_endpoint(conn_id: str) -> Endpoint:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return endpoint_of(Connection.get(conn_id))
    except AirflowNotFoundException:
        raise SettingsError(
            [Problem("", f"there is no Connection '{conn_id}'; create it, type HTTP")]
        ) from None


def endpoint_of(connection: Any) -> Endpoint:
    """An Airflow Connection of type HTTP as plain values.

    Raises SettingsError for fields that contradict each other.
    """
    extra = dict(connection.extra_dejson)
    headers = extra.pop("headers", None) or {}
    if not isinstance(headers, dict):
        words = "the headers in its extra must be an object of names and values"
        raise SettingsError([Problem(f"Connection '{connection.conn_id}'", words)])
    return Endpoint(
        conn_id=connection.conn_id,
        base_url=_base_url(connection),
        login=connection.login,
        password=connection.password,
        headers={str(name): str(value) for name, value in headers.items()},
        extra=extra,
    )


def _base_url(connection: Any) -> str:
    try:
        return base_url(connection.host, connection.schema, connection.port)
    except ValueError as error:
        raise SettingsError([Problem(f"Connection '{connection.conn_id}'", str(error))]) from None


@contextmanager
def _journal(url: str) -> Iterator[Journal]:
    journal = Journal.open(url)
    try:
        yield journal
    finally:
        journal.close()


def _task_journal_url() -> str:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return journal_url(Connection.get(JOURNAL_CONNECTION))
    except AirflowNotFoundException:
        return _file_journal_url()


def journal_url(connection: Any) -> str:
    """The journal's Connection as an SQLAlchemy URL: PostgreSQL through psycopg, or an SQLite file."""
    from sqlalchemy import URL

    if connection.conn_type == "sqlite":
        return f"sqlite:///{connection.host or connection.schema}"
    if connection.conn_type not in ("postgres", "postgresql"):
        raise SettingsError(
            [
                Problem(
                    "",
                    f"Connection '{JOURNAL_CONNECTION}' is of type {connection.conn_type}; it must be Postgres",
                )
            ]
        )
    return URL.create(
        "postgresql+psycopg",
        username=connection.login,
        password=connection.password,
        host=connection.host,
        port=connection.port,
        database=connection.schema,
        query=_libpq_options(connection.extra_dejson),
    ).render_as_string(hide_password=False)


def _libpq_options(extra: Mapping[str, Any]) -> dict[str, str]:
    """What the Connection says of the connection itself: `sslmode`, `connect_timeout`, `options` and the like."""
    from psycopg.pq import Conninfo

    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    return {name: str(value) for name, value in extra.items() if name in known}


def _file_journal_url() -> str:
    if (executor := _executor()) != "LocalExecutor":
        raise SettingsError(
            [
                Problem(
                    "",
                    f"there is no Connection '{JOURNAL_CONNECTION}', and under {executor} a file cannot hold the "
                    "journal, since its tasks may run on several machines; create the Connection (type Postgres)",
                )
            ]
        )
    return f"sqlite:///{airflow_home() / 'order_cancel.db'}"


def _executor() -> str:
    from airflow.sdk.configuration import conf

    return str(conf.get("core", "executor", fallback="LocalExecutor")).rpartition(".")[2]


def airflow_home() -> Path:
    """AIRFLOW_HOME, where the journal's file is when no Connection names a database."""
    return Path(os.environ.get("AIRFLOW_HOME") or Path.home() / "airflow").expanduser()


def _home() -> str:
    """Tells two Airflow installations apart that share one journal: both may have a run of the same name."""
    from airflow.sdk.configuration import conf

    parts = [
        conf.get("core", "fernet_key", fallback=""),
        conf.get("api", "base_url", fallback=""),
        conf.get("core", "execution_api_server_url", fallback=""),
        str(airflow_home()),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _page() -> str:
    """Where the page is, as far as Airflow's configuration names its own address."""
    from airflow.sdk.configuration import conf

    return f"{conf.get('api', 'base_url', fallback='').rstrip('/')}/order-cancel/"


def _context() -> Any:
    from airflow.sdk import get_current_context

    return get_current_context()


def _params() -> params_module.Params:
    context = _context()
    return params_module.read(context["params"], context["dag_run"].conf)


def _again() -> bool:
    return bool(_context()["ti"].try_number > 1)


def _failed_tasks() -> list[str]:
    """The run's failed tasks before the gate, without those that were not begun because of one.

    A red post script is a warning, a plan's tasks are told by its row.
    """
    context = _context()
    states = context["ti"].get_task_states(dag_id=context["ti"].dag_id, run_ids=[context["run_id"]])
    found = states.get(context["run_id"], {})
    failed = sorted(name for name, state in found.items() if state == "failed")
    return [name for name in failed if not name.startswith(("plan.", "report", "gate"))]


@contextmanager
def _airflow_errors() -> Iterator[None]:
    """Lost workers and an unreachable journal are for Airflow's retries; the rest a person or the next run mends."""
    try:
        yield
    except RetryLater:
        raise
    except OrderCancelError as error:
        raise AirflowFailException(str(error)) from None


# What the DAG file asks while it is parsed


def index() -> list[str]:
    """The flows' names, by the Variable `order_cancel_flows`, without the entries that cannot be used."""
    return read_index()[0]


def read_index() -> tuple[list[str], list[Problem]]:
    """The flows' names, and what is wrong with the Variable `order_cancel_flows`: its other entries go on."""
    return _names(_model_variable(INDEX_VARIABLE))


def _names(text: str | None) -> tuple[list[str], list[Problem]]:
    try:
        entries = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return [], [Problem(INDEX_VARIABLE, 'is not JSON, so there is no flow; write a list: ["cancels"]')]
    if not isinstance(entries, list):
        return [], [
            Problem(INDEX_VARIABLE, 'is not a list, so there is no flow; write a list of names: ["cancels"]')
        ]
    names: dict[str, None] = {}
    problems = []
    for number, entry in enumerate(entries, start=1):
        if (words := _wrong_entry(entry, names)) is None:
            names[entry] = None
        else:
            problems.append(Problem(INDEX_VARIABLE, f"entry {number} {words}"))
    return list(names), problems


def _wrong_entry(entry: Any, names: Container[str]) -> str | None:
    if not isinstance(entry, str):
        return "is not a text; write a flow's name in quotes, or remove it"
    try:
        check_flow_name(entry)
    except SettingsError as error:
        return f"has no DAG: {error.problems[0].message}"
    return f"'{entry}' stands in the list before; remove it" if entry in names else None


def parsed_settings(flow: str) -> FlowSettings:
    """A flow's settings outside a task. Raises SettingsError with every problem."""
    return _settings(flow, stored_settings(flow))


def stored_settings(flow: str) -> str | None:
    """A flow's settings outside a task, as they are stored, or None."""
    return _model_variable(settings_variable(flow))


def _model_variable(name: str) -> str | None:
    from airflow.models import Variable

    found = Variable.get(name, default_var=None)
    return None if found is None else str(found)


# The command line's door


def check_database() -> None:
    """Raise SettingsError where Airflow's database cannot be read: whatever seems missing is not, then."""
    from airflow import settings
    from sqlalchemy import inspect
    from sqlalchemy.exc import SQLAlchemyError

    try:
        if settings.engine is not None and inspect(settings.engine).has_table("variable"):
            return
        why = "it has no tables; `airflow db migrate` makes them"
    except SQLAlchemyError as error:
        why = str(getattr(error, "orig", error))
    where = f"is AIRFLOW_HOME ({airflow_home()}) the right one?"
    raise SettingsError([Problem("", f"Airflow's database cannot be read, {where} {why}")])


def model_endpoint(conn_id: str) -> Endpoint:
    """A Connection outside a task. Raises SettingsError where there is none."""
    connection = _model_connection(conn_id)
    if connection is None:
        check_database()
        raise SettingsError([Problem("", f"there is no Connection '{conn_id}'; create it, type HTTP")])
    return endpoint_of(connection)


def model_journal_url() -> str:
    """Where the journal is, outside a task, as an SQLAlchemy URL. Raises SettingsError."""
    connection = _model_connection(JOURNAL_CONNECTION)
    return _file_journal_url() if connection is None else journal_url(connection)


def _model_connection(conn_id: str) -> Any:
    from airflow.models import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException:
        return None
