"""A hub with real runner processes over a real database, and what tests ask of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from holdfast import settings
from holdfast.app import Parts, run_hub
from holdfast.domain.events import LOCAL_OWNER, Event
from holdfast.operations import read
from holdfast.operations.submit import submit
from holdfast.operations.wait import ended_within
from holdfast.store import migrations

from .zygote import zygote

TIMEOUT_S = 20.0


class HubForTests:
    """A running hub and short words for what tests do with it."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.kit = parts.kit
        self.crew = parts.hub.crew

    async def submit(self, type: str, **data: Any) -> str:
        done = await submit(self.kit, owner_id=LOCAL_OWNER, type=type, data=data)
        return done.id

    async def ended(self, event_id: str, within_s: float = TIMEOUT_S) -> Event:
        with self.parts.ended.expect(event_id) as future:
            event = await read.event(self.kit, event_id, LOCAL_OWNER)
            if event.finished_at is None:
                assert await ended_within(future, within_s), f"{event.status} after {within_s} s"
        return await read.event(self.kit, event_id, LOCAL_OWNER)

    async def run(self, type: str, **data: Any) -> tuple[Event, read.Whole]:
        event = await self.ended(await self.submit(type, **data))
        assert event.execution_id is not None
        return event, await self.whole(event.execution_id)

    async def whole(self, execution_id: str) -> read.Whole:
        return await read.execution(self.kit, execution_id, LOCAL_OWNER)

    async def executions(self, event_id: str) -> list[read.Execution]:
        return (await read.event_whole(self.kit, event_id, LOCAL_OWNER)).executions


async def until(path: Path) -> str:
    """Wait for a file a pipeline of the tests writes; its text."""
    async with asyncio.timeout(TIMEOUT_S):
        while not path.exists():
            await asyncio.sleep(0.005)
    return path.read_text()


async def until_true(test: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something nobody announces."""
    async with asyncio.timeout(TIMEOUT_S):
        while not await test():
            await asyncio.sleep(0.01)


OpenHub = Callable[..., AbstractAsyncContextManager[HubForTests]]


@pytest.fixture
def hub_environ(tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOLDFAST_HOME": str(tmp_path / "home"),
        "HOLDFAST_APPS": "spine_app",
        "HOLDFAST_STOP_GRACE": "3",
        "HOLDFAST_LOG_LEVEL": "error",
    }


@pytest.fixture
def open_hub(hub_environ: dict[str, str]) -> OpenHub:
    """Opens a hub: `async with open_hub(runners=1) as hub`."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def opened(*, in_process: bool = False, **overrides: Any) -> AsyncIterator[HubForTests]:
        made = settings.load(overrides, environ=hub_environ)
        await asyncio.to_thread(migrations.upgrade, made.store_url)
        spawner = None if in_process else zygote()
        async with run_hub(made, in_process=in_process, spawner=spawner) as parts:
            await parts.hub.ready()
            yield HubForTests(parts)

    return opened
