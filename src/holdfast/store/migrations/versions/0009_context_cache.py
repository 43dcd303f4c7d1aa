"""Context caches, and what they saved and cost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "context_cache",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=True),
        sa.Column("tokens", sa.BigInteger(), nullable=True),
        sa.Column("minimum", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("lifetime", sa.BigInteger(), nullable=True),
        sa.Column("lease", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "status IN ('ended', 'making', 'ready', 'refused')",
            name=op.f("ck_context_cache_status"),
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_context_cache")),
    )
    op.create_index("ix_context_cache_changed", "context_cache", ["changed_at"])
    op.create_table(
        "cache_savings",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("hits", sa.BigInteger(), nullable=False),
        sa.Column("writes", sa.BigInteger(), nullable=False),
        sa.Column("tokens_read", sa.BigInteger(), nullable=False),
        sa.Column("tokens_written", sa.BigInteger(), nullable=False),
        sa.Column("saved_pico", sa.BigInteger(), nullable=False),
        sa.Column("write_pico", sa.BigInteger(), nullable=False),
        sa.Column("storage_token_s", sa.BigInteger(), nullable=False),
        sa.Column("storage_pico", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "day",
            "owner_id",
            "prompt",
            "pipeline",
            "provider",
            "model",
            name=op.f("pk_cache_savings"),
        ),
    )


def downgrade() -> None:
    """Go down."""
    op.drop_table("cache_savings")
    op.drop_index("ix_context_cache_changed", "context_cache")
    op.drop_table("context_cache")
