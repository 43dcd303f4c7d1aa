"""Showing: what runs here told to the other hubs, and their news told to who follows it here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from holdfast.bus import Notice
from holdfast.bus.base import CHANGED, ENDED, GAP, HALTED
from holdfast.journal.mirror import reflect
from holdfast.operations.agent_logs import LOGS, here
from holdfast.operations.elsewhere import RECORD, SUMMARIES
from holdfast.operations.kit import Kit

GATHER_S = 0.05
"""Changes of an execution that another hub follows are told of at most so often."""

FOLLOWED_S = 60.0
"""How long after a question its changes are told; who follows asks again before."""


class Showing:
    """Answers other hubs about what runs here."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._until: dict[str, float] = {}  # executions followed from elsewhere, and how long
        self._tasks: set[asyncio.Task[None]] = set()
        kit.bus.answer(RECORD, self._record)
        kit.bus.answer(SUMMARIES, self._summaries)
        kit.bus.answer(LOGS, lambda args: here(kit, args))
        self._stops = [kit.bus.listen(topic, self._heard) for topic in (CHANGED, ENDED, HALTED)]
        self._stops.append(kit.bus.listen(GAP, lambda _: kit.journal.wake_all()))

    def close(self) -> None:
        """Tell and hear nothing more."""
        for stop in self._stops:
            stop()
        for task in self._tasks:
            task.cancel()

    async def _record(self, args: Mapping[str, Any]) -> Any:
        execution_id = args["execution_id"]
        running = self._kit.journal.get(execution_id)
        if running is not None and running.owner_id != args["owner_id"]:
            return None
        if args["follow"]:
            self._follow(execution_id)
        return None if running is None else reflect(running)

    async def _summaries(self, args: Mapping[str, Any]) -> Any:
        found = [self._kit.journal.get(execution_id) for execution_id in args["ids"]]
        return [
            asdict(running.execution())
            for running in found
            if running is not None and running.owner_id == args["owner_id"]
        ]

    def _follow(self, execution_id: str) -> None:
        known = execution_id in self._until
        self._until[execution_id] = asyncio.get_running_loop().time() + FOLLOWED_S
        if not known:
            task = asyncio.create_task(self._tell(execution_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _tell(self, execution_id: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            with self._kit.journal.watch(execution_id) as watcher:
                while not watcher.ended and (left := self._until[execution_id] - loop.time()) > 0:
                    try:
                        await asyncio.wait_for(watcher.changed.wait(), left)
                    except TimeoutError:
                        continue  # perhaps it was asked for again
                    watcher.changed.clear()
                    self._kit.bus.publish(Notice(CHANGED, execution_id=execution_id))
                    await asyncio.sleep(GATHER_S)
        finally:
            del self._until[execution_id]

    def _heard(self, notice: Notice) -> None:
        # What runs here wakes its followers itself.
        if notice.execution_id is not None and self._kit.journal.get(notice.execution_id) is None:
            self._kit.journal.wake(notice.execution_id)
