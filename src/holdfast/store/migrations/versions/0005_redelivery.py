"""Redelivery, dead letters, sessions, schedules, events that are there once, rates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

IN_TURN = sa.text("session_id IS NOT NULL AND status IN ('running', 'waiting', 'paused')")
IN_LINE = sa.text("session_id IS NOT NULL AND status = 'queued'")
SINGLE = sa.text(
    "singleton_key IS NOT NULL AND status IN ('queued', 'running', 'waiting', 'paused')"
)
SET = sa.text("next_at IS NOT NULL")
DELAYED = sa.text("status = 'queued' AND available_at > received_at")


def upgrade() -> None:
    """Go up."""
    op.add_column(
        "events", sa.Column("errors", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )
    op.add_column(
        "events",
        sa.Column("redeliver", sa.Integer(), nullable=False, server_default=sa.text("1")),
    )
    op.add_column("events", sa.Column("session_id", sa.Text(), nullable=True))
    op.add_column("events", sa.Column("singleton_key", sa.Text(), nullable=True))
    op.create_index(
        "uq_events_singleton",
        "events",
        ["owner_id", "target", "singleton_key"],
        unique=True,
        sqlite_where=SINGLE,
        postgresql_where=SINGLE,
    )
    op.create_table(
        "rates",
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("starts", sa.Text(), nullable=False),
        sa.Column("free_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "pipeline", name=op.f("pk_rates")),
    )
    op.create_index("ix_rates_free_at", "rates", ["free_at"])
    op.create_table(
        "duplicates",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.String(length=36), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_duplicates")),
    )
    op.create_index("ix_duplicates_until", "duplicates", ["until"])
    op.create_index(
        "uq_events_turn",
        "events",
        ["owner_id", "session_id"],
        unique=True,
        sqlite_where=IN_TURN,
        postgresql_where=IN_TURN,
    )
    op.create_index(
        "ix_events_line",
        "events",
        ["owner_id", "session_id", sa.text("priority DESC"), "available_at", "id"],
        sqlite_where=IN_LINE,
        postgresql_where=IN_LINE,
    )
    op.add_column("events", sa.Column("discarded", sa.Text(), nullable=True))
    op.create_index(
        "ix_events_delayed",
        "events",
        ["available_at"],
        sqlite_where=DELAYED,
        postgresql_where=DELAYED,
    )
    op.create_table(
        "interventions",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.String(length=36), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("before", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "action IN ('edited', 'replayed', 'discarded')", name=op.f("ck_interventions_action")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_interventions")),
    )
    op.create_index("ix_interventions_event_id", "interventions", ["event_id"])
    op.create_table(
        "schedules",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=True),
        sa.Column("missed", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.Column("last_at", sa.BigInteger(), nullable=True),
        sa.Column("last_event_id", sa.String(length=36), nullable=True),
        sa.Column("last_missed_at", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("missed IN ('skip', 'once')", name=op.f("ck_schedules_missed")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
    )
    op.create_index("uq_schedules_name", "schedules", ["owner_id", "name"], unique=True)
    op.create_index(
        "ix_schedules_next", "schedules", ["next_at"], sqlite_where=SET, postgresql_where=SET
    )


def downgrade() -> None:
    """Go down."""
    op.drop_table("schedules")
    op.drop_table("duplicates")
    op.drop_table("rates")
    op.drop_table("interventions")
    for index in ("ix_events_line", "uq_events_turn", "uq_events_singleton", "ix_events_delayed"):
        op.drop_index(index, "events")
    with op.batch_alter_table("events") as events:
        events.drop_column("discarded")
        events.drop_column("singleton_key")
        events.drop_column("session_id")
        events.drop_column("redeliver")
        events.drop_column("errors")
