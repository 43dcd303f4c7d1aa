"""One store per test, on every database."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from holdfast.domain.ids import now_us
from holdfast.store import Store, migrations
from holdfast.store.registry import open_store
from holdfast.testing.postgres import PostgresForTests, running_postgres

BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresForTests]:
    with running_postgres(os.environ.get("HOLDFAST_TEST_POSTGRES_URL")) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("migrated") / "holdfast.db"
    migrations.upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def empty_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without tables."""
    if backend == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    return request.getfixturevalue("postgres").empty()


@pytest.fixture
def store_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a fresh migrated database."""
    if backend == "postgresql":
        return request.getfixturevalue("postgres").migrated()
    file = tmp_path / "holdfast.db"
    shutil.copy(request.getfixturevalue("migrated_file"), file)
    return f"sqlite:///{file}"


@pytest.fixture
def reopen(store_url: str, tmp_path: Path) -> Callable[[], Store]:
    """Opens the test's database once more (SQLite: after the store before was closed)."""
    return lambda: open_store(store_url, home=tmp_path, clock=now_us)


@pytest.fixture
async def store(reopen: Callable[[], Store]) -> AsyncIterator[Store]:
    opened = reopen()
    yield opened
    await opened.close()
