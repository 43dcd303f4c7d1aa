"""Say something and wait for what comes of it: an answer, a question, or that none will come."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from holdfast.agents.schemas import Outgoing, WaitShown
from holdfast.bus import Notice
from holdfast.domain.agents import AGENT, Agent
from holdfast.domain.ids import new_id
from holdfast.domain.status import EVENT_ENDS, EventStatus
from holdfast.store.queries import ProcessOf, SessionBy

from . import read
from .agents import agent_status
from .kit import Kit
from .say import Said, say
from .talking import answers_of, outgoing, waits_shown
from .talks import AgentWatch, Talks
from .wait import EndedEvents

SILENT = frozenset({"off", "error"})
"""Status of an agent that answers nothing until somebody acts."""

_STANDS = EVENT_ENDS | {EventStatus.WAITING, EventStatus.PAUSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A turn as far as it has come.

    Attributes:
        said: what began it.
        status: of its event.
        execution_id: its newest execution.
        agent_status: the status of the agent's process, or `off`.
        waits: what it asks a person.
        answer: what the agent said; None: nothing yet, or nothing at all.
    """

    said: Said
    status: EventStatus
    execution_id: str | None
    agent_status: str
    waits: list[WaitShown]
    answer: Outgoing | None


async def say_and_wait(
    kit: Kit,
    ended: EndedEvents,
    talks: Talks,
    seconds: float | None,
    *,
    agent: Agent,
    owner_id: str,
    **message: Any,
) -> Turn:
    """Say something, and give the answer it time to come.

    Args:
        kit: the hub's parts.
        ended: tells that a turn came to rest.
        talks: tells that the agent's process has moved.
        seconds: how long to wait; None: not at all.
        agent: whom it is said to.
        owner_id: whose conversation it is.
        **message: what else `say` takes.

    Raises:
        HoldfastError: see `say`.
    """
    event_id = new_id()
    with (
        ended.expect(event_id, or_halted=True) as rested,  # before it exists: nothing is missed
        talks.watch_agent(agent.id) as watch,
    ):
        said = await say(kit, agent=agent, owner_id=owner_id, event_id=event_id, **message)
        status = await _status(kit, agent)
        if seconds and status not in SILENT:
            if said.event_id == event_id:
                await _until(kit, agent, rested, watch, seconds)
            else:
                await _of_another(kit, ended, watch, agent, said, seconds)
            status = await _status(kit, agent)
    return await turn_of(kit, said, owner_id, status)


async def turn_of(kit: Kit, said: Said, owner_id: str, status: str) -> Turn:
    """A turn as it stands."""
    event = await read.event(kit, said.event_id, owner_id)
    waits: list[WaitShown] = []
    answer = None
    if event.status is EventStatus.WAITING:
        waits = await waits_shown(kit, event.id, owner_id)
    elif event.status in EVENT_ENDS:
        answer = await _answer(kit, said, owner_id)
    return Turn(
        said=said,
        status=event.status,
        execution_id=event.execution_id,
        agent_status=status,
        waits=waits,
        answer=answer,
    )


async def _answer(kit: Kit, said: Said, owner_id: str) -> Outgoing | None:
    """What was said in a turn, as one; several parts are told below each other."""
    parts = await answers_of(kit, said.event_id, owner_id)
    if not parts:
        return None
    session = await kit.store.read(SessionBy(said.session_id, owner_id))
    last = outgoing(session, parts[-1])
    return last.model_copy(update={"response": "\n\n".join(one.content for one in parts)})


async def _status(kit: Kit, agent: Agent) -> str:
    return agent_status(await kit.store.read(ProcessOf(AGENT, agent.id, agent.current.owner_id)))


async def _of_another(
    kit: Kit,
    ended: EndedEvents,
    watch: AgentWatch,
    agent: Agent,
    said: Said,
    seconds: float,
) -> None:
    """Wait for a turn that was there before: of a known key, or one that was answered."""
    with ended.expect(said.event_id, or_halted=True) as rested:
        event = await read.event(kit, said.event_id, agent.current.owner_id)
        if event.status not in _STANDS:
            await _until(kit, agent, rested, watch, seconds)


async def _until(
    kit: Kit,
    agent: Agent,
    rested: asyncio.Future[Notice],
    watch: AgentWatch,
    seconds: float,
) -> None:
    """Wait for the turn, as long as there is hope that its agent answers."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while not rested.done() and (left := until - loop.time()) > 0:
        watch.bell.clear()
        if watch.moved:
            watch.moved = False
            if await _status(kit, agent) in SILENT:
                return
            continue
        rings = asyncio.ensure_future(watch.bell.wait())
        try:
            await asyncio.wait({rested, rings}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            rings.cancel()
