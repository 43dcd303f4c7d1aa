"""Budgets, and what hubs have set aside of them for calls under way."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Text

from holdfast.domain.budgets import Period, Scope, Unit

from .base import id_column, metadata, one_of

budgets = Table(
    "budgets",
    metadata,
    id_column("id", primary_key=True),
    Column("owner_id", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("subject", Text, nullable=False),  # what it is for; `*`: each of them has its own
    Column("period", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),  # tokens, picodollars or credits
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    one_of("scope", Scope),
    one_of("period", Period),
    one_of("unit", Unit),
)
Index(
    "ix_budgets_which",
    budgets.c.owner_id,
    budgets.c.scope,
    budgets.c.subject,
    budgets.c.period,
    budgets.c.unit,
    unique=True,
)

allowances = Table(
    "allowances",
    metadata,
    Column("account", Text, primary_key=True),  # see `domain.budgets.Account`
    Column("hub_id", Text, primary_key=True),  # boot id; empty: the row that is locked
    Column("amount", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
