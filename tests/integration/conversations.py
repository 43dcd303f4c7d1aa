"""Conversations put into a store without an agent's process: turns asked and answered by hand."""

from __future__ import annotations

from typing import Any

from holdfast.agents.build import declare
from holdfast.domain.agents import AGENT, AgentVersion
from holdfast.domain.conversations import Message, NewMessage, NewTurn, Speaker
from holdfast.domain.events import LOCAL_OWNER, NewEvent
from holdfast.domain.executions import Execution, Record, Totals
from holdfast.domain.ids import MICROS, new_id, now_us
from holdfast.domain.splitting import tokens_of
from holdfast.domain.status import ExecutionStatus
from holdfast.operations.kit import Kit
from holdfast.store.commands import Claim, Finish, PutAgent, Submit, Submitted, WantProcess
from holdfast.store.queries import Messages, SessionBy, WindowOf


class Talk:
    """One session of one agent.

    Args:
        kit: of a hub.
        memory: the agent's settings of that name.
        owner_id: whose.
    """

    def __init__(
        self, kit: Kit, memory: dict[str, Any] | None = None, owner_id: str = LOCAL_OWNER
    ) -> None:
        self.kit = kit
        self.owner_id = owner_id
        self.agent_id = new_id()
        self.session_id: str | None = None
        settings: dict[str, Any] = {"model": "fast"}
        if memory is not None:
            settings["memory"] = memory
        self.config = {"simple": {"settings": settings}}

    async def begin(self, **settings: Any) -> Talk:
        """Store the agent and let the hub know it; nobody is to start its process."""
        self.config["simple"]["settings"] |= settings
        name = f"agent-{self.agent_id[-12:]}"
        await self.kit.store.write(
            PutAgent(
                AgentVersion(
                    id=self.agent_id,
                    owner_id=self.owner_id,
                    name=name,
                    description="",
                    version=1,
                    config=self.config,
                    author="tests",
                    created_at=0,
                )
            )
        )
        await self.kit.store.write(
            WantProcess(kind=AGENT, target=self.agent_id, owner_id=self.owner_id, wanted="off")
        )
        self.kit.registry.adopt(declare(id=self.agent_id, name=name, version=1, config=self.config))
        return self

    async def ask(self, question: str, target: str | None = None, data: bytes = b"{}") -> Submitted:
        """Store a question with its event; a pipeline may be the one that runs."""
        event = NewEvent(
            id=new_id(),
            owner_id=self.owner_id,
            type="agent.message",
            source="/tests",
            subject=None,
            target=target or self.agent_id,
            target_kind="pipeline" if target else AGENT,
            data=data,
            idempotency_key=None,
            body_hash="",
            priority=0,
            traceparent=None,
            occurred_at=None,
        )
        turn = NewTurn(
            agent_id=self.agent_id,
            message=message(Speaker.USER, question),
            session_id=self.session_id,
            new_session_id=new_id(),
        )
        done = await self.kit.store.write(Submit(event, turn))
        self.session_id = done.session_id
        return done

    async def answer(self, text: str) -> None:
        """Run the oldest question by hand."""
        (claimed,) = await self.kit.store.write(
            Claim(
                kind=AGENT,
                versions={self.agent_id: ("1", "c")},
                limit=1,
                lease_owner="tests",
                lease_us=60 * MICROS,
            )
        )
        now = now_us()
        execution = Execution(
            id=claimed.execution_id,
            owner_id=claimed.owner_id,
            event_id=claimed.event_id,
            kind=AGENT,
            name=claimed.target,
            graph_version="1",
            code_version="c",
            delivery=claimed.delivery,
            parent_id=None,
            session_id=claimed.session_id,
            trace_id=None,
            status=ExecutionStatus.SUCCEEDED,
            input=None,
            output=None,
            error=None,
            started_at=claimed.started_at,
            finished_at=now,
            duration_us=1,
            steps_total=0,
            steps_succeeded=0,
            steps_skipped=0,
            steps_failed=0,
            totals=Totals(tokens_input=0, tokens_output=0, cost_pico=0, credits=0),
            flags={},
            seq=0,
        )
        await self.kit.store.write(
            Finish(
                Record(
                    execution=execution,
                    steps=(),
                    attempts=(),
                    entries=(),
                    blobs=(),
                    lease_owner="tests",
                    fence=claimed.fence,
                    answers=(message(Speaker.ASSISTANT, text),),
                )
            )
        )

    async def exchange(self, n: int, question: str | None = None) -> None:
        """A whole turn."""
        await self.ask(question or f"question {n}")
        await self.answer(f"answer {n}")

    async def said(self) -> list[Message]:
        """All that was said, oldest first."""
        assert self.session_id is not None
        asked = Messages(session_id=self.session_id, owner_id=self.owner_id, limit=200)
        return list(reversed(await self.kit.store.read(asked)))

    async def summaries(self) -> list[Message]:
        """All of them, oldest first."""
        assert self.session_id is not None
        asked = WindowOf(
            session_id=self.session_id,
            owner_id=self.owner_id,
            event_id=None,
            limit=0,
            summaries=1000,
        )
        return list(reversed((await self.kit.store.read(asked)).summaries))

    async def unsummarised(self) -> int:
        """As the session's counter says."""
        assert self.session_id is not None
        return (await self.kit.store.read(SessionBy(self.session_id, self.owner_id))).unsummarised


def message(role: Speaker, text: str) -> NewMessage:
    """A message before it is stored."""
    return NewMessage(id=new_id(), role=role, content=text, tokens=tokens_of(text))
