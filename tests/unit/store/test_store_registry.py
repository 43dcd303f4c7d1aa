"""Addresses of databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.errors import SettingsError
from holdfast.store.registry import address


@pytest.mark.parametrize(
    ("url", "plain", "sqlalchemy"),
    [
        (
            "postgres://u:p@h:1/d?sslmode=require",
            "postgresql://u:p@h:1/d?sslmode=require",
            "postgresql+psycopg://u:p@h:1/d?sslmode=require",
        ),
        (
            "postgresql+psycopg://u@/d?host=/run/pg",
            "postgresql://u@/d?host=/run/pg",
            "postgresql+psycopg://u@/d?host=/run/pg",
        ),
    ],
)
def test_every_spelling_of_postgresql(url: str, plain: str, sqlalchemy: str) -> None:
    where = address(url)
    assert (where.kind, where.file) == ("postgresql", None)
    assert (where.url, where.sqlalchemy_url) == (plain, sqlalchemy)


def test_a_sqlite_file() -> None:
    assert address("sqlite:////a/b%20c.db").file == Path("/a/b c.db")


@pytest.mark.parametrize("url", ["", "mysql://x", "sqlite:///relative.db", "sqlite://", "/a/b.db"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError):
        address(url)
