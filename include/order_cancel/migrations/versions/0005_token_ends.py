"""Token ends: when a token is to be replaced, and until when it is known to be valid whatever it is answered with."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("order_cancel_tokens", sa.Column("ends_at", sa.Double))
    op.add_column(
        "order_cancel_tokens", sa.Column("trusted_until", sa.Double, nullable=False, server_default="0")
    )
