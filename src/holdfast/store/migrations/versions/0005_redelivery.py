"""Redelivery."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None

DELAYED = sa.text("status = 'queued' AND available_at > received_at")


def upgrade() -> None:
    """Go up."""
    op.add_column(
        "events", sa.Column("errors", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )
    op.add_column(
        "events",
        sa.Column("redeliver", sa.Boolean(), nullable=False, server_default=sa.text("true")),
    )
    op.create_index(
        "ix_events_delayed",
        "events",
        ["available_at"],
        sqlite_where=DELAYED,
        postgresql_where=DELAYED,
    )


def downgrade() -> None:
    """Go down."""
    op.drop_index("ix_events_delayed", "events")
    with op.batch_alter_table("events") as events:
        events.drop_column("redeliver")
        events.drop_column("errors")
