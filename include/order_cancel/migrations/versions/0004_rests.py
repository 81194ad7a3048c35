"""Resting: until when a host wants to be left alone, for all that ask it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "order_cancel_rests",
        sa.Column("host", sa.String(255), primary_key=True),
        sa.Column("until", sa.Double, nullable=False),
    )
