"""An untidy world: what an ERP has accepted, when tokens end, since when a doubt may be settled."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
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
    # Since when a lookup may say "not there": a row in doubt did not keep until when its request was under way.
    op.execute(
        "UPDATE order_cancel_plans SET request_deadline = updated_at "
        "WHERE outcome = 'unknown' AND request_deadline = 0"
    )
