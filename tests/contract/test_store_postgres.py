"""What only PostgreSQL does: connections that break, several hubs at once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from holdfast.domain.agents import ProcessStatus
from holdfast.domain.events import CHILD
from holdfast.domain.ids import new_id
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.errors import NotFound, StoreError
from holdfast.store import Store
from holdfast.store.commands import (
    BeatProcesses,
    Cancel,
    DeleteSession,
    Finish,
    MakeSession,
    MoveProcess,
    NewSession,
    Reap,
    TakeBack,
    TakeProcesses,
    WantProcess,
)
from holdfast.store.queries import CountEvents, Ping, ProcessOf
from holdfast.store.registry import address, open_store

from .agents_make import Talk, answer, count
from .test_store_children import halt, wait


@pytest.fixture
def backend() -> str:
    return "postgresql"


def cut_off(store_url: str) -> None:
    """End every other connection to the database, as its restart would."""
    engine = create_engine(
        address(store_url).sqlalchemy_url, poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


async def test_a_lost_connection_is_told_and_opened_again(
    store: Store, make: Any, store_url: str
) -> None:
    await make.submitted()
    await asyncio.to_thread(cut_off, store_url)
    with pytest.raises(StoreError, match="transaction failed"):
        await make.submitted()
    assert (await make.submitted()).created
    assert (await store.read(CountEvents()))[EventStatus.QUEUED] == 2


async def test_a_read_over_a_lost_connection_asks_again(store: Store, store_url: str) -> None:
    await store.read(Ping())
    await asyncio.to_thread(cut_off, store_url)
    await store.read(Ping())


async def test_two_hubs_never_claim_the_same_event(
    store: Store, make: Any, reopen: Callable[[], Store]
) -> None:
    other = reopen()
    try:
        await asyncio.gather(*(make.submitted() for _ in range(200)))
        claims = await asyncio.gather(
            *(
                hub.write(make.claim_of(limit=5, lease_owner=boot))
                for _ in range(30)
                for hub, boot in ((store, "boot-1"), (other, "boot-2"))
            )
        )
        ids = [one.event_id for claim in claims for one in claim]
        while rest := await make.claimed():  # rows another hub had locked were passed over
            ids += [one.event_id for one in rest]
    finally:
        await other.close()
    assert len(ids) == len(set(ids)) == 200


async def test_what_another_hub_holds_is_passed_over(make: Any, store_url: str) -> None:
    first, second = await make.submitted(), await make.submitted()
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(
            text("SELECT id FROM events WHERE id = :id FOR UPDATE"), {"id": first.id}
        )
        async with asyncio.timeout(5):
            assert [one.event_id for one in await make.claimed()] == [second.id]


async def test_two_hubs_agree_on_a_key(
    store: Store, make: Any, reopen: Callable[[], Store]
) -> None:
    other = reopen()
    make_there = type(make)(other)
    try:
        outcomes = await asyncio.gather(
            *(
                hub.submitted(idempotency_key=f"k{n}")
                for n in range(50)
                for hub in (make, make_there)
            )
        )
    finally:
        await other.close()
    assert sum(one.created for one in outcomes) == 50
    assert len({one.id for one in outcomes}) == 50
    assert (await store.read(CountEvents()))[EventStatus.QUEUED] == 50


def test_an_address_where_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        open_store(f"postgresql://nobody@/none?host={tmp_path}", home=tmp_path)


def test_without_the_driver_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"holdfast\[postgres\]"):
        open_store("postgresql://localhost/x", home=tmp_path)


@pytest.mark.parametrize("deed", ["reap", "take back", "cancel", "finish"])
async def test_a_parent_is_locked_before_its_children(
    store: Store, make: Any, store_url: str, deed: str
) -> None:
    """Else two that want both wait for each other, and PostgreSQL ends one of them."""
    parent = await make.running()
    child_id = new_id()
    await store.write(Finish(halt(make, parent, wait(child_id))))
    (child,) = await make.claimed(versions={"quote": ("g1", "c1")}, lease_us=-1)
    record = make.record(child, ExecutionStatus.FAILED)
    record = replace(record, execution=replace(record.execution, origin=CHILD))
    command: Any = {
        "reap": Reap(lease_owner="boot-2"),
        "take back": TakeBack("boot-1"),
        "cancel": Cancel(child_id, "local"),
        "finish": Finish(record),
    }[deed]
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.connect() as other, engine.connect() as watch:
        hold = "SELECT id FROM events WHERE id = :id FOR UPDATE NOWAIT"
        other.execute(text(hold), {"id": parent.event_id})
        doing = asyncio.create_task(store.write(command))
        await until_waiting(watch, doing)
        other.execute(text(hold), {"id": child_id})  # held by who waits for us: an error
        other.rollback()
        await doing


@pytest.mark.parametrize("deed", ["message", "session", "take", "want"])
async def test_nothing_begins_for_an_agent_that_is_being_deleted(
    store: Store, store_url: str, deed: str
) -> None:
    """Who comes beside it waits, finds no agent, and leaves nothing."""
    talk = Talk(store)
    agent = (await talk.agent()).id
    command: Any = {
        "message": talk.submit(agent),
        "session": MakeSession(NewSession(id=new_id(), owner_id="local", agent_id=agent)),
        "take": TakeProcesses(
            kind="agent", targets=[(agent, "local")], hub="h", host="x", lease_us=1
        ),
        "want": WantProcess(kind="agent", target=agent, owner_id="local", wanted="on"),
    }[deed]
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.connect() as other, engine.connect() as watch:
        other.execute(text("SELECT id FROM agents FOR UPDATE"))
        doing = asyncio.create_task(store.write(command))
        await until_waiting(watch, doing)
        for table in ("agent_versions", "agents"):
            other.execute(text(f"DELETE FROM {table}"))
        other.commit()
        if deed == "take":
            assert await doing == []
        else:
            with pytest.raises(NotFound):
                await doing
    for table in ("processes", "sessions", "messages", "events"):
        assert count(store_url, table) == 0, table


@pytest.mark.parametrize("deed", ["finish", "delete"])
async def test_a_session_is_locked_before_its_turns(
    store: Store, store_url: str, deed: str
) -> None:
    """As a message that comes in does: else PostgreSQL ends one of the two."""
    talk = Talk(store)
    agent = (await talk.agent()).id
    said = await talk.say(agent)
    (claimed,) = await talk.claim(agent)
    assert said.session_id is not None
    run = talk.make.execution(claimed, session_id=claimed.session_id)
    command: Any = {
        "finish": Finish(talk.make.record(claimed, execution=run, answers=(answer(),))),
        "delete": DeleteSession(said.session_id, "local"),
    }[deed]
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.connect() as other, engine.connect() as watch:
        hold = "SELECT id FROM {} WHERE id = :id FOR UPDATE NOWAIT"
        other.execute(text(hold.format("sessions")), {"id": said.session_id})
        doing = asyncio.create_task(store.write(command))
        await until_waiting(watch, doing)
        other.execute(text(hold.format("events")), {"id": said.id})
        other.rollback()
        await doing


@pytest.mark.parametrize("deed", ["take", "beat", "move"])
async def test_who_looks_at_a_process_while_it_is_taken_sees_who_has_it(
    store: Store, store_url: str, deed: str
) -> None:
    """Two hubs find the same lease over: the second one reads after the first has written."""
    agent = (await Talk(store).agent()).id
    targets = [(agent, "local")]
    take = TakeProcesses(kind="agent", targets=targets, hub="hub-1", host="x", lease_us=-1)
    (mine,) = await store.write(take)
    command: Any = {
        "take": TakeProcesses(kind="agent", targets=targets, hub="hub-3", host="x", lease_us=9),
        "beat": BeatProcesses(hub="hub-1", held=[("agent", agent, mine.fence, 1)], lease_us=9),
        "move": MoveProcess(
            kind="agent", target=agent, hub="hub-1", fence=mine.fence, status=ProcessStatus.RUNNING
        ),
    }[deed]
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    taken = f"UPDATE processes SET hub = 'hub-2', fence = fence + 1, lease_until = {2**60}"
    with engine.connect() as other, engine.connect() as watch:
        other.execute(text(taken))
        doing = asyncio.create_task(store.write(command))
        await until_waiting(watch, doing)
        other.commit()
        assert not await doing
    stands = await store.read(ProcessOf("agent", agent, "local"))
    assert stands is not None
    assert (stands.hub, stands.fence, stands.lease_until) == ("hub-2", mine.fence + 1, 2**60)


async def until_waiting(watch: Connection, doing: asyncio.Task[Any]) -> None:
    """Until a lock is waited for."""
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    async with asyncio.timeout(30):
        while not watch.execute(waits).scalar():
            assert not doing.done(), "it needed no lock"
            watch.rollback()
            await asyncio.sleep(0.01)
