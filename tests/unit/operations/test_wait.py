"""Waiting for an event: by notice, with the store as the truth."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.bus import Notice
from holdfast.bus.base import ENDED
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.status import EventStatus
from holdfast.errors import NotFound
from holdfast.operations.cancel import cancel_event
from holdfast.operations.wait import EndedEvents, ended_within, event_at_rest

from .conftest import Desk


async def test_a_waiter_is_told_when_its_event_rests(desk: Desk) -> None:
    ended = EndedEvents(desk.kit)
    event_id, other = await desk.submit(), await desk.submit()
    waiting = asyncio.create_task(event_at_rest(desk.kit, ended, event_id, LOCAL_OWNER, 10))
    while not ended._waiting:
        await asyncio.sleep(0)
    await cancel_event(desk.kit, other, LOCAL_OWNER)
    assert not waiting.done()
    await cancel_event(desk.kit, event_id, LOCAL_OWNER)
    assert (await asyncio.wait_for(waiting, 10)).status is EventStatus.CANCELLED
    assert ended._waiting == {}


async def test_one_that_rests_already_is_not_waited_for(desk: Desk) -> None:
    ended = EndedEvents(desk.kit)
    event_id = await desk.submit()
    await cancel_event(desk.kit, event_id, LOCAL_OWNER)
    event = await event_at_rest(desk.kit, ended, event_id, LOCAL_OWNER, 10**6)
    assert event.status is EventStatus.CANCELLED


async def test_after_the_time_it_is_told_as_it_stands(desk: Desk) -> None:
    event_id = await desk.submit()
    event = await event_at_rest(desk.kit, EndedEvents(desk.kit), event_id, LOCAL_OWNER, 0.001)
    assert event.status is EventStatus.QUEUED


async def test_somebody_elses_event_is_not_found(desk: Desk) -> None:
    ended = EndedEvents(desk.kit)
    event_id = await desk.submit()
    with pytest.raises(NotFound):
        await event_at_rest(desk.kit, ended, event_id, "somebody else", 10)
    assert ended._waiting == {}


async def test_many_may_wait_for_one_and_a_close_lets_all_go(desk: Desk) -> None:
    ended = EndedEvents(desk.kit)
    event_id = await desk.submit()
    with ended.expect(event_id) as one, ended.expect(event_id) as two:
        desk.kit.bus.publish(Notice(ENDED, event_id=event_id))
        assert await ended_within(one, 10)
        assert await ended_within(two, 10)
        with ended.expect("another") as three:
            ended.close()
            assert not await ended_within(three, 10)
    assert ended._waiting == {}
