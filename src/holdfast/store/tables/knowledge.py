"""Knowledge: collections of documents, their chunks, and what filters see of their metadata.

Two more things belong to it that only one kind of database has, made by the migrations alone: on
SQLite the full-text index `chunk_words`, on PostgreSQL an index of words and, where pgvector is
installed, the table `chunk_vectors`. Both follow from what stands here.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text

from .base import id_column, metadata

collections = Table(
    "collections",
    metadata,
    id_column("id", primary_key=True),
    Column("owner_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("provider", Text, nullable=False),  # of the embeddings
    Column("model", Text, nullable=False),
    Column("dimensions", Integer, nullable=False),
    Column("version", BigInteger, nullable=False),  # grows with every change
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
Index("uq_collections_name", collections.c.owner_id, collections.c.name, unique=True)

documents = Table(
    "documents",
    metadata,
    id_column("id", primary_key=True),
    Column("owner_id", Text, nullable=False),
    Column(
        "collection_id",
        Text,
        ForeignKey("collections.id", name="fk_documents_collection"),
        nullable=False,
    ),
    Column("key", Text, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("metadata", Text, nullable=False),  # JSON
    Column("version", BigInteger, nullable=False),  # of the collection, when its chunks changed
    Column("chunks", Integer, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
Index("uq_documents_key", documents.c.collection_id, documents.c.key, unique=True)

chunks = Table(
    "chunks",
    metadata,
    # A number, for that is what a full-text index of SQLite's refers to; random, for several hubs
    # may write.
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("owner_id", Text, nullable=False),
    Column("collection_id", Text, nullable=False),
    Column(
        "document_id",
        Text,
        ForeignKey("documents.id", name="fk_chunks_document"),
        nullable=False,
    ),
    Column("n", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("vector", LargeBinary, nullable=False),  # float32, little-endian, of length 1
)
Index("uq_chunks_n", chunks.c.document_id, chunks.c.n, unique=True)

document_facts = Table(
    "document_facts",
    metadata,
    Column("document_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, primary_key=True),  # see `domain.knowledge.sort_key`
    Column("owner_id", Text, nullable=False),
)

MADE_BY_MIGRATIONS = frozenset(
    {"chunk_words", "chunk_vectors", "ix_chunks_words", "memory_vectors"}
)
"""How the names of those begin that the tables do not tell of."""
