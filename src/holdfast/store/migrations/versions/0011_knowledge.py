"""Collections of documents, their chunks, and an index of their words."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_FTS5 = """
CREATE VIRTUAL TABLE chunk_words USING fts5(
    collection_id, text, content='chunks', content_rowid='id',
    tokenize='unicode61 remove_diacritics 0'
)
"""
_ADDED = """
CREATE TRIGGER chunk_words_added AFTER INSERT ON chunks BEGIN
    INSERT INTO chunk_words(rowid, collection_id, text)
    VALUES (new.id, new.collection_id, new.text);
END
"""
_REMOVED = """
CREATE TRIGGER chunk_words_removed AFTER DELETE ON chunks BEGIN
    INSERT INTO chunk_words(chunk_words, rowid, collection_id, text)
    VALUES ('delete', old.id, old.collection_id, old.text);
END
"""
_WORDS = """
CREATE INDEX ix_chunks_words ON chunks USING gin (
    to_tsvector('simple', regexp_replace(text, '[!-/:-@[-`{-~]+', ' ', 'g'))
)
"""


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "collections",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("dimensions", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_collections")),
    )
    op.create_index("uq_collections_name", "collections", ["owner_id", "name"], unique=True)
    op.create_table(
        "documents",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("collection_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("chunks", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collections.id"], name="fk_documents_collection"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_documents")),
    )
    op.create_index("uq_documents_key", "documents", ["collection_id", "key"], unique=True)
    op.create_table(
        "chunks",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("collection_id", sa.Text(), nullable=False),
        sa.Column("document_id", sa.Text(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["document_id"], ["documents.id"], name="fk_chunks_document"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chunks")),
    )
    op.create_index("uq_chunks_n", "chunks", ["document_id", "n"], unique=True)
    op.create_table(
        "document_facts",
        sa.Column("document_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("document_id", "key", "value", name=op.f("pk_document_facts")),
    )
    if op.get_bind().dialect.name == "sqlite":
        for statement in (_FTS5, _ADDED, _REMOVED):
            op.execute(statement)
    else:
        op.execute(_WORDS)  # pgvector's table is made by `store.vectors.follow`, after this


def downgrade() -> None:
    """Go down; all documents are gone."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE chunk_words")
    else:
        op.execute("DROP TABLE IF EXISTS chunk_vectors")
    for table in ("document_facts", "chunks", "documents", "collections"):
        op.drop_table(table)
