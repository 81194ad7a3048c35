"""One name for each Omnitron; numbers are never used again; acceptances, ends of tokens and a request's time kept."""

import time
from typing import Any

import sqlalchemy as sa
from alembic import op

from include.order_cancel.adopting import rename
from include.order_cancel.identity import identity_of

revision = "0005"
down_revision = "0004"

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
# Where numbers stand besides the table that gives them.
_KNOWN = {
    "order_cancel_plans": (("order_cancel_bodies", "plan_id"), ("order_cancel_events", "plan_id")),
    "order_cancel_runs": (
        ("order_cancel_members", "run_id"),
        ("order_cancel_events", "run_id"),
        ("order_cancel_stops", "run_id"),
        ("order_cancel_plans", "created_run"),
        ("order_cancel_plans", "attempt_run"),
        ("order_cancel_plans", "claim_run"),
    ),
    "order_cancel_members": (),
}
_WITH_HOSTS = ("order_cancel_plans", "order_cancel_runs", "order_cancel_transactions")


def upgrade() -> None:
    _add_columns()
    op.add_column("order_cancel_plans", sa.Column("key_host", sa.String(255)))
    op.add_column("order_cancel_plans", sa.Column("key_generation", sa.Integer))
    op.create_table(
        "order_cancel_omnitrons",
        sa.Column("flow", sa.String(40), primary_key=True),
        sa.Column("host", sa.String(255), primary_key=True),
        sa.Column("other", sa.String(255), primary_key=True),
        sa.Column("same", sa.Boolean, nullable=False),
        sa.Column("who", sa.String(255), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        for table in _KNOWN:
            _number_for_good(table)
    _normalise_hosts()


def _add_columns() -> None:
    op.add_column("order_cancel_snapshots", sa.Column("accepted_at", sa.Double))
    op.add_column(
        "order_cancel_snapshots", sa.Column("rejected", sa.Integer, nullable=False, server_default="0")
    )
    op.add_column("order_cancel_tokens", sa.Column("ends_at", sa.Double))
    op.add_column(
        "order_cancel_tokens", sa.Column("trusted_until", sa.Double, nullable=False, server_default="0")
    )
    op.add_column("order_cancel_plans", sa.Column("boot", sa.String(36), nullable=False, server_default=""))
    op.add_column(
        "order_cancel_plans", sa.Column("boot_began", sa.Double, nullable=False, server_default="0")
    )
    # A dead plan that was sent again is over: a person or a cleared task could have taken both rows up.
    op.execute(
        "UPDATE order_cancel_plans SET state = 'dismissed', error = 'sent again as a later generation' "
        "WHERE state = 'dead' AND EXISTS (SELECT 1 FROM order_cancel_plans AS later "
        "WHERE later.host = order_cancel_plans.host AND later.flow = order_cancel_plans.flow "
        "AND later.pk = order_cancel_plans.pk AND later.generation > order_cancel_plans.generation)"
    )
    # Since when a lookup may say "not there": a row in doubt did not keep until when its request was under way.
    op.execute(
        "UPDATE order_cancel_plans SET request_deadline = updated_at "
        "WHERE outcome = 'unknown' AND request_deadline = 0"
    )


def _number_for_good(name: str) -> None:
    """Rebuild the table with AUTOINCREMENT; its numbers go on above all that are known. Foreign keys are off."""
    with op.batch_alter_table(name, recreate="always", table_kwargs={"sqlite_autoincrement": True}):
        pass
    connection, sequence = op.get_bind(), sa.table("sqlite_sequence", sa.column("name"), sa.column("seq"))
    places = ((name, "id"), *_KNOWN[name])
    highest = [connection.execute(_highest(*place)).scalar() or 0 for place in places]
    connection.execute(sa.delete(sequence).where(sequence.c.name == name))
    connection.execute(sa.insert(sequence).values(name=name, seq=max(highest)))


def _highest(table: str, column: str) -> sa.Select[Any]:
    return sa.select(sa.func.max(sa.column(column))).select_from(sa.table(table))


def _normalise_hosts() -> None:
    """Rows were named by the host as it was typed, without scheme and base path."""
    connection = op.get_bind()
    hosts: set[str] = set()
    for table in _WITH_HOSTS:
        question: sa.Select[Any] = sa.select(sa.column("host")).select_from(sa.table(table)).distinct()
        hosts.update(connection.execute(question).scalars())
    for host in sorted(hosts - {""}):  # a restore is noted as a run of no host
        if (name := identity_of(host)) != host:
            rename(connection, host, name, time.time())
