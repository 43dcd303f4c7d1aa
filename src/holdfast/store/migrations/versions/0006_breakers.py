"""Circuit breakers, and events that wait for one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

POSTPONED = sa.text("status = 'queued' AND postponed_for IS NOT NULL")


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "breakers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("openings", sa.Integer(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("by_hand", sa.Integer(), nullable=False),
        sa.Column("probe", sa.Text(), nullable=True),
        sa.Column("probe_until", sa.BigInteger(), nullable=True),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "status IN ('closed', 'open', 'half_open')", name=op.f("ck_breakers_status")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_breakers")),
    )
    op.add_column("events", sa.Column("postponed_for", sa.Text(), nullable=True))
    op.create_index(
        "ix_events_postponed",
        "events",
        ["postponed_for", sa.text("priority DESC"), "id"],
        sqlite_where=POSTPONED,
        postgresql_where=POSTPONED,
    )


def downgrade() -> None:
    """Go down; what waits for a breaker is tried at its time."""
    op.drop_index("ix_events_postponed", "events")
    with op.batch_alter_table("events") as events:
        events.drop_column("postponed_for")
    op.drop_table("breakers")
