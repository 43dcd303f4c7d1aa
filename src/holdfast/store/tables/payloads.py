"""The texts: an execution's own in one frame, shared ones once per owner."""

from __future__ import annotations

from sqlalchemy import Column, Integer, LargeBinary, Table, Text

from .base import id_column, metadata

payloads = Table(
    "payloads",
    metadata,
    id_column("execution_id", primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),  # grows with every resume
    Column("owner_id", Text, nullable=False),
    Column("frame", LargeBinary, nullable=False),  # zstd of the entries as a JSON list
    Column("raw_size", Integer, nullable=False),  # bytes before compression
)

blobs = Table(
    "blobs",
    metadata,
    Column("owner_id", Text, primary_key=True),
    Column("hash", Text, primary_key=True),
    Column("text", LargeBinary, nullable=False),  # zstd of the UTF-8 text
)
