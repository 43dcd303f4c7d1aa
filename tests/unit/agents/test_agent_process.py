"""An agent in a process of its own: greeted with its configuration, it runs nothing else."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from holdfast.agents.schemas import TurnData
from holdfast.domain.ids import new_id
from holdfast.domain.status import ExecutionStatus
from holdfast.errors import DeclarationError, InvalidInput, UnknownPipeline
from holdfast.ports import ModelConfig, RunSpec
from holdfast.runner.frames import Kind, Wire, write_run
from holdfast.runner.main import _registry
from holdfast.testing.ports import MemorySink, Recorded

from .conftest import AGENT_ID

TIMEOUT_S = 60

TESTS = Path(__file__).parents[2]


def desk(**settings: Any) -> dict[str, Any]:
    """What a hub says of an agent when it greets its process."""
    given = {
        "provider": "scripted",
        "model_id": "rules",
        "rules": "agent_app:rules",
        "memory": {"enabled": False},
        "tools": [
            {"type": "function", "path": "agent_app:order_status"},
            {"type": "function", "path": "agent_app:has_secret"},
        ],
        "secrets": {"CRM_KEY": "env:CRM_KEY"},
        **settings,
    }
    config = {"simple": {"settings": given}}
    return {"id": AGENT_ID, "name": "desk", "version": 3, "config": config}


def hello(agent: dict[str, Any]) -> dict[str, Any]:
    own = ModelConfig(alias="agent", provider="scripted", model="rules")
    return {
        "apps": [],
        "agent": agent,
        "models": {"agent": asdict(own)},
        "slots": 8,
        "sys_path": [str(TESTS / "apps")],
        "log_level": "warning",
        "log_form": "text",
        "prompts": [],
        "redact": [],
    }


class Hub:
    """The other end of the socket."""

    def __init__(self) -> None:
        self.sink = MemorySink()
        self.raw = bytearray()
        self.ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.ended: dict[str, asyncio.Event] = {}
        self.wire = Wire(self._on_message, lambda _: None)

    def _on_message(self, kind: Kind, body: bytes) -> None:
        self.raw += body
        match kind:
            case Kind.READY:
                self.ready.set_result(orjson.loads(body))
            case Kind.CHANGE:
                self.sink.change(body[:36].decode(), body[36:])
            case Kind.TOKENS:
                self.sink.tokens(*orjson.loads(body))
            case Kind.ENDED:
                self.ended[body.decode()].set()
            case _:
                pass

    async def say(self, text: str) -> tuple[str, Recorded]:
        execution_id = new_id()
        self.ended[execution_id] = asyncio.Event()
        turn = TurnData(text=text, message_id=new_id(), channel="api")
        spec = RunSpec(
            execution_id=execution_id,
            event_id=new_id(),
            owner_id="local",
            kind="agent",
            name=AGENT_ID,
            version="3",
            data=orjson.dumps(turn.model_dump()),
            delivery=1,
            session_id="s1",
        )
        self.wire.send(Kind.RUN, write_run(spec))
        await self.ended[execution_id].wait()
        return execution_id, self.sink.record(execution_id)


@asynccontextmanager
async def process(agent: dict[str, Any], **environment: str) -> AsyncIterator[tuple[Hub, int]]:
    ours, theirs = socket.socketpair()
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    runner = subprocess.Popen(
        [sys.executable, "-m", "holdfast.runner", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env={**kept, **environment, "LANGGRAPH_STRICT_MSGPACK": "true"},
        stdin=subprocess.DEVNULL,
    )
    theirs.close()
    ours.setblocking(False)
    hub = Hub()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.get_running_loop().create_unix_connection(lambda: hub.wire, sock=ours)
            hub.wire.send(Kind.HELLO, orjson.dumps(hello(agent)))
            await hub.ready
            yield hub, runner.pid
            hub.wire.send(Kind.STOP, b"")
            assert await asyncio.to_thread(runner.wait) == 0
    finally:
        runner.kill()
        runner.wait()


async def test_a_turn_runs_in_it_with_its_secret_which_no_frame_carries() -> None:
    async with process(desk(), CRM_KEY="the-secret-value") as (hub, pid):
        _, record = await hub.say("where is order 17?")
        assert record.finished.status == ExecutionStatus.SUCCEEDED, record.finished.error
        response = record.output["response"]
        assert response == f'{{"number":"17","status":"sent"}} true in process {pid}'
        assert {one.alias for one in record.attempts} == {"agent"}
        assert b"the-secret-value" not in bytes(hub.raw)


async def test_many_turns_run_side_by_side_and_are_streamed() -> None:
    async with process(desk()) as (hub, _):
        said = await asyncio.gather(*(hub.say(f"order {n}") for n in range(20)))
        for execution_id, record in said:
            heard = "".join(text for _, text in hub.sink.tokens_of[execution_id])
            assert heard == record.output["response"]


def test_it_knows_its_agent_and_nothing_else() -> None:
    registry = _registry(hello(desk()))
    assert registry.get(AGENT_ID).version == "3"
    with pytest.raises(UnknownPipeline):
        registry.get("another")


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        (
            {"tools": [{"type": "function", "path": "agent_app:no_such_tool"}]},
            DeclarationError,
            r"agent desk: simple\.settings\.tools\.0: agent_app has no 'no_such_tool'",
        ),
        (
            {"tools": [{"type": "function", "path": "no_such_app:tool"}]},
            DeclarationError,
            r"tools\.0: no_such_app cannot be imported: ModuleNotFoundError",
        ),
        (
            {"tools": [{"type": "function", "path": "agent_app:AIMessage"}]},
            DeclarationError,
            r"tools\.0",
        ),
        ({"rules": "agent_app:nothing"}, DeclarationError, r"simple\.settings\.rules"),
        ({"rules": "agent_app:echo"}, DeclarationError, r"rules.*cannot be called"),
        ({"concurrency": 0}, InvalidInput, r"simple\.settings\.concurrency"),
    ],
)
def test_what_cannot_run_is_told_when_it_starts(
    settings: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        _registry(hello(desk(**settings)))
