"""Events, and through two partial indexes the queue."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, text

from holdfast.domain.status import EventStatus

from .base import id_column, metadata, one_of

events = Table(
    "events",
    metadata,
    id_column("id", primary_key=True),
    Column("owner_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("subject", Text),
    Column("target", Text, nullable=False),
    Column("target_kind", Text, nullable=False),
    Column("data", Text, nullable=False),  # JSON, as it came
    Column("idempotency_key", Text),
    Column("body_hash", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("deliveries", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("available_at", BigInteger, nullable=False),
    Column("lease_owner", Text),
    Column("lease_until", BigInteger),
    Column("fence", BigInteger, nullable=False),
    Column("cancel_requested_at", BigInteger),
    id_column("execution_id", nullable=True),
    Column("traceparent", Text),
    Column("occurred_at", BigInteger),
    Column("received_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("last_error", Text),  # JSON
    Column("pause_requested_at", BigInteger),
    Column("pinned", Text),  # graph version of its checkpoints; no other may go on from them
    Column("halt", Text),  # JSON: where the halted execution goes on
    Column("postponed_for", Text),  # name of the open breaker it waits for
    one_of("status", EventStatus),
)

READY = text("status = 'queued'")
LEASED = text("status = 'running'")
POSTPONED = text("status = 'queued' AND postponed_for IS NOT NULL")
KEYED = events.c.idempotency_key.is_not(None)

Index(
    "ix_events_ready",
    events.c.priority.desc(),
    events.c.available_at,
    events.c.id,
    sqlite_where=READY,
    postgresql_where=READY,
)
Index(
    "ix_events_postponed",
    events.c.postponed_for,
    events.c.priority.desc(),
    events.c.id,
    sqlite_where=POSTPONED,
    postgresql_where=POSTPONED,
)
Index("ix_events_leased", events.c.lease_until, sqlite_where=LEASED, postgresql_where=LEASED)
Index(
    "uq_events_idempotency",
    events.c.owner_id,
    events.c.idempotency_key,
    unique=True,
    sqlite_where=KEYED,
    postgresql_where=KEYED,
)
Index(None, events.c.owner_id, events.c.id)
Index(None, events.c.owner_id, events.c.status, events.c.id)
Index(None, events.c.owner_id, events.c.target, events.c.id)
