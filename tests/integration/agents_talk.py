"""Agents in hubs of tests: made, talked to, and looked at, through the store alone."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from holdfast.bus import Notice
from holdfast.bus.base import AGENTS, QUEUED
from holdfast.domain.agents import AGENT, AgentVersion, Process, ProcessStatus
from holdfast.domain.conversations import Message, NewMessage, NewTurn, Speaker
from holdfast.domain.events import LOCAL_OWNER, NewEvent
from holdfast.domain.ids import new_id
from holdfast.operations.kit import Kit
from holdfast.store.commands import Submit
from holdfast.store.commands.agents import ChangeAgent, PutAgent
from holdfast.store.commands.processes import WantProcess
from holdfast.store.queries.conversations import Messages
from holdfast.store.queries.processes import ProcessOf

WITHIN_S = 60.0

SETTINGS: dict[str, Any] = {
    "model": "fast",
    "rules": "held_agent:rules",
    "tools": [{"type": "function", "path": "held_agent:gate"}],
    "memory": {"enabled": False},
}


def config(**settings: Any) -> dict[str, Any]:
    return {"simple": {"settings": {**SETTINGS, **settings}}}


class Talk:
    """One agent and what people do with it."""

    def __init__(self, kit: Kit, agent_id: str) -> None:
        self.kit = kit
        self.id = agent_id

    @classmethod
    async def made(cls, kit: Kit, name: str = "ada", **settings: Any) -> Talk:
        version = AgentVersion(
            id=new_id(),
            owner_id=LOCAL_OWNER,
            name=name,
            description="",
            version=1,
            config=config(**settings),
            author=None,
            created_at=0,
        )
        await kit.store.write(PutAgent(version))
        kit.bus.publish(Notice(AGENTS, target=version.id))
        return cls(kit, version.id)

    def at(self, kit: Kit) -> Talk:
        """The same agent at another hub."""
        return Talk(kit, self.id)

    async def change(self, **settings: Any) -> None:
        change = ChangeAgent(
            agent_id=self.id,
            owner_id=LOCAL_OWNER,
            name="ada",
            description="",
            config=config(**settings),
            author=None,
        )
        await self.kit.store.write(change)
        self.kit.bus.publish(Notice(AGENTS, target=self.id))

    async def want(self, wanted: Any = "on", *, restart: bool = False) -> None:
        want = WantProcess(
            kind=AGENT, target=self.id, owner_id=LOCAL_OWNER, wanted=wanted, ask_restart=restart
        )
        await self.kit.store.write(want)
        self.kit.bus.publish(Notice(AGENTS, target=self.id))

    async def say(self, text: str, chat: str = "c", *, ring: bool = True) -> str:
        """Say something; the event's id."""
        message_id = new_id()
        event = NewEvent(
            id=new_id(),
            owner_id=LOCAL_OWNER,
            type="agent.message",
            source="/tests",
            subject=None,
            target=self.id,
            target_kind=AGENT,
            data=orjson.dumps({"text": text, "message_id": message_id, "channel": "api"}),
            idempotency_key=None,
            body_hash="",
            priority=0,
            traceparent=None,
            occurred_at=None,
        )
        said = NewMessage(id=message_id, role=Speaker.USER, content=text, tokens=1)
        turn = NewTurn(
            agent_id=self.id, message=said, session_id=None, new_session_id=new_id(), chat_id=chat
        )
        submitted = await self.kit.store.write(Submit(event, turn))
        self.session_id = submitted.session_id
        if ring:
            self.kit.bus.publish(Notice(QUEUED, event_id=event.id, target=self.id))
        return event.id

    async def said(self, session_id: str | None = None) -> list[Message]:
        """The talk so far, oldest first."""
        of = session_id or self.session_id
        assert of is not None
        found = await self.kit.store.read(Messages(session_id=of, owner_id=LOCAL_OWNER, limit=200))
        return found[::-1]

    async def row(self) -> Process | None:
        return await self.kit.store.read(ProcessOf(AGENT, self.id, LOCAL_OWNER))

    async def until(self, *wanted: ProcessStatus, held: bool | None = None) -> Process:
        """Wait until its process stands so."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                row = await self.row()
                if row is not None and row.status in wanted and held in (None, row.hub is not None):
                    return row
                await asyncio.sleep(0.01)
