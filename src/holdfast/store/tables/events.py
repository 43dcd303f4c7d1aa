"""Events, and through partial indexes the queue."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, text

from holdfast.domain.agents import CHANNELS
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
    id_column("parent_id", nullable=True),
    Column("origin", Text),
    Column("replay", Text),  # JSON: how a replay is to run
    Column("errors", Integer, nullable=False, server_default=text("0")),
    Column("redeliver", Integer, nullable=False, server_default=text("1")),  # 0: never again
    Column("session_id", Text),
    Column("singleton_key", Text),
    Column("discarded", Text),  # JSON: of a dead letter, when, by whom and why
    Column("postponed_for", Text),  # name of the open breaker it waits for
    Column("told_at", BigInteger),  # of a turn from a channel: its end was published there
    one_of("status", EventStatus),
)

DELAYED = text("status = 'queued' AND available_at > received_at")
IN_TURN = text("session_id IS NOT NULL AND status IN ('running', 'waiting', 'paused')")
IN_LINE = text("session_id IS NOT NULL AND status = 'queued'")
SINGLE = text("singleton_key IS NOT NULL AND status IN ('queued', 'running', 'waiting', 'paused')")
READY = text("status = 'queued' AND target_kind <> 'agent'")
READY_AGENTS = text("status = 'queued' AND target_kind = 'agent'")
LEASED = text("status = 'running'")
POSTPONED = text("status = 'queued' AND postponed_for IS NOT NULL")
UNTOLD = text(f"target_kind = 'agent' AND source = '{CHANNELS}' AND told_at IS NULL")
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
    "ix_events_agents",  # apart: neither kind of work waits behind the other's backlog
    events.c.target,
    events.c.priority.desc(),
    events.c.available_at,
    events.c.id,
    sqlite_where=READY_AGENTS,
    postgresql_where=READY_AGENTS,
)
Index("ix_events_delayed", events.c.available_at, sqlite_where=DELAYED, postgresql_where=DELAYED)
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
    "uq_events_turn",  # one turn a session at a time
    events.c.owner_id,
    events.c.session_id,
    unique=True,
    sqlite_where=IN_TURN,
    postgresql_where=IN_TURN,
)
Index(
    "ix_events_line",
    events.c.owner_id,
    events.c.session_id,
    events.c.priority.desc(),
    events.c.available_at,
    events.c.id,
    sqlite_where=IN_LINE,
    postgresql_where=IN_LINE,
)
Index(
    "uq_events_singleton",
    events.c.owner_id,
    events.c.target,
    events.c.singleton_key,
    unique=True,
    sqlite_where=SINGLE,
    postgresql_where=SINGLE,
)
Index(
    "uq_events_idempotency",
    events.c.owner_id,
    events.c.idempotency_key,
    unique=True,
    sqlite_where=KEYED,
    postgresql_where=KEYED,
)
Index("ix_events_untold", events.c.id, sqlite_where=UNTOLD, postgresql_where=UNTOLD)
Index(None, events.c.owner_id, events.c.id)
Index(None, events.c.owner_id, events.c.status, events.c.id)
Index(None, events.c.owner_id, events.c.target, events.c.id)

duplicates = Table(
    "duplicates",
    metadata,
    Column("key", Text, primary_key=True),  # hash of the owner, the pipeline and the event's body
    Column("owner_id", Text, nullable=False),
    id_column("event_id"),  # the first with it
    Column("until", BigInteger, nullable=False),
)
Index(None, duplicates.c.until)
