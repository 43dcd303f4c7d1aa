"""Events that are there once: whoever sends them, however many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.domain.dead_letters import Action
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.errors import SingletonBusy
from holdfast.store import Store
from holdfast.store.commands import (
    Cancel,
    Finish,
    Intervene,
    Prune,
    Submit,
    Submitted,
    Wake,
    unique,
)
from holdfast.store.queries import CountEvents, OldEvents

E, X = EventStatus, ExecutionStatus
AWAY = {"code": "step_failed", "message": "away", "error_class": "temporary"}
HOUR = 3600 * 1_000_000


@pytest.fixture
async def hubs(store: Store, backend: str, reopen: Callable[[], Store]):
    """The store as one hub has it; on PostgreSQL as two have it."""
    stores = [store] if backend == "sqlite" else [store, reopen()]
    yield stores
    for over in stores[1:]:
        await over.close()


async def dead(store: Store, make: Any, **fields: Any) -> str:
    submitted = await make.submitted(**fields)
    (claimed,) = await make.claimed()
    run = make.execution(claimed, status=X.FAILED, error=AWAY)
    assert (await store.write(Finish(make.record(claimed, execution=run)))).event_status is E.DEAD
    return submitted.id


# -- singletons ------------------------------------------------------------------------------------


async def test_a_second_one_is_refused_until_the_first_has_ended(store: Store, make: Any) -> None:
    first = await make.submitted(singleton_key="a")
    with pytest.raises(SingletonBusy, match=f"'a' at a time: event {first.id}"):
        await make.submitted(singleton_key="a")
    await make.submitted(singleton_key="b")
    await make.submitted(singleton_key="a", owner_id="eve")
    await make.submitted(singleton_key="a", target="mail")
    await make.submitted()
    claimed = next(one for one in await make.claimed() if one.event_id == first.id)
    with pytest.raises(SingletonBusy):
        await make.submitted(singleton_key="a")
    await store.write(Finish(make.record(claimed)))
    second = await make.submitted(singleton_key="a")
    await store.write(Cancel(second.id, "local"))
    assert (await make.submitted(singleton_key="a")).created


async def test_a_known_key_gives_the_same_one_and_no_refusal(make: Any) -> None:
    first = await make.submitted(singleton_key="a", idempotency_key="k")
    again = await make.submitted(singleton_key="a", idempotency_key="k")
    assert (again.id, again.created) == (first.id, False)
    with pytest.raises(SingletonBusy):
        await make.submitted(singleton_key="a", idempotency_key="other")


async def test_of_many_at_once_one_gets_in(hubs: list[Store], make: Any) -> None:
    store = hubs[0]
    sent = await asyncio.gather(
        *(
            over.write(Submit(make.event(singleton_key="a", idempotency_key=key)))
            for key in (None, "k1", "k2")
            for over in hubs
            for _ in range(5)
        ),
        return_exceptions=True,
    )
    assert len([one for one in sent if isinstance(one, Submitted) and one.created]) == 1
    assert all(isinstance(one, Submitted | SingletonBusy) for one in sent), sent
    assert (await store.read(CountEvents()))[E.QUEUED] == 1


async def test_a_dead_letter_is_not_replayed_beside_another(store: Store, make: Any) -> None:
    letter = await dead(store, make, singleton_key="a")
    other = await make.submitted(singleton_key="a")
    replay = Intervene(event_id=letter, owner_id="local", by="local", action=Action.REPLAYED)
    with pytest.raises(SingletonBusy, match=other.id):
        await store.write(replay)
    await store.write(Cancel(other.id, "local"))
    assert (await store.write(replay)).status is E.QUEUED
    with pytest.raises(SingletonBusy):
        await make.submitted(singleton_key="a")


# -- duplicates ------------------------------------------------------------------------------------


async def test_one_like_it_within_the_window_is_the_first(store: Store, make: Any) -> None:
    same = {"dedup_key": "d1", "dedup_us": HOUR}
    first = await make.submitted(**same)
    assert (first.created, first.duplicate) == (True, False)
    (claimed,) = await make.claimed()
    await store.write(Finish(make.record(claimed)))
    again = await make.submitted(**same, idempotency_key="k")
    assert (again.id, again.created, again.duplicate) == (first.id, False, True)
    assert (again.status, again.received_at) == (E.SUCCEEDED, first.received_at)
    other = await make.submitted(dedup_key="d2", dedup_us=HOUR)
    assert (other.created, other.id == first.id) == (True, False)
    assert (await make.submitted()).created


async def test_after_the_window_it_is_another_event(store: Store, make: Any) -> None:
    short = {"dedup_key": "d1", "dedup_us": -1}
    first = await make.submitted(**short)
    second = await make.submitted(dedup_key="d1", dedup_us=HOUR)
    assert (second.created, second.id == first.id) == (True, False)
    third = await make.submitted(dedup_key="d1", dedup_us=HOUR)
    assert (third.id, third.duplicate) == (second.id, True)


async def test_what_is_over_is_forgotten_and_what_is_pruned_stands_for_nothing(
    store: Store, make: Any
) -> None:
    await make.submitted(dedup_key="over", dedup_us=-1)
    first = await make.submitted(dedup_key="d1", dedup_us=HOUR)
    await store.write(Wake(versions={}))
    assert (await make.submitted(dedup_key="d1", dedup_us=HOUR)).id == first.id
    for claimed in await make.claimed():
        await store.write(Finish(make.record(claimed)))
    ended = await store.read(OldEvents(owner_id="local", target="triage", before=2**60))
    assert await store.write(Prune(owner_id="local", event_ids=ended)) == 2
    again = await make.submitted(dedup_key="d1", dedup_us=HOUR)
    assert (again.created, again.id == first.id) == (True, False)


async def test_more_than_a_handful_that_are_over_are_forgotten_without_a_pause(
    store: Store, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unique, "FORGET_AT_MOST", 2)
    for number in range(3):
        await make.submitted(dedup_key=f"over {number}", dedup_us=-1)
    assert (await store.write(Wake(versions={}))).next_in_us == 0
    assert (await store.write(Wake(versions={}))).next_in_us is None


async def test_of_many_alike_at_once_one_is_stored(hubs: list[Store], make: Any) -> None:
    sent = await asyncio.gather(
        *(
            over.write(Submit(make.event(dedup_key=key, dedup_us=HOUR)))
            for _ in range(8)
            for key in ("d1", "d2", "d3")
            for over in hubs
        ),
        *(over.write(Wake(versions={})) for over in hubs for _ in range(3)),
    )
    submitted = [one for one in sent if isinstance(one, Submitted)]
    assert sum(one.created for one in submitted) == 3
    assert sum(one.duplicate for one in submitted) == len(submitted) - 3
    assert len({one.id for one in submitted}) == 3
    assert (await hubs[0].read(CountEvents()))[E.QUEUED] == 3


async def test_a_known_key_goes_before_a_duplicate(make: Any) -> None:
    same = {"dedup_key": "d1", "dedup_us": HOUR}
    first = await make.submitted(**same, idempotency_key="k")
    again = await make.submitted(**same, idempotency_key="k")
    assert (again.id, again.created, again.duplicate) == (first.id, False, False)
