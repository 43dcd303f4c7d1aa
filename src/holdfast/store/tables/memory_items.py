"""What agents remember for long.

Where pgvector is installed a table `memory_vectors` follows the bytes that stand here, see
`store.vectors`.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, Text
from sqlalchemy.dialects.postgresql import TEXT

from .base import metadata

memory_items = Table(
    "memory_items",
    metadata,
    Column("owner_id", Text, primary_key=True),
    # Compared byte by byte, so that all under a prefix lie together in the key.
    Column("namespace", Text().with_variant(TEXT(collation="C"), "postgresql"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),  # JSON
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("ttl_us", BigInteger),
    Column("vector", LargeBinary),  # float32, little-endian, of length 1
    Column("embedded_by", Text),
)
EXPIRES = memory_items.c.expires_at.is_not(None)

Index(
    "ix_memory_items_expires",
    memory_items.c.expires_at,
    sqlite_where=EXPIRES,
    postgresql_where=EXPIRES,
)
