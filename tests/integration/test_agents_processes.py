"""Agents in real processes, on both databases: killed, broken, idle, replaced, and their hubs."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from holdfast import settings
from holdfast.agents.schemas import MessageFrame
from holdfast.app import run_hub
from holdfast.domain.agents import ProcessStatus
from holdfast.domain.conversations import Speaker
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.hub.answers import APOLOGIES
from holdfast.operations import dead_letters, read
from holdfast.operations.resume import resume
from holdfast.operations.talking import Conversation
from holdfast.store import migrations
from holdfast.store.queries import ListEvents, SessionBy
from holdfast.store.queries.talking import Place
from holdfast.testing.postgres import PostgresForTests

from .agents_talk import Talk
from .conftest import HubForTests, until, until_true
from .several_hubs import Shared
from .zygote import zygote

P, E, X = ProcessStatus, EventStatus, ExecutionStatus
ROLES = (Speaker.USER, Speaker.ASSISTANT)

TRAP = Path(__file__).parents[1] / "apps" / "held_agent_trap"

OpenHub = Callable[..., AbstractAsyncContextManager[HubForTests]]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, postgres: PostgresForTests, tmp_path: Path
) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'holdfast.db'}"
        return
    url = postgres.migrated()
    yield url
    postgres.drop(url)


@pytest.fixture
def open_hub(database: str, tmp_path: Path) -> OpenHub:
    @asynccontextmanager
    async def opened(*, in_process: bool = False, **more: str) -> AsyncIterator[HubForTests]:
        environ = {
            "PATH": os.environ["PATH"],
            "HOLDFAST_HOME": str(tmp_path / "home"),
            "HOLDFAST_DATABASE_URL": database,
            "HOLDFAST_RUNNERS": "1",
            "HOLDFAST_STOP_GRACE": "5",
            "HOLDFAST_LOG_LEVEL": "warning",
            "PROCESS_CHECK_INTERVAL": "0.2",
            **more,
        }
        made = settings.load(environ=environ)
        await asyncio.to_thread(migrations.upgrade, made.store_url)
        spawner = None if in_process else zygote()
        async with run_hub(made, in_process=in_process, spawner=spawner) as parts:
            yield HubForTests(parts)

    return opened


@pytest.fixture
async def hub(open_hub: OpenHub) -> AsyncIterator[HubForTests]:
    async with open_hub() as opened:
        yield opened


@pytest.fixture
def trap() -> Iterator[Path]:
    """A file that keeps the agent's module from being imported; it says why."""
    yield TRAP
    TRAP.unlink(missing_ok=True)


def pid_in(text: str) -> int:
    found = re.search(r"answered by (\d+)$", text)
    assert found, text
    return int(found[1])


async def answer(hub: HubForTests, talk: Talk, text: str, chat: str = "c") -> str:
    event = await hub.ended(await talk.say(text, chat), 60.0)
    assert event.status is E.SUCCEEDED, event.last_error
    return (await talk.said())[-1].content


@asynccontextmanager
async def heard(hub: HubForTests, session_id: str | None) -> AsyncIterator[Callable[[], Any]]:
    """What a follower of a conversation hears an agent say, from its beginning."""
    assert session_id is not None
    session = await hub.kit.store.read(SessionBy(session_id, LOCAL_OWNER))
    frames = Conversation(hub.kit, hub.parts.talks, session, after=Place()).frames()

    async def next_one() -> str:
        async with asyncio.timeout(60.0):
            async for frame in frames:
                if isinstance(frame, MessageFrame):
                    return frame.response
        raise AssertionError("it ended")

    async with aclosing(frames):
        yield next_one


# -- turns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_process", [False, True])
async def test_a_message_wakes_an_agent_that_answers_from_its_own_process(
    open_hub: OpenHub, in_process: bool
) -> None:
    async with open_hub(in_process=in_process) as hub:
        talk = await Talk.made(hub.kit)
        assert await talk.row() is None
        pid = pid_in(await answer(hub, talk, "hello"))
        assert (pid == os.getpid()) is in_process
        row = await talk.until(P.RUNNING)
        assert row.pid == (None if in_process else pid)
        assert (row.hub, row.version) == (hub.kit.boot_id, 1)
        assert pid_in(await answer(hub, talk, "again")) == pid
        told = [(one.role, one.content) for one in await talk.said()]
        assert [role for role, _ in told] == [Speaker.USER, Speaker.ASSISTANT] * 2
        assert told[2] == (Speaker.USER, "again")
        shown = hub.kit.metrics.render()
        assert re.search(rf'holdfast_agent_turns_total\{{agent="ada",id="{talk.id}"\}} 2', shown)
        assert re.search(rf'holdfast_agent_up\{{agent="ada",id="{talk.id}"\}} 1', shown)
    async with open_hub() as hub:
        row = await talk.at(hub.kit).row()
        assert row is not None
        assert (row.status, row.hub, row.pid) == (P.STOPPED, None, None)


async def test_a_killed_process_s_turn_runs_again_and_is_answered_once(
    hub: HubForTests, tmp_path: Path
) -> None:
    talk = await Talk.made(hub.kit)
    event_id = await talk.say(f"gate {tmp_path}")
    first = int(await until(tmp_path / "pid-1"))
    os.kill(first, signal.SIGKILL)
    second = int(await until(tmp_path / "pid-2"))
    assert second != first
    (tmp_path / "open").touch()
    event = await hub.ended(event_id, 60.0)
    assert (event.status, event.crashes) == (E.SUCCEEDED, 1)
    statuses = [one.status for one in await hub.executions(event_id)]
    assert statuses == [X.CRASHED, X.SUCCEEDED]
    _, answered = await talk.said()
    assert pid_in(answered.content) == second
    assert answered.execution_id == event.execution_id
    assert (await talk.row()).restarts == 0  # type: ignore[union-attr]


async def test_a_turn_that_fails_is_answered_with_an_apology(
    hub: HubForTests, tmp_path: Path
) -> None:
    """Nobody is left without a word; what went wrong is for those who run the agent."""
    talk = await Talk.made(hub.kit, limits={"turn_s": 0.5})
    event = await hub.ended(await talk.say(f"gate {tmp_path}"), 60.0)
    assert event.status is E.FAILED
    _, said = await talk.said()
    assert said.role is Speaker.ASSISTANT
    assert said.content == APOLOGIES["timeout"]
    assert said.metadata["error"] == {"code": "deadline_exceeded", "reason": "timeout"}
    assert said.execution_id == event.execution_id
    assert "answered by" in await answer(hub, talk, "and now?")


async def test_a_message_that_kills_is_set_aside_with_a_word_and_can_be_replayed(
    hub: HubForTests, tmp_path: Path
) -> None:
    """The third time it has a process of its own: a neighbour's turn sees two deaths at most."""
    talk = await Talk.made(hub.kit)
    event_id = await talk.say(f"gate {tmp_path}")
    pids: list[int] = []
    for number in (1, 2, 3):
        pids.append(int(await until(tmp_path / f"pid-{number}")))
        if number == 3:
            beside = pid_in(await answer(hub, talk, "hello", "another"))
            assert beside != pids[-1]
        os.kill(pids[-1], signal.SIGKILL)
    event = await hub.ended(event_id, 60.0)
    assert (event.status, event.crashes) == (E.DEAD, 3)
    session = (await hub.executions(event_id))[0].session_id
    _, sorry = await talk.said(session)
    assert sorry.content == APOLOGIES["other"]
    assert pid_in(await answer(hub, talk, "still there?", "another")) == beside
    async with heard(hub, session) as next_one:
        assert await next_one() == sorry.content
        since = await answer(hub, talk, "and now?")
        assert await next_one() == since
        (tmp_path / "open").touch()
        await dead_letters.replay(hub.kit, event_id, LOCAL_OWNER, "somebody")
        assert (await hub.ended(event_id, 60.0)).status is E.SUCCEEDED
        told = await talk.said(session)
        assert [one.role for one in told] == [Speaker.USER, *[Speaker.ASSISTANT] * 2, *ROLES]
        assert await next_one() == told[2].content, "though others have answers by now"
        assert "answered by" in told[2].content


async def test_one_that_dies_at_its_start_is_an_error_and_answers_after_the_fix(
    hub: HubForTests, trap: Path
) -> None:
    trap.write_text("the model's weights are missing")
    talk = await Talk.made(hub.kit)
    event_id = await talk.say("hello")
    row = await talk.until(P.ERROR, held=False)
    assert row.restarts == 5
    assert row.last_error is not None
    assert "the model's weights are missing" in row.last_error["message"]
    for _ in range(100):
        assert await talk.row() == row
    await talk.say("anybody there?")
    await asyncio.sleep(0.5)
    assert (await talk.row()).status is P.ERROR  # type: ignore[union-attr]
    trap.unlink()
    await talk.want(restart=True)
    assert (await hub.ended(event_id, 60.0)).status is E.SUCCEEDED
    row = await talk.until(P.RUNNING)
    assert (row.restarts, row.last_error) == (0, None)


async def test_an_idle_process_is_stopped_and_woken_by_a_message(hub: HubForTests) -> None:
    talk = await Talk.made(hub.kit, idle_s=0.5)
    first = pid_in(await answer(hub, talk, "hello"))
    row = await talk.until(P.STOPPED, held=False)
    assert (row.pid, row.wanted) == (None, "on")
    await until_true(lambda: gone(first))
    assert pid_in(await answer(hub, talk, "still there?")) != first


async def test_a_new_version_under_load_loses_no_turn(hub: HubForTests, tmp_path: Path) -> None:
    talk = await Talk.made(hub.kit)
    held = await talk.say(f"gate {tmp_path}", "held")
    old = int(await until(tmp_path / "pid-1"))
    events = [held]
    stop = asyncio.Event()

    async def load() -> None:
        number = 0
        while not stop.is_set():
            events.append(await talk.say(f"m{number}", f"chat-{number % 7}"))
            number += 1
            await asyncio.sleep(0.01)

    loading = asyncio.create_task(load())
    for version in (2, 3):
        await talk.change(system_prompt=f"You are number {version}.")
        await until_true(lambda version=version: serves(talk, version))
    stop.set()
    await loading
    events.append(await talk.say("of the third one, even if no other was", "chat-last"))
    new = pid_in(await answer(hub, talk, "who?"))
    assert new != old
    assert psutil.pid_exists(old), "it finishes its turn"
    (tmp_path / "open").touch()
    for event_id in events:
        event = await hub.ended(event_id, 60.0)
        assert (event.status, event.deliveries, event.crashes) == (E.SUCCEEDED, 1, 0)
    versions = {(await hub.executions(one))[0].graph_version for one in events}
    assert versions >= {"1", "3"}
    assert (await hub.executions(held))[0].graph_version == "1"
    await until_true(lambda: gone(old))
    assert (await talk.row()).restarts == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("answered", [True, False])
async def test_a_turn_that_waits_goes_on_after_its_agent_was_changed(
    hub: HubForTests, answered: bool
) -> None:
    """A conversation is not held up by a version: the answer, or the time that is over, is taken
    by the one that is in service then.
    """
    asks = {"type": "ask_human", "settings": {} if answered else {"timeout_s": 1.5}}
    talk = await Talk.made(hub.kit, tools=[asks], idle_s=0.5)
    event_id = await talk.say("ask")
    await until_true(lambda: stands(hub, event_id, E.WAITING))
    await talk.change(tools=[asks], idle_s=0.5, system_prompt="Another one.")
    await talk.until(P.STOPPED, held=False)
    if answered:
        execution = (await hub.executions(event_id))[0]
        await resume(hub.kit, execution.id, LOCAL_OWNER, answer="yes")
    event = await hub.ended(event_id, 60.0)
    assert event.status is E.SUCCEEDED, event.last_error
    said = (await talk.said())[-1].content
    assert said.startswith("they said")
    assert ("yes" in said) is answered
    assert "answered by" in await answer(hub, talk, "and now?")


async def test_a_turn_makes_its_session_s_old_messages_be_put_into_a_summary(
    hub: HubForTests,
) -> None:
    compaction = {"from_messages": 4, "keep": 2, "block": 2}
    talk = await Talk.made(hub.kit, memory={"compaction": compaction})
    for number in range(3):
        await answer(hub, talk, f"hello {number}")
    mine = ListEvents(owner_id=LOCAL_OWNER, target="holdfast.compaction")

    async def sent() -> bool:
        return bool(await hub.kit.store.read(mine))

    await until_true(sent)
    (event,) = await hub.kit.store.read(mine)
    assert (await hub.ended(event.id, 60.0)).status is E.SUCCEEDED
    session = await hub.kit.store.read(SessionBy(talk.session_id, LOCAL_OWNER))
    assert session.unsummarised < session.messages


# -- hubs ------------------------------------------------------------------------------------------


async def test_a_message_that_came_while_the_hub_was_down_is_answered_after_its_boot(
    open_hub: OpenHub,
) -> None:
    async with open_hub() as hub:
        talk = await Talk.made(hub.kit)
        await answer(hub, talk, "hello")
        hub.parts.hub.agent_office.supervisor._stops[0]()  # type: ignore[union-attr]
        await hub.parts.hub.agent_office.dispatcher.close()  # type: ignore[union-attr]
        event_id = await talk.say("anybody there?", ring=False)
    async with open_hub() as hub:
        assert (await hub.ended(event_id, 60.0)).status is E.SUCCEEDED
        last = (await talk.at(hub.kit).said(talk.session_id))[-1]
        assert "anybody there?" in last.content


async def test_a_hub_that_stops_gives_turns_its_grace_and_hands_the_others_back(
    open_hub: OpenHub, tmp_path: Path
) -> None:
    for name in ("ends", "stays"):
        (tmp_path / name).mkdir()
    async with open_hub(HOLDFAST_STOP_GRACE="2") as hub:
        talk = await Talk.made(hub.kit)
        ends = await talk.say(f"gate {tmp_path / 'ends'}", "one")
        stays = await talk.say(f"gate {tmp_path / 'stays'}", "two")
        for name in ("ends", "stays"):
            pid = int(await until(tmp_path / name / "pid-1"))
        asyncio.get_running_loop().call_later(0.5, (tmp_path / "ends" / "open").touch)
    assert await gone(pid)
    (tmp_path / "stays" / "open").touch()
    async with open_hub() as hub:
        event = await hub.ended(ends, 60.0)
        assert (event.status, event.deliveries) == (E.SUCCEEDED, 1)
        event = await hub.ended(stays, 60.0)
        assert (event.status, event.deliveries, event.crashes) == (E.SUCCEEDED, 2, 0)


async def test_of_two_hubs_one_holds_an_agent_and_the_other_takes_over_when_it_is_killed(
    postgres: PostgresForTests, redis_url: str, tmp_path: Path
) -> None:
    url = postgres.migrated()
    shared = Shared(tmp_path, url, redis_url)
    shared.environ |= {"HOLDFAST_APPS": "", "PROCESS_CHECK_INTERVAL": "0.5"}
    try:
        async with shared.hub("door", "api") as door:
            talk = await Talk.made(door.kit)
            with shared.process("one", "agents") as one, shared.process("two", "agents") as two:
                for process in (one, two):
                    await process.url()
                event_id = await talk.say(f"gate {tmp_path}")
                worker = int(await until(tmp_path / "pid-1"))
                row = await talk.until(P.RUNNING)
                others = [await talk.say(f"m{n}", f"chat-{n}") for n in range(5)]
                for other in others:
                    assert (await door.ended(other, 60.0)).status is E.SUCCEEDED
                assert (await talk.row()).hub == row.hub  # type: ignore[union-attr]
                holder = parent_of(worker, one.pid, two.pid)
                (one if holder == one.pid else two).send(signal.SIGKILL)
                second = int(await until_long(tmp_path / "pid-2"))
                assert second != worker
                (tmp_path / "open").touch()
                event = await door.ended(event_id, 60.0)
                assert event.status is E.SUCCEEDED
                taken = await talk.until(P.RUNNING)
                assert taken.hub != row.hub
                assert taken.fence > row.fence
                said = await talk.said((await door.executions(event_id))[0].session_id)
                assert len(said) == 2, "answered once"
    finally:
        postgres.drop(url)


def parent_of(pid: int, *hubs: int) -> int:
    """Which of these has started the process, a zygote in between or not."""
    for one in psutil.Process(pid).parents():
        if one.pid in hubs:
            return one.pid
    raise AssertionError(f"{pid} belongs to none of {hubs}")


async def until_long(path: Path) -> str:
    """Wait for longer than a lease."""
    async with asyncio.timeout(60):
        while not path.exists():
            await asyncio.sleep(0.02)
    return path.read_text()


async def stands(hub: HubForTests, event_id: str, status: EventStatus) -> bool:
    return (await read.event(hub.kit, event_id, LOCAL_OWNER)).status is status


async def gone(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


async def serves(talk: Talk, version: int) -> bool:
    row = await talk.row()
    return row is not None and (row.status, row.version) == (P.RUNNING, version)
