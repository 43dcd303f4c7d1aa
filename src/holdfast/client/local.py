"""`connect`: a hub inside this process, and the same client of it as over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from holdfast.api.in_process import InProcessTransport
from holdfast.app import make_api, run_hub
from holdfast.settings import Settings, load
from holdfast.store import migrations

from .client import Client


@asynccontextmanager
async def connect(
    settings: Settings | None = None, *, read_only: bool = False, **overrides: Any
) -> AsyncGenerator[Client]:
    """A hub inside this process, and a client of it: for notebooks, scripts and tests.

    ```python
    async with holdfast.connect(apps=["my_app"]) as client:
        done = await client.submit("my.pipeline", {"text": "…"}, wait=10)
    ```

    Args:
        settings: default: from the environment, with `overrides`.
        read_only: only look at what is stored; nothing runs, nothing is locked or migrated.
        **overrides: settings by field name; not together with `settings`.

    Raises:
        StoreLocked: a hub runs on the same SQLite file; use `holdfast.Client` to talk to it.
    """
    if settings is None:
        settings = load(overrides)
    elif overrides:
        raise TypeError(f"settings are given; {', '.join(overrides)} would not be heard")
    if not read_only:
        await asyncio.to_thread(migrations.upgrade, settings.store_url)
    async with run_hub(settings, in_process=True, read_only=read_only) as parts:
        transport = InProcessTransport(make_api(parts, trusted=True))
        async with Client(settings.url, key=settings.key, transport=transport) as client:
            yield client
