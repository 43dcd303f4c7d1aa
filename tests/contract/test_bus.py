"""Every bus keeps the contract; the one over a server also while that comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from holdfast.bus import Bus, MemoryBus, Notice
from holdfast.bus import redis as redis_bus
from holdfast.bus.base import CANCEL, ENDED, GAP, QUEUED
from holdfast.bus.in_process import Exchange
from holdfast.bus.redis import RedisBus
from holdfast.bus.registry import open_bus
from holdfast.errors import HubSilent, SettingsError
from holdfast.telemetry import Metrics
from holdfast.testing.contracts.bus import BusContract, Heard, silent
from holdfast.testing.valkey import Valkey


class TestMemoryBus(BusContract):
    @pytest.fixture
    def exchange(self) -> Exchange:
        return Exchange()

    @pytest.fixture
    async def one(self, exchange: Exchange) -> AsyncIterator[Bus]:
        bus = MemoryBus("one", exchange)
        await bus.start()
        yield bus
        await bus.close()

    @pytest.fixture
    async def two(self, exchange: Exchange) -> AsyncIterator[Bus]:
        bus = MemoryBus("two", exchange)
        await bus.start()
        yield bus
        await bus.close()


@pytest.fixture
def space() -> str:
    return f"test-{uuid4().hex}"


class TestRedisBus(BusContract):
    @pytest.fixture
    async def one(self, redis_url: str, space: str) -> AsyncIterator[Bus]:
        async for bus in joined(redis_url, "one", space):
            yield bus

    @pytest.fixture
    async def two(self, redis_url: str, space: str) -> AsyncIterator[Bus]:
        async for bus in joined(redis_url, "two", space):
            yield bus

    async def test_hubs_of_another_database_hear_nothing(
        self, one: Bus, two: Bus, redis_url: str
    ) -> None:
        async for foreign in joined(redis_url, "two", f"test-{uuid4().hex}"):
            strange, heard = Heard(foreign, ENDED, CANCEL), Heard(two, ENDED, CANCEL)
            one.publish(Notice(ENDED, "a"))
            one.publish(Notice(CANCEL, "b"))
            await heard.until(Notice(ENDED, "a"), Notice(CANCEL, "b"))
            foreign.publish(Notice(ENDED, "c"))
            await strange.until(Notice(ENDED, "c"))
            assert strange.notices == [Notice(ENDED, "c")]

    async def test_rings_for_the_queue_are_one(self, one: RedisBus, two: Bus) -> None:
        rung = Heard(two, QUEUED, ENDED)
        for number in range(1000):
            one.publish(Notice(QUEUED, f"e{number}"))
        one.publish(Notice(ENDED, "last"))
        await rung.until(Notice(ENDED, "last"))
        assert rung.notices == [Notice(QUEUED), Notice(ENDED, "last")]

    async def test_rings_for_an_agent_say_which(self, one: RedisBus, two: Bus) -> None:
        rung = Heard(two, QUEUED, ENDED)
        for number in range(1000):
            one.publish(Notice(QUEUED, f"e{number}", target="ab"[number % 2]))
        one.publish(Notice(ENDED, "last", session_id="s"))
        await rung.until(Notice(ENDED, "last", session_id="s"))
        rings = [Notice(QUEUED, target="a"), Notice(QUEUED, target="b")]
        assert rung.notices == [*rings, Notice(ENDED, "last", session_id="s")]

    async def test_what_is_sent_right_before_closing_arrives(self, one: Bus, two: Bus) -> None:
        heard = Heard(two, ENDED, CANCEL)
        one.publish(Notice(ENDED, "a"))
        one.publish(Notice(CANCEL, "b"))
        await one.close()
        await heard.until(Notice(ENDED, "a"), Notice(CANCEL, "b"))

    async def test_what_is_just_being_sent_when_it_closes_arrives(
        self, one: RedisBus, two: Bus
    ) -> None:
        heard = Heard(two, ENDED)
        one.publish(Notice(ENDED, "a"))
        while one._rings:
            await asyncio.sleep(0)
        await one.close()
        await heard.until(Notice(ENDED, "a"))


async def joined(
    url: str, hub: str, space: str, metrics: Metrics | None = None
) -> AsyncIterator[RedisBus]:
    bus = RedisBus(url, hub=hub, space=space, metrics=metrics or Metrics())
    await bus.start()
    yield bus
    await bus.close()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_bus, "RETRY_S", (0.01,))
    monkeypatch.setattr(redis_bus, "FLUSH_S", 0.05)


@pytest.mark.usefixtures("quick")
async def test_commands_given_while_the_server_is_away_arrive_and_lost_rings_are_told_of(
    valkey: Valkey, space: str
) -> None:
    metrics = Metrics()
    async for one in joined(valkey.url, "one", space, metrics):
        async for two in joined(valkey.url, "two", space):
            heard, lost = Heard(two, CANCEL, ENDED), Heard(two, GAP)
            one.publish(Notice(CANCEL, "e", "before"))
            await heard.until(Notice(CANCEL, "e", "before"))
            lost.notices.clear()
            async with one._sending:  # else it would not know, and say it again
                valkey.kill()
            one.publish(Notice(CANCEL, "e", "during"))
            one.publish(Notice(ENDED, "during"))
            assert "away" in await silent(one, "two")
            async with asyncio.timeout(10):
                while metrics.get("holdfast_bus_up") or "send_all" not in one._away:
                    await asyncio.sleep(0.01)
            valkey.start()
            await lost.until(Notice(GAP))
            await heard.until(Notice(CANCEL, "e", "during"))
            one.publish(Notice(CANCEL, "e", "after"))
            await heard.until(Notice(CANCEL, "e", "after"))
            commands = [n.execution_id for n in heard.notices if n.topic == CANCEL]
            assert commands == ["before", "during", "after"]
            async with asyncio.timeout(10):
                while not metrics.get("holdfast_bus_up"):
                    await asyncio.sleep(0.01)


@pytest.mark.usefixtures("quick")
async def test_a_server_that_has_forgotten_everything_is_joined_again(
    valkey: Valkey, space: str, tmp_path: Path
) -> None:
    async for one in joined(valkey.url, "one", space):
        async for two in joined(valkey.url, "two", space):
            heard, lost = Heard(two, CANCEL), Heard(two, GAP)
            one.publish(Notice(CANCEL, "e", "before"))
            await heard.until(Notice(CANCEL, "e", "before"))
            valkey.kill()
            for file in (tmp_path / "appendonlydir").iterdir():
                file.unlink()
            lost.notices.clear()
            assert two._position is not None
            two._position = b"9" + two._position  # as if its clock had been turned back, too
            valkey.start()
            await lost.until(Notice(GAP))
            one.publish(Notice(CANCEL, "e", "after"))
            await heard.until(Notice(CANCEL, "e", "after"))


@pytest.mark.usefixtures("quick")
async def test_a_hub_starts_without_the_server_and_finds_it_later(
    valkey: Valkey, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_bus, "CALL_S", 0.3)
    valkey.kill()
    async for one in joined(valkey.url, "one", space):
        one.publish(Notice(CANCEL, "e", "early"))
        with pytest.raises(HubSilent):
            await one.ask("two", "anything", {})
        assert not one.joined
        found = Heard(one, GAP)
        valkey.start()
        await found.until(Notice(GAP))
        async with asyncio.timeout(10):
            while not one.joined:
                await asyncio.sleep(0.01)


@pytest.mark.usefixtures("quick")
async def test_too_many_rings_become_one_that_says_look(
    valkey: Valkey, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_bus, "MOST_WAITING", 100)
    metrics = Metrics()
    async for one in joined(valkey.url, "one", space, metrics):
        async for two in joined(valkey.url, "two", space):
            heard = Heard(two, ENDED, GAP)
            for number in range(101):
                one.publish(Notice(ENDED, f"e{number}"))
            one.publish(Notice(ENDED, "last"))
            await heard.until(Notice(GAP), Notice(ENDED, "last"))
            assert heard.notices == [Notice(GAP), Notice(ENDED, "last")]
            assert metrics.get("holdfast_bus_dropped_total") == 101


@pytest.mark.usefixtures("quick")
async def test_a_server_that_stands_still_is_noticed(
    space: str, monkeypatch: pytest.MonkeyPatch, valkey: Valkey
) -> None:
    monkeypatch.setattr(redis_bus, "PING_S", 0.05)
    monkeypatch.setattr(redis_bus, "CALL_S", 0.5)
    async for one in joined(valkey.url, "one", space):
        again = Heard(one, GAP)
        valkey.freeze()
        async with asyncio.timeout(10):
            while "hear" not in one._away:
                await asyncio.sleep(0.01)
        valkey.thaw()
        await again.until(Notice(GAP))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("amqp://localhost", "amqp is not a bus"),
        ("localhost:6379", "localhost:6379 is not a bus"),
        ("", "an empty text"),
        ("redis://localhost:port", "HOLDFAST_BUS_URL: "),
        ("redis://localhost?unheard=1", "HOLDFAST_BUS_URL: .*unheard"),
    ],
)
def test_a_wrong_address_is_refused(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        open_bus(url, hub="one", space="s", metrics=Metrics())


def test_without_an_address_the_bus_is_in_this_process() -> None:
    assert isinstance(open_bus(None, hub="one", space="s", metrics=Metrics()), MemoryBus)
