"""Executions: listed, shown whole, exported, followed, called off."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import Field, model_validator

from holdfast.domain.events import Origin
from holdfast.domain.ids import is_id
from holdfast.domain.replays import Answers, Plan, Unrecorded
from holdfast.domain.status import EVENT_ENDS, EXECUTION_ENDS, ExecutionStatus
from holdfast.errors import NotFound
from holdfast.operations import read
from holdfast.operations.cancel import cancel_execution
from holdfast.operations.diff import compare, diff_view
from holdfast.operations.export import export_execution, export_fixture
from holdfast.operations.many import many_executions
from holdfast.operations.nodes import nodes_of
from holdfast.operations.pause import pause
from holdfast.operations.progress import follow
from holdfast.operations.replay import UNCHANGED, replay
from holdfast.operations.resume import NOTHING, migrate, resume
from holdfast.operations.views import agent_name, microseconds, record_view
from holdfast.store.commands import Resumed
from holdfast.store.queries import ListExecutions

from . import schemas
from .doorkeeper import Door, needs
from .fields import (
    REF,
    Flag,
    Id,
    IdInPath,
    Page,
    PipelineName,
    Strict,
    Time,
)
from .intake import idempotency_key
from .openapi import BODY_PROBLEMS, KEY_HEADER, answers, json_request, stream_answer
from .parts import Caller, parts_of
from .requests import no_body, no_query, read_model, single_values
from .responses import (
    ROOT,
    event_links,
    execution_body,
    execution_links,
    json,
    page_body,
)
from .streaming import EventStream, frame, position

router = APIRouter(prefix=f"{ROOT}/executions", tags=["executions"], route_class=Door)


class ExecutionQuery(Page):
    """Query of the list of executions."""

    status: ExecutionStatus | None = None
    pipeline: PipelineName | None = Field(None, description="Name of the pipeline.")
    event_id: Id | None = Field(None, description="Of this event only.")
    parent_id: Id | None = Field(None, description="Children and replays of this execution only.")
    origin: Origin | None = Field(None, description="Only those that come from another so.")
    suspicious: Flag | None = Field(
        None, description="Only those in which content checks found something, or nothing."
    )


class ResumeBody(Strict):
    """Body of a resume."""

    answer: Any = Field(None, description="What it waits for; a paused one takes none.")
    wait: str | None = Field(None, description="Id or name of the wait, where there are several.")


class PromptBody(Strict):
    """Templates that stand for a node's prompt, or another version of it."""

    user: str | None = None
    system: str | None = None
    version: Annotated[str, Field(pattern=REF)] | None = Field(
        None, description="Of a prompt of the registry: a label or a hash."
    )

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        if self.version is not None and (self.user is not None or self.system is not None):
            raise ValueError("a version, or templates: not both")
        return self


class ReplayBody(Strict):
    """Body of a replay."""

    answers: Answers = Field("recorded", description="Of models and tools: recorded, or anew.")
    unrecorded: Unrecorded = Field(
        "fail", description="What follows where the record has no answer."
    )
    start: str | None = Field(
        None, alias="from", description="Node from which on everything runs live."
    )
    data: Any = Field(None, description="Other data for the event.")
    prompts: dict[str, PromptBody] = Field({}, description="By model node.")
    aliases: dict[str, str] = Field({}, description="By model alias, the one to ask instead.")

    def plan(self) -> Plan:
        """How to run."""
        return Plan(
            answers=self.answers,
            unrecorded=self.unrecorded,
            start=self.start,
            prompts={
                name: given
                for name, parts in self.prompts.items()
                if (given := parts.model_dump(exclude_none=True))
            },
            aliases=self.aliases,
        )


class MigrateBody(Strict):
    """Body of a migration."""

    version: str = Field(min_length=1, description="The loaded version of its pipeline.")


class ManyFilter(Strict):
    """Which executions."""

    status: ExecutionStatus | None = None
    pipeline: PipelineName | None = None
    event_id: Id | None = None
    since: Time | None = None
    until: Time | None = None


class ManyBody(Strict):
    """Body of a verb on many executions."""

    filter: ManyFilter
    dry_run: bool = False


class ManyVerb(StrEnum):
    """What can be done to many executions."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"


class StreamQuery(Strict):
    """Query of a stream."""

    after: str | None = Field(None, description="As `Last-Event-ID`, which wins.")


@router.get(
    "",
    responses=answers({200: (schemas.ExecutionPage, "A page, newest first.")}, 422),
    dependencies=[Depends(single_values)],
    openapi_extra=needs("look"),
)
async def list_executions(
    request: Request, caller: Caller, query: Annotated[ExecutionQuery, Query()]
) -> Response:
    """List executions, newest first; running ones as they stand this moment."""
    found = await read.executions(
        parts_of(request).kit,
        ListExecutions(
            owner_id=caller.owner_id,
            status=query.status,
            name=query.pipeline,
            event_id=query.event_id,
            origin=query.origin,
            parent_id=query.parent_id,
            suspicious=query.suspicious,
            **query.bounds(),
        ),
    )
    registry = parts_of(request).kit.registry
    items = [execution_body(registry, one) for one in found]
    return json(page_body(items, router.prefix, request.query_params, query.limit))


@router.get(
    "/{execution_id}",
    responses=answers({200: (schemas.ExecutionDetail, "The execution.")}, 404, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def get_execution(request: Request, caller: Caller, execution_id: IdInPath) -> Response:
    """Show an execution whole: every step with its attempts, prompts, answers and cost.

    Child executions are named, and added up apart from its own sums.
    """
    _check(execution_id)
    kit = parts_of(request).kit
    whole = await read.execution(kit, execution_id, caller.owner_id)
    family = await read.family(kit, execution_id, caller.owner_id)
    view = record_view(whole.execution, whole.steps, whole.attempts, whole.payload, family)
    view["agent"] = agent_name(kit.registry, whole.execution.kind, whole.execution.name)
    view["links"] = execution_links(execution_id, whole.execution.event_id)
    return json(view)


@router.get(
    "/{execution_id}/progress",
    responses=answers({200: (schemas.ExecutionProgress, "Its nodes.")}, 404, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def get_progress(request: Request, caller: Caller, execution_id: IdInPath) -> Response:
    """Tell which nodes of its pipeline an execution has done, and which are still to come."""
    _check(execution_id)
    view = await nodes_of(parts_of(request).kit, execution_id, caller.owner_id)
    view["links"] = execution_links(execution_id, view["event_id"])
    return json(view)


@router.get(
    "/{execution_id}/export",
    responses=answers({200: (schemas.Export, "The document.")}, 404, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def export(request: Request, caller: Caller, execution_id: IdInPath) -> Response:
    """Hand out an execution and its event as one self-contained document."""
    _check(execution_id)
    document = await export_execution(parts_of(request).kit, execution_id, caller.owner_id)
    name = f"execution-{execution_id}.json"
    return json(document, headers={"content-disposition": f'attachment; filename="{name}"'})


@router.get(
    "/{execution_id}/fixture",
    responses=answers({200: (schemas.Fixture, "The fixture.")}, 404, 409, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def fixture(request: Request, caller: Caller, execution_id: IdInPath) -> Response:
    """Hand out what a test needs to run an execution again without a hub and without models."""
    _check(execution_id)
    return json(await export_fixture(parts_of(request).kit, execution_id, caller.owner_id))


@router.post(
    "/{execution_id}/cancel",
    responses=answers(
        {
            200: (schemas.Cancelled, "Its event is cancelled."),
            202: (schemas.Cancelled, "Its running step is being stopped."),
        },
        *(404, 409, 422),
    ),
    dependencies=[Depends(no_query), Depends(no_body)],
    openapi_extra=needs("cancel"),
)
async def cancel(request: Request, caller: Caller, execution_id: IdInPath) -> Response:
    """Cancel an unfinished execution and its event; a running step is told to stop."""
    _check(execution_id)
    kit = parts_of(request).kit
    execution = await read.summary(kit, execution_id, caller.owner_id)
    cancelled = await cancel_execution(kit, execution_id, caller.owner_id)
    body = {
        "id": execution_id,
        "status": cancelled.status.value,
        "links": execution_links(execution_id, execution.event_id),
    }
    return json(body, 200 if cancelled.status in EVENT_ENDS else 202)


@router.post(
    "/{execution_id}/resume",
    status_code=202,
    responses=answers({202: (schemas.Resumed, "It goes on.")}, 400, 404, 409, 413, 415, 422),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(ResumeBody, required=False), **needs("resume")},
)
async def resume_one(request: Request, caller: Caller, execution_id: IdInPath) -> Response:
    """Answer what an execution waits for, or let a paused one go on.

    The first answer is taken; a second one gets 409. The same execution goes on, with its record.
    """
    _check(execution_id)
    body = await read_model(request, ResumeBody, may_be_empty=True)
    given = body.answer if "answer" in body.model_fields_set else NOTHING
    kit = parts_of(request).kit
    resumed = await resume(kit, execution_id, caller.owner_id, answer=given, wait=body.wait)
    return _moved(resumed, execution_id)


@router.post(
    "/{execution_id}/pause",
    status_code=202,
    responses=answers({202: (schemas.Resumed, "It is being stopped.")}, 404, 409, 422),
    dependencies=[Depends(no_query), Depends(no_body)],
    openapi_extra=needs("pause"),
)
async def pause_one(request: Request, caller: Caller, execution_id: IdInPath) -> Response:
    """Stop a running execution before its next step; resume lets it go on from there.

    One whose pipeline has no checkpoints would lose what it has done, and gets 409.
    """
    _check(execution_id)
    paused = await pause(parts_of(request).kit, execution_id, caller.owner_id)
    return _moved(paused, execution_id)


@router.post(
    "/{execution_id}/replay",
    status_code=202,
    responses=answers({202: (schemas.Accepted, "It will run once more.")}, *BODY_PROBLEMS),
    dependencies=[Depends(no_query)],
    openapi_extra={
        **json_request(ReplayBody, required=False),
        **needs("replay"),
        "parameters": [KEY_HEADER],
    },
)
async def replay_one(request: Request, caller: Caller, execution_id: IdInPath) -> Response:
    """Run an ended execution once more, as an event and an execution of their own.

    Models and tools answer what they answered then, and nothing leaves the process; or they are
    asked anew, from the start or from a node on, with other prompts, models or data. Afterwards
    its flags say where it left the record.
    """
    _check(execution_id)
    key = idempotency_key(request)
    body = await read_model(request, ReplayBody, may_be_empty=True)
    data = body.data if "data" in body.model_fields_set else UNCHANGED
    kit = parts_of(request).kit
    submitted = await replay(
        kit, execution_id, caller.owner_id, body.plan(), data=data, idempotency_key=key
    )
    accepted = {
        "id": submitted.id,
        "status": submitted.status.value,
        "created": submitted.created,
        "links": event_links(submitted.id, None),
    }
    return json(accepted, 202)


@router.get(
    "/{execution_id}/diff/{other_id}",
    responses=answers({200: (schemas.Comparison, "What differs.")}, 404, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def compare_two(
    request: Request, caller: Caller, execution_id: IdInPath, other_id: IdInPath
) -> Response:
    """Compare two executions of a pipeline, step by step: the first that differs, what followed."""
    _check(execution_id)
    _check(other_id)
    kit = parts_of(request).kit
    return json(diff_view(await compare(kit, execution_id, other_id, caller.owner_id)))


@router.post(
    "/{execution_id}/migrate",
    status_code=202,
    responses=answers({202: (schemas.Resumed, "It belongs to that version.")}, *BODY_PROBLEMS),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(MigrateBody), **needs("migrate")},
)
async def migrate_one(request: Request, caller: Caller, execution_id: IdInPath) -> Response:
    """Let a halted execution go on under the loaded version of its pipeline, on purpose."""
    _check(execution_id)
    body = await read_model(request, MigrateBody)
    kit = parts_of(request).kit
    migrated = await migrate(kit, execution_id, caller.owner_id, body.version)
    return _moved(migrated, execution_id)


@router.post(
    "/{verb}",
    responses=answers({200: (schemas.Done, "What came of it.")}, *BODY_PROBLEMS),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(ManyBody), **needs("cancel")},
)
async def many(request: Request, caller: Caller, verb: ManyVerb) -> Response:
    """Cancel, pause or resume all executions that a filter chooses; `dry_run` only counts them.

    What refuses is told, and stops none of the others.
    """
    body = await read_model(request, ManyBody)
    wanted = ListExecutions(
        owner_id=caller.owner_id,
        status=body.filter.status,
        name=body.filter.pipeline,
        event_id=body.filter.event_id,
        since=microseconds(body.filter.since),
        until=microseconds(body.filter.until),
    )
    kit = parts_of(request).kit
    return json(asdict(await many_executions(kit, verb.value, wanted, dry_run=body.dry_run)))


@router.get(
    "/{execution_id}/stream",
    responses=stream_answer("Server-sent events; `data` is JSON.", 204, 404, 422),
    dependencies=[Depends(single_values)],
    openapi_extra=needs("look"),
)
async def stream(
    request: Request,
    caller: Caller,
    execution_id: IdInPath,
    query: Annotated[StreamQuery, Query()],
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Follow an execution as server-sent events, live and after its end.

    Entries have ids `EXECUTION:NUMBER`; after a break, `Last-Event-ID` gives exactly the rest.
    Streamed text (`tokens`) has no id: who comes anew gets the text so far. The last entry is
    `execution.finished`; asked for what follows it, the answer is 204.
    """
    _check(execution_id)
    parts = parts_of(request)
    after = -1
    if last_event_id is not None:
        after = position("Last-Event-ID", last_event_id, execution_id)
    elif query.after is not None:
        after = position("after", query.after, execution_id)
    execution = await read.summary(parts.kit, execution_id, caller.owner_id)
    if execution.status in EXECUTION_ENDS and after >= execution.seq:
        return Response(status_code=204)  # tells an EventSource to come no more
    entries = follow(parts.kit, execution_id, caller.owner_id, after)
    write = partial(frame, execution_id)
    return EventStream(entries, write, parts.stopping, parts.keyring.leaving(caller))


def _moved(moved: Resumed, execution_id: str) -> Response:
    body = {
        "id": execution_id,
        "status": moved.status.value,
        "links": execution_links(execution_id, moved.event_id),
    }
    return json(body, 202)


def _check(execution_id: str) -> None:
    if not is_id(execution_id):
        raise NotFound(f"there is no execution {execution_id!a}")
