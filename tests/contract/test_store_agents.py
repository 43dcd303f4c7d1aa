"""Agents: versions, names, who owns them, and a queue of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.domain.agents import CHANNELS, AgentVersion
from holdfast.domain.conversations import Speaker
from holdfast.domain.ids import new_id, now_us
from holdfast.domain.memory_items import NewItem
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.errors import NameTaken, NotFound, VersionMoved
from holdfast.store import Store
from holdfast.store.commands import (
    Cancel,
    ChangeAgent,
    DeleteAgent,
    MakeSession,
    NewSession,
    PausePipeline,
    PutAgent,
    PutItems,
    TakeProcesses,
    TurnTold,
    WantProcess,
)
from holdfast.store.queries import (
    AgentBy,
    Agents,
    AgentsWithWork,
    AgentVersions,
    AllAgents,
    CountQueued,
    EventById,
    ExecutionById,
    ListNamespaces,
    ProcessOf,
    SessionBy,
)
from holdfast.store.queries.bridging import UntoldTurns

from .agents_make import CONFIG, Talk, count, version
from .conftest import HOUR
from .test_store_usage import line

OTHER = {"simple": {"settings": {"model": "expert"}}}


@pytest.fixture
def talk(store: Store) -> Talk:
    return Talk(store)


def change(of: AgentVersion, **fields: Any) -> ChangeAgent:
    values: dict[str, Any] = {
        "agent_id": of.id,
        "owner_id": of.owner_id,
        "name": of.name,
        "description": of.description,
        "config": of.config,
        "author": "you",
    }
    return ChangeAgent(**(values | fields))


async def test_an_agent_is_found_by_id_and_by_name(store: Store, talk: Talk) -> None:
    before = now_us() - HOUR
    made = await talk.agent(description="odd \0 text")
    assert made.current.config == CONFIG
    assert made.current.description == "odd \\x00 text"
    assert before < made.created_at == made.current.created_at < now_us() + HOUR
    for ref in (made.id, "helper"):
        assert await store.read(AgentBy("local", ref)) == made
    assert await store.read(AllAgents()) == [made]


async def test_every_change_is_a_version(store: Store, talk: Talk) -> None:
    first = (await talk.agent()).current
    second = await store.write(change(first, config=OTHER))
    assert (second.version, second.author, second.config) == (2, "you", OTHER)
    third = await store.write(change(first, config=CONFIG, undoes=1))
    assert (third.version, third.undoes, third.config) == (3, 1, CONFIG)
    found = await store.read(AgentBy("local", first.id))
    assert found.current == third
    assert found.created_at == first.created_at
    versions = await store.read(AgentVersions(agent_id=first.id, owner_id="local"))
    assert versions == [third, second, first]
    assert await store.read(AllAgents()) == [found]


async def test_what_says_the_same_makes_no_version(store: Store, talk: Talk) -> None:
    first = (await talk.agent()).current
    assert await store.write(change(first)) == first
    assert (await store.write(change(first, undoes=1))).version == 2, "brought back on purpose"


async def test_a_change_of_what_somebody_else_changed_is_refused(store: Store, talk: Talk) -> None:
    first = (await talk.agent()).current
    results = await asyncio.gather(
        *(store.write(change(first, description=f"by {n}", expected=1)) for n in range(4)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, AgentVersion) for one in results) == 1
    assert sum(isinstance(one, VersionMoved) for one in results) == 3
    versions = await store.read(AgentVersions(agent_id=first.id, owner_id="local"))
    assert [one.version for one in versions] == [2, 1]


async def test_a_name_is_there_once_an_owner(store: Store, talk: Talk) -> None:
    first = await talk.agent()
    with pytest.raises(NameTaken, match="helper"):
        await talk.agent()
    await talk.agent(owner_id="eve")
    other = await talk.agent(name="other")
    with pytest.raises(NameTaken, match="helper"):
        await store.write(change(other.current, name="helper"))
    renamed = await store.write(change(other.current, name="another"))
    assert (renamed.name, renamed.version) == ("another", 2)
    assert (await store.read(AgentBy("local", "another"))).id == other.id
    with pytest.raises(NotFound):
        await store.read(AgentBy("local", "other"))
    assert (await store.read(AgentBy("local", "helper"))).id == first.id


async def test_of_many_that_want_a_name_one_gets_it(
    store: Store, backend: str, reopen: Callable[[], Store]
) -> None:
    stores = [store] if backend == "sqlite" else [store, reopen()]
    try:
        results = await asyncio.gather(
            *(stores[n % len(stores)].write(PutAgent(version())) for n in range(10)),
            return_exceptions=True,
        )
    finally:
        for one in stores[1:]:
            await one.close()
    assert sum(isinstance(one, NameTaken) for one in results) == 9
    assert len(await store.read(AllAgents())) == 1


async def test_an_agent_that_was_stored_already_is_not_stored_again(
    store: Store, talk: Talk
) -> None:
    made = version()
    first = await store.write(PutAgent(made))
    assert await store.write(PutAgent(made)) == first


async def test_lists_come_in_pages_by_name(store: Store, talk: Talk) -> None:
    for name in ("c", "a", "b"):
        await talk.agent(name=name)
    await talk.agent(name="aa", owner_id="eve")
    page = await store.read(Agents(owner_id="local", limit=2))
    assert [one.current.name for one in page] == ["a", "b"]
    page = await store.read(Agents(owner_id="local", after="b", limit=2))
    assert [one.current.name for one in page] == ["c"]


async def test_nobody_reaches_anothers_agent(store: Store, talk: Talk) -> None:
    mine = await talk.agent()
    for ref in (mine.id, "helper"):
        with pytest.raises(NotFound):
            await store.read(AgentBy("eve", ref))
    assert await store.read(Agents(owner_id="eve")) == []
    session = NewSession(id=new_id(), owner_id="eve", agent_id=mine.id)
    for asked in (
        store.read(AgentVersions(agent_id=mine.id, owner_id="eve")),
        store.write(change(mine.current, owner_id="eve")),
        store.write(DeleteAgent(mine.id, "eve")),
        talk.say(mine.id, owner_id="eve"),
        store.write(MakeSession(session)),
        store.write(WantProcess(kind="agent", target=mine.id, owner_id="eve", wanted="off")),
    ):
        with pytest.raises(NotFound):
            await asked
    took = TakeProcesses(kind="agent", targets=[(mine.id, "eve")], hub="h", host="x", lease_us=HOUR)
    assert await store.write(took) == []
    assert await store.read(AgentBy("local", mine.id)) == mine


async def test_neither_kind_of_claim_sees_the_other(store: Store, talk: Talk) -> None:
    agent = await talk.agent()
    await talk.make.submitted(target=agent.id)  # a pipeline of that very name
    said = await talk.say(agent.id)
    assert (await store.read(CountQueued())).keys() == {agent.id}
    versions = {agent.id: ("g1", "c1"), "triage": ("g1", "c1")}
    (other,) = await talk.make.claimed(versions=versions)
    assert other.target_kind == "pipeline"
    await talk.make.submitted(target=agent.id)
    (one,) = await talk.claim(agent.id)
    assert (one.event_id, one.target_kind, one.session_id) == (
        said.id,
        "agent",
        said.session_id,
    )
    assert (await store.read(ExecutionById(one.execution_id, "local"))).kind == "agent"
    assert await talk.claim(agent.id) == []
    assert len(await talk.make.claimed(versions=versions)) == 1


async def test_each_agent_gets_what_it_has_room_for(store: Store, talk: Talk) -> None:
    a, b, full, foreign = [(await talk.agent(name=name)).id for name in "abcd"]
    sent = {
        (agent, n): (await talk.say(agent, priority=n)).id
        for agent in (a, b, full, foreign)
        for n in range(3)
    }
    room = {a: 2, full: 0}
    got = await talk.claim(a, b, full, room=room, limit=4)
    assert [one.event_id for one in got] == [sent[a, 2], sent[b, 2], sent[a, 1], sent[b, 1]]
    got = await talk.claim(a, b, full, room={a: 0, full: 0})
    assert [one.event_id for one in got] == [sent[b, 0]]
    assert await talk.claim(a, b, room={a: 0}) == []


async def test_turns_run_one_at_a_time_and_sessions_side_by_side(store: Store, talk: Talk) -> None:
    agent = (await talk.agent()).id
    first = await talk.say(agent, chat_id="one")
    second = await talk.say(agent, chat_id="one")
    other = await talk.say(agent, chat_id="two")
    got = await talk.claim(agent)
    assert [one.event_id for one in got] == [first.id, other.id]
    assert await talk.claim(agent) == []
    await talk.finish(got[0], "done")
    assert [one.event_id for one in await talk.claim(agent)] == [second.id]


async def test_the_sweep_tells_who_has_something_to_do(store: Store, talk: Talk) -> None:
    ids = [(await talk.agent(name=f"a{n}")).id for n in range(8)]
    busy, waiting, late, off, broken, gone, idle, eves = ids
    await talk.agent(name="theirs", owner_id="eve")
    assert await store.read(AgentsWithWork()) == []
    for _ in range(3):
        await talk.say(busy)
    await talk.say(waiting, chat_id="x")
    (running,) = await talk.claim(waiting)
    await talk.say(waiting, chat_id="x")  # not before the one that runs has ended
    await talk.say(late, delay_us=HOUR)
    await talk.say(off)
    await store.write(WantProcess(kind="agent", target=off, owner_id="local", wanted="off"))
    await talk.say(broken)
    await store.write(PausePipeline(broken, "local"))
    said = await talk.say(gone)
    await store.write(Cancel(said.id, "local"))
    await talk.make.submitted(target=idle)  # a pipeline's
    assert await store.read(AgentsWithWork()) == [(busy, "local")]
    later = now_us() + 2 * HOUR
    assert set(await store.read(AgentsWithWork(later))) == {(busy, "local"), (late, "local")}
    await talk.finish(running, "so")
    assert set(await store.read(AgentsWithWork())) == {(busy, "local"), (waiting, "local")}
    assert eves not in dict(await store.read(AgentsWithWork()))


async def test_deleting_an_agent_takes_all_that_is_its_own(
    store: Store, talk: Talk, store_url: str
) -> None:
    agent, kept = await talk.agent(), await talk.agent(name="kept")
    done = await talk.exchange(agent.id, "one", "two")
    queued = await talk.say(agent.id)
    stays = await talk.exchange(kept.id, "one", "two")
    await store.write(WantProcess(kind="agent", target=agent.id, owner_id="local", wanted="on"))
    assert done.session_id is not None
    items = [
        NewItem(namespace=("sessions", done.session_id), key="k", value={}),
        NewItem(namespace=("agents", agent.id, "facts"), key="k", value={}),
        NewItem(namespace=("people", "ann"), key="k", value={}),
    ]
    await store.write(PutItems("local", items))
    removed = await store.write(DeleteAgent(agent.id, "local"))
    assert removed.sessions == 2
    assert [(one.event_id, one.status) for one in removed.moved] == [
        (queued.id, EventStatus.CANCELLED)
    ]
    for asked in (
        AgentBy("local", agent.id),
        AgentVersions(agent_id=agent.id, owner_id="local"),
        SessionBy(done.session_id, "local"),
        EventById(done.id, "local"),
        EventById(queued.id, "local"),
    ):
        with pytest.raises(NotFound):
            await store.read(asked)
    with pytest.raises(NotFound):
        await talk.say(agent.id, session_id=done.session_id)
    assert await store.read(ProcessOf("agent", agent.id, "local")) is None
    assert await store.read(ListNamespaces(owner_id="local")) == [("people", "ann")]
    assert (await store.read(EventById(stays.id, "local"))).status is EventStatus.SUCCEEDED
    assert {
        table: count(store_url, table)
        for table in ("agents", "agent_versions", "processes", "sessions", "messages", "events")
    } == {
        "agents": 1,
        "agent_versions": 1,
        "processes": 0,
        "sessions": 1,
        "messages": 2,
        "events": 1,
    }
    for table in ("executions", "steps", "attempts", "payloads"):
        assert count(store_url, table) == 1, table
    assert await store.write(PutAgent(version())), "its name is free"


async def test_deleting_an_agent_stops_the_turn_that_runs(
    store: Store, talk: Talk, store_url: str
) -> None:
    agent = await talk.agent()
    said = await talk.say(agent.id)
    (running,) = await talk.claim(agent.id)
    removed = await store.write(DeleteAgent(agent.id, "local"))
    (told,) = removed.moved
    assert (told.execution_id, told.status) == (running.execution_id, EventStatus.RUNNING)
    event = await store.read(EventById(said.id, "local"))
    assert event.cancel_requested_at is not None
    finished = await talk.finish(running, status=ExecutionStatus.CANCELLED)
    assert finished.event_status is EventStatus.CANCELLED
    assert count(store_url, "events") == count(store_url, "executions") == 0


async def test_messages_that_come_while_their_agent_is_deleted_leave_nothing(
    store: Store, talk: Talk, backend: str, reopen: Callable[[], Store], store_url: str
) -> None:
    """On PostgreSQL through two stores, as of two hubs."""
    stores = [store] if backend == "sqlite" else [store, reopen()]
    try:
        for _ in range(5):
            agent = (await talk.agent()).id
            says = [
                stores[n % len(stores)].write(talk.submit(agent, chat_id=f"c{n % 3}"))
                for n in range(12)
            ]
            takes = TakeProcesses(
                kind="agent", targets=[(agent, "local")], hub="h", host="x", lease_us=HOUR
            )
            results = await asyncio.gather(
                *says[:6],
                stores[-1].write(DeleteAgent(agent, "local")),
                stores[-1].write(takes),
                *says[6:],
                return_exceptions=True,
            )
            wrong = [
                one
                for one in results
                if isinstance(one, Exception) and not isinstance(one, NotFound)
            ]
            assert not wrong
            for table in ("agents", "sessions", "messages", "events", "processes"):
                assert count(store_url, table) == 0, table
    finally:
        for one in stores[1:]:
            await one.close()


async def test_what_was_used_stays_in_the_ledger(store: Store, talk: Talk, store_url: str) -> None:
    agent = await talk.agent()
    await talk.say(agent.id)
    (claimed,) = await talk.claim(agent.id)
    await talk.finish(claimed, "so", usage=(line(),))
    await store.write(DeleteAgent(agent.id, "local"))
    assert count(store_url, "usage", f"name = '{agent.id}' AND kind = 'agent'") == 1


async def test_an_answer_is_no_users_message(store: Store, talk: Talk) -> None:
    agent = await talk.agent()
    said = await talk.exchange(agent.id, "why?", "because")
    assert said.session_id is not None
    window = await talk.window(said.session_id)
    assert [one.role for one in window] == [Speaker.USER, Speaker.ASSISTANT]


async def test_turns_from_a_channel_are_untold_until_their_end_was_published(
    store: Store, talk: Talk
) -> None:
    agent = (await talk.agent()).id
    await talk.say(agent, "over HTTP")
    first = await talk.say(agent, "over Redis", source=CHANNELS)
    second = await talk.say(agent, "again", source=CHANNELS)
    for claimed in await talk.claim(agent):
        await talk.finish(claimed, "hi")
    untold = [one.event_id for one in await store.read(UntoldTurns())]
    assert untold == [first.id, second.id]  # whether they have ended or not
    await store.write(TurnTold(first.id, "other"))
    await store.write(TurnTold(new_id(), "local"))
    assert len(await store.read(UntoldTurns())) == 2
    await store.write(TurnTold(first.id, "local"))
    assert [one.event_id for one in await store.read(UntoldTurns())] == [second.id]
