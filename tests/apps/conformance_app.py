"""LangGraph's suite for checkpoint savers, run by a pipeline: against the saver of its runner."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.config import get_config
from pydantic import BaseModel

from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.state import State


class Nothing(BaseModel):
    pass


pipeline = Pipeline("conformance", version="1", event=Nothing, durable=True)


@pipeline.node
async def suite(state: State[Nothing]) -> dict[str, Any]:
    saver: BaseCheckpointSaver[Any] = get_config()["configurable"]["__pregel_checkpointer"]

    @checkpointer_test(name="PortSaver")
    async def ours() -> AsyncGenerator[BaseCheckpointSaver[Any]]:
        yield saver

    report = await validate(ours)  # type: ignore[arg-type]
    return {
        "pid": os.getpid(),
        "saver": type(saver).__name__,
        "results": {
            name: {"passed": one.passed, "tests": one.tests_passed, "failures": one.failures}
            for name, one in report.results.items()
        },
    }


pipeline.start(suite)
