"""How many executions of a pipeline with a rate began lately."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Text

from .base import metadata

rates = Table(
    "rates",
    metadata,
    Column("owner_id", Text, primary_key=True),
    Column("pipeline", Text, primary_key=True),
    Column("starts", Text, nullable=False),  # JSON: count by time
    Column("free_at", BigInteger, nullable=False),  # none may begin before
)
Index(None, rates.c.free_at)
