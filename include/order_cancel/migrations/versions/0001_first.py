"""The first form of the journal."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _id() -> sa.Column[int]:
    return sa.Column("id", _Id, primary_key=True, autoincrement=True)


def upgrade() -> None:
    op.create_table(
        "order_cancel_plans",
        _id(),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("flow", sa.String(40), nullable=False),
        sa.Column("pk", sa.String(64), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("order_number", sa.String(255)),
        sa.Column("order_pk", sa.String(64)),
        sa.Column("amount", sa.String(64)),
        sa.Column("currency", sa.String(16)),
        sa.Column("plan_type", sa.String(64)),
        sa.Column("plan_date", sa.String(64)),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("transaction_pk", sa.String(64)),
        sa.Column("relation", sa.String(16)),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("http_status", sa.Integer),
        sa.Column("erp_reference", sa.String(255)),
        sa.Column("error", sa.Text),
        sa.Column("progress", sa.String(16), nullable=False),
        sa.Column("body_number", sa.Integer, nullable=False),
        sa.Column("key", sa.String(64)),
        sa.Column("attributes", sa.Text, nullable=False),
        sa.Column("post", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", sa.Double, nullable=False),
        sa.Column("attempt_run", _Id),
        sa.Column("snapshot", sa.String(64), nullable=False),
        sa.Column("request_deadline", sa.Double, nullable=False),
        sa.Column("created_run", _Id),
        sa.Column("claim_run", _Id),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("lease_until", sa.Double, nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.UniqueConstraint("host", "flow", "pk", "generation", name="order_cancel_plans_once"),
    )
    op.create_index("order_cancel_plans_by_state", "order_cancel_plans", ["flow", "host", "state", "id"])
    op.create_index("order_cancel_plans_by_order", "order_cancel_plans", ["order_number"])
    op.create_index("order_cancel_plans_by_time", "order_cancel_plans", ["flow", "updated_at"])
    op.create_index("order_cancel_plans_by_transaction", "order_cancel_plans", ["flow", "transaction_pk"])
    op.create_table(
        "order_cancel_bodies",
        _id(),
        sa.Column("plan_id", _Id, sa.ForeignKey("order_cancel_plans.id"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("meta", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("order_cancel_bodies_by_plan", "order_cancel_bodies", ["plan_id", "kind", "id"])
    op.create_index("order_cancel_bodies_by_time", "order_cancel_bodies", ["at"])
    op.create_table(
        "order_cancel_events",
        _id(),
        sa.Column("plan_id", _Id, sa.ForeignKey("order_cancel_plans.id"), nullable=False),
        sa.Column("run_id", _Id),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("step", sa.String(32), nullable=False),
        sa.Column("what", sa.String(64), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("milliseconds", sa.Double),
    )
    op.create_index("order_cancel_events_by_plan", "order_cancel_events", ["plan_id", "id"])
    op.create_table(
        "order_cancel_runs",
        _id(),
        sa.Column("flow", sa.String(40), nullable=False),
        sa.Column("run_key", sa.String(255), nullable=False),
        sa.Column("home", sa.String(64), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("params", sa.Text, nullable=False),
        sa.Column("snapshot", sa.String(64), nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("committed", sa.Boolean, nullable=False),
        sa.Column("counts", sa.Text, nullable=False),
        sa.Column("queried_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("alive_until", sa.Double, nullable=False),
        sa.Column("next_turn_at", sa.Double, nullable=False),
        sa.UniqueConstraint("flow", "run_key", "home", name="order_cancel_runs_once"),
    )
    op.create_table(
        "order_cancel_members",
        _id(),
        sa.Column("run_id", _Id, sa.ForeignKey("order_cancel_runs.id"), nullable=False),
        sa.Column("plan_id", _Id, sa.ForeignKey("order_cancel_plans.id"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("lane", sa.String(8), nullable=False),
        sa.Column("lot", sa.Integer, nullable=False),
        sa.Column("listed", sa.Boolean, nullable=False),
        sa.UniqueConstraint("run_id", "plan_id", name="order_cancel_members_once"),
    )
    op.create_index(
        "order_cancel_members_by_lot", "order_cancel_members", ["run_id", "lane", "lot", "position"]
    )
    op.create_index("order_cancel_members_by_plan", "order_cancel_members", ["plan_id"])
    op.create_table(
        "order_cancel_snapshots",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("flow", sa.String(40), nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_table(
        "order_cancel_tokens",
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("secret", sa.LargeBinary, nullable=False),
        sa.Column("fetching", sa.String(255), nullable=False),
        sa.Column("fetching_until", sa.Double, nullable=False),
    )
    op.create_table(
        "order_cancel_transactions",
        sa.Column("host", sa.String(255), primary_key=True),
        sa.Column("flow", sa.String(40), primary_key=True),
        sa.Column("pk", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_table(
        "order_cancel_stops",
        sa.Column("run_id", _Id, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
