"""Whole installations as processes: one hub, two hubs, hubs with Celery's workers."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg

from holdfast import settings
from holdfast.bus.celery_broker import make_celery
from holdfast.store.registry import address
from holdfast.testing import rabbitmq
from holdfast.testing.postgres import PostgresForTests
from holdfast.testing.valkey import running_valkey

from .places import TIMEOUT_S, environment, hub_process, stopped

PLACES = {
    "sqlite": "SQLite",
    "postgresql": "PostgreSQL",
    "hubs": "two hubs, PostgreSQL and Redis",
    "celery-redis": "Celery on Redis",
    "celery-rabbitmq": "Celery on RabbitMQ",
}
"""What can be measured, and how it is called in a table."""

CONCURRENCY = 2
"""Runners of an installation, or processes of a plain Celery worker."""


def amqp_url() -> str:
    """The RabbitMQ to be used."""
    return os.environ.get("HOLDFAST_TEST_AMQP_URL", rabbitmq.USUAL)


def cannot(place: str) -> str | None:
    """Why a place cannot be had on this machine; None when it can."""
    if place != "celery-rabbitmq":
        return None
    return rabbitmq.unreachable(amqp_url())


class Peek:
    """A look into the database from outside, with no transaction left open."""

    def __init__(self, store_url: str) -> None:
        where = address(store_url)
        self.sqlite = where.file
        self._url = store_url
        self._connection: Any = None

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        if self._connection is None:
            self._connection = (
                psycopg.connect(self._url, autocommit=True)
                if self.sqlite is None
                else sqlite3.connect(
                    f"file:{self.sqlite}?mode=ro",
                    uri=True,
                    isolation_level=None,
                    check_same_thread=False,  # looks are taken on threads, one at a time
                )
            )
        return self._connection.execute(sql).fetchall()

    def one(self, sql: str) -> Any:
        """The only value of a query."""
        return self.rows(sql)[0][0]

    def ended(self) -> int:
        """How many events have ended."""
        return int(self.one("SELECT count(*) FROM events WHERE finished_at IS NOT NULL"))

    def close(self) -> None:
        """Let go of the database."""
        if self._connection is not None:
            self._connection.close()


class Deployment:
    """An installation that takes requests.

    Attributes:
        ports: where its hubs answer.
        home: the folder of its journals.
        store_url: of its database.
        peek: looks into the database.
        queue: the queue and the broker that ring its Celery workers, if it has any.
    """

    def __init__(self, home: Path, store_url: str) -> None:
        self.ports: list[int] = []
        self.home = home
        self.store_url = store_url
        self.peek = Peek(store_url)
        self.queue: tuple[str, str] | None = None
        self.roots: dict[str, int] = {}

    def processes(self) -> dict[str, psutil.Process]:
        """Its processes by name, in the order they were started."""
        found: dict[str, psutil.Process] = {}
        for name, pid in self.roots.items():
            root = psutil.Process(pid)
            found[name] = root
            for number, child in enumerate(
                sorted(root.children(recursive=True), key=lambda one: one.pid), 1
            ):
                found[f"{name}, child {number}"] = child
        return found

    def cpu(self) -> float:
        """Seconds of CPU that its processes have used so far."""
        times = [process.cpu_times() for process in self.processes().values()]
        return sum(one.user + one.system for one in times)

    def journal_bytes(self) -> int:
        """Size of everything in the journals."""
        return sum(one.stat().st_size for one in _files(self.home / "journal"))

    def unread(self) -> int | None:
        """Messages that Celery has not read; None without Celery."""
        if self.queue is None:
            return None
        broker, name = self.queue
        return queue_length(broker, name)


@asynccontextmanager
async def deployment(place: str, server: PostgresForTests | None) -> AsyncIterator[Deployment]:
    """Start an installation; it takes requests when this returns.

    Args:
        place: of `PLACES`.
        server: makes its database, unless that is SQLite.
    """
    async with AsyncExitStack() as stack:
        url: str | None = None
        if place != "sqlite":
            assert server is not None
            url = server.empty()
            stack.callback(server.drop, url)
        environ = stack.enter_context(environment(runners=CONCURRENCY, database_url=url))
        one = Deployment(Path(environ["HOLDFAST_HOME"]), settings.load(environ=environ).store_url)
        stack.callback(one.peek.close)
        if place != "sqlite" and place != "postgresql":
            environ["HOLDFAST_BUS_URL"] = stack.enter_context(running_valkey())
        if place == "hubs":
            environ["HOLDFAST_RUNNERS"] = str(CONCURRENCY // 2)
        if place.startswith("celery"):
            broker = environ["HOLDFAST_BUS_URL"] if place == "celery-redis" else amqp_url()
            one.queue = (broker, queue_name())
            environ |= {
                "HOLDFAST_DISPATCH": "celery",
                "HOLDFAST_CELERY_BROKER_URL": broker,
                "HOLDFAST_CELERY_QUEUE": one.queue[1],
            }
            stack.callback(delete_queue, *one.queue)
            worker = celery_worker("holdfast.celery_app", environ)
            one.roots["Celery worker"] = await stack.enter_async_context(worker)
        for name in ("hub", "second hub")[: 2 if place == "hubs" else 1]:
            hub = await stack.enter_async_context(hub_process(environ))
            one.roots[name] = hub.pid
            one.ports.append(hub.port)
        yield one


@asynccontextmanager
async def celery_worker(app: str, environ: dict[str, str], *options: str) -> AsyncIterator[int]:
    """Start a Celery worker; it takes messages when this returns its pid."""
    said = Path(environ["HOLDFAST_HOME"]) / f"celery-{uuid4().hex}"
    with said.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("celery")),
            *("-A", app, "worker", "--loglevel=info", "--without-gossip", "--without-mingle"),
            *("-n", f"{uuid4().hex}@bench", *options),
            env=environ,
            cwd=environ["HOLDFAST_HOME"],
            stdout=output,
            stderr=output,
        )
    async with stopped(process):
        async with asyncio.timeout(TIMEOUT_S):
            while b" ready." not in said.read_bytes():
                if process.returncode is not None:
                    raise RuntimeError(f"Celery did not start: {said.read_text()}")
                await asyncio.sleep(0.05)
        yield process.pid


def queue_name() -> str:
    """A name for a queue that nobody else has."""
    return f"holdfast-bench-{uuid4().hex}"


def delete_queue(broker: str, name: str) -> None:
    """Remove a queue with what is left in it."""
    app: Any = make_celery(broker, name)
    with app.connection_for_write() as connection:
        connection.default_channel.queue_delete(name)
    app.close()


def queue_length(broker: str, name: str) -> int:
    """Messages that nobody has read yet."""
    app: Any = make_celery(broker, name)
    try:
        with app.connection_for_read() as connection:
            channel = connection.default_channel
            if broker.startswith("amqp"):
                return int(channel.queue_declare(name, passive=True).message_count)
            return int(channel.client.llen(name))
    finally:
        app.close()


def _files(folder: Path) -> list[Path]:
    return [one for one in folder.rglob("*") if one.is_file()] if folder.exists() else []
