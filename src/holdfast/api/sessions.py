"""Sessions: made, listed, renamed, archived, deleted; their messages and what those were worth."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from holdfast.domain.conversations import Feedback, Session, SessionStatus
from holdfast.domain.ids import is_id
from holdfast.errors import NotFound
from holdfast.operations import agents as configured
from holdfast.operations import sessions as talks
from holdfast.operations.sessions import message_view, session_view

from . import agent_schemas as schemas
from .doorkeeper import Door, needs
from .fields import Id, IdInPath, Limit, Strict
from .openapi import BODY_PROBLEMS, answers, json_request
from .parts import Caller, parts_of
from .requests import no_body, no_query, read_model, single_values
from .responses import ROOT, json, page_body
from .schemas import Deleted

router = APIRouter(prefix=f"{ROOT}/sessions", tags=["sessions"], route_class=Door)

Ref = Annotated[str, Field(min_length=1, max_length=200, description="Id or name of the agent.")]

Title = Annotated[str, Field(max_length=200)]

Outside = Annotated[str, Field(min_length=1, max_length=200)]

Comment = Annotated[str, Field(min_length=1, max_length=5000)]


class NewSessionBody(Strict):
    """A session as it is to be."""

    agent: Ref
    title: Title = ""
    channel: Outside = "api"
    chat_id: Outside | None = Field(
        None, description="The channel's own name for it; one that is known gives that session."
    )
    user: dict[str, Any] = Field(default_factory=dict[str, Any], description="Who talks.")
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])


class SessionBody(Strict):
    """What is to be otherwise."""

    title: Title | None = None
    status: SessionStatus | None = Field(
        None, description="One that is `archived` is shown, and takes no messages."
    )
    metadata: dict[str, Any] | None = None


class FeedbackBody(Strict):
    """What an answer was worth."""

    feedback: Feedback | None = Field(description="null takes it back.")
    comment: Comment | None = None


class SessionsQuery(Strict):
    """Which page of sessions."""

    agent: Ref | None = None
    status: SessionStatus | None = None
    after: Annotated[str, Field(max_length=100)] | None = Field(
        None, description="As the page before gives it in `next`."
    )
    limit: Limit = 50


class MessagesQuery(Strict):
    """Which page of a session's messages."""

    before: Id | None = Field(None, description="The last id of the page before this one.")
    limit: Limit = 50


@router.get(
    "",
    responses=answers({200: (schemas.SessionPage, "The newest activity first.")}, 404, 422),
    dependencies=[Depends(single_values)],
    openapi_extra=needs("look"),
)
async def list_sessions(
    request: Request, caller: Caller, query: Annotated[SessionsQuery, Query()]
) -> Response:
    """List conversations."""
    kit = parts_of(request).kit
    agent = None
    if query.agent is not None:
        agent = await configured.find(kit, caller.owner_id, query.agent)
    found = await talks.page(
        kit,
        caller.owner_id,
        agent=agent,
        status=query.status,
        after=query.after,
        limit=query.limit,
    )
    names = await talks.agent_names(kit, found)
    following = None
    if len(found) == query.limit:
        asked = {**request.query_params, "after": talks.place(found[-1])}
        following = f"{router.prefix}?{urlencode(asked)}"
    items = [session_view(one, names[one.agent_id]) for one in found]
    return json({"items": items, "next": following})


@router.post(
    "",
    status_code=201,
    responses=answers(
        {
            200: (schemas.Session, "That chat had one already."),
            201: (schemas.Session, "It is there."),
        },
        *BODY_PROBLEMS,
    ),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(NewSessionBody), **needs("sessions")},
)
async def create_session(request: Request, caller: Caller) -> Response:
    """Make a conversation before anything is said in it."""
    body = await read_model(request, NewSessionBody)
    kit = parts_of(request).kit
    agent = await configured.find(kit, caller.owner_id, body.agent)
    session, new = await talks.create(
        kit,
        agent,
        title=body.title,
        channel=body.channel,
        chat_id=body.chat_id,
        user=body.user,
        metadata=body.metadata,
    )
    return json(session_view(session, agent.current.name), 201 if new else 200)


@router.get(
    "/{session_id}",
    responses=answers({200: (schemas.Session, "The session.")}, 404, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def get_session(request: Request, caller: Caller, session_id: IdInPath) -> Response:
    """Show a conversation, without its messages."""
    session = await _find(request, caller.owner_id, session_id)
    return await _shown(request, session)


@router.patch(
    "/{session_id}",
    responses=answers({200: (schemas.Session, "It is so now.")}, *BODY_PROBLEMS),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(SessionBody), **needs("sessions")},
)
async def change_session(request: Request, caller: Caller, session_id: IdInPath) -> Response:
    """Rename a conversation, archive it, or take it out of the archive."""
    session = await _find(request, caller.owner_id, session_id)
    body = await read_model(request, SessionBody)
    changed = await talks.change(
        parts_of(request).kit,
        session,
        title=body.title,
        status=body.status,
        metadata=body.metadata,
    )
    return await _shown(request, changed)


@router.delete(
    "/{session_id}",
    responses=answers({200: (Deleted, "It is gone.")}, 404, 422),
    dependencies=[Depends(no_query), Depends(no_body)],
    openapi_extra=needs("sessions"),
)
async def delete_session(request: Request, caller: Caller, session_id: IdInPath) -> Response:
    """Delete a conversation with its messages, executions and memory; a turn under way ends."""
    session = await _find(request, caller.owner_id, session_id)
    await talks.delete(parts_of(request).kit, session)
    return json({"deleted": session_id})


@router.get(
    "/{session_id}/messages",
    responses=answers({200: (schemas.MessagePage, "The newest first.")}, 404, 422),
    dependencies=[Depends(single_values)],
    openapi_extra=needs("look"),
)
async def list_messages(
    request: Request,
    caller: Caller,
    session_id: IdInPath,
    query: Annotated[MessagesQuery, Query()],
) -> Response:
    """List what was said, the newest first; summaries are left out."""
    session = await _find(request, caller.owner_id, session_id)
    found = await talks.messages(
        parts_of(request).kit, session, before=query.before, limit=query.limit
    )
    items = [message_view(one) for one in found]
    path = f"{router.prefix}/{session_id}/messages"
    return json(page_body(items, path, request.query_params, query.limit))


@router.put(
    "/{session_id}/messages/{message_id}/feedback",
    responses=answers({200: (schemas.Message, "It is noted.")}, *BODY_PROBLEMS),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(FeedbackBody), **needs("sessions")},
)
async def give_feedback(
    request: Request, caller: Caller, session_id: IdInPath, message_id: IdInPath
) -> Response:
    """Say what an answer was worth, in place of what was said before."""
    session = await _find(request, caller.owner_id, session_id)
    body = await read_model(request, FeedbackBody)
    if not is_id(message_id):
        raise NotFound(f"there is no message {message_id!a}")
    message = await talks.give_feedback(
        parts_of(request).kit, session, message_id, feedback=body.feedback, comment=body.comment
    )
    return json(message_view(message))


async def _find(request: Request, owner_id: str, session_id: str) -> Session:
    if not is_id(session_id):
        raise NotFound(f"there is no session {session_id!a}")
    return await talks.find(parts_of(request).kit, owner_id, session_id)


async def _shown(request: Request, session: Session) -> Response:
    names = await talks.agent_names(parts_of(request).kit, [session])
    return json(session_view(session, names[session.agent_id]))
