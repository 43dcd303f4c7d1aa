"""Makes agents and what is said to them, with only the fields a test cares about spelled out."""

from __future__ import annotations

from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from holdfast.domain.agents import AGENT, Agent, AgentVersion
from holdfast.domain.conversations import Message, NewMessage, NewTurn, Speaker
from holdfast.domain.events import Claimed
from holdfast.domain.ids import new_id
from holdfast.domain.status import ExecutionStatus
from holdfast.store import Store
from holdfast.store.commands import Claim, Finish, Finished, PutAgent, Submit, Submitted
from holdfast.store.queries import WindowOf
from holdfast.store.registry import address

from .conftest import HOUR, Make

CONFIG = {"simple": {"settings": {"model": "fast", "temperature": 0.5}}}


def version(**fields: Any) -> AgentVersion:
    values: dict[str, Any] = {
        "id": new_id(),
        "owner_id": "local",
        "name": "helper",
        "description": "helps",
        "version": 1,
        "config": CONFIG,
        "author": "me",
        "created_at": 0,
    }
    return AgentVersion(**(values | fields))


def message(content: str = "hello", role: Speaker = Speaker.USER, **fields: Any) -> NewMessage:
    values = {"id": new_id(), "role": role, "content": content, "tokens": len(content) // 4 + 1}
    return NewMessage(**(values | fields))


def answer(content: str = "hi", **fields: Any) -> NewMessage:
    return message(content, Speaker.ASSISTANT, **fields)


class Talk:
    """Conversations over one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.make = Make(store)

    async def agent(self, **fields: Any) -> Agent:
        return await self.store.write(PutAgent(version(**fields)))

    def submit(
        self,
        agent: str,
        content: str = "hello",
        *,
        session_id: str | None = None,
        chat_id: str | None = None,
        turn: dict[str, Any] | None = None,
        **event: Any,
    ) -> Submit:
        values: dict[str, Any] = {
            "agent_id": agent,
            "message": message(content),
            "session_id": session_id,
            "new_session_id": new_id(),
            "chat_id": chat_id,
            "title": content[:20],
        }
        target = {"type": "agent.message", "target": agent, "target_kind": AGENT}
        return Submit(self.make.event(**(target | event)), NewTurn(**(values | (turn or {}))))

    async def say(self, agent: str, content: str = "hello", **fields: Any) -> Submitted:
        return await self.store.write(self.submit(agent, content, **fields))

    async def claim(self, *agents: str, **fields: Any) -> list[Claimed]:
        values: dict[str, Any] = {
            "kind": AGENT,
            "versions": dict.fromkeys(agents, ("1", "c1")),
            "limit": 10,
            "lease_owner": "boot-1",
            "lease_us": HOUR,
        }
        return await self.store.write(Claim(**(values | fields)))

    async def finish(
        self,
        of: Claimed,
        *answers: str,
        status: ExecutionStatus = ExecutionStatus.SUCCEEDED,
        apology: str | None = None,
        **fields: Any,
    ) -> Finished:
        run = self.make.execution(of, status=status, session_id=of.session_id)
        told = {
            "answers": tuple(map(answer, answers)),
            "apology": None if apology is None else answer(apology),
        }
        values = {"execution": run, **told, **fields}
        return await self.store.write(Finish(self.make.record(of, status, **values)))

    async def exchange(self, agent: str, question: str, reply: str, **fields: Any) -> Submitted:
        """A whole turn."""
        said = await self.say(agent, question, **fields)
        (claimed,) = await self.claim(agent)
        await self.finish(claimed, reply)
        return said

    async def window(self, session_id: str, **fields: Any) -> list[Message]:
        """What was said and no summary stands for, oldest first."""
        values: dict[str, Any] = {"owner_id": "local", "event_id": None, "limit": 100}
        asked = WindowOf(**({"session_id": session_id, "summaries": 10} | values | fields))
        return list(reversed((await self.store.read(asked)).messages))


def count(store_url: str, table: str, where: str = "1 = 1") -> int:
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.connect() as connection:
        found = connection.execute(text(f"SELECT count(*) FROM {table} WHERE {where}"))
        return int(found.scalar_one())
