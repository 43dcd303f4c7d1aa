"""Events: sent in, looked up, waited for, called off."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from holdfast.domain.events import Origin
from holdfast.domain.ids import is_id, new_id
from holdfast.domain.status import EVENT_ENDS, EventStatus
from holdfast.errors import NotFound
from holdfast.operations import read
from holdfast.operations.cancel import cancel_event
from holdfast.operations.submit import submit
from holdfast.operations.views import View
from holdfast.operations.wait import ended_within, event_at_rest
from holdfast.pipelines.registry import Registry
from holdfast.store.commands import Submitted
from holdfast.store.queries import ListEvents

from . import schemas
from .doorkeeper import Door, needs, principal
from .fields import IdInPath, Page, PipelineName, Waiting
from .intake import CLOUDEVENTS, JSON, CloudEvent, Intake, PlainEvent, read_event
from .openapi import answers, event_request
from .parts import ApiParts, Caller, parts_of
from .requests import no_body, no_query, read_query, single_values
from .responses import (
    ROOT,
    event_body,
    event_links,
    event_path,
    execution_body,
    execution_links,
    json,
    page_body,
)

router = APIRouter(prefix=f"{ROOT}/events", tags=["events"], route_class=Door)


class EventQuery(Page):
    """Query of the list of events."""

    status: EventStatus | None = None
    target: PipelineName | None = Field(None, description="Name of the pipeline.")
    origin: Origin | None = Field(None, description="Only those that come from another so.")


@router.post(
    "",
    status_code=202,
    responses=answers(
        {200: (schemas.SubmittedEvent, "It has ended."), 202: (schemas.Accepted, "It is kept.")},
        *(400, 409, 413, 415, 422),
    ),
    openapi_extra={
        **event_request({JSON: PlainEvent, CLOUDEVENTS: CloudEvent}, Waiting),
        **needs("submit"),
    },
)
async def submit_event(request: Request) -> Response:
    """Send an event in.

    Answered with 202 it is committed: it will run and end, whatever happens. With `wait` the
    answer is 200 and has the result when the event ends in time. The same `Idempotency-Key` and
    body give the same event again.
    """
    # The busiest door: FastAPI's dependencies would take as long again as all of this.
    parts, caller = parts_of(request), principal(request)
    query = await read_query(request, Waiting)
    intake = await read_event(request)
    if query.wait is None:
        submitted = await submit(parts.kit, owner_id=caller.owner_id, **intake)
        whole = None
        if submitted.status in EVENT_ENDS:
            whole = await read.event_whole(parts.kit, submitted.id, caller.owner_id)
    else:
        submitted, whole = await _submit_and_wait(parts, caller.owner_id, intake, query.wait)
    headers = {"location": event_path(submitted.id)}
    event = None if whole is None else whole.event
    if whole is not None and whole.event.status in EVENT_ENDS:
        body = event_detail(parts.kit.registry, whole)
        body |= {"created": submitted.created, "duplicate": submitted.duplicate}
        return json(body, 200, headers)
    accepted = {
        "id": submitted.id,
        "status": (event or submitted).status.value,
        "created": submitted.created,
        "duplicate": submitted.duplicate,
        "links": event_links(submitted.id, event.execution_id if event else None),
    }
    return json(accepted, 202, headers)


@router.get(
    "",
    responses=answers({200: (schemas.EventPage, "A page, newest first.")}, 422),
    dependencies=[Depends(single_values)],
    openapi_extra=needs("look"),
)
async def list_events(
    request: Request, caller: Caller, query: Annotated[EventQuery, Query()]
) -> Response:
    """List events, newest first, without their data."""
    kit = parts_of(request).kit
    found = await read.events(
        kit,
        ListEvents(
            owner_id=caller.owner_id,
            status=query.status,
            target=query.target,
            origin=query.origin,
            **query.bounds(),
        ),
    )
    items = [event_body(kit.registry, event, with_data=False) for event in found]
    return json(page_body(items, router.prefix, request.query_params, query.limit))


@router.get(
    "/{event_id}",
    responses=answers({200: (schemas.EventDetail, "The event.")}, 404, 422),
    dependencies=[Depends(single_values)],
    openapi_extra=needs("look"),
)
async def get_event(
    request: Request, caller: Caller, event_id: IdInPath, query: Annotated[Waiting, Query()]
) -> Response:
    """Look an event up: its data, its executions and, when it has ended, its result.

    With `wait` the answer comes when the event has ended, or after that time as it then stands.
    """
    parts = parts_of(request)
    _check(event_id)
    if query.wait:
        await event_at_rest(parts.kit, parts.ended, event_id, caller.owner_id, query.wait)
    whole = await read.event_whole(parts.kit, event_id, caller.owner_id)
    return json(event_detail(parts.kit.registry, whole))


@router.post(
    "/{event_id}/cancel",
    responses=answers(
        {
            200: (schemas.Cancelled, "It is cancelled."),
            202: (schemas.Cancelled, "Its running step is being stopped."),
        },
        *(404, 409, 422),
    ),
    dependencies=[Depends(no_query), Depends(no_body)],
    openapi_extra=needs("cancel"),
)
async def cancel(request: Request, caller: Caller, event_id: IdInPath) -> Response:
    """Cancel an unfinished event; a running step is told to stop."""
    _check(event_id)
    cancelled = await cancel_event(parts_of(request).kit, event_id, caller.owner_id)
    body = {
        "id": event_id,
        "status": cancelled.status.value,
        "links": event_links(event_id, cancelled.execution_id),
    }
    return json(body, 200 if cancelled.status in EVENT_ENDS else 202)


async def _submit_and_wait(
    parts: ApiParts, owner_id: str, intake: Intake, seconds: float
) -> tuple[Submitted, read.EventWithRuns]:
    event_id = new_id()
    with parts.ended.expect(event_id) as rested:  # before it exists, so that nothing is missed
        submitted = await submit(parts.kit, owner_id=owner_id, event_id=event_id, **intake)
        if submitted.created:
            await ended_within(rested, seconds)
            return submitted, await read.event_whole(parts.kit, event_id, owner_id)
    await event_at_rest(parts.kit, parts.ended, submitted.id, owner_id, seconds)
    return submitted, await read.event_whole(parts.kit, submitted.id, owner_id)


def event_detail(registry: Registry, whole: read.EventWithRuns) -> View:
    """An event with its executions, and the result of the newest once it rests."""
    body = event_body(registry, whole.event)
    body["executions"] = [execution_body(registry, one) for one in whole.executions]
    body["result"] = None if whole.last is None else _result(whole.last)
    return body


def _result(last: read.Whole) -> View:
    run = last.execution
    return {
        "execution_id": run.id,
        "status": run.status.value,
        "output": last.payload.get(run.output),
        "error": run.error,
        "links": execution_links(run.id, run.event_id),
    }


def _check(event_id: str) -> None:
    if not is_id(event_id):
        raise NotFound(f"there is no event {event_id!a}")
