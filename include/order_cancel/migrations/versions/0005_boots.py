"""Boots: by which start of the machine a request's deadline counts, where the journal is a file."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("order_cancel_plans", sa.Column("boot", sa.String(36), nullable=False, server_default=""))
    op.add_column(
        "order_cancel_plans", sa.Column("boot_began", sa.Double, nullable=False, server_default="0")
    )
