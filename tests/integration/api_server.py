"""A hub behind real HTTP on a free loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from holdfast import settings
from holdfast.api import ApiParts
from holdfast.app import Parts, run_hub
from holdfast.store import migrations
from holdfast.telemetry import configure_logging

from .conftest import HubForTests


def api_parts(parts: Parts) -> ApiParts:
    return ApiParts(
        kit=parts.kit,
        keyring=parts.keyring,
        ended=parts.ended,
        talks=parts.talks,
        not_ready=parts.not_ready,
        version="0.0.0",
    )


@asynccontextmanager
async def hub_at(home: Path, **overrides: Any) -> AsyncIterator[HubForTests]:
    """A hub that runs graphs in this process, for tests that share one."""
    environ = {
        "HOLDFAST_HOME": str(home),
        "HOLDFAST_APPS": "spine_app",
        "HOLDFAST_MODELS": '{"fast": "scripted:fast"}',
    }
    made = settings.load(overrides, environ=environ)
    await asyncio.to_thread(migrations.upgrade, made.store_url)
    async with run_hub(made, in_process=True) as parts:
        yield HubForTests(parts)


class Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):
        yield


@asynccontextmanager
async def serving(app: FastAPI, port: int = 0) -> AsyncIterator[str]:
    """Serve `app`; its address."""
    configure_logging("error")
    # With its protocol named, or asyncio leaves Nagle's algorithm on: 40 ms an answer.
    with socket.socket(proto=socket.IPPROTO_TCP) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        sock.listen()
        config = uvicorn.Config(
            app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=5
        )
        server = Server(config)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            app.state.parts.stop()
            server.should_exit = True
            await task
