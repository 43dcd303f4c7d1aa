"""Processes: one hub holds each, by the store's clock and under a fence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from holdfast.domain.agents import Process, ProcessStatus
from holdfast.domain.ids import now_us
from holdfast.errors import NotFound
from holdfast.store import Store
from holdfast.store.commands import (
    BeatProcesses,
    DeleteAgent,
    MoveProcess,
    ReturnProcesses,
    TakeProcesses,
    WantProcess,
)
from holdfast.store.queries import AllProcesses, Processes, ProcessesLeft, ProcessOf
from holdfast.store.registry import address, open_store

from .agents_make import Talk
from .conftest import HOUR

P = ProcessStatus
ERROR = {"code": "start_failed", "message": "no module named tools"}


class Room:
    """Hubs and the agents they want to hold."""

    def __init__(self, store: Store, url: str) -> None:
        self.store = store
        self.url = url
        self.talk = Talk(store)

    async def agent(self, name: str = "helper", **fields: Any) -> str:
        return (await self.talk.agent(name=name, **fields)).id

    async def take(
        self, *targets: str, hub: str = "hub-1", lease_us: int = HOUR, over: Store | None = None
    ) -> list[Process]:
        return await (over or self.store).write(
            TakeProcesses(
                kind="agent",
                targets=[(target, "local") for target in targets],
                hub=hub,
                host=f"host of {hub}",
                lease_us=lease_us,
            )
        )

    async def want(self, target: str, wanted: Any = "on", **fields: Any) -> Process:
        values = {"kind": "agent", "target": target, "owner_id": "local", "wanted": wanted}
        return await self.store.write(WantProcess(**(values | fields)))

    async def move(self, of: Process, status: ProcessStatus, **fields: Any) -> bool:
        values = {"kind": of.kind, "target": of.target, "hub": of.hub, "fence": of.fence}
        return await self.store.write(MoveProcess(status=status, **(values | fields)))

    async def beat(self, *held: Process, hub: str = "hub-1", **fields: Any) -> list[Process]:
        rows = [(one.kind, one.target, one.fence, fields.get("at")) for one in held]
        lease_us = fields.get("lease_us", HOUR)
        return await self.store.write(BeatProcesses(hub=hub, held=rows, lease_us=lease_us))

    async def stands(self, target: str) -> Process:
        found = await self.store.read(ProcessOf("agent", target, "local"))
        assert found is not None
        return found

    def pass_time(self) -> None:
        """All leases are over."""
        engine = create_engine(address(self.url).sqlalchemy_url, poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text("UPDATE processes SET lease_until = 1 WHERE hub IS NOT NULL"))


@pytest.fixture
def room(store: Store, store_url: str) -> Room:
    return Room(store, store_url)


@pytest.fixture
async def other(store: Store, backend: str, reopen: Callable[[], Store]) -> AsyncIterator[Store]:
    """A second hub's store; SQLite knows one hub."""
    if backend == "sqlite":
        yield store
        return
    opened = reopen()
    yield opened
    await opened.close()


async def test_asking_changes_nothing(store: Store, room: Room) -> None:
    agent = await room.agent()
    assert await store.read(ProcessOf("agent", agent, "local")) is None
    assert await store.read(Processes("local")) == []
    await room.take(agent)
    await room.move(await room.stands(agent), P.ERROR, last_error=ERROR)
    before = await room.stands(agent)
    assert await store.read(Processes("local")) == [before]
    assert await room.stands(agent) == before


async def test_what_is_taken_is_held(store: Store, room: Room) -> None:
    agent = await room.agent()
    (taken,) = await room.take(agent)
    assert (taken.status, taken.wanted, taken.hub, taken.fence) == (P.STARTING, "on", "hub-1", 1)
    assert (taken.host, taken.restarts, taken.asked) == ("host of hub-1", 0, 0)
    assert taken == await room.stands(agent)
    assert await room.take(agent, hub="hub-2") == []
    assert await room.stands(agent) == taken


async def test_of_many_hubs_one_takes_it(store: Store, room: Room, other: Store) -> None:
    agents = [await room.agent(f"a{n}") for n in range(5)]
    hubs = [(store if n % 2 else other, f"hub-{n}") for n in range(8)]
    results = await asyncio.gather(*(room.take(*agents, hub=hub, over=s) for s, hub in hubs))
    taken = [one for result in results for one in result]
    assert sorted(one.target for one in taken) == sorted(agents)
    assert {one.fence for one in taken} == {1}
    for one in taken:
        assert (await room.stands(one.target)).hub == one.hub


async def test_who_holds_it_already_keeps_the_fence(room: Room) -> None:
    agent = await room.agent()
    (taken,) = await room.take(agent)
    await room.move(taken, P.RUNNING, pid=7, version=1)
    (again,) = await room.take(agent)
    assert (again.fence, again.status, again.pid) == (1, P.RUNNING, 7)


async def test_a_lease_that_is_over_goes_to_the_next_and_the_first_is_fenced_off(
    store: Store, room: Room
) -> None:
    agent = await room.agent()
    (mine,) = await room.take(agent)
    await room.move(mine, P.RUNNING, pid=7, version=3, started_at=1, ready_at=2, restarts=2)
    assert [one.fence for one in await room.beat(mine, at=99)] == [1]
    assert (await room.stands(agent)).heartbeat_at == 99
    room.pass_time()
    (theirs,) = await room.take(agent, hub="hub-2")
    assert (theirs.fence, theirs.hub, theirs.host) == (2, "hub-2", "host of hub-2")
    assert (theirs.status, theirs.restarts) == (P.STARTING, 2)
    assert (theirs.pid, theirs.version, theirs.started_at) == (None, None, None)
    assert (theirs.ready_at, theirs.heartbeat_at) == (None, None)
    stands = await room.stands(agent)
    assert not await room.move(mine, P.ERROR, last_error=ERROR)
    assert await room.beat(mine) == []
    assert await store.write(ReturnProcesses("hub-1")) == 0
    assert await room.stands(agent) == stands
    assert await room.move(theirs, P.RUNNING, pid=8)
    # It has them again, once they are free: what it wrote under the old fence still counts not.
    await store.write(ReturnProcesses("hub-2"))
    (anew,) = await room.take(agent)
    assert anew.fence == 3
    assert not await room.move(mine, P.RUNNING, pid=7)
    assert await room.beat(mine) == []


async def test_a_beat_keeps_the_lease_and_tells_what_is_wanted(room: Room) -> None:
    agent = await room.agent()
    (taken,) = await room.take(agent, lease_us=1)
    assert taken.lease_until is not None
    (beaten,) = await room.beat(taken)
    assert beaten.lease_until is not None
    assert beaten.lease_until > taken.lease_until + HOUR / 2
    assert await room.take(agent, hub="hub-2") == [], "late, but nobody had taken it"
    await room.want(agent, "off")
    await room.want(agent, "on", ask_restart=True)
    await room.want(agent, "off", ask_restart=True)
    (beaten,) = await room.beat(taken)
    assert (beaten.wanted, beaten.asked, beaten.status) == ("off", 2, P.STARTING)


async def test_what_is_to_be_off_is_left_alone(room: Room) -> None:
    agent = await room.agent()
    wanted = await room.want(agent, "off")
    assert (wanted.status, wanted.wanted) == (P.STOPPED, "off")
    assert await room.take(agent) == []
    await room.want(agent)
    assert len(await room.take(agent)) == 1


async def test_what_was_given_up_waits_for_a_person(store: Store, room: Room) -> None:
    agent = await room.agent()
    (taken,) = await room.take(agent)
    assert await room.move(taken, P.ERROR, last_error=ERROR, restarts=5)
    assert await store.write(ReturnProcesses("hub-1", [("agent", agent)])) == 1
    stands = await room.stands(agent)
    assert (stands.status, stands.last_error, stands.restarts) == (P.ERROR, ERROR, 5)
    assert stands.hub is None
    assert await room.take(agent) == []
    assert await room.take(agent, hub="hub-2") == []
    wanted = await room.want(agent)
    assert (wanted.status, wanted.restarts, wanted.last_error) == (P.STOPPED, 0, ERROR)
    (again,) = await room.take(agent)
    assert (again.fence, again.restarts) == (2, 0)


@pytest.mark.parametrize("before", ["nothing", "stopped", "error"])
async def test_who_asks_for_a_restart_is_found_by_any_hub(
    store: Store, room: Room, before: str
) -> None:
    agent = await room.agent()
    if before != "nothing":
        (taken,) = await room.take(agent)
        await room.move(taken, P(before), last_error=ERROR, restarts=3)
        await store.write(ReturnProcesses("hub-1"))
    assert await store.read(ProcessesLeft("agent")) == []
    wanted = await room.want(agent, ask_restart=True)
    assert (wanted.status, wanted.hub, wanted.restarts) == (P.STARTING, None, 0)
    assert (wanted.last_error, wanted.asked) == (None, 1)
    assert await store.read(ProcessesLeft("agent")) == [(agent, "local", P.STARTING)]
    assert len(await room.take(agent)) == 1
    assert await store.read(ProcessesLeft("agent")) == []
    await room.want(agent, "off")
    room.pass_time()
    assert await store.read(ProcessesLeft("agent")) == [], "it is to be off"
    await room.want(agent, "on")
    assert await store.read(ProcessesLeft("agent")) == [(agent, "local", P.STARTING)]
    assert await store.read(ProcessesLeft("bridge")) == []


async def test_a_clean_stop_lets_go(store: Store, room: Room) -> None:
    a, b, c = [await room.agent(name) for name in "abc"]
    held = await room.take(a, b)
    await room.take(c, hub="hub-2")
    await room.move(held[0], P.RUNNING, pid=1, version=2)
    assert await store.write(ReturnProcesses("hub-1", [("agent", a)])) == 1
    stands = await room.stands(a)
    assert (stands.status, stands.hub, stands.lease_until) == (P.STOPPED, None, None)
    assert stands.pid is None
    assert (await room.stands(b)).hub == "hub-1"
    assert await store.write(ReturnProcesses("hub-1")) == 1
    assert (await room.stands(c)).hub == "hub-2"
    assert len(await room.take(a, b, c, hub="hub-3")) == 2


async def test_a_status_that_is_told_again_changes_what_stands_beside_it(room: Room) -> None:
    agent = await room.agent()
    (taken,) = await room.take(agent)
    assert await room.move(taken, P.RUNNING, pid=1, version=1, ready_at=5)
    assert await room.move(taken, P.RUNNING, pid=2, version=2, ready_at=6, restarts=1)
    stands = await room.stands(agent)
    assert (stands.pid, stands.version, stands.ready_at, stands.restarts) == (2, 2, 6, 1)
    assert (stands.hub, stands.fence) == ("hub-1", 1)


async def test_an_agent_that_is_deleted_is_lost_by_who_holds_it(store: Store, room: Room) -> None:
    agent = await room.agent()
    (taken,) = await room.take(agent)
    await store.write(DeleteAgent(agent, "local"))
    assert await room.beat(taken) == []
    assert not await room.move(taken, P.RUNNING)
    assert await room.take(agent) == []
    assert await store.read(AllProcesses()) == []
    with pytest.raises(NotFound):
        await room.want(agent)


async def test_nobody_sees_or_moves_anothers_process(store: Store, room: Room) -> None:
    agent = await room.agent()
    (taken,) = await room.take(agent)
    assert await store.read(Processes("eve")) == []
    assert await store.read(ProcessOf("agent", agent, "eve")) is None
    with pytest.raises(NotFound):
        await room.want(agent, "off", owner_id="eve")
    assert await room.stands(agent) == taken
    # Of another kind nobody knows the owner before the row is there.
    await room.want("redis", kind="bridge", owner_id="local")
    with pytest.raises(NotFound):
        await room.want("redis", "off", kind="bridge", owner_id="eve")


async def test_other_kinds_are_held_in_the_same_way(store: Store, room: Room) -> None:
    def bridge(hub: str) -> TakeProcesses:
        targets = [("redis", "local")]
        return TakeProcesses(kind="bridge", targets=targets, hub=hub, host="h", lease_us=HOUR)

    (taken,) = await store.write(bridge("hub-1"))
    assert (taken.kind, taken.target, taken.fence) == ("bridge", "redis", 1)
    assert await store.write(bridge("hub-2")) == []
    room.pass_time()
    (taken,) = await store.write(bridge("hub-2"))
    assert taken.fence == 2


async def test_leases_run_by_the_stores_clock(
    backend: str, store_url: str, tmp_path: Any, request: pytest.FixtureRequest
) -> None:
    """What a hub's own clock says decides nothing: on PostgreSQL it is the database's that counts,
    on SQLite the store's, which a test may turn."""
    times = [now_us()]
    store = open_store(store_url, home=tmp_path, clock=lambda: times[0])
    try:
        room = Room(store, store_url)
        agent = await room.agent()
        (taken,) = await room.take(agent, lease_us=HOUR)
        times[0] += 2 * HOUR
        after = await room.take(agent, hub="hub-2")
        if backend == "sqlite":
            assert [one.fence for one in after] == [2]
        else:
            assert after == [], "its clock has not moved"
            room.pass_time()
            assert [one.fence for one in await room.take(agent, hub="hub-2")] == [2]
        assert await room.beat(taken) == []
    finally:
        await store.close()
