"""Context caches as the hubs share them, and what they saved and cost by day."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text

from holdfast.domain.context_cache import CacheStatus

from .base import metadata, one_of

context_cache = Table(
    "context_cache",
    metadata,
    Column("key", Text, primary_key=True),  # hash of the content, the model and the account
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("resource", Text),
    Column("tokens", BigInteger),
    Column("minimum", BigInteger),
    Column("reason", Text),
    Column("until", BigInteger),
    Column("lifetime", BigInteger),
    Column("lease", Text),
    Column("lease_until", BigInteger),
    Column("changed_at", BigInteger, nullable=False),
    one_of("status", CacheStatus),
    Index("ix_context_cache_changed", "changed_at"),
)

cache_savings = Table(
    "cache_savings",
    metadata,
    Column("day", Text, primary_key=True),  # UTC, 2026-11-20
    Column("owner_id", Text, primary_key=True),
    Column("prompt", Text, primary_key=True),
    Column("pipeline", Text, primary_key=True),  # or agent
    Column("provider", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("hits", BigInteger, nullable=False),
    Column("writes", BigInteger, nullable=False),
    Column("tokens_read", BigInteger, nullable=False),
    Column("tokens_written", BigInteger, nullable=False),
    Column("saved_pico", BigInteger, nullable=False),
    Column("write_pico", BigInteger, nullable=False),
    Column("storage_token_s", BigInteger, nullable=False),
    Column("storage_pico", BigInteger, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
)
