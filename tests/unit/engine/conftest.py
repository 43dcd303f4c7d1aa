"""Engines that run pipelines with everything in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from holdfast.domain.ids import new_id
from holdfast.engine import Engine
from holdfast.engine.threads import ExecutionThreads
from holdfast.llm.factory import Models
from holdfast.pipelines.base import Declaration
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.registry import Registry
from holdfast.ports import RunSpec
from holdfast.testing.ports import MemorySink, Recorded, memory_ports


class Job(BaseModel):
    text: str = ""


class Engines:
    """One engine over pipelines, and what it tells."""

    def __init__(self, declarations: list[Declaration], *, sink: Any = None) -> None:
        self.sink: Any = sink or MemorySink()
        self.ended: list[str] = []
        self.abandoned: list[str] = []
        self.threads = ExecutionThreads(8)
        self.engine = Engine(
            registry=Registry(declarations),
            models=Models({}),
            sink=self.sink,
            ports=memory_ports(),
            threads=self.threads,
            on_end=self.ended.append,
            on_abandoned=self.abandoned.append,
        )

    def start(self, name: str, *, deadline_s: float | None = None, **data: Any) -> str:
        execution_id = new_id()
        self.engine.start(
            RunSpec(
                execution_id=execution_id,
                event_id=f"event of {execution_id}",
                owner_id="local",
                kind="pipeline",
                name=name,
                version="1",
                data=orjson.dumps(data),
                delivery=1,
                deadline_s=deadline_s,
            )
        )
        return execution_id

    async def run(self, name: str, **data: Any) -> Recorded:
        execution_id = self.start(name, **data)
        await self.engine.drain()
        return self.record(execution_id)

    def record(self, execution_id: str) -> Recorded:
        return self.sink.record(execution_id)


def one_node(name: str, fn: Any) -> Pipeline:
    """A pipeline of a single node."""
    pipeline = Pipeline(name, version="1", event=Job)
    pipeline.start(pipeline.node("only", fn))
    return pipeline


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with capture_logs() as collected:
        yield collected
