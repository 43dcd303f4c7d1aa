"""Agents: configured, changed in versions, started and stopped; messages to them."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field

from holdfast.agents.schemas import Incoming
from holdfast.domain.agents import NAME, Agent
from holdfast.domain.ids import is_id
from holdfast.errors import NotFound
from holdfast.operations import agent_logs
from holdfast.operations import agents as configured
from holdfast.operations.agent_logs import MAX_LINES
from holdfast.operations.agents import Applied, Verb, agent_view, process_view, version_view
from holdfast.operations.answering import Turn, say_and_wait
from holdfast.operations.compact import compaction_view
from holdfast.operations.views import View

from . import agent_schemas as schemas
from .dead_letters import who
from .doorkeeper import Door, needs, principal
from .fields import Limit, Strict, Waiting
from .intake import idempotency_key, traceparent_of
from .openapi import BODY_PROBLEMS, KEY_HEADER, answers, json_request, query_parameters
from .parts import Caller, parts_of
from .requests import no_body, no_query, read_model, read_query, single_values
from .responses import ROOT, event_links, json
from .schemas import Deleted

router = APIRouter(prefix=f"{ROOT}/agents", tags=["agents"], route_class=Door)

Ref = Annotated[str, Path(description="Its id or name.", max_length=200)]

Number = Annotated[int, Field(ge=1, le=2**31 - 1)]

AgentNameText = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]

Description = Annotated[str, Field(max_length=configured.MAX_DESCRIPTION_CHARS)]

CONFIG = Field(
    description='`{"simple": {"settings": {…}}}` or `{"graph": {"settings": {…}}}`, see '
    "docs/agents.md."
)


class NewAgentBody(Strict):
    """An agent as it is to be."""

    name: AgentNameText
    description: Description = ""
    config: Annotated[dict[str, Any], CONFIG]


class AgentBody(Strict):
    """An agent as it is to be from now on."""

    name: AgentNameText | None = Field(None, description="Another name for it.")
    description: Description | None = Field(None, description="Left as it is without one.")
    config: Annotated[dict[str, Any], CONFIG]
    expected: Number | None = Field(None, description="Refuse unless this is its newest version.")


class RollBackBody(Strict):
    """Where to go back to."""

    version: Number | None = Field(None, description="By default the one before.")


class AgentsQuery(Strict):
    """Which page of agents."""

    after: AgentNameText | None = Field(None, description="The last name of the page before.")
    limit: Limit = 50


class PutQuery(Strict):
    """How to put."""

    dry_run: bool = Field(default=False, description="Check all, store nothing.")


class DiffQuery(Strict):
    """Which two versions."""

    a: Number
    b: Number


class LogsQuery(Strict):
    """Which part of the log."""

    tail: Annotated[int, Field(ge=1, le=MAX_LINES)] | None = Field(
        None, description="The last lines; 200 by default."
    )
    offset: Annotated[int, Field(ge=0, le=2**53)] | None = Field(
        None, description="What follows this place instead."
    )


@router.get(
    "",
    responses=answers({200: (schemas.AgentPage, "A page, by name.")}, 422),
    dependencies=[Depends(single_values)],
    openapi_extra=needs("look"),
)
async def list_agents(
    request: Request, caller: Caller, query: Annotated[AgentsQuery, Query()]
) -> Response:
    """List agents with their processes."""
    found = await configured.page(
        parts_of(request).kit, caller.owner_id, after=query.after, limit=query.limit
    )
    items = [
        agent_view(agent.current, process, created_at=agent.created_at) for agent, process in found
    ]
    following = None
    if len(items) == query.limit:
        asked = {**request.query_params, "after": items[-1]["name"]}
        following = f"{router.prefix}?{urlencode(asked)}"
    return json({"items": items, "next": following})


@router.post(
    "",
    status_code=201,
    responses=answers({201: (schemas.AppliedAgent, "It is there.")}, *BODY_PROBLEMS),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(NewAgentBody), **needs("agents")},
)
async def create_agent(request: Request, caller: Caller) -> Response:
    """Make an agent; everything its configuration names is checked."""
    body = await read_model(request, NewAgentBody)
    made = await configured.create(
        parts_of(request).kit,
        owner_id=caller.owner_id,
        author=who(caller),
        name=body.name,
        description=body.description,
        config=body.config,
    )
    return json({**agent_view(made, None), "change": "created"}, 201)


@router.get(
    "/{ref}",
    responses=answers({200: (schemas.Agent, "The agent.")}, 404, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def get_agent(request: Request, caller: Caller, ref: Ref) -> Response:
    """Show an agent, its configuration and its process."""
    kit = parts_of(request).kit
    agent = await configured.find(kit, caller.owner_id, ref)
    process = await configured.process_of(kit, agent.current)
    return json(agent_view(agent.current, process, created_at=agent.created_at))


@router.put(
    "/{ref}",
    responses=answers(
        {
            200: (schemas.AppliedAgent, "It is so now."),
            201: (schemas.AppliedAgent, "There was none of that name; there is now."),
        },
        *BODY_PROBLEMS,
    ),
    dependencies=[Depends(single_values)],
    openapi_extra={**json_request(AgentBody), **needs("agents")},
)
async def put_agent(
    request: Request, caller: Caller, ref: Ref, query: Annotated[PutQuery, Query()]
) -> Response:
    """Change an agent, or make the one of that name; the same again makes no version."""
    body = await read_model(request, AgentBody)
    applied, created_at = await _put(request, caller.owner_id, who(caller), ref, body, query)
    process = None
    if applied.change != "created":
        process = await configured.process_of(parts_of(request).kit, applied.version)
    view = {
        **agent_view(applied.version, process, created_at=created_at),
        "change": applied.change,
    }
    return json(view, 201 if applied.change == "created" else 200)


async def _put(
    request: Request, owner_id: str, author: str, ref: str, body: AgentBody, query: PutQuery
) -> tuple[Applied, int | None]:
    kit = parts_of(request).kit
    try:
        agent = await configured.find(kit, owner_id, ref)
    except NotFound:
        if (
            not NAME.fullmatch(ref)
            or is_id(ref)
            or body.name not in (None, ref)
            or body.expected is not None
        ):
            raise
        agent = None
    applied = await configured.put(
        kit,
        agent,
        owner_id=owner_id,
        author=author,
        name=body.name or (ref if agent is None else agent.current.name),
        description=_description(body.description, agent),
        config=body.config,
        expected=body.expected,
        dry_run=query.dry_run,
    )
    return applied, None if agent is None else agent.created_at


def _description(given: str | None, agent: Agent | None) -> str:
    if given is not None:
        return given
    return "" if agent is None else agent.current.description


@router.delete(
    "/{ref}",
    responses=answers({200: (Deleted, "It is gone.")}, 404, 422),
    dependencies=[Depends(no_query), Depends(no_body)],
    openapi_extra=needs("agents"),
)
async def delete_agent(request: Request, caller: Caller, ref: Ref) -> Response:
    """Delete an agent with its versions, sessions, messages and memory; its process ends."""
    kit = parts_of(request).kit
    agent = await configured.find(kit, caller.owner_id, ref)
    await configured.delete(kit, agent)
    return json({"deleted": agent.current.name})


async def _want(request: Request, owner_id: str, ref: str, verb: Verb) -> Response:
    kit = parts_of(request).kit
    agent = await configured.find(kit, owner_id, ref)
    return json(process_view(await configured.want(kit, agent, verb)), 202)


@router.post(
    "/{ref}/start",
    status_code=202,
    responses=answers({202: (schemas.Process, "It is being started.")}, 404, 422),
    dependencies=[Depends(no_query), Depends(no_body)],
    openapi_extra=needs("processes"),
)
async def start(request: Request, caller: Caller, ref: Ref) -> Response:
    """Start an agent's process; one that was given up tries again."""
    return await _want(request, caller.owner_id, ref, "start")


@router.post(
    "/{ref}/stop",
    status_code=202,
    responses=answers({202: (schemas.Process, "It is being stopped.")}, 404, 422),
    dependencies=[Depends(no_query), Depends(no_body)],
    openapi_extra=needs("processes"),
)
async def stop(request: Request, caller: Caller, ref: Ref) -> Response:
    """Stop an agent's process; its messages wait until it is started again."""
    return await _want(request, caller.owner_id, ref, "stop")


@router.post(
    "/{ref}/restart",
    status_code=202,
    responses=answers({202: (schemas.Process, "It is being started anew.")}, 404, 422),
    dependencies=[Depends(no_query), Depends(no_body)],
    openapi_extra=needs("processes"),
)
async def restart(request: Request, caller: Caller, ref: Ref) -> Response:
    """Start an agent's process anew; the old one ends its turns first."""
    return await _want(request, caller.owner_id, ref, "restart")


@router.get(
    "/{ref}/status",
    responses=answers({200: (schemas.AgentStatus, "As it stands.")}, 404, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def status(request: Request, caller: Caller, ref: Ref) -> Response:
    """Tell where an agent's process stands; asking changes nothing."""
    kit = parts_of(request).kit
    agent = await configured.find(kit, caller.owner_id, ref)
    process = process_view(await configured.process_of(kit, agent.current))
    return json({**process, "compaction": compaction_view(kit, agent.current)})


@router.get(
    "/{ref}/versions",
    responses=answers({200: (schemas.AgentVersionList, "The newest first.")}, 404, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def list_versions(request: Request, caller: Caller, ref: Ref) -> Response:
    """List the versions of an agent."""
    kit = parts_of(request).kit
    agent = await configured.find(kit, caller.owner_id, ref)
    return json({"items": [version_view(one) for one in await configured.versions(kit, agent)]})


@router.get(
    "/{ref}/versions/{version}",
    responses=answers({200: (schemas.AgentVersion, "The version.")}, 404, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def get_version(
    request: Request, caller: Caller, ref: Ref, version: Annotated[Number, Path()]
) -> Response:
    """Show one version of an agent."""
    kit = parts_of(request).kit
    agent = await configured.find(kit, caller.owner_id, ref)
    return json(version_view(await configured.version(kit, agent, version)))


@router.get(
    "/{ref}/diff",
    responses=answers({200: (schemas.AgentDiff, "What differs.")}, 404, 422),
    dependencies=[Depends(single_values)],
    openapi_extra=needs("look"),
)
async def diff(
    request: Request, caller: Caller, ref: Ref, query: Annotated[DiffQuery, Query()]
) -> Response:
    """Compare two versions of an agent, part by part."""
    kit = parts_of(request).kit
    agent = await configured.find(kit, caller.owner_id, ref)
    return json(await configured.compare(kit, agent, query.a, query.b))


@router.post(
    "/{ref}/rollback",
    responses=answers({200: (schemas.AppliedAgent, "It is so again.")}, *BODY_PROBLEMS),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(RollBackBody, required=False), **needs("agents")},
)
async def roll_back(request: Request, caller: Caller, ref: Ref) -> Response:
    """Bring an older version back, as a new one; without a number the one before."""
    body = await read_model(request, RollBackBody, may_be_empty=True)
    kit = parts_of(request).kit
    agent = await configured.find(kit, caller.owner_id, ref)
    applied = await configured.roll_back(kit, agent, author=who(caller), number=body.version)
    process = await configured.process_of(kit, agent.current)
    view = agent_view(applied.version, process, created_at=agent.created_at)
    return json({**view, "change": applied.change})


@router.get(
    "/{ref}/logs",
    responses=answers({200: (schemas.AgentLog, "Whole lines.")}, 404, 422, 502),
    dependencies=[Depends(single_values)],
    openapi_extra=needs("look"),
)
async def logs(
    request: Request, caller: Caller, ref: Ref, query: Annotated[LogsQuery, Query()]
) -> Response:
    """Read what an agent's process wrote: the last lines, or what follows an offset."""
    kit = parts_of(request).kit
    agent = await configured.find(kit, caller.owner_id, ref)
    found = await agent_logs.logs(kit, agent, tail=query.tail, offset=query.offset)
    return json({"lines": found.lines, "offset": found.offset, "hub": found.hub})


@router.post(
    "/{ref}/messages",
    status_code=202,
    responses=answers(
        {200: (schemas.Said, "It is answered."), 202: (schemas.Said, "It is kept.")},
        *BODY_PROBLEMS,
    ),
    openapi_extra={
        **json_request(Incoming),
        **needs("talk"),
        "parameters": [KEY_HEADER, *query_parameters(Waiting)],
    },
)
async def say(request: Request, ref: Ref) -> Response:
    """Say something to an agent.

    Answered with 202 the message is committed: it will be answered, whatever happens. With `wait`
    the answer is 200 and has what the agent said when that comes in time; sooner when it asks
    something itself, or is `off` or in `error`. A message in a session comes after those before it.
    """
    parts, caller = parts_of(request), principal(request)
    query = await read_query(request, Waiting)
    key = idempotency_key(request)
    incoming = await read_model(request, Incoming)
    agent = await configured.find(parts.kit, caller.owner_id, ref)
    turn = await say_and_wait(
        parts.kit,
        parts.ended,
        parts.talks,
        query.wait,
        owner_id=caller.owner_id,
        agent=agent,
        incoming=incoming,
        channel="api",
        source=f"{router.prefix}/{agent.id}/messages",
        idempotency_key=key,
        traceparent=traceparent_of(request),
    )
    return json(_said(agent, turn), 202 if turn.answer is None else 200)


def _said(agent: Agent, turn: Turn) -> View:
    said = turn.said
    return {
        "id": said.event_id,
        "status": turn.status.value,
        "created": said.created,
        "session_id": said.session_id,
        "message_id": said.message_id,
        "agent": {"id": agent.id, "name": agent.current.name},
        "agent_status": turn.agent_status,
        "waits": [one.model_dump(mode="json", by_alias=True) for one in turn.waits],
        "answer": None if turn.answer is None else turn.answer.model_dump(mode="json"),
        "links": event_links(said.event_id, turn.execution_id),
    }
