"""Checkpoints of running graphs, and what halted ones wait for."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text, text

from .base import id_column, metadata

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("owner_id", Text, primary_key=True),
    Column("thread_id", Text, primary_key=True),
    Column("ns", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("parent_id", Text),
    Column("run_id", Text),  # from the metadata
    Column("form", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("metadata", Text, nullable=False),  # JSON
    Column("versions", Text, nullable=False),  # JSON: version by channel
)

# The channels' values, each version once: a step that leaves a channel alone stores nothing of it.
checkpoint_blobs = Table(
    "checkpoint_blobs",
    metadata,
    Column("owner_id", Text, primary_key=True),
    Column("thread_id", Text, primary_key=True),
    Column("ns", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("form", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

checkpoint_writes = Table(
    "checkpoint_writes",
    metadata,
    Column("owner_id", Text, primary_key=True),
    Column("thread_id", Text, primary_key=True),
    Column("ns", Text, primary_key=True),
    Column("checkpoint_id", Text, primary_key=True),
    Column("task_id", Text, primary_key=True),
    Column("idx", Integer, primary_key=True, autoincrement=False),
    Column("path", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("form", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

waits = Table(
    "waits",
    metadata,
    id_column("event_id", primary_key=True),
    Column("id", Text, primary_key=True),  # LangGraph's id of the interrupt
    Column("owner_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("spec", Text, nullable=False),  # JSON
    Column("wake_at", BigInteger),
    Column("awaits", Text),  # type of the event waited for
    Column("subject", Text),  # … and its subject
    Column("answer", Text),  # JSON, once there is one
    Column("answered_at", BigInteger),
    id_column("child_id", nullable=True),  # event of the child execution waited for
    Column("child_group", Text),  # see `domain.halts.ChildRun`
)

OPEN = text("answer IS NULL AND wake_at IS NOT NULL")
AWAITING = text("answer IS NULL AND awaits IS NOT NULL")

Index("ix_waits_wake", waits.c.wake_at, sqlite_where=OPEN, postgresql_where=OPEN)
Index(
    "ix_waits_awaits",
    waits.c.owner_id,
    waits.c.awaits,
    sqlite_where=AWAITING,
    postgresql_where=AWAITING,
)
CHILD = waits.c.child_id.is_not(None)

Index("ix_waits_child", waits.c.child_id, sqlite_where=CHILD, postgresql_where=CHILD)

pauses = Table(
    "pauses",
    metadata,
    Column("pipeline", Text, primary_key=True),
    Column("owner_id", Text, nullable=False),  # who paused it
    Column("paused_at", BigInteger, nullable=False),
)
