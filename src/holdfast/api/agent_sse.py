"""A conversation as server-sent events: what the agent says, as it says it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import Field

from holdfast.agents.schemas import AgentName, ConnectedFrame, FrameOut, MessageFrame
from holdfast.domain.agents import Agent
from holdfast.domain.conversations import Session
from holdfast.domain.ids import is_id
from holdfast.errors import InvalidInput
from holdfast.operations import agents as configured
from holdfast.operations import sessions, talking
from holdfast.operations.talking import Conversation

from .agents import Ref
from .doorkeeper import Door, needs
from .fields import Id, Strict
from .openapi import stream_answer
from .parts import ApiParts, Caller, parts_of
from .requests import single_values
from .responses import ROOT
from .streaming import HEARTBEAT, EventStream, sent

router = APIRouter(prefix=f"{ROOT}/agents", tags=["agents"], route_class=Door)


class FollowQuery(Strict):
    """Which conversation, and from where on."""

    session_id: Id
    after: Id | None = Field(
        None, description="Id of a message; `Last-Event-ID` wins. By default the newest answer."
    )


@router.get(
    "/{ref}/sse",
    responses=stream_answer("Server-sent events; `data` is JSON.", 404, 422),
    dependencies=[Depends(single_values)],
    openapi_extra=needs("look"),
)
async def follow(
    request: Request,
    caller: Caller,
    ref: Ref,
    query: Annotated[FollowQuery, Query()],
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Follow a conversation.

    Events are `connected`, `typing`, `token`, `tool`, `waiting`, `message`, `error` and `status`. A
    `message` has the id of the stored message: after a break, `Last-Event-ID` gives all answers
    that came since. The stream ends when the client leaves.
    """
    parts = parts_of(request)
    agent = await configured.find(parts.kit, caller.owner_id, ref)
    session = await sessions.find(parts.kit, caller.owner_id, query.session_id, agent=agent)
    after = _message_id("Last-Event-ID", last_event_id) or query.after
    frames = _frames(parts, agent, session, await _place(parts, session, after))
    return EventStream(frames, _written, parts.stopping, parts.keyring.leaving(caller))


async def _place(parts: ApiParts, session: Session, after: str | None) -> talking.Place:
    if after is None:
        return await talking.newest(parts.kit, session)
    return await talking.place_of(parts.kit, session, after)


async def _frames(
    parts: ApiParts, agent: Agent, session: Session, after: talking.Place
) -> AsyncGenerator[FrameOut | None]:
    process = await configured.process_of(parts.kit, agent.current)
    yield ConnectedFrame(
        agent=AgentName(id=agent.id, name=agent.current.name),
        session_id=session.id,
        agent_status=configured.agent_status(process),
    )
    talk = Conversation(
        parts.kit,
        parts.talks,
        session,
        after=after,
        speaks=talking.speaking(agent),
        tells_status=True,
    )
    async with aclosing(talk.frames()) as frames:
        async for frame in frames:
            yield frame


def _written(frame: FrameOut | None) -> bytes:
    if frame is None:
        return HEARTBEAT
    number = frame.message_id if isinstance(frame, MessageFrame) else None
    return sent(frame.type, frame.model_dump_json(by_alias=True).encode(), number)


def _message_id(field: str, text: str | None) -> str | None:
    if text is not None and not is_id(text):
        expected = "the id of a message of this stream"
        raise InvalidInput(
            f"{field}: expected {expected}",
            fields=[{"field": field, "expected": expected, "got": ascii(text)[:100]}],
        )
    return text
