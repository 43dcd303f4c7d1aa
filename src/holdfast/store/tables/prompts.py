"""Prompts: their names, their versions, their labels and how those moved."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table, Text

from .base import id_column, metadata

# One row a name, made with its first version: who holds its lock moves the labels.
prompts = Table(
    "prompts",
    metadata,
    Column("owner_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("created_at", BigInteger, nullable=False),
)

prompt_versions = Table(
    "prompt_versions",
    metadata,
    Column("owner_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("hash", String(64), primary_key=True),
    Column("static", Text, nullable=False),
    Column("dynamic", Text, nullable=False),
    Column("definitions", Text, nullable=False),  # JSON
    Column("variables", Text, nullable=False),  # JSON: by name, the description
    Column("description", Text, nullable=False),
    Column("author", Text),
    Column("created_at", BigInteger, nullable=False),
)

prompt_labels = Table(
    "prompt_labels",
    metadata,
    Column("owner_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("label", Text, primary_key=True),
    Column("hash", String(64), nullable=False),
    Column("moved_at", BigInteger, nullable=False),
    Column("moved_by", Text),  # a key's id, or the local user; NULL for the apps' files
)

prompt_moves = Table(
    "prompt_moves",
    metadata,
    id_column("id", primary_key=True),
    Column("owner_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("before", String(64)),
    Column("after", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("by", Text),
    Column("reason", Text),
    id_column("undoes", nullable=True),
)
Index("ix_prompt_moves_prompt", prompt_moves.c.owner_id, prompt_moves.c.name, prompt_moves.c.id)
