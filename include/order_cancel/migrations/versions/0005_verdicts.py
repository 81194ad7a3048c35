"""Verdicts: whether an ERP has accepted a plan under a flow's settings, and how many it has rejected before."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("order_cancel_snapshots", sa.Column("accepted_at", sa.Double))
    op.add_column(
        "order_cancel_snapshots", sa.Column("rejected", sa.Integer, nullable=False, server_default="0")
    )
    # Since when a lookup may say "not there": a row in doubt did not keep until when its request was under way.
    op.execute(
        "UPDATE order_cancel_plans SET request_deadline = updated_at "
        "WHERE outcome = 'unknown' AND request_deadline = 0"
    )
