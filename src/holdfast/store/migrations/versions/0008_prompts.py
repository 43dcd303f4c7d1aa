"""Prompts, their versions and labels, and the version an attempt used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

USED = ("prompt_name", "prompt_label", "prompt_version")


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "prompts",
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "name", name=op.f("pk_prompts")),
    )
    op.create_table(
        "prompt_versions",
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("static", sa.Text(), nullable=False),
        sa.Column("dynamic", sa.Text(), nullable=False),
        sa.Column("definitions", sa.Text(), nullable=False),
        sa.Column("variables", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "name", "hash", name=op.f("pk_prompt_versions")),
    )
    op.create_table(
        "prompt_labels",
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("moved_at", sa.BigInteger(), nullable=False),
        sa.Column("moved_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("owner_id", "name", "label", name=op.f("pk_prompt_labels")),
    )
    op.create_table(
        "prompt_moves",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("before", sa.String(length=64), nullable=True),
        sa.Column("after", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("undoes", sa.String(length=36), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompt_moves")),
    )
    op.create_index("ix_prompt_moves_prompt", "prompt_moves", ["owner_id", "name", "id"])
    for name in USED:
        op.add_column("attempts", sa.Column(name, sa.Text(), nullable=True))


def downgrade() -> None:
    """Go down; which version an attempt used is forgotten."""
    with op.batch_alter_table("attempts", table_kwargs={"sqlite_with_rowid": False}) as attempts:
        for name in reversed(USED):
            attempts.drop_column(name)
    op.drop_index("ix_prompt_moves_prompt", "prompt_moves")
    op.drop_table("prompt_moves")
    op.drop_table("prompt_labels")
    op.drop_table("prompt_versions")
    op.drop_table("prompts")
