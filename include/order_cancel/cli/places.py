"""Where the commands find settings, Connections and journal: in Airflow, or in what the command line names.

Airflow is imported only where nothing else was named. This is the one place that reads the environment.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.order_cancel.cli.output import UsageError
from include.order_cancel.errors import OrderCancelError, Problem, SettingsError
from include.order_cancel.scripts import strict_json
from include.order_cancel.text import printable

if TYPE_CHECKING:
    from types import ModuleType

    from include.order_cancel.http import Endpoint
    from include.order_cancel.journal import Journal
    from include.order_cancel.settings import FlowSettings

FLOWS_FOLDER = Path(__file__).resolve().parents[2] / "flows"


@contextmanager
def bridge() -> Iterator[ModuleType]:
    """The bridge to Airflow. What Airflow logs meanwhile is dropped: it would stand in the command's output.

    Raises UsageError where Airflow is not installed.
    """
    with redirect_stdout(io.StringIO()):
        try:
            from include.order_cancel import airflow_bridge  # noqa: PLC0415 (takes seconds)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "airflow":
                raise
            raise UsageError(
                "Airflow is not installed here; name what the command needs: "
                "--file for the settings, --journal for the journal"
            ) from None
        yield airflow_bridge


def settings(flow: str, file: Path | None) -> FlowSettings:
    """A flow's settings, from `file` or from its Variable. Raises SettingsError with every problem."""
    if file is not None:
        from include.order_cancel.settings import loads  # noqa: PLC0415 (pydantic)

        return loads(text(file), flow=flow, files=FLOWS_FOLDER)
    with bridge() as airflow:
        try:
            found: FlowSettings = airflow.parsed_settings(flow)
        except SettingsError:
            airflow.check_database()
            raise
        return found


def flows() -> tuple[list[str], list[Problem]]:
    """The names of all flows by Airflow's Variable, and what is wrong with the other entries of that list.

    Raises SettingsError where no flow is named.
    """
    with bridge() as airflow:
        names, problems = airflow.read_index()
        if not names:
            airflow.check_database()
            missing = Problem(airflow.INDEX_VARIABLE, 'names no flow; write a list into it: ["cancels"]')
            raise SettingsError(problems or [missing])
        return names, problems


def endpoints(
    found: FlowSettings, file: Path | None, omnitron_url: str | None, erp_url: str | None
) -> tuple[Endpoint, Endpoint]:
    """Omnitron's and the ERP's Connection; with `file`, from the URLs and the environment.

    The environment's names: OMNITRON_LOGIN, OMNITRON_PASSWORD, OMNITRON_EXTRA (JSON, as a Connection's
    extra), and ERP_LOGIN, ERP_PASSWORD, ERP_EXTRA.
    """
    if file is None:
        if omnitron_url or erp_url:
            raise UsageError(
                "--omnitron-url and --erp-url go with --file; without it the Connections are asked"
            )
        with bridge() as airflow:
            return airflow.model_endpoint(found.omnitron.conn_id), airflow.model_endpoint(found.erp.conn_id)
    if not omnitron_url or not erp_url:
        raise UsageError(
            "with --file there are no Connections; give --omnitron-url and --erp-url, and the logins as "
            "OMNITRON_LOGIN, OMNITRON_PASSWORD, ERP_LOGIN, ERP_PASSWORD in the environment"
        )
    return (
        _endpoint(found.omnitron.conn_id, omnitron_url, "OMNITRON"),
        _endpoint(found.erp.conn_id, erp_url, "ERP"),
    )


def systems(conn_ids: Iterable[str]) -> dict[str, str]:
    """What the journal calls the systems that Airflow's Connections lead to; one that is not there is left out."""
    found = {}
    with bridge() as airflow:
        for conn_id in set(conn_ids):
            with suppress(SettingsError):
                found[conn_id] = airflow.model_endpoint(conn_id).identity
    return found


def omnitron(flow: str) -> Endpoint:
    """The Connection to Omnitron that a flow's settings name."""
    found = settings(flow, None)
    with bridge() as airflow:
        endpoint: Endpoint = airflow.model_endpoint(found.omnitron.conn_id)
        return endpoint


def _endpoint(conn_id: str, url: str, prefix: str) -> Endpoint:
    from include.order_cancel.http import Endpoint  # noqa: PLC0415 (aiohttp)

    extra = _extra(f"{prefix}_EXTRA")
    headers = extra.pop("headers", None) or {}
    return Endpoint(
        conn_id,
        url,
        os.environ.get(f"{prefix}_LOGIN"),
        os.environ.get(f"{prefix}_PASSWORD"),
        {str(name): str(value) for name, value in headers.items()},
        extra,
    )


def _extra(variable: str) -> dict[str, Any]:
    try:
        extra = json.loads(os.environ.get(variable) or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict) or not isinstance(extra.get("headers") or {}, dict):
        raise UsageError(
            f"{variable} in the environment is not a JSON object; write it as a Connection's extra"
        )
    return extra


@contextmanager
def journal(address: str | None) -> Iterator[Journal]:
    """The journal at an SQLAlchemy URL, or where Airflow keeps it. Raises UsageError, JournalDown."""
    import sqlite3  # noqa: PLC0415 (with SQLAlchemy below: only where the journal is asked)

    from sqlalchemy.exc import DatabaseError  # noqa: PLC0415

    from include.order_cancel.journal import Journal  # noqa: PLC0415

    if address is None:
        with bridge() as airflow:
            address = airflow.model_journal_url()
    try:
        opened = Journal.open(_checked(address))
    except (DatabaseError, sqlite3.DatabaseError) as error:
        raise OrderCancelError(f"the journal cannot be used: {getattr(error, 'orig', error)}") from None
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def journal_of(flow: str, address: str | None) -> Iterator[Journal]:
    """The journal, for a command about a flow that it knows or that has settings. Raises what `journal` raises."""
    with journal(address) as opened:
        if not opened.knows(flow) and not _has_settings(flow):
            named = ", ".join(opened.flows()) or "none"
            raise OrderCancelError(
                f"there is no flow '{printable(flow, 60)}': it has no settings here, and the journal knows no plan or "
                f"run of it; flows of the journal: {named}"
            )
        yield opened


def _has_settings(flow: str) -> bool:
    try:
        with bridge() as airflow:
            return airflow.stored_settings(flow) is not None
    except UsageError:  # no Airflow here
        return False


def _checked(address: str) -> str:
    from sqlalchemy import make_url  # noqa: PLC0415
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    mend = "write sqlite:////path/order_cancel.db or postgresql://user@host/database (password: PGPASSWORD)"
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise UsageError(f"--journal is not a database URL; {mend}") from None
    if url.get_backend_name() == "sqlite":
        if not Path(url.database or "").is_file():
            raise OrderCancelError(f"there is no journal at {url.database}; a flow's first run creates it")
    elif url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    else:
        raise UsageError(f"the journal is kept in SQLite or PostgreSQL; {mend}")
    return url.render_as_string(hide_password=False)


def text(file: Path) -> str:
    """The text of a file that the command line names, `-` for what is piped in. Raises UsageError."""
    if str(file) == "-":
        return sys.stdin.read()
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} cannot be read: it is not UTF-8 text") from None


def document(file: Path) -> Any:
    """The JSON in a file that the command line names. Raises UsageError."""
    try:
        return strict_json.loads(text(file))
    except strict_json.NotJson as error:
        raise UsageError(f"{file} is not JSON: {error}") from None
