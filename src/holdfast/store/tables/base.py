"""What every table is built from: the metadata and its naming rule, ids, status words."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import CheckConstraint, Column, MetaData, String, literal_column
from sqlalchemy.sql.elements import ColumnElement

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def id_column(name: str, *, primary_key: bool = False, nullable: bool = False) -> Column[str]:
    """A column that holds an id of `domain.ids.new_id`."""
    return Column(name, String(36), primary_key=primary_key, nullable=nullable)


def one_of(column: str, words: Iterable[StrEnum]) -> CheckConstraint:
    """The rule that `column` holds one of `words`."""
    listed = ", ".join(f"'{word.value}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def word(value: StrEnum) -> ColumnElement[str]:
    """A status word spelled out in the statement, as partial indexes need it."""
    return literal_column(f"'{value.value}'")
