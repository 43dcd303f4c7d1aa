"""A model's minute on every database: several hubs take of it, none twice."""

from __future__ import annotations

import asyncio
from typing import Any

from holdfast.domain.limits import Wanted
from holdfast.store import Store
from holdfast.store.commands import TakeCalls


def take(name: str = "m", **more: Any) -> TakeCalls:
    wanted = Wanted(requests=40, most=None, tokens=0)
    return TakeCalls(**{"name": name, "wanted": wanted, **more})


async def test_slices_taken_at_once_are_never_more_than_there_is(store: Store) -> None:
    found = await asyncio.gather(*(store.write(take()) for _ in range(60)))
    at_once = [one for one in found if one is not None and one.at is not None and not one.wait_us]
    assert sum(one.calls for one in at_once) == 40


async def test_what_is_given_back_can_be_taken(store: Store) -> None:
    one = Wanted(requests=1, most=None, tokens=0)
    first = await store.write(take(wanted=one))
    assert first is not None
    assert first.at is not None
    full = await store.write(take(wanted=one))
    assert full is not None
    assert (full.at, full.wait_us > 0) == (None, True)
    assert await store.write(take(wanted=None, back={first.at: (1, 0)})) is None
    again = await store.write(take(wanted=one))
    assert again is not None
    assert (again.calls, again.wait_us) == (1, 0)


async def test_models_have_minutes_of_their_own(store: Store) -> None:
    one = Wanted(requests=1, most=None, tokens=0)
    found = await asyncio.gather(*(store.write(take(f"m{n}", wanted=one)) for n in range(3)))
    assert [(one.calls, one.wait_us) for one in found if one is not None] == [(1, 0)] * 3


async def test_no_pipelines_rate_is_full_because_of_a_model(store: Store, make: Any) -> None:
    await store.write(take("triage", wanted=Wanted(requests=1, most=None, tokens=0)))
    assert await make.running()
