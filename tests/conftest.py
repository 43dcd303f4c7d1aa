"""What every kind of test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from holdfast.telemetry import configure_logging
from holdfast.testing.postgres import PostgresForTests, running_postgres
from holdfast.testing.rabbitmq import USUAL, unreachable
from holdfast.testing.valkey import running_valkey


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


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """One real Redis or Valkey for the whole session; each test takes names of its own."""
    with running_valkey(os.environ.get("HOLDFAST_TEST_REDIS_URL")) as url:
        yield url


@pytest.fixture(scope="session")
def amqp_url() -> str:
    """A real RabbitMQ; each test takes queues of its own.

    One that is named has to be there. Where none is named and none answers at the usual place the
    tests are skipped, and the summary says so.
    """
    named = os.environ.get("HOLDFAST_TEST_AMQP_URL")
    reason = unreachable(named or USUAL)
    if reason is not None and named is not None:
        pytest.fail(f"no RabbitMQ at HOLDFAST_TEST_AMQP_URL: {reason}")
    if reason is not None:
        pytest.skip(f"{NO_RABBITMQ}: {reason}")
    return named or USUAL


NO_RABBITMQ = "no RabbitMQ can be reached"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What did not run for want of a server is told loudly."""
    skipped = terminalreporter.stats.get("skipped", [])
    missed = sum(NO_RABBITMQ in str(report.longrepr) for report in skipped)
    if missed:
        line = f"{NO_RABBITMQ}: {missed} tests did NOT run; see HOLDFAST_TEST_AMQP_URL"
        terminalreporter.write_sep("!", line, red=True, bold=True)
