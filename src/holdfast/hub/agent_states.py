"""How agents do, as others may read it: keys on the bus's server, shown anew when they move."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from holdfast.bus import Notice
from holdfast.bus.base import AGENTS, PROCESS
from holdfast.bus.outside import Outside
from holdfast.domain.agents import AGENT, Agent, Process
from holdfast.operations.agents import agent_status
from holdfast.operations.kit import Kit
from holdfast.store.queries import AllAgents, AllProcesses
from holdfast.store.queries.bridging import AgentsOf

SHOWN_S = 60
"""How long a state stays where no hub shows it any more."""

SWEEP_S = 20.0
"""How often all states are shown anew."""

GATHER_S = 0.05
"""Between two looks at states that move."""


class AgentStates:
    """Shows the processes of all agents, and the messengers they are joined to."""

    def __init__(self, kit: Kit, outside: Outside) -> None:
        self._kit = kit
        self._outside = outside
        self._moved: set[str] = set()  # agents whose state is to be shown
        self._bell = asyncio.Event()
        self._shown: set[str] = set()  # keys
        self._stops = [kit.bus.listen(topic, self._rung) for topic in (PROCESS, AGENTS)]

    def close(self) -> None:
        """Hear of nothing more."""
        for stop in self._stops:
            stop()

    def _rung(self, notice: Notice) -> None:
        if notice.target is not None:
            self._moved.add(notice.target)
            self._bell.set()

    async def show_on(self) -> None:
        """Show all states, then those that move, as they do."""
        while True:
            self._moved.clear()
            await self.show_all()
            until = asyncio.get_running_loop().time() + SWEEP_S
            while (left := until - asyncio.get_running_loop().time()) > 0:
                try:
                    async with asyncio.timeout(left):
                        await self._bell.wait()
                except TimeoutError:
                    break
                self._bell.clear()
                moved, self._moved = self._moved, set()
                await self._show(moved)
                await asyncio.sleep(GATHER_S)

    async def show_all(self) -> None:
        """Show how all agents do now.

        Raises:
            StoreError: the database is away.
            ConnectionError: the server is.
        """
        await self._show(None)

    async def _show(self, only: set[str] | None) -> None:
        wanted = AllAgents() if only is None else AgentsOf(sorted(only))
        agents = await self._kit.store.read(wanted)
        processes = {
            (one.kind, one.target): one for one in await self._kit.store.read(AllProcesses())
        }
        states: dict[str, Mapping[str, str]] = {}
        for agent in agents:
            states |= _states(agent, processes)
        known = {key for key in self._shown if only is None or key.split(":")[1] in only}
        await self._outside.show(states, known - states.keys(), for_s=SHOWN_S)
        self._shown = (self._shown - known) | states.keys()


def _states(
    agent: Agent, processes: Mapping[tuple[str, str], Process]
) -> dict[str, Mapping[str, str]]:
    """What is shown of an agent, by key; what is not known is an empty text."""
    process = processes.get((AGENT, agent.id))
    found: dict[str, Mapping[str, str]] = {
        f"agent_status:{agent.id}": {
            "name": agent.current.name,
            "status": "stopped" if process is None else process.status.value,
            "agent_status": agent_status(process),
            "wanted": "on" if process is None else process.wanted,
            "version": str(agent.current.version),
            "pid": _text(process and process.pid),
            "restarts": _text(process and process.restarts),
            "error": "" if process is None else (process.last_error or {}).get("message", ""),
        }
    }
    kind = "simple" if "simple" in agent.current.config else "graph"
    for one in agent.current.config[kind]["settings"].get("integrations", ()):
        running = processes.get((one["type"], agent.id))
        enabled = one.get("enabled", True)
        found[f"integration_status:{agent.id}:{one['type']}"] = {
            "status": "stopped" if running is None else running.status.value,
            "enabled": "true" if enabled else "false",
        }
    return found


def _text(value: object) -> str:
    return "" if value is None else str(value)
