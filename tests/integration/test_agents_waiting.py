"""Turns that outlive their process: people who are asked, graphs that remember by themselves."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from holdfast.bus import Notice
from holdfast.bus.base import AGENTS
from holdfast.domain.agents import AgentVersion, ProcessStatus
from holdfast.domain.checkpoints import CheckpointsWanted
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.ids import new_id
from holdfast.domain.status import EventStatus
from holdfast.errors import InvalidInput
from holdfast.operations.resume import resume
from holdfast.store.commands.agents import PutAgent
from holdfast.store.queries import Checkpoints, EventById

from .agents_talk import Talk
from .conftest import HubForTests, until, until_true
from .test_agents_processes import OpenHub, database, open_hub

__all__ = ["database", "open_hub"]

E = EventStatus

ASKING: dict[str, Any] = {
    "rules": "agent_app:asking",
    "tools": [{"type": "function", "path": "agent_app:order_status"}, {"type": "ask_human"}],
}


async def graph_talk(hub: HubForTests) -> Talk:
    version = AgentVersion(
        id=new_id(),
        owner_id=LOCAL_OWNER,
        name="planner",
        description="",
        version=1,
        config={"graph": {"settings": {"graph": "agent_app:remembering"}}},
        author=None,
        created_at=0,
    )
    await hub.kit.store.write(PutAgent(version))
    hub.kit.bus.publish(Notice(AGENTS, target=version.id))
    return Talk(hub.kit, version.id)


async def waiting(hub: HubForTests, event_id: str) -> Any:
    async def stands() -> bool:
        event = await hub.kit.store.read(EventById(event_id, LOCAL_OWNER))
        assert event.status not in (E.FAILED, E.DEAD, E.SUCCEEDED), event.last_error
        return event.status is E.WAITING

    await until_true(stands)
    return await hub.kit.store.read(EventById(event_id, LOCAL_OWNER))


async def last(hub: HubForTests, talk: Talk, event_id: str) -> str:
    event = await hub.ended(event_id, 60.0)
    assert event.status is E.SUCCEEDED, event.last_error
    return (await talk.said())[-1].content


async def test_a_person_is_asked_and_answers_after_a_restart_of_everything(
    open_hub: OpenHub,
) -> None:
    async with open_hub() as hub:
        talk = await Talk.made(hub.kit, **ASKING)
        event_id = await talk.say("where is order 17?")
        await waiting(hub, event_id)
        session_id = talk.session_id
    async with open_hub() as hub:
        talk = talk.at(hub.kit)
        talk.session_id = session_id
        event = await waiting(hub, event_id)
        with pytest.raises(InvalidInput, match="answer"):
            await resume(hub.kit, event.execution_id, LOCAL_OWNER, answer={"not": "text"})
        await resume(hub.kit, event.execution_id, LOCAL_OWNER, answer="yes")
        assert await last(hub, talk, event_id) == "a person said: yes"
        (execution,) = await hub.executions(event_id)
        assert execution.id == event.execution_id


async def test_a_turn_that_waits_goes_on_under_a_newer_version(open_hub: OpenHub) -> None:
    async with open_hub() as hub:
        talk = await Talk.made(hub.kit, **ASKING)
        event_id = await talk.say("where is order 17?")
        event = await waiting(hub, event_id)
        await talk.change(**ASKING, system_prompt="Be kind.")

        async def replaced() -> bool:
            row = await talk.row()
            return row is not None and (row.version, row.status) == (2, ProcessStatus.RUNNING)

        await until_true(replaced)
        await resume(hub.kit, event.execution_id, LOCAL_OWNER, answer="no")
        assert await last(hub, talk, event_id) == "a person said: no"


async def test_nobody_answers_and_the_turn_goes_on_in_time(open_hub: OpenHub) -> None:
    async with open_hub() as hub:
        asks = {"type": "ask_human", "settings": {"timeout_s": 0.2}}
        talk = await Talk.made(hub.kit, **{**ASKING, "tools": [ASKING["tools"][0], asks]})
        event_id = await talk.say("where is order 17?")
        assert "nobody answered in time" in await last(hub, talk, event_id)


async def test_a_graph_remembers_over_kills_and_restarts_and_does_not_grow(
    open_hub: OpenHub, tmp_path: Path
) -> None:
    async with open_hub() as hub:
        talk = await graph_talk(hub)
        assert await last(hub, talk, await talk.say("one")) == "one"
        event_id = await talk.say(f"gate {tmp_path}")
        os.kill(int(await until(tmp_path / "pid-1")), signal.SIGKILL)
        await until(tmp_path / "pid-2")
        (tmp_path / "open").touch()
        told = await last(hub, talk, event_id)
        assert told == f"one | gate {tmp_path}", "the turn began again where it had begun"
        session_id = talk.session_id
    async with open_hub() as hub:
        talk = talk.at(hub.kit)
        talk.session_id = session_id
        told = await last(hub, talk, await talk.say("three"))
        assert told == f"one | gate {tmp_path} | three"
        assert await last(hub, talk, await talk.say("x", chat="another")) == "x"
        wanted = CheckpointsWanted(thread_id=session_id)
        assert len(await hub.kit.store.read(Checkpoints(LOCAL_OWNER, wanted))) == 1
