"""Compaction: the same summaries once, whenever and wherever it is broken off."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.domain.conversations import Message
from holdfast.domain.events import LOCAL_OWNER, Event
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.errors import NotFound, StoreRefused
from holdfast.hub.answering import Answering
from holdfast.hub.local_worker import LocalWorker
from holdfast.memory.facts import KEY, namespace_of
from holdfast.operations import remember
from holdfast.operations.compact import compact_if_due, compaction_of
from holdfast.pipelines.compaction import NAME
from holdfast.store.commands import PutItems, Summarise
from holdfast.store.queries import GetItems
from holdfast.store.store import Store
from holdfast.testing.postgres import PostgresForTests

from .conftest import HubForTests, OpenHub
from .conversations import Talk
from .test_durable import die

PATIENCE_S = 120.0


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
    models = '{"fast": "scripted:rules", "standard": "scripted:rules"}'
    return hub_environ | {"HOLDFAST_APPS": "memory_app", "HOLDFAST_MODELS": models}


async def compact(hub: HubForTests, talk: Talk) -> Event | None:
    assert talk.session_id is not None
    event_id = await compact_if_due(
        hub.kit, owner_id=LOCAL_OWNER, agent_id=talk.agent_id, session_id=talk.session_id
    )
    return None if event_id is None else await hub.ended(event_id, within_s=PATIENCE_S)


def texts(summaries: list[Message]) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.content, tuple(one.summary_of)) for one in summaries]


def expected(said: list[Message], blocks: int) -> list[tuple[str, tuple[str, ...]]]:
    """What the rules of the scripted model make of tens of messages."""
    made: list[tuple[str, tuple[str, ...]]] = []
    for n in range(blocks):
        block = said[10 * n : 10 * n + 10]
        questions = [one.content for one in block if one.role == "user"]
        told = f"The user said: {' | '.join(questions)}"
        made.append((told, tuple(one.id for one in block)))
    return made


async def test_a_long_talk_is_summarised_as_it_goes(open_hub: OpenHub, database_url: str) -> None:
    async with open_hub(in_process=True, database_url=database_url) as hub:
        talk = await Talk(hub.kit).begin()
        sent = 0
        for n in range(1, 31):
            await talk.exchange(n, "My name is Zoe, what now?" if n == 1 else None)
            event = await compact(hub, talk)
            assert (event is not None) == (n in (15, 20, 25, 30))
            if event is not None:
                sent += 1
                assert event.status is EventStatus.SUCCEEDED, event.last_error
                assert (event.target, event.session_id) == (NAME, None)
        said, made = await talk.said(), await talk.summaries()
        assert len(said) == 60
        assert [one.content for one in said[:4]] == [
            *("My name is Zoe, what now?", "answer 1", "question 2", "answer 2")
        ], "kept as they were said"
        assert [one.summarised for one in said] == [True] * 40 + [False] * 20
        assert texts(made) == expected(said, 4)
        assert await talk.unsummarised() == 20
        assert all(one.execution_id is not None for one in made)
        whole = await hub.whole(made[0].execution_id or "")
        assert whole.execution.totals.tokens_input > 0, "its cost is on record"
        seen = await remember.window(
            hub.kit,
            owner_id=LOCAL_OWNER,
            session_id=talk.session_id or "",
            event_id=None,
            token_budget=2000,
            summaries=3,
        )
        assert [one.id for one in seen.messages] == [one.id for one in said[40:]]
        assert [one.id for one in seen.summaries] == [one.id for one in made[1:]]
        assert list(seen.facts) == ["My name is Zoe, what now"]
        assert seen.left_out == 0


async def test_a_backlog_is_worked_off_in_one_execution(
    open_hub: OpenHub, database_url: str
) -> None:
    async with open_hub(in_process=True, database_url=database_url) as hub:
        talk = await Talk(hub.kit).begin()
        for n in range(1, 31):
            await talk.exchange(n)
        event = await compact(hub, talk)
        assert event is not None
        assert event.status is EventStatus.SUCCEEDED, event.last_error
        assert texts(await talk.summaries()) == expected(await talk.said(), 4)
        assert await compact(hub, talk) is None


async def test_one_is_under_way_at_most(open_hub: OpenHub) -> None:
    async with open_hub(in_process=True) as hub:
        talk = await Talk(hub.kit).begin()
        for n in range(1, 21):
            await talk.exchange(n)
        whose = {"owner_id": LOCAL_OWNER, "agent_id": talk.agent_id}
        sent = await asyncio.gather(
            *(compact_if_due(hub.kit, session_id=talk.session_id or "", **whose) for _ in range(8))
        )
        (event_id,) = [one for one in sent if one is not None]
        await hub.ended(event_id)
        assert texts(await talk.summaries()) == expected(await talk.said(), 2)


class Killer:
    """Ends the worker when its hub is asked the n-th question, before or after the answer."""

    def __init__(self, hub: HubForTests, at: int, *, after: bool) -> None:
        self.hub = hub
        self.at = at
        self.after = after
        self.asked: list[str] = []
        self.killed = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ask = Answering.ask

        async def watched(
            own: Answering, execution_id: str, port: str, args: dict[str, Any]
        ) -> Any:
            if not port.startswith(("memory.", "checkpoints.")) or self.killed:
                return await ask(own, execution_id, port, args)
            self.asked.append(port)
            if len(self.asked) < self.at:
                return await ask(own, execution_id, port, args)
            self.killed = True
            if self.after:
                await ask(own, execution_id, port, args)
            self.kill(execution_id)
            return await asyncio.Event().wait()

        monkeypatch.setattr(Answering, "ask", watched)

    def kill(self, execution_id: str) -> None:
        for worker in list(self.hub.crew.workers):
            if execution_id in worker.in_flight:
                if isinstance(worker, LocalWorker):
                    die(worker)
                else:
                    os.kill(worker.pid, signal.SIGKILL)  # type: ignore[attr-defined]


async def questions(open_hub: OpenHub, database_url: str) -> list[str]:
    """All that a compaction of two blocks asks its hub."""
    async with open_hub(in_process=True, database_url=database_url) as hub:
        talk = await Talk(hub.kit).begin()
        for n in range(1, 21):
            await talk.exchange(n)
        with pytest.MonkeyPatch.context() as patch:
            watching = Killer(hub, 10_000, after=False)
            watching.install(patch)
            await compact(hub, talk)
        return watching.asked


async def check(hub: HubForTests, talk: Talk, event: Event | None) -> None:
    assert event is not None
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    assert (event.deliveries, event.crashes) == (2, 1)
    assert texts(await talk.summaries()) == expected(await talk.said(), 2)
    assert [one.summarised for one in await talk.said()] == [True] * 20 + [False] * 20
    assert await talk.unsummarised() == 20
    executions = await hub.executions(event.id)
    assert [one.status for one in executions] == [
        *(ExecutionStatus.CRASHED, ExecutionStatus.SUCCEEDED)
    ]
    digests = [
        step
        for one in executions
        for step in (await hub.whole(one.id)).steps
        if step.operation == "digest"
    ]
    assert 2 <= len(digests) <= 3, "at most the call under way is made again"


async def test_killed_at_every_step_it_gives_the_same_summaries_once(
    open_hub: OpenHub, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its hub has heard of a step, and before it has heard from its hub."""
    asked = await questions(open_hub, database_url)
    assert asked.count("memory.summarise") == 2
    assert asked.count("memory.unsummarised") == 3
    assert len(asked) > 12
    async with open_hub(in_process=True, database_url=database_url, runner_slots=1) as hub:
        for at in range(1, len(asked) + 1):
            for after in (False, True):
                talk = await Talk(hub.kit).begin()
                for n in range(1, 21):
                    await talk.exchange(n)
                with pytest.MonkeyPatch.context() as patch:
                    killer = Killer(hub, at, after=after)
                    killer.install(patch)
                    event = await compact(hub, talk)
                assert killer.killed, (at, after)
                await check(hub, talk, event)


@pytest.mark.parametrize("verb", ["memory.unsummarised", "memory.summarise"])
async def test_a_real_process_is_killed(
    open_hub: OpenHub, database_url: str, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await questions(open_hub, database_url)
    async with open_hub(runners=1, database_url=database_url) as hub:
        talk = await Talk(hub.kit).begin()
        for n in range(1, 21):
            await talk.exchange(n)
        killer = Killer(hub, asked.index(verb) + 1, after=True)
        killer.install(monkeypatch)
        await check(hub, talk, await compact(hub, talk))


@pytest.mark.parametrize("refused", [PutItems, Summarise])
async def test_broken_off_between_facts_and_summary_neither_is_lost(
    open_hub: OpenHub, database_url: str, refused: type[Any]
) -> None:
    """There is no summary without its facts; done again it is whole, once more changes nothing."""
    async with open_hub(in_process=True, database_url=database_url) as hub:
        talk = await Talk(hub.kit).begin()
        for n in range(1, 6):
            await talk.exchange(n)
        of = [one.id for one in await talk.said()]
        write = Store.write

        async def refuse(self: Store, command: Any) -> Any:
            if isinstance(command, refused):
                raise StoreRefused("not now")
            return await write(self, command)

        async def summarise(text: str) -> bool:
            return await remember.summarise(
                hub.kit,
                owner_id=LOCAL_OWNER,
                session_id=talk.session_id or "",
                execution_id=of[0],
                of=of,
                summary=text,
                facts=["likes tea"],
            )

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "write", refuse)
            with pytest.raises(StoreRefused):
                await summarise("one")
        assert await talk.summaries() == []
        assert await summarise("two") is True
        assert await summarise("three") is False
        assert texts(await talk.summaries()) == [("two", tuple(of))]
        place = (namespace_of(talk.session_id or ""), KEY)
        (item,) = await hub.kit.store.read(GetItems(owner_id=LOCAL_OWNER, keys=[place]))
        assert item is not None
        assert item.value == {"facts": ["likes tea"]}


async def test_others_sessions_are_out_of_reach(open_hub: OpenHub, database_url: str) -> None:
    async with open_hub(in_process=True, database_url=database_url) as hub:
        talk = await Talk(hub.kit).begin()
        await talk.exchange(1)
        whose: dict[str, Any] = {"owner_id": "eve", "session_id": talk.session_id or ""}
        with pytest.raises(NotFound):
            await remember.window(hub.kit, event_id=None, token_budget=2000, summaries=3, **whose)
        with pytest.raises(NotFound):
            await remember.unsummarised(hub.kit, keep=0, block=2, **whose)
        of = [one.id for one in await talk.said()]
        with pytest.raises(NotFound):
            await remember.summarise(
                hub.kit, execution_id=of[0], of=of, summary="mine", facts=[], **whose
            )
        assert await compact_if_due(hub.kit, agent_id=talk.agent_id, **whose) is None


@pytest.mark.parametrize(
    ("settings", "enabled", "model", "reason"),
    [
        ({}, True, "fast", ""),
        ({"memory": {"compaction": {"model": "standard"}}}, True, "standard", ""),
        ({"model": None, "provider": "scripted", "model_id": "rules"}, True, "standard", ""),
        ({"memory": {"enabled": False}}, False, None, "memory is off"),
        ({"memory": {"compaction": {"enabled": False}}}, False, None, "off in its configuration"),
        ({"memory": {"compaction": {"model": "nobody"}}}, False, None, "no model alias nobody"),
    ],
)
async def test_which_model_writes_the_summaries(
    open_hub: OpenHub, settings: dict[str, Any], enabled: bool, model: str | None, reason: str
) -> None:
    async with open_hub(in_process=True) as hub:
        talk = Talk(hub.kit)
        talk.config["simple"]["settings"] = {
            key: value for key, value in ({"model": "fast"} | settings).items() if value is not None
        }
        await talk.begin()
        standing = compaction_of(hub.kit, hub.kit.registry.get(talk.agent_id))
        assert (standing.enabled, standing.model) == (enabled, model)
        assert reason in standing.reason
