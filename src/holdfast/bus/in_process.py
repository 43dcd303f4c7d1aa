"""The bus inside one process: plain calls, in the loop."""

from __future__ import annotations

import asyncio

from holdfast.errors import HubSilent

from .base import Bus, Notice


class Exchange:
    """Joins the buses of several hubs in one process, for tests."""

    def __init__(self) -> None:
        self.members: dict[str, MemoryBus] = {}


class MemoryBus(Bus):
    """Delivers at once.

    Args:
        hub: name of this one.
        exchange: where others are met; None when there are none.
    """

    joins = False

    def __init__(self, hub: str = "", exchange: Exchange | None = None) -> None:
        super().__init__(hub)
        self._exchange = exchange or Exchange()

    @property
    def joined(self) -> bool:
        """See `Bus.joined`."""
        return self.hub in self._exchange.members

    async def start(self) -> None:
        """See `Bus.start`."""
        self._exchange.members[self.hub] = self

    async def close(self) -> None:
        """See `Bus.close`."""
        self._exchange.members.pop(self.hub, None)

    def _send(self, notice: Notice) -> None:
        for other in self._exchange.members.values():
            if other is not self:
                asyncio.get_running_loop().call_soon(other.deliver, notice)

    async def _ask(self, hub: str, question: bytes) -> bytes:
        other = self._exchange.members.get(hub)
        if other is None:
            raise HubSilent(f"no hub {hub} is on the bus")
        return await other._reply(question)  # noqa: SLF001
