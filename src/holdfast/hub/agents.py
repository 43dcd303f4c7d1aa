"""Agents: the configured ones, kept in memory and in the registry; an idle one costs no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from holdfast.bus.base import AGENTS
from holdfast.domain.agents import AgentVersion
from holdfast.errors import HoldfastError
from holdfast.operations.kit import Kit
from holdfast.pipelines.base import Declaration
from holdfast.store.queries.agents import AllAgents
from holdfast.telemetry import logger

from .lookout import Lookout

log = logger("hub")

SWEEP_S = 30.0
"""How late this hub may be to hear of a changed agent, when the notice was lost."""

TOGETHER = 50
"""So many configurations are read before others have their turn in the loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """An agent as its newest version says.

    Attributes:
        declaration: made of its configuration; None when this code cannot read that.
        error: why it cannot.
        concurrency: turns that its process runs at once.
        idle_s: seconds without a turn after which its process is stopped; 0: never; None: as the
            settings say.
    """

    version: AgentVersion
    declaration: Declaration | None
    error: HoldfastError | None = None
    concurrency: int = 256
    idle_s: float | None = None

    @property
    def id(self) -> str:
        """The agent's id."""
        return self.version.id


Configure = Callable[[AgentVersion], Configured]
"""Reads a version's configuration; imports nothing that it names.

Raises:
    HoldfastError: this code cannot read it.
"""


class Agents:
    """All agents of all owners, as the store has them.

    Args:
        kit: the hub's parts.
        configure: see `Configure`.
        changed: called with the id of an agent that has a new version or is gone.
    """

    def __init__(self, kit: Kit, configure: Configure, changed: Callable[[str], None]) -> None:
        self._kit = kit
        self._configure = configure
        self._changed = changed
        self._known: dict[str, Configured] = {}
        self._lookout = Lookout(kit, self._read, topic=AGENTS, sweep_s=SWEEP_S)
        kit.metrics.describe("holdfast_agents", "gauge", "Agents that are configured.")

    def __contains__(self, agent_id: str) -> bool:
        return agent_id in self._known

    def get(self, agent_id: str) -> Configured | None:
        """The agent of that id, as far as this hub has heard of it."""
        return self._known.get(agent_id)

    async def start(self) -> None:
        """Learn which agents there are, then keep up.

        Raises:
            StoreError: the database is away.
        """
        await self._lookout.start()

    async def close(self) -> None:
        """Keep up no more."""
        await self._lookout.close()

    async def refresh(self) -> None:
        """See `Lookout.refresh`."""
        await self._lookout.refresh()

    async def look(self) -> None:
        """Take in what has changed; see `Lookout.look`."""
        await self._lookout.look()

    async def _read(self) -> None:
        found = await self._kit.store.read(AllAgents())
        gone = self._known.keys() - {one.id for one in found}
        for agent_id in gone:
            del self._known[agent_id]
            self._kit.registry.drop(agent_id)
            self._changed(agent_id)
        read = 0
        for one in found:
            known = self._known.get(one.id)
            if known is not None and known.version.version == one.current.version:
                continue
            self._take_in(one.current)
            read += 1
            if read % TOGETHER == 0:
                await asyncio.sleep(0)
        self._kit.metrics.put("holdfast_agents", len(self._known))

    def _take_in(self, version: AgentVersion) -> None:
        try:
            agent = self._configure(version)
            assert agent.declaration is not None  # noqa: S101 - or it would have been refused
            self._kit.registry.adopt(agent.declaration)
        except HoldfastError as error:  # written by other code; its messages wait
            log.error("agent.unreadable", agent_id=version.id, name=version.name, error=str(error))
            agent = Configured(version=version, declaration=None, error=error)
            self._kit.registry.drop(version.id)
        self._known[version.id] = agent
        self._changed(version.id)
