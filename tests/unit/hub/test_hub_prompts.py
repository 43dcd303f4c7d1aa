"""What a hub knows of labels while others move them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.bus import Notice
from holdfast.bus.base import PROMPTS
from holdfast.bus.in_process import MemoryBus
from holdfast.domain.prompts import Label
from holdfast.errors import StoreError
from holdfast.hub.prompts import Prompts


class Labels:
    """A store whose answers take as long as a test wants; each is what stood when it was asked."""

    def __init__(self) -> None:
        self.hash = "a"
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = asyncio.Event()
        self.away = False

    async def read(self, _: Any) -> list[Label]:
        if self.away:
            raise StoreError("away")
        found = Label(
            owner_id="o", name="n", label="production", hash=self.hash, moved_at=1, moved_by="me"
        )
        self.asked.set()
        await self.may_answer.wait()
        return [found]


@pytest.fixture
def store() -> Labels:
    return Labels()


@pytest.fixture
async def prompts(store: Labels) -> Any:
    kit: Any = SimpleNamespace(
        store=store, bus=MemoryBus("hub"), registry=SimpleNamespace(prompts=())
    )
    made = Prompts(kit)
    await made.start()
    yield made
    await made.close()


def stands(prompts: Prompts) -> str:
    return prompts._labels["o", "n", "production"]


def moved(prompts: Prompts) -> None:
    prompts._kit.bus.publish(Notice(PROMPTS))


async def test_a_claim_waits_for_the_look_that_a_notice_began(
    prompts: Prompts, store: Labels
) -> None:
    store.asked.clear()
    store.may_answer.clear()
    store.hash = "b"
    moved(prompts)
    await store.asked.wait()  # the look in the background has begun, and not ended
    claim = asyncio.create_task(prompts.refresh())
    await asyncio.sleep(0)
    assert not claim.done()
    store.may_answer.set()
    await claim
    assert stands(prompts) == "b"


async def test_a_slow_look_does_not_undo_a_later_one(prompts: Prompts, store: Labels) -> None:
    store.asked.clear()
    store.may_answer.clear()
    moved(prompts)
    await store.asked.wait()  # it was told of "a"
    store.hash = "b"
    moved(prompts)
    claim = asyncio.create_task(prompts.refresh())
    await asyncio.sleep(0)
    store.may_answer.set()
    await claim
    assert stands(prompts) == "b"


async def test_while_the_database_is_away_the_notice_is_not_forgotten(
    prompts: Prompts, store: Labels
) -> None:
    store.hash, store.away = "b", True
    moved(prompts)
    with pytest.raises(StoreError):
        await prompts.refresh()
    store.away = False
    await prompts.refresh()
    assert stands(prompts) == "b"


async def test_nothing_is_asked_when_nothing_has_moved(prompts: Prompts, store: Labels) -> None:
    store.asked.clear()
    await prompts.refresh()
    assert not store.asked.is_set()
