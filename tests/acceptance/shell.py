"""The installed command, run in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

HOLDFAST = str(Path(sys.executable).with_name("holdfast"))

TIMEOUT_S = 120


class Shell:
    """Runs `holdfast` as somebody would who has set these variables and no others.

    Args:
        folder: where, and above the home.
        **env: variables besides those that keep it to itself.
    """

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HOLDFAST_", "COV_")) and name != "DATABASE_URL"
        } | {
            "HOLDFAST_HOME": str(folder / "home"),
            "HOLDFAST_PORT": str(self.port),
            "HOLDFAST_RUNNERS": "1",
            "COLUMNS": "120",
            **env,
        }

    def __call__(self, *args: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command, which must end with the code."""
        done = subprocess.run(
            [HOLDFAST, *args],
            cwd=self.folder,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def says(self, *args: str, code: int = 0, **env: str) -> str:
        """All that a person sees of a command."""
        done = self(*args, code=code, **env)
        return done.stdout + done.stderr

    def json(self, *args: str, code: int = 0, **env: str) -> Any:
        """What a program reads of it."""
        return json.loads(self(*args, "--json", code=code, **env).stdout)

    @contextmanager
    def up(self, **env: str) -> Iterator[None]:
        """A hub that takes work, until the block ends."""
        with subprocess.Popen(
            [HOLDFAST, "up"],
            cwd=self.folder,
            env=self.env | env,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            try:
                assert any(line.startswith("Ctrl-C") for line in process.stderr)
                self._until_ready()
                yield
            finally:
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=TIMEOUT_S)

    def _until_ready(self) -> None:
        """Answering is not ready: the runners take a moment longer."""
        give_up = time.monotonic() + TIMEOUT_S
        while httpx.get(f"http://127.0.0.1:{self.port}/readyz").is_error:
            assert time.monotonic() < give_up
            time.sleep(0.05)
