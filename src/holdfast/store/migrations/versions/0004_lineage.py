"""Executions that come from others: children and replays."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

PARENT = sa.text("parent_id IS NOT NULL")
CHILD = sa.text("child_id IS NOT NULL")


def upgrade() -> None:
    """Go up."""
    op.add_column("events", sa.Column("parent_id", sa.String(length=36), nullable=True))
    op.add_column("events", sa.Column("origin", sa.Text(), nullable=True))
    op.add_column("events", sa.Column("replay", sa.Text(), nullable=True))
    op.add_column("executions", sa.Column("origin", sa.Text(), nullable=True))
    op.create_index(
        "ix_executions_parent",
        "executions",
        ["parent_id"],
        sqlite_where=PARENT,
        postgresql_where=PARENT,
    )
    op.add_column("waits", sa.Column("child_id", sa.String(length=36), nullable=True))
    op.add_column("waits", sa.Column("child_group", sa.Text(), nullable=True))
    op.create_index(
        "ix_waits_child",
        "waits",
        ["child_id"],
        sqlite_where=CHILD,
        postgresql_where=CHILD,
    )


def downgrade() -> None:
    """Go down."""
    op.drop_index("ix_waits_child", table_name="waits")
    op.drop_column("waits", "child_group")
    op.drop_column("waits", "child_id")
    op.drop_index("ix_executions_parent", table_name="executions")
    op.drop_column("executions", "origin")
    op.drop_column("events", "replay")
    op.drop_column("events", "origin")
    op.drop_column("events", "parent_id")
