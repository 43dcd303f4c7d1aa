"""Context caches in the store: of many that ask one makes it; what it saved and cost adds up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from holdfast.domain.context_cache import AskForCache, CacheStatus, ContextCache, TellOfCache
from holdfast.domain.ids import MICROS
from holdfast.domain.savings import Saving, day_of
from holdfast.store import Store
from holdfast.store.commands import CacheAccount, CacheMoved, Finish, MoveCache
from holdfast.store.queries import AllCaches, SavingsOf

OF = ContextCache(key="k1", provider="google", model="gemini-3.8-flash", prompt="mail.parse:parse")
ACCOUNT = CacheAccount(owner_id="local", pipeline="mail.parse", hour_pico=1_000_000)
HOUR = 3600 * MICROS


async def moved(store: Store, move: Any, account: CacheAccount = ACCOUNT) -> CacheMoved:
    return await store.write(MoveCache(OF, move, account))


def made(lease: str, resource: str, lasts_us: int = HOUR) -> TellOfCache:
    return TellOfCache(lease=lease, resource=resource, tokens=1500, lasts_us=lasts_us)


async def savings(store: Store, owner: str = "local") -> list[Saving]:
    return await store.read(SavingsOf(owner, "2000-01-01", "2999-12-31", 100))


async def test_one_of_many_that_ask_makes_it(store: Store) -> None:
    asked = await asyncio.gather(*(moved(store, AskForCache(lease=f"l{at}")) for at in range(20)))
    assert sum(one.moved for one in asked) == 1
    assert {one.cache.status for one in asked} == {CacheStatus.MAKING}
    lease = asked[0].cache.lease
    assert lease is not None
    assert (await moved(store, made(lease, "caches/1"))).moved
    again = await moved(store, AskForCache(lease="late"))
    assert (again.moved, again.cache.resource) == (False, "caches/1")
    (listed,) = await store.read(AllCaches(10))
    assert listed == again.cache


async def test_what_a_maker_tells_after_its_lease_counts_for_nothing(store: Store) -> None:
    await moved(store, AskForCache(lease="first"))
    await moved(store, TellOfCache(lease="first", lasts_us=0))  # its run has ended
    assert (await moved(store, AskForCache(lease="second"))).moved
    assert not (await moved(store, made("first", "caches/late"))).moved
    assert (await moved(store, made("second", "caches/2"))).cache.resource == "caches/2"


async def test_a_lost_one_is_made_once_more(store: Store) -> None:
    await moved(store, AskForCache(lease="first"))
    await moved(store, made("first", "caches/1"))
    lost = [await moved(store, AskForCache(lease=f"l{at}", lost="caches/1")) for at in range(3)]
    assert [one.moved for one in lost] == [True, False, False]
    await moved(store, made("l0", "caches/2"))
    late = await moved(store, AskForCache(lease="late", lost="caches/1"))
    assert (late.moved, late.cache.resource) == (False, "caches/2")


async def test_storage_is_paid_until_its_end_and_given_back_when_it_is_lost(store: Store) -> None:
    await moved(store, AskForCache(lease="first"))
    await moved(store, made("first", "caches/1"))
    (saving,) = await savings(store)
    assert (saving.storage_token_s, saving.storage_pico) == (1500 * 3600, 1500 * 1_000_000)
    assert (saving.prompt, saving.pipeline) == ("mail.parse:parse", "mail.parse")
    await moved(store, AskForCache(lease="second", lost="caches/1"))
    (saving,) = await savings(store)
    assert 0 <= saving.storage_pico < 1500 * 1_000_000 // 100, "it was kept for a moment only"


async def test_a_storage_of_unknown_price_is_counted_and_not_free(store: Store) -> None:
    unknown = replace(ACCOUNT, hour_pico=None)
    await moved(store, AskForCache(lease="first"), unknown)
    await moved(store, made("first", "caches/1"), unknown)
    (saving,) = await savings(store)
    assert (saving.storage_pico, saving.unpriced) == (0, 1)


async def test_savings_come_with_the_record_and_only_once(store: Store, make: Any) -> None:
    claimed = await make.running()
    record = make.record(claimed)
    saving = Saving(
        day=day_of(claimed.started_at),
        owner_id=claimed.owner_id,
        prompt="p:n",
        pipeline="p",
        provider="openai",
        model="m",
        hits=2,
        tokens_read=3000,
        saved_pico=7,
    )
    record = replace(record, savings=(saving,))
    await store.write(Finish(record))
    await store.write(Finish(record))  # a journal that is replayed
    assert await savings(store, claimed.owner_id) == [saving]
    assert await savings(store, "somebody else") == []
    claimed = await make.running()
    await store.write(Finish(replace(make.record(claimed), savings=(saving, saving))))
    (sums,) = await savings(store, claimed.owner_id)
    assert (sums.hits, sums.tokens_read, sums.saved_pico) == (6, 9000, 21)
