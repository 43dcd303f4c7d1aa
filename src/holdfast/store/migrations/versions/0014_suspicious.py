"""Executions in which something looked suspicious, found without reading all."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

SUSPICIOUS = sa.text("suspicious IS NOT NULL")


def upgrade() -> None:
    """Go up."""
    op.add_column("executions", sa.Column("suspicious", sa.Integer(), nullable=True))
    # The flag's name with its quotes and colon: inside of a text JSON escapes the quotes.
    op.execute("UPDATE executions SET suspicious = 1 WHERE flags LIKE '%\"suspicious\":%'")
    op.create_index(
        "ix_executions_suspicious",
        "executions",
        ["owner_id", "id"],
        sqlite_where=SUSPICIOUS,
        postgresql_where=SUSPICIOUS,
    )


def downgrade() -> None:
    """Go down."""
    op.drop_index("ix_executions_suspicious", table_name="executions")
    op.drop_column("executions", "suspicious")
