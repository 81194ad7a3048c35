"""Years of running: what was pruned of a plan, alerts that have been told, why a run was stopped."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # Constant defaults: neither database writes the existing rows anew.
    op.add_column("order_cancel_plans", sa.Column("pruned", sa.Integer, nullable=False, server_default="0"))
    op.create_index("order_cancel_plans_by_age", "order_cancel_plans", ["flow", "pruned", "updated_at"])
    op.add_column("order_cancel_stops", sa.Column("kind", sa.String(16), nullable=False, server_default=""))
    op.add_column("order_cancel_runs", sa.Column("succeeded_at", sa.Double))
    op.create_table(
        "order_cancel_alerts",
        sa.Column("flow", sa.String(40), primary_key=True),
        sa.Column("event", sa.String(16), primary_key=True),
        sa.Column("key", sa.String(340), primary_key=True),
        sa.Column("target", sa.String(16), primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
    )
