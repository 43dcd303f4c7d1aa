"""Pipelines whose steps end in every way, for tests of how executions count them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from holdfast import Skip
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.state import State


class Nothing(BaseModel):
    pass


async def well(state: State[Nothing]) -> str:
    return "well"


async def badly(state: State[Nothing]) -> str:
    raise ValueError("badly")


async def not_at_all(state: State[Nothing]) -> str:
    raise Skip("nothing to do")


def pipeline(name: str, *actions: Any) -> Pipeline:
    made: Pipeline = Pipeline(name, version="1", event=Nothing)
    nodes = [
        made.node(f"{action.__name__}_{n}", action, on_failure="continue")
        for n, action in enumerate(actions)
    ]
    made.start(nodes[0])
    if len(nodes) > 1:
        made.chain(*nodes)
    return made


mixed = pipeline("counts.mixed", well, not_at_all, badly, well, not_at_all, not_at_all)
all_failed = pipeline("counts.all_failed", badly, badly)
all_skipped = pipeline("counts.all_skipped", not_at_all, not_at_all)
