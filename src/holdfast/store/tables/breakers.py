"""Circuit breakers, as the hubs share them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table, Text

from holdfast.domain.breakers import BreakerStatus

from .base import metadata, one_of

breakers = Table(
    "breakers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("openings", Integer, nullable=False),
    Column("until", BigInteger),
    Column("reason", Text),
    Column("by_hand", Integer, nullable=False),  # 0 or 1
    Column("probe", Text),
    Column("probe_until", BigInteger),
    Column("changed_at", BigInteger, nullable=False),
    one_of("status", BreakerStatus),
)
