"""One turn of a session at a time, in order; other sessions never wait for it."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool

from holdfast.domain.ids import now_us
from holdfast.domain.redelivery import Backoff, Redelivery
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.store import Store
from holdfast.store.commands import Cancel, Finish, Reap, TakeBack, Wake, leases
from holdfast.store.queries import CountEvents, EventById, ExecutionById
from holdfast.store.registry import address

E, X = EventStatus, ExecutionStatus
AWAY = {"code": "step_failed", "message": "away", "error_class": "temporary"}
LATER = Redelivery(retries=5, backoff=Backoff(first=1000, jitter=0, most=1000))
HOUR_US = 3600 * 1_000_000


async def turn(make: Any, session: str | None = "s", **fields: Any) -> str:
    return (await make.submitted(session_id=session, **fields)).id


async def claimed(make: Any, **fields: Any) -> list[str]:
    return [one.event_id for one in await make.claimed(**fields)]


async def test_turns_run_one_after_the_other_in_order(store: Store, make: Any) -> None:
    turns = [await turn(make) for _ in range(3)]
    for event_id in turns:
        (one,) = await make.claimed()
        assert (one.event_id, one.session_id) == (event_id, "s")
        assert await make.claimed() == [], "the next one waits"
        execution = await store.read(ExecutionById(one.execution_id, "local"))
        assert execution.session_id == "s"
        await store.write(Finish(make.record(one)))
    event = await store.read(EventById(turns[0], "local"))
    assert event.session_id == "s"


async def test_sessions_and_what_has_none_never_wait_for_each_other(make: Any) -> None:
    mine = [await turn(make, "mine") for _ in range(3)]
    yours = [await turn(make, "yours") for _ in range(3)]
    other = await turn(make, "mine", owner_id="eve")
    alone = [await turn(make, None) for _ in range(2)]
    assert await claimed(make) == [mine[0], yours[0], other, *alone]
    assert await claimed(make) == []


async def test_a_turn_does_not_seem_to_begin_before_the_end_that_let_it(
    store: Store, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await turn(make)
    await turn(make)
    (one,) = await make.claimed()
    looks, ended = threading.Event(), threading.Event()
    pick = leases._pick

    def late(*given: Any) -> Any:
        looks.set()
        assert ended.wait(20)
        return pick(*given)

    monkeypatch.setattr(leases, "_pick", late)
    if not store.lanes_apart:  # nobody else writes while a claim looks
        ended.set()
        run = make.execution(one, finished_at=now_us())
        await store.write(Finish(make.record(one, execution=run)))
    claiming = asyncio.create_task(make.claimed())
    assert await asyncio.to_thread(looks.wait, 20)
    if store.lanes_apart:
        run = make.execution(one, finished_at=now_us())
        await store.write(Finish(make.record(one, execution=run)))
        ended.set()
    (two,) = await claiming
    before = await store.read(ExecutionById(one.execution_id, "local"))
    assert before.finished_at is not None
    assert two.started_at >= before.finished_at


async def test_the_better_turn_runs_first_while_none_has_begun(store: Store, make: Any) -> None:
    low = await turn(make, priority=-5)
    usual = await turn(make)
    high = await turn(make, priority=5)
    order: list[str] = []
    for _ in range(3):
        (one,) = await make.claimed()
        order.append(one.event_id)
        await store.write(Finish(make.record(one)))
    assert order == [high, usual, low]


async def test_a_pause_between_deliveries_holds_the_order(store: Store, make: Any) -> None:
    first = await turn(make)
    (one,) = await make.claimed()
    run = make.execution(one, status=X.FAILED, error=AWAY)
    await store.write(Finish(make.record(one, execution=run, redelivery=LATER)))
    assert (await store.read(EventById(first, "local"))).status is E.QUEUED
    second = await turn(make)
    eager = await turn(make, priority=9)
    assert await make.claimed() == [], "its turn is not over"
    await store.write(Cancel(first, "local"))
    assert await claimed(make) == [eager]
    assert second != eager


async def test_a_delayed_turn_holds_nobody_up(store: Store, make: Any) -> None:
    late = await turn(make, delay_us=HOUR_US)
    usual = await turn(make)
    (one,) = await make.claimed()
    assert one.event_id == usual
    await store.write(Finish(make.record(one)))
    assert await make.claimed() == []
    event = await store.read(EventById(late, "local"))
    assert event.available_at == event.received_at + HOUR_US
    woken = await store.write(Wake(versions={}))
    assert woken.next_in_us is not None
    assert HOUR_US / 2 < woken.next_in_us <= HOUR_US


@pytest.mark.parametrize("status", [E.WAITING, E.PAUSED])
async def test_a_halted_turn_keeps_its_place(
    store: Store, make: Any, store_url: str, status: EventStatus
) -> None:
    first, second = await turn(make), await turn(make)
    assert await claimed(make) == [first]
    tamper(store_url, f"UPDATE events SET status = '{status}' WHERE id = '{first}'")
    assert await make.claimed() == []
    # It goes on: nobody slips in between.
    tamper(store_url, f"UPDATE events SET status = 'queued', priority = -9 WHERE id = '{first}'")
    assert await claimed(make) == [first]
    assert await make.claimed() == []
    tamper(store_url, f"UPDATE events SET status = 'succeeded' WHERE id = '{first}'")
    assert await claimed(make) == [second]


@pytest.mark.parametrize("ending", ["cancelled", "reaped", "taken back", "dead"])
async def test_whatever_ends_a_turn_frees_the_next(store: Store, make: Any, ending: str) -> None:
    first, second = await turn(make), await turn(make)
    expired = -1000 if ending == "reaped" else HOUR_US
    (one,) = await make.claimed(lease_us=expired, once=frozenset({"triage"}))
    if ending == "cancelled":
        await store.write(Cancel(first, "local"))
        await store.write(Finish(make.record(one, X.CANCELLED)))
    elif ending == "reaped":
        await store.write(Reap(lease_owner="boot-2"))
    elif ending == "taken back":
        await store.write(TakeBack("boot-1"))
    else:
        run = make.execution(one, status=X.FAILED, error=AWAY)
        await store.write(Finish(make.record(one, execution=run)))
    assert await claimed(make) == [second]


async def test_a_full_pipeline_holds_its_sessions_up_and_no_others(make: Any) -> None:
    both = {"triage": ("g1", "c1"), "mail": ("g1", "c1")}
    await turn(make, "a")
    await turn(make, "a", target="mail")
    free = await turn(make, "b", target="mail")
    assert await claimed(make, versions=both, room={"triage": 0}) == [free]


async def test_no_two_turns_of_a_session_can_run_whatever_claims_them(
    store: Store, make: Any, store_url: str
) -> None:
    first, second = await turn(make), await turn(make)
    assert await claimed(make) == [first]
    with pytest.raises(IntegrityError):
        tamper(store_url, f"UPDATE events SET status = 'running' WHERE id = '{second}'")


async def test_many_claims_at_once_keep_every_session_in_order(
    store: Store, make: Any, backend: str, reopen: Callable[[], Store]
) -> None:
    """On PostgreSQL through two stores, as of two hubs."""
    stores = [store] if backend == "sqlite" else [store, reopen()]
    chance = random.Random(7)
    sent: dict[str, list[str]] = {f"s{n}": [] for n in range(6)}
    for _ in range(60):
        session = chance.choice(sorted(sent))
        sent[session].append(await turn(make, session))
    ran: dict[str, list[str]] = {name: [] for name in sent}
    under_way: dict[str, str] = {}

    async def hub(over: Store, boot: str) -> None:
        while sum(map(len, ran.values())) < 60:
            got = await over.write(make.claim_of(limit=4, lease_owner=boot))
            for one in got:
                assert one.session_id not in under_way, "two turns at once"
                under_way[one.session_id] = one.event_id
            await asyncio.sleep(0)
            for one in got:
                under_way.pop(one.session_id)
                ran[one.session_id].append(one.event_id)
                await over.write(Finish(make.record(one, lease_owner=boot)))

    try:
        async with asyncio.timeout(60):
            await asyncio.gather(
                *(hub(over, f"boot-{n}-{m}") for n, over in enumerate(stores) for m in range(3))
            )
    finally:
        for over in stores[1:]:
            await over.close()
    assert ran == sent
    assert (await store.read(CountEvents()))[E.SUCCEEDED] == 60


def tamper(store_url: str, sql: str) -> None:
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(sql))
