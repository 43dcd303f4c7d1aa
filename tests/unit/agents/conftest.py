"""Agents over an engine with everything in memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import orjson
import pytest
from langchain_core.messages import ToolMessage
from structlog.testing import capture_logs

from holdfast.agents.build import declare
from holdfast.agents.declaration import AgentDeclaration
from holdfast.agents.schemas import TurnData
from holdfast.domain.conversations import Message, Speaker, Window
from holdfast.domain.ids import new_id
from holdfast.engine import Engine
from holdfast.engine.threads import ExecutionThreads
from holdfast.llm.aliases import read_aliases
from holdfast.llm.factory import Models
from holdfast.llm.scripted import ScriptedAnswer, ScriptedRequest
from holdfast.pipelines.registry import Registry
from holdfast.ports import NoMemory, Ports, RunSpec
from holdfast.testing.ports import MemorySink, Recorded, memory_ports

PARTS = "parts_under_test"
"""The module whose attributes configurations of these tests name."""

AGENT_ID = "0190c1d2-0000-7000-8000-000000000001"


def said(role: Speaker, content: str) -> Message:
    return Message(
        id=new_id(),
        session_id="s1",
        owner_id="local",
        turn=1,
        part=0,
        role=role,
        content=content,
        tokens=5,
        event_id=None,
        execution_id=None,
        summarised=False,
        summary_of=(),
        feedback=None,
        comment=None,
        metadata={},
        created_at=1,
    )


class Remembered(NoMemory):
    """A `MemoryPort` that gives one window and notes what was asked."""

    def __init__(self, window: Window) -> None:
        self.given = window
        self.asked: list[dict[str, Any]] = []

    async def window(self, **asked: Any) -> Window:
        self.asked.append(asked)
        return self.given


class Agents:
    """One engine over agents, and what it tells."""

    def __init__(
        self,
        *declarations: AgentDeclaration,
        models: Mapping[str, Any] | None = None,
        **ports: Any,
    ) -> None:
        self.sink = MemorySink()
        self.threads = ExecutionThreads(8)
        given = {"memory": Remembered(Window(summaries=[], messages=[])), **ports}
        self.ports: Ports = replace(memory_ports(), **given)
        self.registry = Registry(list(declarations))
        self.engine = Engine(
            registry=self.registry,
            models=Models(read_aliases(models or {}, {}), budgets=self.ports.budgets),
            sink=self.sink,
            ports=self.ports,
            threads=self.threads,
        )

    def start(
        self, text: str = "hello", *, spec: Mapping[str, Any] | None = None, **data: Any
    ) -> str:
        execution_id = new_id()
        turn = TurnData(text=text, message_id=new_id(), channel="api", **data)
        given: dict[str, Any] = {
            "execution_id": execution_id,
            "event_id": f"event of {execution_id}",
            "owner_id": "local",
            "kind": "agent",
            "name": AGENT_ID,
            "version": "1",
            "data": orjson.dumps(turn.model_dump()),
            "delivery": 1,
            "session_id": "s1",
        }
        self.engine.start(RunSpec(**(given | dict(spec or {}))))
        return execution_id

    async def say(self, text: str = "hello", **more: Any) -> Recorded:
        execution_id = self.start(text, **more)
        await self.engine.drain()
        return self.sink.record(execution_id)


class Rules:
    """A script whose answers stand in a row, and what it was asked.

    Each answer is a text, a `ScriptedAnswer`, a list of calls, or a function of the request.
    """

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[ScriptedRequest] = []

    def __call__(self, request: ScriptedRequest) -> Any:
        self.asked.append(replace(request, messages=list(request.messages)))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, list):
            answer = calls(*answer)
        return answer

    @property
    def operations(self) -> list[str]:
        return [one.operation for one in self.asked]


def calls(*made: tuple[str, Any], text: str = "") -> ScriptedAnswer:
    """An answer that calls tools: `("lookup", {"key": 1})`."""
    return ScriptedAnswer(text=text, tool_calls=[{"name": n, "args": args} for n, args in made])


def results(request: ScriptedRequest) -> list[ToolMessage]:
    """What tools have said so far."""
    return [one for one in request.messages if isinstance(one, ToolMessage)]


def simple(**settings: Any) -> dict[str, Any]:
    """A configuration of a simple agent on the scripted model."""
    given = {"model": "fast", "rules": f"{PARTS}:rules", **settings}
    return {"simple": {"settings": given}}


def function(name: str, **more: Any) -> dict[str, Any]:
    """A function tool of the module under test."""
    return {"type": "function", "path": f"{PARTS}:{name}", **more}


def agent(config: Mapping[str, Any], *, name: str = "desk") -> AgentDeclaration:
    return declare(id=AGENT_ID, name=name, version=1, config=config)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that configurations name; tests put functions and rules into it."""
    module = ModuleType(PARTS)
    monkeypatch.setitem(sys.modules, PARTS, module)
    return module


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with capture_logs() as collected:
        yield collected


Tool = Callable[..., Any]
Calls = Sequence[tuple[str, Any]]
