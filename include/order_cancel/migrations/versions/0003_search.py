"""Searching: plans by state in the order in which they moved, those with an error, those with a rare relation."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_index("order_cancel_plans_by_move", "order_cancel_plans", ["flow", "state", "updated_at", "id"])
    erring = sa.text("error IS NOT NULL")
    op.create_index(
        "order_cancel_plans_by_error",
        "order_cancel_plans",
        ["flow", "updated_at", "id"],
        sqlite_where=erring,
        postgresql_where=erring,
    )
    rare = sa.text("relation <> 'continue'")
    op.create_index(
        "order_cancel_plans_by_relation",
        "order_cancel_plans",
        ["flow", "relation", "updated_at", "id"],
        sqlite_where=rare,
        postgresql_where=rare,
    )
    op.drop_index("order_cancel_plans_by_time", "order_cancel_plans")  # by_move and by_age answer for it
