"""What every kind of test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from holdfast.telemetry import configure_logging
from holdfast.testing.postgres import PostgresForTests, running_postgres
from holdfast.testing.valkey import running_valkey


@pytest.fixture(autouse=True)
def every_log_record() -> None:
    """What one test sets for logging does not hide another's records."""
    configure_logging("debug")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresForTests]:
    """One real PostgreSQL for the whole session."""
    with running_postgres(os.environ.get("HOLDFAST_TEST_POSTGRES_URL")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """One real Redis or Valkey for the whole session; each test takes names of its own."""
    with running_valkey(os.environ.get("HOLDFAST_TEST_REDIS_URL")) as url:
        yield url
