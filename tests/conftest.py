"""What every kind of test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from holdfast.telemetry import configure_logging
from holdfast.testing.postgres import PostgresForTests, running_postgres


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seeds",
        type=int,
        metavar="N",
        help="how many seeded crashes each test of durable runs makes (default: a sample)",
    )


@pytest.fixture(autouse=True)
def every_log_record() -> None:
    """What one test sets for logging does not hide another's records."""
    configure_logging("debug")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresForTests]:
    """One real PostgreSQL for the whole session."""
    with running_postgres(os.environ.get("HOLDFAST_TEST_POSTGRES_URL")) as server:
        yield server
