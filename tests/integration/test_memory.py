"""What runs remember: the window of a turn, and items in the store that graphs are handed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.domain.conversations import Speaker
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.memory_items import NewItem
from holdfast.domain.replays import Plan
from holdfast.domain.status import EventStatus
from holdfast.hub.answering import Answering
from holdfast.memory.window import FIRST_ROWS
from holdfast.operations import remember
from holdfast.operations.replay import replay
from holdfast.store.commands import PutItems, Summarise, SweepItems
from holdfast.store.queries import ListNamespaces, WindowOf
from holdfast.store.store import Store
from holdfast.testing.postgres import PostgresForTests

from .conftest import HubForTests, OpenHub
from .conversations import Talk, message


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/holdfast.db"
        return
    server: PostgresForTests = request.getfixturevalue("postgres")
    url = server.migrated()
    yield url
    server.drop(url)


@pytest.fixture
def hub_environ(hub_environ: dict[str, str]) -> dict[str, str]:
    return hub_environ | {"HOLDFAST_APPS": "memory_app"}


@pytest.fixture
async def hub(open_hub: OpenHub, database_url: str) -> AsyncIterator[HubForTests]:
    async with open_hub(in_process=True, database_url=database_url) as opened:
        yield opened


async def output(hub: HubForTests, event_id: str) -> Any:
    event = await hub.ended(event_id)
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    whole = await hub.whole(event.execution_id or "")
    return whole.payload.get(whole.execution.output)


async def notes(hub: HubForTests, pipeline: str = "memory.notes", **data: Any) -> Any:
    return await output(hub, await hub.submit(pipeline, **data))


async def look(hub: HubForTests, talk: Talk, question: str, data: bytes = b"{}") -> Any:
    """What a turn sees that a pipeline runs in the agent's place."""
    asked = await talk.ask(question, "memory.window", data)
    hub.parts.hub._dispatcher.ring()
    return await output(hub, asked.id)


async def test_a_turn_sees_its_own_question_and_what_was_said_before(hub: HubForTests) -> None:
    talk = await Talk(hub.kit).begin()
    assert (await look(hub, talk, "first"))["messages"] == [["user", "first"]]
    for n in range(2, 4):
        await talk.exchange(n)
    seen = await look(hub, talk, "now?")
    assert seen["messages"] == [
        ["user", "first"],
        *([["user", "question 2"], ["assistant", "answer 2"]]),
        *([["user", "question 3"], ["assistant", "answer 3"]]),
        ["user", "now?"],
    ]
    assert (seen["summaries"], seen["facts"], seen["left_out"]) == ([], [], 0)
    small = await look(hub, talk, "short of tokens", b'{"tokens": 30}')
    assert small["messages"] == [["user", "now?"], ["user", "short of tokens"]]
    assert small["left_out"] == 5
    assert (await look(hub, talk, "alone", b'{"depth": 1}'))["messages"] == [["user", "alone"]]


async def test_questions_that_came_later_are_not_seen(hub: HubForTests) -> None:
    talk = await Talk(hub.kit).begin()
    await talk.exchange(1)
    first = await talk.ask("the first of two")
    await talk.ask("the second of two")
    seen = await remember.window(
        hub.kit,
        owner_id=LOCAL_OWNER,
        session_id=talk.session_id or "",
        event_id=first.id,
        token_budget=2000,
        summaries=3,
    )
    assert [one.content for one in seen.messages] == ["question 1", "answer 1", "the first of two"]
    assert seen.left_out == 0


async def test_summaries_and_facts_are_seen_and_what_they_stand_for_is_not(
    hub: HubForTests,
) -> None:
    talk = await Talk(hub.kit).begin()
    for n in range(1, 11):
        await talk.exchange(n)
    of = [one.id for one in await talk.said()][:10]
    await remember.summarise(
        hub.kit,
        owner_id=LOCAL_OWNER,
        session_id=talk.session_id or "",
        execution_id=of[0],
        of=of,
        summary="five questions",
        facts=["the user asks a lot"],
    )
    seen = await look(hub, talk, "and?")
    assert seen["summaries"] == ["five questions"]
    assert seen["facts"] == ["the user asks a lot"]
    assert [text for _, text in seen["messages"]][:2] == ["question 6", "answer 6"]
    assert len(seen["messages"]) == 11


async def test_many_short_messages_are_read_in_a_second_go(
    hub: HubForTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = await Talk(hub.kit).begin()
    for n in range(FIRST_ROWS // 2 + 10):
        await talk.exchange(n, "?")
    asked: list[int] = []
    run = WindowOf.run

    def noted(self: WindowOf, db: Any) -> Any:
        asked.append(self.limit)
        return run(self, db)

    monkeypatch.setattr(WindowOf, "run", noted)
    seen = await look(hub, talk, "all?", b'{"tokens": 5000}')
    assert len(seen["messages"]) == FIRST_ROWS + 21
    assert seen["left_out"] == 0
    assert len(asked) == 2
    asked.clear()
    await look(hub, talk, "few?", b'{"tokens": 100}')
    assert asked == [FIRST_ROWS]


async def test_what_is_no_turn_has_no_window(hub: HubForTests) -> None:
    event = await hub.ended(await hub.submit("memory.window"))
    assert event.status is EventStatus.FAILED
    assert "is no turn of a session" in str(event.last_error)


async def test_graphs_are_handed_the_store_in_threads_and_in_the_loop(hub: HubForTests) -> None:
    """Also one that was compiled with another, and one with checkpoints."""
    for pipeline in ("memory.notes", "memory.others", "memory.checkpointed"):
        await notes(hub, pipeline, note="the red knob turns left")
        found = await notes(hub, pipeline, note="apples are ripe", query="which knob is red")
        assert found["store"] == "PortStore"
        assert found["found"] == ["the red knob turns left", "apples are ripe"]
        assert found["namespaces"] == [["notes", "all"]]


async def test_items_of_pipelines_lie_apart(hub: HubForTests) -> None:
    await notes(hub, "memory.notes", note="mine")
    assert (await notes(hub, "memory.others", query="mine"))["found"] == []
    stored = await hub.kit.store.read(ListNamespaces(owner_id=LOCAL_OWNER))
    assert stored == [("pipelines", "memory.notes", "notes", "all")]
    assert await hub.kit.store.read(ListNamespaces(owner_id="eve")) == []


async def test_embedding_calls_are_on_record(hub: HubForTests) -> None:
    event_id = await hub.submit("memory.notes", note="apples", query="pears")
    event = await hub.ended(event_id)
    whole = await hub.whole(event.execution_id or "")
    names = {step.step: step.operation for step in whole.steps}
    made = [(names[one.step], one.provider, one.parameters["texts"]) for one in whole.attempts]
    assert made == [("keep", "hashing", 1), ("find", "hashing", 1)]
    assert all(one.usage == "none" for one in whole.attempts)


async def test_a_replay_reads_what_is_there_now_and_writes_nothing(
    hub: HubForTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await hub.ended(await hub.submit("memory.notes", note="once"))
    assert event.execution_id is not None
    before = await notes(hub, query="once")
    assert before["found"] == ["once"]
    talks: list[Any] = []
    ask = Answering.ask

    async def noted(own: Answering, execution_id: str, port: str, args: dict[str, Any]) -> Any:
        if port == "memory.items":
            talks.extend(op["op"] for op in args["ops"])
        return await ask(own, execution_id, port, args)

    monkeypatch.setattr(Answering, "ask", noted)
    again = await replay(hub.kit, event.execution_id, LOCAL_OWNER, plan=Plan())
    assert (await output(hub, again.id))["found"] == ["once"]
    assert talks == ["search", "namespaces"]


async def test_real_processes_ask_over_the_socket(open_hub: OpenHub, database_url: str) -> None:
    async with open_hub(runners=1, database_url=database_url) as hub:
        await notes(hub, note="the red knob turns left")
        found = await notes(hub, note="apples are ripe", query="which knob is red")
        assert found["found"] == ["the red knob turns left", "apples are ripe"]
        talk = await Talk(hub.kit).begin()
        await talk.exchange(1)
        of = [one.id for one in await talk.said()]
        assert await hub.kit.store.write(_summary(talk, of))
        seen = await look(hub, talk, "over the socket")
        assert seen["messages"] == [["user", "over the socket"]]
        assert seen["summaries"] == ["all of it"]


def _summary(talk: Talk, of: list[str]) -> Summarise:
    return Summarise(
        session_id=talk.session_id or "",
        owner_id=LOCAL_OWNER,
        of=of,
        summary=message(Speaker.SUMMARY, "all of it"),
        execution_id=None,
    )


async def test_sessions_side_by_side_see_only_their_own(hub: HubForTests) -> None:
    talks = [await Talk(hub.kit).begin() for _ in range(4)]
    for n, talk in enumerate(talks):
        await talk.exchange(n, f"secret {n}")
    seen = await asyncio.gather(*(look(hub, talk, "what do I know?") for talk in talks))
    for n, one in enumerate(seen):
        assert [text for _, text in one["messages"]] == [
            *(f"secret {n}", f"answer {n}", "what do I know?")
        ]


async def test_a_hub_sweeps_what_has_expired(
    hub: HubForTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself, when its timers look around."""
    old = NewItem(namespace=("pipelines", "x"), key="old", value={"n": 1}, ttl_s=1e-6)
    await hub.kit.store.write(PutItems(LOCAL_OWNER, [old]))
    swept = asyncio.Event()
    write = Store.write

    async def noted(self: Store, command: Any) -> Any:
        done = await write(self, command)
        if isinstance(command, SweepItems) and done == 1:
            swept.set()
        return done

    monkeypatch.setattr(Store, "write", noted)
    hub.parts.hub.timers._sweeps_at = 0.0
    hub.parts.hub.timers.ring()
    async with asyncio.timeout(10):
        await swept.wait()
