"""Holdfast's side: a durable pipeline of five nodes that do nothing, run in the hub's process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from side import obey

from holdfast import settings
from holdfast.app import Parts, run_hub
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.ids import new_id
from holdfast.operations.submit import submit
from holdfast.store import migrations

PIPELINE = "bench.durable"

WAYS = {f"{in_flight} at once": in_flight for in_flight in (8, 32, 64)}

T = TypeVar("T")


async def many(parts: Parts, runs: int, in_flight: int) -> None:
    numbers = iter(range(runs))

    async def some() -> None:
        for _ in numbers:
            event_id = new_id()
            with parts.ended.expect(event_id) as rested:
                await submit(
                    parts.kit, owner_id=LOCAL_OWNER, type=PIPELINE, data={}, event_id=event_id
                )
                notice = await rested
            if notice.status != "succeeded":
                raise RuntimeError(f"{event_id} {notice.status}")

    await asyncio.gather(*(some() for _ in range(in_flight)))


class Hub:
    """A hub on a loop of its own, which turns while nothing is asked too."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._stack = AsyncExitStack()
        made = settings.load()
        migrations.upgrade(made.store_url)
        self.parts = self.wait(self._stack.enter_async_context(run_hub(made, in_process=True)))

    def run(self, way: str, runs: int) -> float:
        """Seconds for so many runs."""
        began = time.perf_counter()
        self.wait(many(self.parts, runs, WAYS[way]))
        return time.perf_counter() - began

    def setting(self) -> str:
        """What stands for durability; see `store/sqlite.py`."""
        on_sqlite = self.parts.settings.store_url.startswith("sqlite")
        return "synchronous=FULL, journal_mode=WAL" if on_sqlite else "the server's"

    def close(self) -> None:
        self.wait(self._stack.aclose())

    def wait(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()


hub = Hub()
obey({"run": hub.run, "ways": lambda: list(WAYS), "setting": hub.setting})
hub.close()
