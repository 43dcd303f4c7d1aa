"""Schedules: made, looked up, paused, deleted, and fired when their time has come."""

from __future__ import annotations

from typing import Any

import orjson

from holdfast.bus import Notice
from holdfast.bus.base import DELAYED, QUEUED
from holdfast.domain.events import NewEvent
from holdfast.domain.ids import MICROS, new_id
from holdfast.domain.payload import message_of
from holdfast.domain.schedules import Missed, NewSchedule, Schedule, after_firing
from holdfast.errors import HoldfastError
from holdfast.store.commands import (
    DeleteSchedule,
    DueSchedules,
    EnableSchedule,
    Fire,
    PutSchedule,
)
from holdfast.store.queries import ListSchedules, ScheduleByName
from holdfast.telemetry import logger

from .kit import Kit
from .submit import check_depth, checked, event_hash

log = logger("schedules")


async def put_schedule(
    kit: Kit,
    *,
    owner_id: str,
    name: str,
    cron: str,
    timezone: str,
    target: str,
    data: Any,
    priority: int | None = None,
    missed: Missed = Missed.SKIP,
) -> Schedule:
    """Make a schedule, or put another in the place of the one of that name.

    Raises:
        UnknownPipeline: no such pipeline is loaded.
        InvalidInput: the data does not fit its schema, or the cron expression or time zone is none.
    """
    check_depth(data)
    checked(kit, target, "target").validate(data)
    stored = await kit.store.write(
        PutSchedule(
            NewSchedule(
                owner_id=owner_id,
                name=name,
                cron=cron,
                timezone=timezone,
                target=target,
                data=orjson.dumps(data),
                priority=priority,
                missed=missed,
            )
        )
    )
    kit.bus.publish(Notice(DELAYED))
    return stored


async def schedules(kit: Kit, owner_id: str) -> list[Schedule]:
    """All schedules of an owner, by name."""
    return await kit.store.read(ListSchedules(owner_id))


async def schedule(kit: Kit, name: str, owner_id: str) -> Schedule:
    """One schedule.

    Raises:
        NotFound: no such schedule of that owner.
    """
    return await kit.store.read(ScheduleByName(name, owner_id))


async def enable_schedule(kit: Kit, name: str, owner_id: str, *, enabled: bool) -> Schedule:
    """Pause a schedule, or let it go on from the next time that comes.

    Raises:
        NotFound: no such schedule of that owner.
    """
    stored = await kit.store.write(EnableSchedule(name, owner_id, enabled))
    kit.bus.publish(Notice(DELAYED))
    return stored


async def delete_schedule(kit: Kit, name: str, owner_id: str) -> None:
    """Delete a schedule; the events it sent stay.

    Raises:
        NotFound: no such schedule of that owner.
    """
    await kit.store.write(DeleteSchedule(name, owner_id))


async def fire_due(kit: Kit) -> float | None:
    """Send what schedules of loaded pipelines are due for.

    Returns:
        Seconds until the next one is due; None when none is set.
    """
    targets = tuple(one.name for one in kit.registry)
    while targets:
        due = await kit.store.write(DueSchedules(targets))
        for one in due.schedules:
            await _fire(kit, one, due.now)
        if not due.schedules:
            return None if due.next_in_us is None else due.next_in_us / MICROS
    return None


async def _fire(kit: Kit, schedule: Schedule, now: int) -> None:
    fires, next_at = after_firing(schedule, now)
    due_at, event, error = schedule.next_at or now, None, None
    if fires:
        try:
            event = _event(kit, schedule, due_at)
        except HoldfastError as refused:  # its pipeline has another schema by now
            error = {"code": refused.code, "message": refused.message}
        except Exception as raised:  # noqa: BLE001 - a schema's validators are the app's own code
            error = {"code": "schedule_failed", "message": message_of(raised)}
    sent = await kit.store.write(
        Fire(schedule_id=schedule.id, due_at=due_at, next_at=next_at, event=event, error=error)
    )
    if sent is not None:
        kit.metrics.add("holdfast_events_submitted_total", pipeline=schedule.target)
        kit.bus.publish(Notice(QUEUED, event_id=sent.id, target=schedule.target))
    elif event is None:
        log.warning(
            "schedule.not_fired",
            schedule=schedule.name,
            reason="missed" if error is None else error["message"],
        )


def _event(kit: Kit, schedule: Schedule, due_at: int) -> NewEvent:
    declaration = kit.registry.pipeline(schedule.target)
    event = declaration.validate(schedule.data)
    source = f"/schedules/{schedule.name}"
    return NewEvent(
        id=new_id(),
        owner_id=schedule.owner_id,
        type=schedule.target,
        source=source,
        subject=None,
        target=schedule.target,
        target_kind=declaration.kind,
        data=orjson.dumps(schedule.data),
        idempotency_key=f"schedule {schedule.id} {due_at}",
        body_hash=event_hash([schedule.target, source, due_at]),
        priority=declaration.priority if schedule.priority is None else schedule.priority,
        traceparent=None,
        occurred_at=due_at,
        singleton_key=declaration.singleton_key(event),
    )
