"""What `Client` can do about schedules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any
from urllib.parse import quote

import orjson

View = dict[str, Any]

SCHEDULES = "/api/v1/schedules"


class Schedules(ABC):
    """Part of `Client`."""

    async def schedules(self) -> View:
        """All schedules, by name: `items`."""
        return await self._ask("GET", SCHEDULES)

    async def schedule(self, name: str) -> View:
        """A schedule: when it fires next, and what came of the last time."""
        return await self._ask("GET", _schedule(name))

    async def put_schedule(
        self, name: str, *, cron: str, pipeline: str, data: Any, **options: Any
    ) -> View:
        """Make a schedule, or put another in the place of the one of that name.

        Args:
            name: of the schedule.
            cron: when: five fields, or six with seconds first.
            pipeline: which pipeline runs.
            data: of the events.
            **options: `timezone` (an IANA name; UTC by default), `priority`, `missed` (`skip` or
                `once`: what becomes of times no hub was there for).
        """
        body = {"cron": cron, "pipeline": pipeline, "data": data, **options}
        headers = {"content-type": "application/json"}
        return await self._ask("PUT", _schedule(name), headers=headers, content=orjson.dumps(body))

    async def pause_schedule(self, name: str) -> View:
        """Keep a schedule from firing."""
        return await self._ask("POST", f"{_schedule(name)}/pause")

    async def resume_schedule(self, name: str) -> View:
        """Let a paused schedule fire again, from the next time that comes."""
        return await self._ask("POST", f"{_schedule(name)}/resume")

    async def delete_schedule(self, name: str) -> View:
        """Delete a schedule; the events it sent stay."""
        return await self._ask("DELETE", _schedule(name))

    @abstractmethod
    async def _ask(self, method: str, path: str, *, extra_s: float = 0, **rest: Any) -> View: ...


def _schedule(name: str) -> str:
    return f"{SCHEDULES}/{quote(name, safe='')}"
