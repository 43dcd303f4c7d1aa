"""Checkpoints, waits, pauses; an execution's texts in parts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OPEN = sa.text("answer IS NULL AND wake_at IS NOT NULL")
AWAITING = sa.text("answer IS NULL AND awaits IS NOT NULL")


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "checkpoints",
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("thread_id", sa.Text(), nullable=False),
        sa.Column("ns", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("versions", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "thread_id", "ns", "id", name=op.f("pk_checkpoints")),
    )
    op.create_table(
        "checkpoint_blobs",
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("thread_id", sa.Text(), nullable=False),
        sa.Column("ns", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(
            "owner_id", "thread_id", "ns", "channel", "version", name=op.f("pk_checkpoint_blobs")
        ),
    )
    op.create_table(
        "checkpoint_writes",
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("thread_id", sa.Text(), nullable=False),
        sa.Column("ns", sa.Text(), nullable=False),
        sa.Column("checkpoint_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("idx", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(
            "owner_id",
            "thread_id",
            "ns",
            "checkpoint_id",
            "task_id",
            "idx",
            name=op.f("pk_checkpoint_writes"),
        ),
    )
    op.create_table(
        "waits",
        sa.Column("event_id", sa.String(length=36), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("wake_at", sa.BigInteger(), nullable=True),
        sa.Column("awaits", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("event_id", "id", name=op.f("pk_waits")),
    )
    op.create_index("ix_waits_wake", "waits", ["wake_at"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index(
        "ix_waits_awaits",
        "waits",
        ["owner_id", "awaits"],
        sqlite_where=AWAITING,
        postgresql_where=AWAITING,
    )
    op.create_table(
        "pauses",
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pipeline", name=op.f("pk_pauses")),
    )
    op.add_column("events", sa.Column("pause_requested_at", sa.BigInteger(), nullable=True))
    op.add_column("events", sa.Column("pinned", sa.Text(), nullable=True))
    op.add_column("events", sa.Column("halt", sa.Text(), nullable=True))
    op.add_column("executions", sa.Column("stops", sa.Text(), nullable=True))
    _texts_keyed_by("execution_id", "part")


def downgrade() -> None:
    """Go down; later parts of texts, whose executions were resumed, are lost."""
    op.execute(sa.text("DELETE FROM payloads WHERE part > 0"))
    _texts_keyed_by("execution_id")
    with op.batch_alter_table("executions") as executions:
        executions.drop_column("stops")
    with op.batch_alter_table("events") as events:
        events.drop_column("halt")
        events.drop_column("pinned")
        events.drop_column("pause_requested_at")
    for table in ("pauses", "waits", "checkpoint_writes", "checkpoint_blobs", "checkpoints"):
        op.drop_table(table)


def _texts_keyed_by(*key: str) -> None:
    """Rebuild the table of texts: SQLite cannot change a primary key in place."""
    parts = "part" in key
    op.rename_table("payloads", "payloads_before")
    if op.get_bind().dialect.name == "postgresql":  # where a key's name is its index's, too
        op.execute(sa.text("ALTER INDEX pk_payloads RENAME TO pk_payloads_before"))
    columns: list[sa.Column[object]] = [
        sa.Column("execution_id", sa.String(length=36), nullable=False),
        *([sa.Column("part", sa.Integer(), autoincrement=False, nullable=False)] if parts else []),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("frame", sa.LargeBinary(), nullable=False),
        sa.Column("raw_size", sa.Integer(), nullable=False),
    ]
    op.create_table("payloads", *columns, sa.PrimaryKeyConstraint(*key, name=op.f("pk_payloads")))
    into, out_of = ("part, ", "0, ") if parts else ("", "")
    op.execute(
        sa.text(
            f"INSERT INTO payloads (execution_id, {into}owner_id, frame, raw_size)"  # noqa: S608
            f" SELECT execution_id, {out_of}owner_id, frame, raw_size FROM payloads_before"
        )
    )
    op.drop_table("payloads_before")
