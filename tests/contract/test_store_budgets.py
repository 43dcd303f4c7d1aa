"""Budgets: set aside under one lock, against a ledger that grows with the records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import pytest

from holdfast.domain.budgets import Account, NewBudget, Period, Scope, Unit, account_for
from holdfast.domain.hubs import NewHub, Role
from holdfast.domain.ids import now_us
from holdfast.domain.usage import Sums, UsageLine, day_of
from holdfast.errors import NotFound
from holdfast.store import Store
from holdfast.store.commands import (
    Finish,
    FoldUsage,
    GiveBackAllowances,
    HubBeat,
    HubLeft,
    PutBudget,
    RemoveBudget,
    TakeAllowance,
)
from holdfast.store.queries import AllBudgets, BudgetsNow, WaitingFor


def new(**fields: Any) -> NewBudget:
    values: dict[str, Any] = {
        "owner_id": "local",
        "scope": Scope.OWNER,
        "subject": "",
        "period": Period.DAY,
        "unit": Unit.CREDITS,
        "amount": 5,
    }
    return NewBudget(**(values | fields))


async def account(store: Store, subject: str = "", **fields: Any) -> Account:
    stored = await store.write(PutBudget(new(subject=subject, **fields)))
    return account_for(stored, now_us()) or _never()


def _never() -> NoReturn:
    raise AssertionError("it has no account of its own")


async def alive(store: Store, *hubs: str) -> None:
    for hub in hubs:
        about = NewHub(id=hub, kind="hub", roles=(Role.API,), host="h", pid=1, version="1")
        await store.write(HubBeat(about))


async def take(store: Store, of: Account, hub: str, need: int) -> int:
    return (await store.write(TakeAllowance(of, hub, need))).granted


def line(day: int | None = None, **sums: int) -> UsageLine:
    return UsageLine(day=day_of(now_us()) if day is None else day, sums=Sums(calls=1, **sums))


async def test_a_budget_is_set_changed_and_removed(store: Store) -> None:
    first = await store.write(PutBudget(new()))
    again = await store.write(PutBudget(new(amount=7)))
    assert (again.id, again.amount) == (first.id, 7)
    other = await store.write(PutBudget(new(owner_id="b")))
    assert [one.id for one in await store.read(AllBudgets())] == [other.id, first.id]
    with pytest.raises(NotFound):
        await store.write(RemoveBudget(first.id, "b"))
    await store.write(RemoveBudget(first.id, "local"))
    assert await store.read(BudgetsNow("local")) == []


async def test_no_more_is_set_aside_than_there_is(store: Store) -> None:
    of = await account(store)
    await alive(store, "one", "two")
    takes = (take(store, of, hub, 1) for hub in ("one", "two") * 4)
    assert sum(await asyncio.gather(*takes)) == 5
    (now,) = await store.read(BudgetsNow("local"))
    assert (now.spent, now.set_aside) == (0, 5)
    await store.write(GiveBackAllowances("one", ((of.key, 1),)))
    assert await take(store, of, "two", 2) == 0
    assert await take(store, of, "two", 1) == 1


async def test_of_much_more_than_it_needs_a_hub_gets_a_slice(store: Store) -> None:
    of = await account(store, amount=16_000, unit=Unit.TOKENS)
    assert await take(store, of, "one", 10) == 1000
    assert await take(store, of, "one", 14_000) == 14_000
    assert await take(store, of, "one", 1001) == 0


async def test_what_hubs_that_died_had_set_aside_is_free(store: Store, store_url: str) -> None:
    of = await account(store)
    await alive(store, "one", "two")
    assert await take(store, of, "one", 5) == 5
    assert await take(store, of, "two", 1) == 0
    await store.write(HubLeft("one"))
    assert await take(store, of, "two", 1) == 1
    assert await take(store, of, "never seen", 4) == 4
    assert await take(store, of, "two", 4) == 4  # nobody has heard of the other


async def test_a_removed_budget_limits_nothing(store: Store) -> None:
    of = await account(store)
    assert of.budget_id is not None
    await store.write(RemoveBudget(of.budget_id, "local"))
    assert (await store.write(TakeAllowance(of, "one", 1000))).gone


async def test_a_record_moves_what_was_set_aside_into_the_ledger(store: Store, make: Any) -> None:
    of = await account(store)
    await alive(store, "boot-1", "two")
    claimed = await make.running()
    assert await take(store, of, "boot-1", 3) == 3
    record = make.record(claimed, usage=(line(credits=2),), released=((of.key, 3),))
    await store.write(Finish(record))
    await store.write(Finish(record))
    (now,) = await store.read(BudgetsNow("local"))
    assert (now.spent, now.set_aside) == (2, 0)
    assert await take(store, of, "two", 4) == 0
    assert await take(store, of, "two", 3) == 3


@pytest.mark.parametrize("fold", [False, True])
async def test_what_a_budget_counts(store: Store, make: Any, fold: bool) -> None:
    today = day_of(now_us())
    lines = (
        line(tokens_input=10, tokens_output=5, cost_pico=7, credits=1),
        line(held_tokens=100, held_pico=50),
        line(day=today - 40, tokens_input=1000, credits=9),
    )
    await make.submitted(session_id="s1")
    (claimed,) = await make.claimed()
    execution = make.execution(claimed, session_id="s1")
    await store.write(Finish(replace(make.record(claimed, usage=lines), execution=execution)))
    if fold:
        await store.write(FoldUsage())

    async def spent(**words: Any) -> int:
        of = await account(store, **words)
        return (await store.write(TakeAllowance(of, "one", 10**6))).spent

    assert await spent(unit=Unit.TOKENS) == 115
    assert await spent(unit=Unit.USD) == 57
    assert await spent(unit=Unit.CREDITS) == 1
    assert await spent(period=Period.EVER) == 10
    assert await spent(scope=Scope.PIPELINE, subject="triage") == 1
    assert await spent(scope=Scope.PIPELINE, subject="other") == 0
    assert await spent(scope=Scope.AGENT, subject="triage") == 0
    assert await spent(scope=Scope.SESSION, subject="s1", period=Period.EVER) == 10
    assert await spent(scope=Scope.SESSION, subject="s2") == 0
    assert await spent(owner_id="b") == 0
    of = Account(
        key="event",
        title="an execution",
        unit=Unit.CREDITS,
        limit=100,
        owner_id="local",
        scope=Scope.EXECUTION,
        subject=claimed.event_id,
        since=0,
    )
    assert (await store.write(TakeAllowance(of, "one", 91))).spent == 10
    assert await take(store, of, "one", 90) == 90


async def test_nobody_waits_for_what_was_not_started_by_another(store: Store, make: Any) -> None:
    claimed = await make.running()
    (found,) = await store.read(WaitingFor(claimed.execution_id, "local"))
    assert (found.event_id, found.name) == (claimed.event_id, "triage")
    assert await store.read(WaitingFor(claimed.execution_id, "b")) == []


async def test_what_is_set_aside_lasts_over_a_restart_of_the_store(
    store: Store, reopen: Callable[[], Store]
) -> None:
    of = await account(store)
    await alive(store, "one")
    assert await take(store, of, "one", 4) == 4
    await store.close()
    again = reopen()
    try:
        assert await take(again, of, "two", 2) == 0
    finally:
        await again.close()
