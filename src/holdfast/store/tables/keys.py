"""Owners, and the keys that open the doors to what is theirs."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, String, Table, Text

from .base import id_column, metadata

users = Table(
    "users",
    metadata,
    id_column("id", primary_key=True),  # the `owner_id` of everything they own
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
)
Index("uq_users_name", users.c.name, unique=True)

api_keys = Table(
    "api_keys",
    metadata,
    id_column("id", primary_key=True),
    Column(
        "owner_id",
        String(36),
        ForeignKey("users.id", name="fk_api_keys_owner"),
        nullable=False,
    ),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("scopes", Text, nullable=False),  # separated by spaces
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
)
Index("uq_api_keys_prefix", api_keys.c.prefix, unique=True)
