"""Rates of pipelines: counted per owner, over all hubs, with nobody hidden behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from holdfast.domain.rates import Rate
from holdfast.domain.status import EventStatus
from holdfast.store import Store
from holdfast.store.commands import Finish, Wake
from holdfast.store.queries import CountEvents, EventById

HOUR = Rate.of("3/h")
BOTH = {"triage": ("g1", "c1"), "mail": ("g1", "c1")}
RATES = {"triage": HOUR}


async def test_no_more_begin_than_the_rate_lets(store: Store, make: Any) -> None:
    sent = [(await make.submitted()).id for _ in range(5)]
    claimed = await make.claimed(rates=RATES, limit=2)
    assert [one.event_id for one in claimed] == sent[:2]
    claimed += await make.claimed(rates=RATES)
    assert [one.event_id for one in claimed] == sent[:3]
    for one in claimed:  # that they have ended changes nothing
        await store.write(Finish(make.record(one)))
    assert await make.claimed(rates=RATES) == []
    event = await store.read(EventById(sent[3], "local"))
    assert (event.status, event.deliveries) == (EventStatus.QUEUED, 0)
    woken = await store.write(Wake(versions={}))
    assert woken.next_in_us is not None
    assert 0 < woken.next_in_us <= HOUR.span_us * 1.02
    assert not woken.ready


async def test_each_owner_has_their_own(make: Any) -> None:
    for owner in ("local", "eve"):
        for _ in range(4):
            await make.submitted(owner_id=owner)
    claimed = await make.claimed(rates=RATES, limit=20)
    assert sorted(one.owner_id for one in claimed) == ["eve"] * 3 + ["local"] * 3


async def test_a_full_one_hides_nobody_behind_it(make: Any) -> None:
    for _ in range(40):
        await make.submitted(priority=5)
    mail = {(await make.submitted(target="mail")).id for _ in range(4)}
    eve = (await make.submitted(owner_id="eve")).id
    claimed = await make.claimed(versions=BOTH, rates=RATES, limit=8)
    assert [one.target for one in claimed].count("triage") == 4
    assert {one.event_id for one in claimed} >= {*mail, eve}
    assert await make.claimed(versions=BOTH, rates=RATES, limit=8) == []


async def test_it_goes_with_the_room_there_is(make: Any) -> None:
    for _ in range(5):
        await make.submitted()
    assert len(await make.claimed(rates=RATES, room={"triage": 1})) == 1
    assert len(await make.claimed(rates=RATES)) == 2


async def test_when_the_time_is_over_the_next_may_begin(store: Store, make: Any) -> None:
    quick = {"triage": Rate(1, 1000)}  # one in a millisecond
    sent = [(await make.submitted()).id for _ in range(3)]
    ran: list[str] = []
    async with asyncio.timeout(20):
        while len(ran) < 3:
            ran += [one.event_id for one in await make.claimed(rates=quick)]
    assert ran == sent
    async with asyncio.timeout(20):
        while not (await store.write(Wake(versions={}))).ready:
            pass


async def test_two_hubs_share_one_rate(
    store: Store, make: Any, backend: str, reopen: Callable[[], Store]
) -> None:
    stores = [store] if backend == "sqlite" else [store, reopen()]
    owners = ("a", "b", "c")
    for owner in owners:
        for _ in range(10):
            await make.submitted(owner_id=owner)
    try:
        claims = await asyncio.gather(
            *(
                over.write(make.claim_of(rates=RATES, limit=4, lease_owner=f"boot-{n}"))
                for _ in range(8)
                for n, over in enumerate(stores)
            )
        )
    finally:
        for over in stores[1:]:
            await over.close()
    claimed = [one.owner_id for claim in claims for one in claim]
    claimed += [one.owner_id for one in await make.claimed(rates=RATES, limit=30)]
    assert {owner: claimed.count(owner) for owner in owners} == dict.fromkeys(owners, 3)
    assert (await store.read(CountEvents()))[EventStatus.RUNNING] == 9
