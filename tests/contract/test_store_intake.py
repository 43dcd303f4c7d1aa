"""Taking events in: kept once per key, refused with a reason, called off in every state."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.errors import IdempotencyConflict, IllegalMove, InvalidInput, NotFound, StoreRefused
from holdfast.store import Store
from holdfast.store.commands import Cancel, Finish, Reap, Submit
from holdfast.store.queries import CountEvents, EventById, ListEvents
from holdfast.store.registry import address


async def test_a_submitted_event_reads_back_whole(store: Store, make: Any) -> None:
    event = make.event(
        subject="s",
        data='{"мир": "\\u0000 ok"}'.encode(),
        occurred_at=5,
        priority=3,
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )
    submitted = await store.write(Submit(event))
    assert (submitted.id, submitted.created) == (event.id, True)
    found = await store.read(EventById(event.id, "local"))
    assert found.data == {"мир": "\0 ok"}
    assert (found.status, found.received_at) == (EventStatus.QUEUED, submitted.received_at)
    for name in ("type", "source", "subject", "target", "priority", "traceparent", "occurred_at"):
        assert getattr(found, name) == getattr(event, name)


async def test_the_same_key_and_body_give_the_first_event(store: Store, make: Any) -> None:
    first = await make.submitted(idempotency_key="k")
    again = await make.submitted(idempotency_key="k")
    assert (again.id, again.created) == (first.id, False)
    assert again.received_at == first.received_at
    assert len(await store.read(ListEvents(owner_id="local"))) == 1


async def test_a_repeat_tells_what_became_of_the_first(store: Store, make: Any) -> None:
    await make.submitted(idempotency_key="k")
    (claimed,) = await make.claimed()
    await store.write(Finish(make.record(claimed)))
    assert (await make.submitted(idempotency_key="k")).status is EventStatus.SUCCEEDED


async def test_the_same_key_with_another_body_is_refused(store: Store, make: Any) -> None:
    first = await make.submitted(idempotency_key="k")
    with pytest.raises(IdempotencyConflict, match=first.id):
        await make.submitted(idempotency_key="k", body_hash="h2")
    assert len(await store.read(ListEvents(owner_id="local"))) == 1


async def test_repeats_within_one_commit_agree(store: Store, make: Any) -> None:
    outcomes = await asyncio.gather(
        *(make.submitted(idempotency_key="k") for _ in range(40)),
        *(make.submitted(idempotency_key="k", body_hash="h2") for _ in range(40)),
        *(make.submitted() for _ in range(40)),
        return_exceptions=True,
    )
    same, other, keyless = outcomes[:40], outcomes[40:80], outcomes[80:]
    assert len({one.id for one in same}) == 1
    assert sum(one.created for one in same) == 1
    assert all(isinstance(one, IdempotencyConflict) for one in other)
    assert len({one.id for one in keyless}) == 40
    assert (await store.read(CountEvents()))[EventStatus.QUEUED] == 41


async def test_a_key_belongs_to_its_owner(make: Any) -> None:
    one, two = await asyncio.gather(
        make.submitted(idempotency_key="k", owner_id="a"),
        make.submitted(idempotency_key="k", owner_id="b", body_hash="h2"),
    )
    assert one.created
    assert two.created


@pytest.mark.parametrize("bad", ["a\0b", "a\ud800b"])
async def test_texts_no_database_holds_are_refused_by_name(make: Any, bad: str) -> None:
    good, refused = await asyncio.gather(
        make.submitted(), make.submitted(subject=bad), return_exceptions=True
    )
    assert good.created
    assert isinstance(refused, InvalidInput)
    assert refused.fields[0]["field"] == "subject"


async def test_one_bad_command_fails_only_its_caller(store: Store, make: Any) -> None:
    taken = await make.submitted()
    outcomes = await asyncio.gather(
        *(make.submitted() for _ in range(10)),
        make.submitted(id=taken.id),  # breaks the primary key, and with it the whole insert
        *(make.submitted() for _ in range(10)),
        return_exceptions=True,
    )
    assert [type(one) for one in outcomes if isinstance(one, Exception)] == [StoreRefused]
    assert isinstance(outcomes[10], StoreRefused)
    assert (await store.read(CountEvents()))[EventStatus.QUEUED] == 21


async def test_a_queued_event_is_cancelled_at_once(store: Store, make: Any) -> None:
    event = await make.submitted()
    cancelled = await store.write(Cancel(event.id, "local"))
    assert (cancelled.status, cancelled.execution_id) == (EventStatus.CANCELLED, None)
    assert (await store.read(EventById(event.id, "local"))).finished_at is not None
    assert await make.claimed() == []


async def test_a_running_event_keeps_the_wish_to_cancel(store: Store, make: Any) -> None:
    claimed = await make.running()
    cancelled = await store.write(Cancel(claimed.event_id, "local"))
    assert cancelled.status is EventStatus.RUNNING
    assert cancelled.execution_id == claimed.execution_id
    first = (await store.read(EventById(claimed.event_id, "local"))).cancel_requested_at
    assert first is not None
    await store.write(Cancel(claimed.event_id, "local"))
    again = await store.read(EventById(claimed.event_id, "local"))
    assert again.cancel_requested_at == first


async def test_a_crash_after_the_wish_to_cancel_ends_the_event(store: Store, make: Any) -> None:
    claimed = await make.running()
    await store.write(Cancel(claimed.event_id, "local"))
    done = await store.write(Finish(make.record(claimed, ExecutionStatus.CRASHED)))
    assert done.event_status is EventStatus.CANCELLED


async def test_what_somebody_wants_cancelled_is_never_claimed(make: Any, store_url: str) -> None:
    await make.submitted()
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("UPDATE events SET cancel_requested_at = 1"))
    assert await make.claimed() == []


async def test_a_reaped_event_with_a_wish_to_cancel_is_cancelled(store: Store, make: Any) -> None:
    claimed = await make.running(lease_us=-1000)
    await store.write(Cancel(claimed.event_id, "local"))
    (back,) = await store.write(Reap(lease_owner="boot-2"))
    assert back.status is EventStatus.CANCELLED


@pytest.mark.parametrize(
    "status", [ExecutionStatus.SUCCEEDED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED]
)
async def test_an_ended_event_cannot_be_cancelled(
    store: Store, make: Any, status: ExecutionStatus
) -> None:
    claimed = await make.running()
    await store.write(Finish(make.record(claimed, status)))
    before = await store.read(EventById(claimed.event_id, "local"))
    with pytest.raises(IllegalMove):
        await store.write(Cancel(claimed.event_id, "local"))
    assert await store.read(EventById(claimed.event_id, "local")) == before


async def test_nobody_cancels_what_is_not_theirs(store: Store, make: Any) -> None:
    event = await make.submitted(owner_id="a")
    with pytest.raises(NotFound):
        await store.write(Cancel(event.id, "b"))
    with pytest.raises(NotFound):
        await store.write(Cancel("unknown", "a"))
    assert (await store.read(EventById(event.id, "a"))).status is EventStatus.QUEUED
