"""When the clock sends events, over the changes of clocks too."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from holdfast.domain.schedules import LATE_US, Missed, Schedule, after_firing, following
from holdfast.errors import InvalidInput

BERLIN = "Europe/Berlin"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000_000)


def times(cron: str, timezone: str, after: str, count: int) -> list[str]:
    found: list[str] = []
    moment = at(after)
    for _ in range(count):
        moment = following(cron, timezone, moment)
        found.append(datetime.fromtimestamp(moment / 1_000_000, UTC).strftime("%d. %H:%M"))
    return found


def test_a_time_that_spring_leaves_out_comes_right_after_the_gap() -> None:
    assert times("30 2 * * *", BERLIN, "2026-03-28T00:00:00+00:00", 3) == [
        "28. 01:30",
        "29. 01:00",  # 03:00 there, where 02:30 would have been
        "30. 00:30",
    ]


def test_a_time_that_autumn_shows_twice_comes_once() -> None:
    assert times("30 2 * * *", BERLIN, "2026-10-24T12:00:00+00:00", 2) == [
        "25. 00:30",
        "26. 01:30",
    ]


def test_every_hour_is_every_hour_also_that_night() -> None:
    assert times("0 * * * *", BERLIN, "2026-10-24T23:30:00+00:00", 4) == [
        "25. 00:00",
        "25. 01:00",
        "25. 02:00",
        "25. 03:00",
    ]


def test_a_time_is_after_and_never_at_the_moment_asked_for() -> None:
    noon = at("2026-11-20T12:00:00+00:00")
    assert following("0 12 * * *", "UTC", noon) == noon + 86_400_000_000
    assert following("0 12 * * *", "UTC", noon - 1) == noon
    assert following("*/2 * * * * *", "UTC", noon) == noon + 2_000_000


@pytest.mark.parametrize(
    ("cron", "timezone", "field"),
    [
        ("* * * *", "UTC", "cron"),
        ("61 * * * *", "UTC", "cron"),
        ("0 0 31 2 *", "UTC", "cron"),
        ("@daily", "UTC", "cron"),
        ("", "UTC", "cron"),
        ("* * * * *", "Mars/Olympus", "timezone"),
        ("* * * * *", "../etc/passwd", "timezone"),
        ("* * * * *", "\x00", "timezone"),
    ],
)
def test_what_is_no_time_is_refused_with_the_field(cron: str, timezone: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        following(cron, timezone, 0)
    assert refused.value.fields[0]["field"] == field


@pytest.mark.parametrize("missed", list(Missed))
def test_late_is_missed_and_what_follows_lies_ahead(missed: Missed) -> None:
    due = at("2026-11-20T12:00:00+00:00")
    minute = 60_000_000
    schedule = Schedule(
        id="s",
        owner_id="local",
        name="s",
        cron="* * * * *",
        timezone="UTC",
        target="p",
        data={},
        priority=None,
        missed=missed,
        enabled=True,
        next_at=due,
        last_at=None,
        last_event_id=None,
        last_missed_at=None,
        last_error=None,
        created_at=0,
        updated_at=0,
    )
    assert after_firing(schedule, due) == (True, due + minute)
    assert after_firing(schedule, due + LATE_US) == (True, due + minute)
    fires, next_at = after_firing(schedule, due + 90 * minute + 1)
    assert fires is (missed is Missed.ONCE)
    assert next_at == due + 91 * minute
