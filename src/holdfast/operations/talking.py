"""Follow a conversation: what is said in it, as it is said, from any message on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from holdfast.agents.build import declare
from holdfast.agents.schemas import (
    ErrorFrame,
    FrameOut,
    MessageFrame,
    Outgoing,
    StatusFrame,
    TokenFrame,
    ToolFrame,
    TypingFrame,
    WaitingFrame,
    WaitShown,
)
from holdfast.agents.schemas import Problem as Told
from holdfast.domain.agents import AGENT, Agent
from holdfast.domain.conversations import Message, Session, Speaker
from holdfast.domain.executions import Step
from holdfast.domain.halts import WaitKind
from holdfast.domain.status import EventStatus
from holdfast.errors import StoreError
from holdfast.journal.mirror import Live
from holdfast.store.queries import MessagesOf, ProcessOf, WaitsOf
from holdfast.store.queries.talking import (
    AnswersSince,
    NewestAnswer,
    Place,
    PlaceOf,
    TurnUnderWay,
)
from holdfast.telemetry import logger

from . import elsewhere
from .agents import agent_status
from .kit import Kit
from .talks import Follower, Talks

log = logger("talks")

HEARTBEAT_S = 15.0

LOOK_S = 1.0
"""Before the store is asked again about a turn whose hub is silent, or while it is away."""

PAGE = 100
"""Answers read at once."""

MOST_KNOWN = 1000
"""Messages, their executions, and turns without one, of which is remembered that they were told."""

TOOL = "tool"
"""Kind of the steps that are calls of tools."""


async def newest(kit: Kit, session: Session, *, before: int | None = None) -> Place:
    """Where a conversation stands: what follows is new.

    Args:
        kit: the hub's parts.
        session: which.
        before: only answers of turns before this one.
    """
    more = {} if before is None else {"before": before}
    return await kit.store.read(NewestAnswer(session.id, session.owner_id, **more))


async def place_of(kit: Kit, session: Session, message_id: str) -> Place:
    """The place of a message, to follow its conversation from there.

    Raises:
        NotFound: it is none of that session.
    """
    return (await kit.store.read(PlaceOf(message_id, session.id, session.owner_id))).place


def speaking(agent: Agent) -> frozenset[str] | None:
    """Names of the nodes of an agent's graph that speak to the user; None for all."""
    current = agent.current
    declared = declare(
        id=agent.id, name=current.name, version=current.version, config=current.config
    )
    return declared.speaks


def outgoing(session: Session, message: Message) -> Outgoing:
    """An answer on its way out."""
    return Outgoing(**_fields(session, message))


def _fields(session: Session, message: Message) -> dict[str, Any]:
    error = message.metadata.get("error")
    return {
        "chat_id": session.chat_id,
        "session_id": session.id,
        "message_id": message.id,
        "execution_id": message.execution_id,
        "response": message.content,
        "channel": session.channel,
        "error": None if error is None else _problem(error, message.content),
    }


def _problem(error: Mapping[str, str], content: str) -> Told:
    return Told(code=error["code"], message=error.get("message") or content)


class Conversation:
    """One session as somebody follows it; made for one reader.

    Args:
        kit: the hub's parts.
        talks: tells that something moved.
        session: which.
        after: from where on.
        speaks: names of the nodes whose words are shown as they come; None for all.
        tells_status: also when the agent's process has moved.
    """

    def __init__(
        self,
        kit: Kit,
        talks: Talks,
        session: Session,
        *,
        after: Place,
        speaks: frozenset[str] | None = None,
        tells_status: bool = False,
    ) -> None:
        self._kit = kit
        self._talks = talks
        self._tells_status = tells_status
        self._status: str | None = None  # of the agent, as it was told last
        self._session = session
        self._after = after
        self._speaks = speaks
        self._told: deque[str | None] = deque(maxlen=MOST_KNOWN)  # messages, and what they answer
        self._asked: tuple[str, ...] = ()  # the waits that were told last
        self._silent = False  # the hub of the turn under way does not answer

    async def frames(self) -> AsyncGenerator[FrameOut | None]:
        """What happens, for ever; None when nothing did for a while."""
        with (
            self._talks.follow(self._session.id) as follower,
            self._talks.watch_agent(self._session.agent_id, follower.changed) as watch,
        ):
            while True:
                follower.changed.clear()
                try:
                    if self._tells_status and watch.moved:
                        watch.moved = False
                        status = await status_of(self._kit, self._session)
                        if status != self._status:
                            self._status = status
                            yield StatusFrame(session_id=self._session.id, agent_status=status)
                    async with aclosing(self._news(follower)) as news:
                        async for frame in news:
                            yield frame
                except StoreError as error:
                    log.warning("talks.store_away", session_id=self._session.id, reason=str(error))
                    follower.look = self._silent = True
                try:
                    async with asyncio.timeout(LOOK_S if self._silent else HEARTBEAT_S):
                        await follower.changed.wait()
                except TimeoutError:
                    if not self._silent:
                        yield None
                    follower.look = follower.look or self._silent

    async def _news(self, follower: Follower) -> AsyncGenerator[FrameOut | None]:
        """What there is to tell now; a turn under way is followed to where it stops."""
        async for frame in self._answers(follower):
            yield frame
        begun = follower.begun.pop() if follower.begun else None
        follower.begun.clear()  # of several only the newest can be under way
        if begun is None and follower.look:
            follower.look = False
            begun = await self._under_way()
            if isinstance(begun, WaitingFrame):
                yield begun
                return
        self._silent = False
        if begun is not None:
            async with aclosing(self._turn(follower, *begun)) as turn:
                async for frame in turn:
                    yield frame

    async def _answers(self, follower: Follower) -> AsyncGenerator[FrameOut]:
        """What was answered since, and turns that ended without an answer."""
        ended = list(follower.ended)
        follower.ended.clear()
        full = True
        while full:
            found = await self._kit.store.read(
                AnswersSince(self._session.id, self._session.owner_id, self._after, PAGE)
            )
            full = len(found) == PAGE
            for message in found:
                self._after = Place(message.turn, message.part)
                yield self._message(message)
        for one in ended:
            if one.execution_id is not None and one.execution_id in self._told:
                continue
            # A dead letter that was run again answers an older turn than others have by now.
            said = await answers_of(self._kit, one.event_id, self._session.owner_id)
            for message in said:
                latest = message.execution_id == said[-1].execution_id  # not its apology of then
                if latest and message.id not in self._told:
                    yield self._message(message)
            if not said and one.event_id not in self._told:
                self._told.append(one.event_id)
                yield ErrorFrame(
                    code=one.status,
                    message=f"the turn was {one.status}: there is no answer",
                    session_id=self._session.id,
                    event_id=one.event_id,
                )

    def _message(self, message: Message) -> MessageFrame:
        self._told.extend((message.id, message.execution_id))
        return MessageFrame(**_fields(self._session, message), event_id=message.event_id or "")

    async def _under_way(self) -> tuple[str, str] | WaitingFrame | None:
        """Which turn is under way, as the store says; what it asks when it waits for a person."""
        found = await self._kit.store.read(TurnUnderWay(self._session.id, self._session.owner_id))
        if found is None or found.execution_id is None:
            return None
        if found.status is EventStatus.RUNNING:
            return found.event_id, found.execution_id
        if found.status is not EventStatus.WAITING:
            return None
        shown = await waits_shown(self._kit, found.event_id, self._session.owner_id)
        asked = tuple(one.id for one in shown)
        if not shown or asked == self._asked:
            return None
        self._asked = asked
        return WaitingFrame(
            session_id=self._session.id,
            event_id=found.event_id,
            execution_id=found.execution_id,
            waits=shown,
        )

    async def _turn(
        self, follower: Follower, event_id: str, execution_id: str
    ) -> AsyncGenerator[FrameOut | None]:
        """A turn as it runs, wherever; returns when it has ended or halted, and that is stored."""
        view = _TurnView(self._session.id, event_id, execution_id, self._speaks)
        began = False
        with self._kit.journal.watch(execution_id) as watcher:
            watcher.changed = follower.changed  # one bell for both
            while True:
                follower.changed.clear()
                running = await elsewhere.live(
                    self._kit, execution_id, self._session.owner_id, follow=True
                )
                if running is None:
                    break
                if not began:
                    began = True
                    yield TypingFrame(
                        session_id=self._session.id, event_id=event_id, execution_id=execution_id
                    )
                for frame in view.news(running):
                    yield frame
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await follower.changed.wait()
                except TimeoutError:
                    yield None
        # Whether it ended, waits or is out of reach: the store knows.
        self._silent = not began
        follower.look = True
        if began or follower.ended or follower.begun:
            follower.changed.set()  # what rang while it was asked for


class _TurnView:
    """What of a running turn was told already."""

    def __init__(
        self, session_id: str, event_id: str, execution_id: str, speaks: frozenset[str] | None
    ) -> None:
        self._ids: dict[str, Any] = {
            "session_id": session_id,
            "event_id": event_id,
            "execution_id": execution_id,
        }
        self._speaks = speaks
        self._given: dict[int, tuple[int, int]] = {}  # by step: which try, characters of its text
        self._tools: dict[int, str] = {}

    def news(self, running: Live) -> list[FrameOut]:
        """What has come since."""
        steps = {one.step: one for one in running.steps()}
        found: list[FrameOut] = []
        for step in steps.values():
            if step.kind == TOOL and self._tools.get(step.step) != step.status:
                self._tools[step.step] = step.status
                found.append(
                    ToolFrame(
                        **self._ids, step=step.step, name=step.operation, status=step.status.value
                    )
                )
        for number in self._given.keys() - running.streamed.keys():
            del self._given[number]  # its text is complete
        if running.streamed:
            tries = {one.step: one.n for one in running.attempts()}
            for number, text in running.streamed.items():
                if self._shown(steps, number):
                    found += self._piece(number, tries.get(number, 0), text)
        return found

    def _piece(self, step: int, n: int, text: str) -> list[TokenFrame]:
        of, given = self._given.get(step, (n, 0))
        if of != n or given > len(text):
            given = 0  # a further try says it anew
        self._given[step] = (n, len(text))
        if len(text) == given:
            return []
        return [TokenFrame(**self._ids, step=step, text=text[given:], so_far=given)]

    def _shown(self, steps: Mapping[int, Step], number: int) -> bool:
        """Whether a step belongs to a node that speaks to the user."""
        if self._speaks is None:
            return True
        step = steps.get(number)
        while step is not None:
            if step.operation in self._speaks:
                return True
            step = None if step.parent is None else steps.get(step.parent)
        return False


async def answers_of(kit: Kit, event_id: str, owner_id: str) -> list[Message]:
    """What an agent said in one turn."""
    said = await kit.store.read(MessagesOf(event_id, owner_id))
    return [one for one in said if one.role is Speaker.ASSISTANT]


async def status_of(kit: Kit, session: Session) -> str:
    """How the agent of a session does, in one word."""
    return agent_status(await kit.store.read(ProcessOf(AGENT, session.agent_id, session.owner_id)))


async def waits_shown(kit: Kit, event_id: str, owner_id: str) -> list[WaitShown]:
    """What a halted turn asks people and has no answer to yet."""
    return [
        WaitShown(
            id=one.wait.id, name=one.wait.name, question=one.wait.question, schema=one.wait.schema
        )
        for one in await kit.store.read(WaitsOf(event_id, owner_id))
        if one.wait.kind is WaitKind.ANSWER and one.answer is None
    ]
