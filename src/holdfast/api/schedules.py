"""Schedules: events that the clock sends."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from holdfast.domain.schedules import Missed, Schedule
from holdfast.errors import InvalidInput
from holdfast.operations import schedules as plans
from holdfast.operations.views import View, iso
from holdfast.pipelines.base import MAX_PRIORITY

from . import schemas
from .doorkeeper import Door, needs
from .fields import NAME_PATTERN, PipelineName, Strict
from .openapi import BODY_PROBLEMS, answers, json_request
from .parts import Caller, parts_of
from .requests import no_body, no_query, read_model
from .responses import ROOT, event_path, json

router = APIRouter(
    prefix=f"{ROOT}/schedules",
    tags=["schedules"],
    route_class=Door,
    dependencies=[Depends(no_query)],
)


class ScheduleBody(Strict):
    """A schedule as it is to be."""

    cron: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        description="Five fields, or six with seconds first: `30 2 * * MON`."
    )
    timezone: Annotated[str, Field(min_length=1, max_length=100)] = Field(
        "UTC", description="IANA name whose clocks count."
    )
    pipeline: PipelineName
    data: Any = Field(description="Of the events.")
    priority: int | None = Field(None, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    missed: Missed = Field(
        Missed.SKIP,
        description="What becomes of times no hub was there for: nothing, or one event.",
    )


@router.get(
    "",
    responses=answers({200: (schemas.ScheduleList, "All of them, by name.")}, 422),
    openapi_extra=needs("look"),
)
async def list_schedules(request: Request, caller: Caller) -> Response:
    """List schedules."""
    found = await plans.schedules(parts_of(request).kit, caller.owner_id)
    return json({"items": [_view(request, one) for one in found]})


@router.put(
    "/{name}",
    responses=answers({200: (schemas.Schedule, "It is set.")}, *BODY_PROBLEMS),
    openapi_extra={**json_request(ScheduleBody), **needs("schedule")},
)
async def put_schedule(request: Request, caller: Caller, name: str) -> Response:
    """Make a schedule, or put another in the place of the one of that name.

    One that was paused stays so.
    """
    if NAME_PATTERN.fullmatch(name) is None:
        raise InvalidInput(
            f"{name!a} is no name for a schedule",
            fields=[{"field": "name", "expected": "letters, digits and ._- ", "got": ascii(name)}],
        )
    body = await read_model(request, ScheduleBody)
    stored = await plans.put_schedule(
        parts_of(request).kit,
        owner_id=caller.owner_id,
        name=name,
        cron=body.cron,
        timezone=body.timezone,
        target=body.pipeline,
        data=body.data,
        priority=body.priority,
        missed=body.missed,
    )
    return json(_view(request, stored))


@router.get(
    "/{name}",
    responses=answers({200: (schemas.Schedule, "The schedule.")}, 404, 422),
    openapi_extra=needs("look"),
)
async def get_schedule(request: Request, caller: Caller, name: str) -> Response:
    """Show a schedule: when it fires next, and what came of the last time."""
    return json(_view(request, await plans.schedule(parts_of(request).kit, name, caller.owner_id)))


@router.post(
    "/{name}/pause",
    responses=answers({200: (schemas.Schedule, "It fires no more.")}, 404, 422),
    dependencies=[Depends(no_body)],
    openapi_extra=needs("schedule"),
)
async def pause_schedule(request: Request, caller: Caller, name: str) -> Response:
    """Keep a schedule from firing; times that pass meanwhile are not made up for."""
    kit = parts_of(request).kit
    return json(
        _view(request, await plans.enable_schedule(kit, name, caller.owner_id, enabled=False))
    )


@router.post(
    "/{name}/resume",
    responses=answers({200: (schemas.Schedule, "It fires again.")}, 404, 422),
    dependencies=[Depends(no_body)],
    openapi_extra=needs("schedule"),
)
async def resume_schedule(request: Request, caller: Caller, name: str) -> Response:
    """Let a paused schedule fire again, from the next time that comes."""
    kit = parts_of(request).kit
    return json(
        _view(request, await plans.enable_schedule(kit, name, caller.owner_id, enabled=True))
    )


@router.delete(
    "/{name}",
    responses=answers({200: (schemas.Deleted, "It is gone.")}, 404, 422),
    dependencies=[Depends(no_body)],
    openapi_extra=needs("schedule"),
)
async def delete_schedule(request: Request, caller: Caller, name: str) -> Response:
    """Delete a schedule; the events it sent stay."""
    await plans.delete_schedule(parts_of(request).kit, name, caller.owner_id)
    return json({"deleted": name})


def _view(request: Request, schedule: Schedule) -> View:
    error = schedule.last_error
    return {
        "id": schedule.id,
        "name": schedule.name,
        "cron": schedule.cron,
        "timezone": schedule.timezone,
        "pipeline": schedule.target,
        "data": schedule.data,
        "priority": schedule.priority,
        "missed": schedule.missed.value,
        "enabled": schedule.enabled,
        "loaded": schedule.target in parts_of(request).kit.registry,
        "next_at": iso(schedule.next_at),
        "last_at": iso(schedule.last_at),
        "last_event_id": schedule.last_event_id,
        "last_missed_at": iso(schedule.last_missed_at),
        "last_error": error and {**error, "at": iso(error["at"])},
        "created_at": iso(schedule.created_at),
        "updated_at": iso(schedule.updated_at),
        "links": {
            "schedule": f"{router.prefix}/{schedule.name}",
            "last_event": schedule.last_event_id and event_path(schedule.last_event_id),
        },
    }
