"""Turns that came over a channel, until their end was published there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

UNTOLD = sa.text("target_kind = 'agent' AND source = '/redis' AND told_at IS NULL")


def upgrade() -> None:
    """Go up."""
    op.add_column("events", sa.Column("told_at", sa.BigInteger(), nullable=True))
    # Of what has ended before nobody knows; it is not published once more.
    op.execute(
        "UPDATE events SET told_at = finished_at"
        " WHERE target_kind = 'agent' AND source = '/redis' AND finished_at IS NOT NULL"
    )
    op.create_index(
        "ix_events_untold",
        "events",
        ["id"],
        sqlite_where=UNTOLD,
        postgresql_where=UNTOLD,
    )


def downgrade() -> None:
    """Go down."""
    op.drop_index("ix_events_untold", table_name="events")
    op.drop_column("events", "told_at")
