"""Hubs: one row for each boot, with its heartbeat."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table, Text

from .base import metadata

hubs = Table(
    "hubs",
    metadata,
    Column("id", Text, primary_key=True),  # boot id, the `lease_owner` of what it runs
    Column("kind", Text, nullable=False),
    Column("roles", Text, nullable=False),  # separated by spaces
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("stopping", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)
