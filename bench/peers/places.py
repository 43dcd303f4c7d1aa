"""Environments, processes and servers of the peers."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.places import ROOT, stopped

HERE = Path(__file__).parent
ENVIRONMENTS = ROOT / ".venv" / "peers"

TIMEOUT_S = 300.0
STARTED_S = 120.0
MAX_LINE_BYTES = 1 << 20

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "PHOENIX_TELEMETRY_ENABLED": "false",
    "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
}
"""Nothing leaves the machine."""


def python_of(peer: str) -> str:
    """The interpreter of a peer's environment; ours for `holdfast`."""
    if peer == "holdfast":
        return sys.executable
    python = ENVIRONMENTS / peer / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"no environment for {peer}: run `make bench-peers`")
    return str(python)


class Killed(Exception):
    """The other end is gone."""


class Side:
    """A script beside this file, see `side.obey`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, verb: str, **arguments: Any) -> Any:
        """Send a verb and wait for its answer.

        Raises:
            Killed: the process ended instead.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, arguments]).encode() + b"\n")
        return (await self.answer())[0]

    async def answer(self) -> list[Any]:
        """The next line."""
        assert self._process.stdout is not None
        async with asyncio.timeout(TIMEOUT_S):
            line = await self._process.stdout.readline()
        if not line:
            raise Killed(await self._process.wait())
        return json.loads(line)


@asynccontextmanager
async def side(
    peer: str, script: str, *arguments: str, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Side]:
    """Start a script under its peer's interpreter; it listens when this returns."""
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-peers-") as cwd,
        tempfile.TemporaryFile() as stderr,
    ):
        process = await asyncio.create_subprocess_exec(
            python_of(peer),
            str(HERE / script),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            cwd=cwd,
            env=_environ(peer) | dict(environ or {}),
            limit=MAX_LINE_BYTES,
        )
        async with stopped(process):
            one = Side(process)
            try:
                await one.answer()
            except Killed:
                stderr.seek(0)
                said = stderr.read().decode(errors="replace")
                raise RuntimeError(f"{script} did not start: {said}") from None
            yield one


@asynccontextmanager
async def phoenix_server(folder: Path) -> AsyncIterator[str]:
    """A Phoenix server on loopback over SQLite; its address."""
    port, grpc = _free_port(), _free_port()
    process = await asyncio.create_subprocess_exec(
        str(Path(python_of("phoenix")).with_name("phoenix")),
        "serve",
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=_environ("phoenix")
        | {
            "PHOENIX_WORKING_DIR": str(folder),
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(port),
            "PHOENIX_GRPC_PORT": str(grpc),
        },
    )
    url = f"http://127.0.0.1:{port}"
    async with stopped(process):
        async with asyncio.timeout(STARTED_S), httpx.AsyncClient(trust_env=False) as http:
            while not await _answers(http, f"{url}/healthz"):
                if process.returncode is not None:
                    raise RuntimeError("Phoenix did not start")
                await asyncio.sleep(0.2)
        yield url


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).is_success
    except httpx.TransportError:
        return False


def _environ(peer: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    if peer == "holdfast":
        kept["PYTHONPATH"] = f"{ROOT / 'src'}:{ROOT}"  # this checkout, wherever it is
    return kept | QUIET


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
