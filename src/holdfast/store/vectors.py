"""pgvector's side: tables of vectors that follow the bytes in `chunks` and in `memory_items`.

The bytes are the truth on both databases. Where pgvector can be had the migrations make the tables,
also when it was installed later, and fill them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, TextClause, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from holdfast.errors import StoreError
from holdfast.telemetry import logger

from .registry import address

AT_ONCE = 500
"""Vectors read and written at once when a table is filled."""

log = logger("store")

_EXISTS = text("SELECT to_regclass(:name) IS NOT NULL")
_HAS_TYPE = text("SELECT to_regtype('vector') IS NOT NULL")
_AVAILABLE = text("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'")
_EXTENSION = text("CREATE EXTENSION IF NOT EXISTS vector")


class _Table(NamedTuple):
    """What follows one table's vectors.

    Attributes:
        name: of the table made here.
        source: of the one whose bytes it follows.
        create: how it is made.
        missing: rows that it lacks.
        insert: how one of these is put in.
    """

    name: str
    source: str
    create: tuple[str, ...]
    missing: TextClause
    insert: TextClause


_TABLES = (
    _Table(
        "chunk_vectors",
        "chunks",
        (
            """CREATE TABLE chunk_vectors (
                chunk_id bigint PRIMARY KEY, owner_id text NOT NULL, collection_id text NOT NULL,
                document_id text NOT NULL, embedding vector NOT NULL
            )""",
            "CREATE INDEX ix_chunk_vectors_collection ON chunk_vectors (collection_id)",
            "CREATE INDEX ix_chunk_vectors_document ON chunk_vectors (document_id)",
        ),
        text(
            "SELECT id, owner_id, collection_id, document_id, vector FROM chunks c WHERE NOT "
            "EXISTS (SELECT 1 FROM chunk_vectors v WHERE v.chunk_id = c.id) LIMIT :most"
        ),
        text(
            "INSERT INTO chunk_vectors "
            "(chunk_id, owner_id, collection_id, document_id, embedding) VALUES "
            "(:id, :owner_id, :collection_id, :document_id, CAST(:vector AS vector))"
        ),
    ),
    _Table(
        "memory_vectors",
        "memory_items",
        (
            """CREATE TABLE memory_vectors (
                owner_id text NOT NULL, namespace text COLLATE "C" NOT NULL, key text NOT NULL,
                embedded_by text NOT NULL, embedding vector NOT NULL,
                PRIMARY KEY (owner_id, namespace, key)
            )""",
        ),
        text(
            "SELECT owner_id, namespace, key, embedded_by, vector FROM memory_items m "
            "WHERE vector IS NOT NULL AND NOT EXISTS (SELECT 1 FROM memory_vectors v WHERE "
            "v.owner_id = m.owner_id AND v.namespace = m.namespace AND v.key = m.key) LIMIT :most"
        ),
        text(
            "INSERT INTO memory_vectors (owner_id, namespace, key, embedded_by, embedding) VALUES "
            "(:owner_id, :namespace, :key, :embedded_by, CAST(:vector AS vector))"
        ),
    ),
)


def follow(connection: Connection) -> None:
    """Make pgvector's tables where that can be, and give them the vectors that they lack."""
    if connection.dialect.name != "postgresql":
        return
    for table in _TABLES:
        if not connection.scalar(_EXISTS, {"name": table.source}):
            continue
        if not connection.scalar(_EXISTS, {"name": table.name}):
            if not _extension(connection):
                return
            for statement in table.create:
                connection.execute(text(statement))
        for rows in _lacking(connection, table.missing):
            connection.execute(table.insert, rows)


def _extension(connection: Connection) -> bool:
    if connection.scalar(_HAS_TYPE):
        return True
    if not connection.scalar(_AVAILABLE):
        return False
    try:
        with connection.begin_nested():
            connection.execute(_EXTENSION)
    except DBAPIError as error:  # it is there, but this role may not create it
        log.warning("store.no_pgvector", reason=str(error.orig).strip())
        return False
    return bool(connection.scalar(_HAS_TYPE))  # elsewhere, off the search path


def _lacking(connection: Connection, missing: TextClause) -> Iterator[list[dict[str, Any]]]:
    while found := connection.execute(missing, {"most": AT_ONCE}).mappings().all():
        yield [{**row, "vector": literal(row["vector"])} for row in found]


def has_table(url: str) -> bool:
    """Whether a PostgreSQL database compares vectors itself.

    Raises:
        StoreError: it cannot be reached.
    """
    engine = create_engine(address(url).sqlalchemy_url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            return bool(connection.scalar(_EXISTS, {"name": _TABLES[0].name}))
    except DBAPIError as error:
        raise StoreError(f"the database refused: {error.orig}") from error
    finally:
        engine.dispose()


def literal(packed: bytes) -> str:
    """A vector as pgvector reads it, out of its float32 bytes."""
    return written(struct.unpack(f"<{len(packed) // 4}f", packed))


def written(vector: Sequence[float]) -> str:
    """A vector as pgvector reads it."""
    return f"[{','.join(map(repr, vector))}]"
