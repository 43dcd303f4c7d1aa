"""Nodes: what a pipeline's author supplies, and how LangGraph gets to run it."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, Generic, TypeVar, cast

from langchain_core.runnables import RunnableConfig

from holdfast.errors import DeclarationError
from holdfast.recording import step_of

from .context import in_thread
from .state import Channels, State

R = TypeVar("R")

Action = Callable[..., Coroutine[Any, Any, dict[str, Any]]]
"""What LangGraph calls for a node: `(channels, config) -> channel updates`."""


class Skip(Exception):
    """Raised in a node to say that there is nothing to do; its step is recorded as skipped.

    The node's result is then None.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Node(ABC, Generic[R]):
    """One declared node; its result has type R.

    Attributes:
        kind: the record's word for such a step.
        name: its result's key; unique in the pipeline.
        pipeline: name of the pipeline it belongs to.
        version: recorded with each step.
    """

    kind: ClassVar[str] = "node"

    def __init__(self, name: str, *, pipeline: str, version: str) -> None:
        self.name = name
        self.pipeline = pipeline
        self.version = version

    @abstractmethod
    async def run(self, state: State, config: RunnableConfig) -> R:
        """Do the work; what it raises ends the execution unless a group keeps it."""

    def outcomes(self, result: R) -> dict[str, Any]:
        """What the node leaves behind, by node name."""
        return {self.name: result}

    def action(self) -> Action:
        """The function to hand to LangGraph."""
        run, outcomes = self.run, self.outcomes

        async def action(channels: Channels, config: RunnableConfig) -> dict[str, Any]:
            try:
                result = await run(State(channels["event"], channels["results"]), config)
            except Skip as skip:
                step_of(config).skip(skip.reason)
                return {"results": {self.name: None}}
            return {"results": outcomes(result)}

        return action

    @property
    def metadata(self) -> dict[str, Any]:
        """What the recorder learns about the node's runs."""
        return {"holdfast_kind": self.kind, "holdfast_version": self.version}

    def describe(self) -> dict[str, Any]:
        """The node as a drawing needs it."""
        return {"name": self.name, "kind": self.kind, "version": self.version}

    def sources(self) -> list[object]:
        """Functions and classes whose code the node's behaviour depends on."""
        return []

    def __repr__(self) -> str:
        return f"<{self.kind} {self.pipeline}:{self.name}>"


class FunctionNode(Node[R]):
    """A node made of a function, or of an object that can be called; still callable itself."""

    def __init__(
        self, name: str, fn: Callable[[State], Any], *, pipeline: str, version: str
    ) -> None:
        super().__init__(name, pipeline=pipeline, version=version)
        self.fn = fn
        call = fn if inspect.isroutine(fn) else cast("Any", fn).__call__
        self._is_async = inspect.iscoroutinefunction(call)

    def __call__(self, state: State) -> Any:
        """Call the function itself, as a unit test would."""
        return self.fn(state)

    async def run(self, state: State, config: RunnableConfig) -> R:  # noqa: ARG002 - the contract
        """Call the function: async in the loop, sync in a thread."""
        if self._is_async:
            return await self.fn(state)
        result = await in_thread(self.fn, state)
        # A partial or a lambda around an async function does not look async.
        if inspect.isawaitable(result):
            return await cast("Awaitable[R]", result)
        return result

    def sources(self) -> list[object]:
        """The function, or the object's class."""
        return [self.fn if inspect.isroutine(self.fn) else type(self.fn)]


def callable_of(target: Any, where: str) -> Callable[[State], Any]:
    """A node's function out of what was declared; a class is made once, without arguments.

    Raises:
        DeclarationError: it cannot be called with a state.
    """
    if inspect.isclass(target):
        try:
            target = target()
        except TypeError as error:
            raise DeclarationError(
                f"{where}: class {target.__name__} cannot be made without arguments",
                hint=f'pass an object: pipeline.node("name", {target.__name__}(…))',
            ) from error
    if not callable(target):
        raise DeclarationError(f"{where}: {target!r} cannot be called")
    try:
        inspect.signature(target).bind(object())
    except TypeError as error:
        raise DeclarationError(f"{where}: it must take one argument, the state") from error
    except ValueError:  # a builtin without a signature
        pass
    return target


def name_of(target: Any) -> str:
    """The name a function or class suggests for its node: `CloseTicket` gives `close_ticket`."""
    name = getattr(target, "__name__", type(target).__name__)
    if inspect.isclass(target):
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return name
