"""Included pipelines: another declaration run as one step, its own steps beneath it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import orjson
from langchain_core.runnables import RunnableConfig

from holdfast.domain.payload import encode
from holdfast.domain.replays import RecordedStep
from holdfast.errors import DeclarationError
from holdfast.recording import Replaying

from .base import Declaration
from .inner import inner
from .nodes import Node
from .policy import PolicyOptions
from .state import Failure, State, beneath


class Included(Node[Any]):
    """Runs another pipeline's graph inside this execution; the result is that pipeline's output.

    Steps that failed there and were allowed to make this execution `partial` as well.
    """

    kind: ClassVar[str] = "pipeline"

    def __init__(
        self,
        name: str,
        other: Declaration,
        *,
        given: Callable[[State], Any],
        pipeline: str,
        version: str,
        policy: PolicyOptions | None = None,
    ) -> None:
        options: PolicyOptions = policy or {}
        if "timeout" not in options and other.deadline is not None:
            options = {**options, "timeout": other.deadline}
        super().__init__(name, pipeline=pipeline, version=version, policy=options)
        self.other = other
        self.given = given

    async def run(self, state: State, config: RunnableConfig) -> Any:
        """Run the other pipeline to its end.

        Raises:
            InvalidInput: what `input` made does not fit its schema.
            Exception: what its nodes raised.
        """
        return (await self.leave(state, config))[self.name]

    async def leave(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """Its output, and apart from it the failures it went on without."""
        # Through JSON, as an event would come: one schema, one way in.
        event = self.other.validate(orjson.loads(encode(self.given(state))))
        final = await self.other.graph().ainvoke(self.other.initial(event), inner(config))
        failures = [
            replace(one, node=f"{self.name}.{one.node}")
            for one in self.other.failures(final)
            if isinstance(one, Failure)
        ]
        return {**beneath(state, self.name, failures), self.name: self.other.result(final)}

    def left_again(
        self, recorded: RecordedStep, state: State, replaying: Replaying
    ) -> dict[str, Any] | None:
        """See `Node.left_again`; it runs again, its models answered, while its steps are known."""
        if not recorded.given:
            return None
        return super().left_again(recorded, state, replaying)

    def describe(self) -> dict[str, Any]:
        """Also which pipeline it runs."""
        return {**super().describe(), "pipeline": self.other.name}

    def sources(self) -> list[object]:
        """The function that makes the input."""
        return [self.given] if hasattr(self.given, "__code__") else []


def refuse_circles(declaration: Declaration, *path: str) -> None:
    """Refuse a pipeline that would run inside itself.

    Args:
        declaration: whose included ones are looked at, and theirs in turn.
        *path: names of those that led here.

    Raises:
        DeclarationError: one leads back to one before it.
    """
    path = (*path, declaration.name)
    for other in declaration.included():
        if other.name in path:
            raise DeclarationError(
                f"pipeline {path[0]}: it includes itself: {' → '.join([*path, other.name])}",
                hint="send an event to it instead, with current_run().submit",
            )
        refuse_circles(other, *path)
