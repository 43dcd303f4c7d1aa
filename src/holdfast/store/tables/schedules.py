"""Schedules."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, text

from holdfast.domain.schedules import Missed

from .base import id_column, metadata, one_of

schedules = Table(
    "schedules",
    metadata,
    id_column("id", primary_key=True),
    Column("owner_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("cron", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("data", Text, nullable=False),  # JSON
    Column("priority", Integer),
    Column("missed", Text, nullable=False),
    Column("enabled", Integer, nullable=False),  # 0 while it is paused
    Column("next_at", BigInteger),
    Column("last_at", BigInteger),
    id_column("last_event_id", nullable=True),
    Column("last_missed_at", BigInteger),
    Column("last_error", Text),  # JSON
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    one_of("missed", Missed),
)

SET = text("next_at IS NOT NULL")

Index("uq_schedules_name", schedules.c.owner_id, schedules.c.name, unique=True)
Index("ix_schedules_next", schedules.c.next_at, sqlite_where=SET, postgresql_where=SET)
