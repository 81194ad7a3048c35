"""The journal's tables, and how a database is brought to their newest form.

Times are seconds since the epoch (float) of the database's own clock. The numbers of plans, runs and members stand in
Airflow's XCom and in addresses of the page: none is ever given twice, which SQLite must be told. A `host` is
`identity.identity_of` the Connection's address; a row that was renamed keeps what its key is made of in `key_host` and
`key_generation`.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    column,
    inspect,
    select,
    table,
    text,
)

from include.order_cancel.errors import OrderCancelError

HEAD = "0005"  # schemas are numbered in order: a greater one is newer
VERSION_TABLE = "order_cancel_version"
_MIGRATIONS = Path(__file__).with_name("migrations")
_LOCK = 0x0C_A4CE1  # an advisory lock's number: any constant that nobody else uses


class NewerJournal(OrderCancelError):
    """The journal was migrated by a newer version of this package; nothing in it was touched."""


metadata = MetaData()
_Id = BigInteger().with_variant(Integer, "sqlite")

plans = Table(
    "order_cancel_plans",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("host", String(255), nullable=False),
    Column("flow", String(40), nullable=False),
    Column("pk", String(64), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("order_number", String(255)),
    Column("order_pk", String(64)),
    Column("amount", String(64)),
    Column("currency", String(16)),
    Column("plan_type", String(64)),
    Column("plan_date", String(64)),
    Column("digest", String(64), nullable=False),
    Column("transaction_pk", String(64)),
    Column("relation", String(16)),
    Column("outcome", String(16), nullable=False),
    Column("http_status", Integer),
    Column("erp_reference", String(255)),
    Column("error", Text),
    Column("progress", String(16), nullable=False),
    Column("body_number", Integer, nullable=False),
    Column("key", String(64)),
    Column("attributes", Text, nullable=False),
    Column("post", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Double, nullable=False),
    Column("attempt_run", _Id),
    Column("snapshot", String(64), nullable=False),
    Column("request_deadline", Double, nullable=False),
    Column("created_run", _Id),
    Column("claim_run", _Id),
    Column("owner", String(255), nullable=False),
    Column("lease_until", Double, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("pruned", Integer, nullable=False, server_default="0"),
    Column("boot", String(36), nullable=False, server_default=""),
    Column("boot_began", Double, nullable=False, server_default="0"),
    Column("key_host", String(255)),
    Column("key_generation", Integer),
    UniqueConstraint("host", "flow", "pk", "generation", name="order_cancel_plans_once"),
    Index("order_cancel_plans_by_state", "flow", "host", "state", "id"),
    Index("order_cancel_plans_by_order", "order_number"),
    Index("order_cancel_plans_by_move", "flow", "state", "updated_at", "id"),
    Index(
        "order_cancel_plans_by_error",
        "flow",
        "updated_at",
        "id",
        sqlite_where=text("error IS NOT NULL"),
        postgresql_where=text("error IS NOT NULL"),
    ),
    Index(
        "order_cancel_plans_by_relation",
        "flow",
        "relation",
        "updated_at",
        "id",
        sqlite_where=text("relation <> 'continue'"),
        postgresql_where=text("relation <> 'continue'"),
    ),
    Index("order_cancel_plans_by_transaction", "flow", "transaction_pk"),
    Index("order_cancel_plans_by_age", "flow", "pruned", "updated_at"),
    sqlite_autoincrement=True,
)

bodies = Table(
    "order_cancel_bodies",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("plan_id", _Id, ForeignKey(plans.c.id), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("content", Text, nullable=False),
    Column("meta", Text, nullable=False),
    Column("at", Double, nullable=False),
    Index("order_cancel_bodies_by_plan", "plan_id", "kind", "id"),
    Index("order_cancel_bodies_by_time", "at"),
)

events = Table(
    "order_cancel_events",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("plan_id", _Id, ForeignKey(plans.c.id), nullable=False),
    Column("run_id", _Id),
    Column("at", Double, nullable=False),
    Column("step", String(32), nullable=False),
    Column("what", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    Column("milliseconds", Double),
    Index("order_cancel_events_by_plan", "plan_id", "id"),
)

runs = Table(
    "order_cancel_runs",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("flow", String(40), nullable=False),
    Column("run_key", String(255), nullable=False),
    Column("home", String(64), nullable=False),
    Column("host", String(255), nullable=False),
    Column("params", Text, nullable=False),
    Column("snapshot", String(64), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("committed", Boolean, nullable=False),
    Column("counts", Text, nullable=False),
    Column("queried_at", Double),
    Column("finished_at", Double),
    Column("alive_until", Double, nullable=False),
    Column("next_turn_at", Double, nullable=False),
    Column("succeeded_at", Double),
    UniqueConstraint("flow", "run_key", "home", name="order_cancel_runs_once"),
    sqlite_autoincrement=True,
)

members = Table(
    "order_cancel_members",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("run_id", _Id, ForeignKey(runs.c.id), nullable=False),
    Column("plan_id", _Id, ForeignKey(plans.c.id), nullable=False),
    Column("position", Integer, nullable=False),
    Column("lane", String(8), nullable=False),
    Column("lot", Integer, nullable=False),
    Column("listed", Boolean, nullable=False),
    UniqueConstraint("run_id", "plan_id", name="order_cancel_members_once"),
    Index("order_cancel_members_by_lot", "run_id", "lane", "lot", "position"),
    Index("order_cancel_members_by_plan", "plan_id"),
    sqlite_autoincrement=True,
)

snapshots = Table(
    "order_cancel_snapshots",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("flow", String(40), nullable=False),
    Column("settings", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("accepted_at", Double),
    Column("rejected", Integer, nullable=False, server_default="0"),
)

tokens = Table(
    "order_cancel_tokens",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("fetching", String(255), nullable=False),
    Column("fetching_until", Double, nullable=False),
    Column("ends_at", Double),
    Column("trusted_until", Double, nullable=False, server_default="0"),
)

transactions = Table(
    "order_cancel_transactions",
    metadata,
    Column("host", String(255), primary_key=True),
    Column("flow", String(40), primary_key=True),
    Column("pk", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("at", Double, nullable=False),
)

# Whether `other` is the Omnitron `host` or another one, as a person has said.
omnitrons = Table(
    "order_cancel_omnitrons",
    metadata,
    Column("flow", String(40), primary_key=True),
    Column("host", String(255), primary_key=True),
    Column("other", String(255), primary_key=True),
    Column("same", Boolean, nullable=False),
    Column("who", String(255), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Double, nullable=False),
)

stops = Table(
    "order_cancel_stops",
    metadata,
    Column("run_id", _Id, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("kind", String(16), nullable=False, server_default=""),
)

rests = Table(
    "order_cancel_rests",
    metadata,
    Column("host", String(255), primary_key=True),
    Column("until", Double, nullable=False),
)

alerts = Table(
    "order_cancel_alerts",
    metadata,
    Column("flow", String(40), primary_key=True),
    Column("event", String(16), primary_key=True),
    Column("key", String(340), primary_key=True),
    Column("target", String(16), primary_key=True),
    Column("at", Double, nullable=False),
)


def is_newest() -> ColumnElement[bool]:
    """Whether a row of `plans` is its plan's newest generation."""
    newer = plans.alias()
    of_plan = (newer.c.host == plans.c.host, newer.c.flow == plans.c.flow, newer.c.pk == plans.c.pk)
    later = select(newer.c.id).where(*of_plan, newer.c.generation > plans.c.generation)
    return ~later.correlate(plans).exists()


def version(connection: Connection) -> str | None:
    """The schema version of the database, or None for one without a journal."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar()


def migrate(connection: Connection) -> None:
    """Bring the database to HEAD, inside the caller's transaction; one process at a time does it.

    SQLite rebuilds tables for it: its foreign keys must be off, which is said before a transaction begins.
    Raises NewerJournal for one that a newer version of this package has migrated.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    found = version(connection)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise NewerJournal(
            f"the journal is of schema {found}, and this version of the package knows {HEAD} at most: a newer version "
            "has migrated it. Install that version, or restore a backup of the journal from before the upgrade"
        )
    # Importing it takes a tenth of a second, which only the first task of an installation shall pay.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
