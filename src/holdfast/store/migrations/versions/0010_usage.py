"""The ledger of usage, budgets, and what an attempt's price rests on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SUMS = (
    "calls",
    "tokens_input",
    "tokens_cached",
    "tokens_cache_write",
    "tokens_output",
    "tokens_reasoning",
    "tokens_audio",
    "tokens_image",
    "cost_pico",
    "saved_pico",
    "credits",
    "usage_unknown",
    "cost_unknown",
    "estimated",
    "held_tokens",
    "held_pico",
)

LOOSE = sa.text("folded = 0")
IN_SESSION = sa.text("session_id IS NOT NULL")

ATTEMPT_COLUMNS = (
    ("alias", sa.Text()),
    ("tokens_input_audio", sa.BigInteger()),
    ("tokens_output_audio", sa.BigInteger()),
    ("tokens_input_image", sa.BigInteger()),
    ("tokens_output_image", sa.BigInteger()),
    ("price_date", sa.Text()),
    ("saved_pico", sa.BigInteger()),
)


def upgrade() -> None:
    """Go up; what was recorded before has no lines in the ledger."""
    for name, kind in ATTEMPT_COLUMNS:
        op.add_column("attempts", sa.Column(name, kind, nullable=True))
    op.create_table(
        "usage",
        sa.Column("execution_id", sa.String(36), nullable=False),
        sa.Column("part", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("line", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        *[sa.Column(name, sa.BigInteger(), nullable=False) for name in SUMS],
        sa.Column("folded", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("execution_id", "part", "line", name=op.f("pk_usage")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_usage_loose", "usage", ["owner_id"], sqlite_where=LOOSE, postgresql_where=LOOSE
    )
    op.create_index(
        "ix_usage_session",
        "usage",
        ["owner_id", "session_id"],
        sqlite_where=IN_SESSION,
        postgresql_where=IN_SESSION,
    )
    op.create_table(
        "usage_days",
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        *[sa.Column(name, sa.BigInteger(), nullable=False) for name in SUMS],
        sa.PrimaryKeyConstraint(
            *("owner_id", "day", "kind", "name", "alias", "provider", "model"),
            name=op.f("pk_usage_days"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "budgets",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "scope IN ('owner', 'pipeline', 'agent', 'session', 'execution')",
            name=op.f("ck_budgets_scope"),
        ),
        sa.CheckConstraint("period IN ('day', 'month', 'ever')", name=op.f("ck_budgets_period")),
        sa.CheckConstraint("unit IN ('tokens', 'usd', 'credits')", name=op.f("ck_budgets_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budgets")),
    )
    op.create_index(
        "ix_budgets_which",
        "budgets",
        ["owner_id", "scope", "subject", "period", "unit"],
        unique=True,
    )
    op.create_table(
        "allowances",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("hub_id", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "hub_id", name=op.f("pk_allowances")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Go down."""
    for table in ("allowances", "budgets", "usage_days", "usage"):
        op.drop_table(table)
    with op.batch_alter_table("attempts") as attempts:
        for name, _ in reversed(ATTEMPT_COLUMNS):
            attempts.drop_column(name)
