"""Small runs, so that what runs need is imported, built and shared by forks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel

from holdfast.domain.changes import Finished, change_from
from holdfast.domain.conversations import Window
from holdfast.domain.ids import new_id
from holdfast.domain.status import ExecutionStatus
from holdfast.engine import Engine
from holdfast.engine.threads import ExecutionThreads
from holdfast.errors import PortError
from holdfast.llm.factory import Models
from holdfast.llm.scripted import ScriptedAnswer, ScriptedRequest
from holdfast.pipelines.base import Declaration
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.registry import Registry, offered
from holdfast.pipelines.state import State
from holdfast.ports import ModelConfig, NoMemory, Ports, RunSpec

ALIAS = "warming"


class WarmUpError(Exception):
    """A small run did not succeed."""


class Asked(BaseModel):
    """What the pipeline's event holds."""

    text: str


class Answered(BaseModel):
    """What its model answers."""

    words: int


class Nowhere(NoMemory):
    """A record that nobody keeps, a hub that is not there, and a conversation that just began.

    Attributes:
        finished: the end, once it was told.
    """

    def __init__(self) -> None:
        self.finished: Finished | None = None

    def change(self, execution_id: str, raw: bytes) -> None:  # noqa: ARG002
        """See `RecordSink.change`."""
        told = change_from(orjson.loads(raw))
        if isinstance(told, Finished):
            self.finished = told

    def tokens(self, execution_id: str, step: int, text: str) -> None:
        """See `RecordSink.tokens`."""

    async def submit(
        self,
        *,
        execution_id: str,  # noqa: ARG002
        type: str,  # noqa: A002, ARG002
        data: Mapping[str, Any],  # noqa: ARG002
        idempotency_key: str | None = None,  # noqa: ARG002
    ) -> str:
        """See `EventsPort.submit`."""
        raise PortError("nothing is sent while a runner warms up")

    async def window(
        self,
        *,
        execution_id: str,  # noqa: ARG002
        token_budget: int,  # noqa: ARG002
        depth: int | None = None,  # noqa: ARG002
    ) -> Window:
        """See `MemoryPort.window`."""
        return Window(summaries=(), messages=())


async def warm_up() -> None:
    """Run a small pipeline once.

    Raises:
        WarmUpError: it did not succeed.
    """
    offered()
    await _succeeded(_pipeline(), {"text": "warm"})


async def warm_up_agent() -> None:
    """The same with an agent that calls a tool.

    Raises:
        WarmUpError: it did not succeed.
    """
    from holdfast.agents.build import declare  # pipelines' runners do without

    settings = {
        "model": ALIAS,
        "rules": f"{__name__}:agent_rules",
        "system_prompt": "Count.",
        "tools": [{"type": "function", "path": f"{__name__}:count_words"}],
    }
    config = {"simple": {"settings": settings}}
    agent = declare(id=new_id(), name="warming", version=1, config=config)
    agent.check()
    said = {"text": "warm", "message_id": new_id(), "channel": "api"}
    await _succeeded(agent, said, kind="agent", session_id=new_id())


async def _succeeded(
    declaration: Declaration, data: Mapping[str, Any], *, kind: str = "pipeline", **more: Any
) -> None:
    nowhere = Nowhere()
    threads = ExecutionThreads(1)
    config = ModelConfig(alias=ALIAS, provider="scripted", model="rules")
    engine = Engine(
        registry=Registry([declaration]),
        models=Models({ALIAS: config}),
        sink=nowhere,
        ports=Ports(events=nowhere, memory=nowhere),
        threads=threads,
    )
    engine.start(
        RunSpec(
            execution_id=new_id(),
            event_id=new_id(),
            owner_id="local",
            kind=kind,
            name=declaration.name,
            version=declaration.version,
            data=orjson.dumps(data),
            delivery=1,
            **more,
        )
    )
    await engine.drain()
    threads.shutdown()
    if nowhere.finished is None or nowhere.finished.status != ExecutionStatus.SUCCEEDED:
        error = None if nowhere.finished is None else nowhere.finished.error
        raise WarmUpError(f"the {kind} that warms up a runner failed: {error}")


def _pipeline() -> Pipeline:
    pipeline = Pipeline("holdfast.warming", version="1", event=Asked, scripted=_rules)

    async def begin(state: State[Asked]) -> str:
        return state.event.text

    first = pipeline.node("begin", begin)
    asked = pipeline.model(
        "count", system="Count.", prompt="{{ event.text }}", alias=ALIAS, answer=Answered
    )
    pipeline.start(first)
    pipeline.chain(first, asked)
    return pipeline


def _rules(request: ScriptedRequest) -> dict[str, int]:
    return {"words": len(request.user.split())}


def agent_rules(request: ScriptedRequest) -> ScriptedAnswer:
    """Ask the tool, then answer."""
    answered = any(message.type == "tool" for message in request.messages)
    calls: Sequence[Mapping[str, Any]] = [{"name": "count_words", "args": {"text": "warm"}}]
    return ScriptedAnswer(text="One." if answered else "", tool_calls=() if answered else calls)


async def count_words(text: str) -> int:
    """How many words a text has."""
    return len(text.split())
