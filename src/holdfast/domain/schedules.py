"""Schedules: events that are sent by the clock, as a cron expression says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from holdfast.errors import InvalidInput

from .ids import MICROS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

LATE_US = 60 * MICROS
"""A firing that is later than this was missed."""


class Missed(StrEnum):
    """What becomes of firings that no hub was there for."""

    SKIP = "skip"  # nothing; the next one comes at its time
    ONCE = "once"  # one event for all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSchedule:
    """A schedule as it was checked at the door."""

    owner_id: str
    name: str  # unique per owner
    cron: str
    timezone: str  # IANA name
    target: str  # name of the pipeline
    data: bytes  # JSON of the events
    priority: int | None  # None: the pipeline's own
    missed: Missed


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A stored schedule.

    Attributes:
        data: decoded JSON.
        enabled: False while it is paused.
        next_at: when it fires next; None while it is paused.
        last_at: the time its last event was due.
        last_missed_at: the last due time that was passed over.
        last_error: why its last firing made no event.
    """

    id: str
    owner_id: str
    name: str
    cron: str
    timezone: str
    target: str
    data: Any
    priority: int | None
    missed: Missed
    enabled: bool
    next_at: int | None
    last_at: int | None
    last_event_id: str | None
    last_missed_at: int | None
    last_error: dict[str, Any] | None
    created_at: int
    updated_at: int


def following(cron: str, timezone: str, after: int) -> int:
    """The first time after `after`, microseconds since the epoch.

    As Debian's cron has it: a time that the clocks leave out in spring comes right after the gap,
    one that they show twice in autumn comes once; expressions with `*` for the hour go by elapsed
    time.

    Raises:
        InvalidInput: no cron expression, no time zone, or a time that never comes.
    """
    start = (EPOCH + timedelta(microseconds=after)).astimezone(_zone(timezone))
    try:
        found = next(CronSim(cron, start), None)
    except CronSimError as error:
        raise _refused("cron", "a cron expression: * * * * *", cron, str(error)) from error
    if found is None:
        raise _refused("cron", "a time that comes", cron, "it never comes")
    return (found.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)


def after_firing(schedule: Schedule, now: int) -> tuple[bool, int]:
    """Whether what is due now is to be fired, and when the schedule fires next.

    Args:
        schedule: whose `next_at` has come.
        now: microseconds since the epoch.
    """
    due = schedule.next_at or now
    late = now - due > LATE_US
    next_at = following(schedule.cron, schedule.timezone, now if late else due)
    return not late or schedule.missed is Missed.ONCE, next_at


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        told = _refused("timezone", "an IANA name such as Europe/Berlin", name, "unknown")
        raise told from error


def _refused(field: str, expected: str, got: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"{field} {got!a} cannot be used: {why}",
        fields=[{"field": field, "expected": expected, "got": got}],
    )
