"""Hubs in the store: who lives, who holds what, what rests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from holdfast.domain.hubs import ALIVE_US, FORGET_US, NewHub, Role
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.store import Store
from holdfast.store.commands import Cancel, Finish, HubBeat, HubLeft, Reap
from holdfast.store.commands import hubs as hub_commands
from holdfast.store.queries import AllHubs, AtRest, Holders, RecordOf, Space
from holdfast.store.queries import hub as hub_queries
from holdfast.store.registry import open_store

EXPIRED = -1000


def hub(id: str = "boot-1", **fields: Any) -> NewHub:
    values: dict[str, Any] = {
        "id": id,
        "kind": "hub",
        "roles": (Role.API, Role.WORKER),
        "host": "here",
        "pid": 17,
        "version": "1",
    }
    return NewHub(**(values | fields))


async def test_a_hub_is_there_from_its_first_beat_until_it_leaves(store: Store) -> None:
    for _ in range(3):
        await store.write(HubBeat(hub()))
    await store.write(HubBeat(hub("boot-2", roles=(Role.WORKER,), kind="celery")))
    one, two = await store.read(AllHubs())
    assert (one.id, one.roles, one.host, one.pid) == ("boot-1", (Role.API, Role.WORKER), "here", 17)
    assert (two.kind, two.roles, two.alive, two.stopping) == ("celery", (Role.WORKER,), True, False)
    assert one.started_at < one.seen_at <= two.started_at == two.seen_at
    await store.write(HubBeat(replace(hub("boot-2"), stopping=True)))
    assert [known.stopping for known in await store.read(AllHubs())] == [False, True]
    await store.write(HubLeft("boot-1"))
    await store.write(HubLeft("boot-1"))
    assert [known.id for known in await store.read(AllHubs())] == ["boot-2"]


async def test_a_silent_hub_counts_as_dead_and_is_forgotten_in_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ALIVE_US < FORGET_US
    await store.write(HubBeat(hub("silent")))
    monkeypatch.setattr(hub_queries, "ALIVE_US", 1)
    await store.write(HubBeat(hub("lively")))
    assert [(one.id, one.alive) for one in await store.read(AllHubs())] == [
        ("silent", False),
        ("lively", True),
    ]
    monkeypatch.setattr(hub_commands, "FORGET_US", 0)
    await store.write(HubBeat(hub("lively")))
    assert [one.id for one in await store.read(AllHubs())] == ["lively"]
    await store.write(HubBeat(hub("silent")))  # it had only stood still
    assert [one.id for one in await store.read(AllHubs())] == ["silent"]


async def test_what_rests_is_known_in_one_question(store: Store, make: Any) -> None:
    waiting = [(await make.submitted()).id for _ in range(70)]
    for event_id in waiting[::2]:
        await store.write(Cancel(event_id, "local"))
    found = await store.read(AtRest([*waiting, "unknown"]))
    assert found == dict.fromkeys(waiting[::2], EventStatus.CANCELLED)
    assert await store.read(AtRest([])) == {}


async def test_who_holds_what_is_told_to_its_owner(store: Store, make: Any) -> None:
    one = await make.running(lease_owner="boot-1")
    two = await make.running(lease_owner="boot-2")
    queued = await make.submitted()
    events = [one.event_id, two.event_id, queued.id]
    expected = {one.execution_id: "boot-1", two.execution_id: "boot-2"}
    assert await store.read(Holders("local", events)) == expected
    assert await store.read(Holders("somebody else", events)) == {}
    await store.write(Finish(make.record(one)))
    assert await store.read(Holders("local", events)) == {two.execution_id: "boot-2"}


async def test_what_only_began_shows_its_input(store: Store, make: Any) -> None:
    """While it runs elsewhere, and when it was lost with its hub."""
    running = await make.running(lease_us=EXPIRED)
    for status in (ExecutionStatus.RUNNING, ExecutionStatus.CRASHED):
        record = await store.read(RecordOf(running.execution_id, "local"))
        assert (record.execution.status, record.entries) == (status, ())
        assert record.payload().get(record.execution.input) == {"n": 1}
        await store.write(Reap(lease_owner="boot-2"))


async def test_a_postgresql_database_has_a_name_of_its_own(
    backend: str, store: Store, store_url: str, empty_url: str, tmp_path: Any
) -> None:
    if backend == "sqlite":
        pytest.skip("SQLite has one hub, which shares nothing")
    from holdfast.store import migrations

    migrations.upgrade(empty_url)
    other = open_store(empty_url, home=tmp_path)
    try:
        name = await store.read(Space())
        assert name == await store.read(Space())
        assert name != await other.read(Space())
    finally:
        await other.close()
