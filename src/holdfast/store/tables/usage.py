"""The ledger of what was used, and its sums by day; nothing is deleted with the executions."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, literal_column
from sqlalchemy.sql.elements import ColumnElement

from holdfast.domain.usage import SUMS

from .base import id_column, metadata

usage = Table(
    "usage",
    metadata,
    id_column("execution_id", primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("owner_id", Text, nullable=False),
    id_column("event_id"),
    Column("session_id", Text),
    Column("at", BigInteger, nullable=False),  # when it was stored
    Column("day", Integer, nullable=False),  # since 1970-01-01 in UTC
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    *[Column(name, BigInteger, nullable=False) for name in SUMS],
    Column("folded", Integer, nullable=False),  # 1: `usage_days` has it
    sqlite_with_rowid=False,
)
_LOOSE: ColumnElement[bool] = literal_column("folded = 0")
Index("ix_usage_loose", usage.c.owner_id, sqlite_where=_LOOSE, postgresql_where=_LOOSE)
_IN_SESSION = usage.c.session_id.is_not(None)
Index(
    "ix_usage_session",
    usage.c.owner_id,
    usage.c.session_id,
    sqlite_where=_IN_SESSION,
    postgresql_where=_IN_SESSION,
)

usage_days = Table(
    "usage_days",
    metadata,
    Column("owner_id", Text, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    *[Column(name, BigInteger, nullable=False) for name in SUMS],
    sqlite_with_rowid=False,
)
