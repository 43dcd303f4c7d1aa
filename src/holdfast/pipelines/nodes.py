"""Nodes: what a pipeline's author supplies, and how LangGraph gets to run it."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop, Semaphore, get_running_loop
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, ClassVar, Generic, TypeVar, cast, get_type_hints
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from pydantic import TypeAdapter

from holdfast.domain.replays import RecordedStep
from holdfast.errors import DeclarationError
from holdfast.recording import Replaying

from .base import AnyGraph
from .caching import codec_of
from .context import in_thread
from .inner import inner
from .passing import failure_again, value_again
from .policy import CONTINUE, Policy, PolicyOptions, policy_of
from .state import Channels, State, channels_of, news, state_of
from .trying import Skip as Skip  # noqa: PLC0414 - part of the public face
from .trying import carry_out

R = TypeVar("R")

Action = Callable[..., Coroutine[Any, Any, dict[str, Any]]]
"""What LangGraph calls for a node: `(channels, config) -> channel updates`."""


class Node(ABC, Generic[R]):
    """One declared node; its result has type R.

    Attributes:
        kind: the record's word for such a step.
        name: its result's key; unique in the pipeline.
        pipeline: name of the pipeline it belongs to.
        version: recorded with each step.
        policy: how it is tried and what follows when it fails.
        stand_in: the node that runs in its place when it fails; known once the pipeline is sealed.
        code_version: of the pipeline; known once it is sealed, and only asked for by a cache.
        codec: writes and reads its results for the cache; None where nothing is cached.
    """

    kind: ClassVar[str] = "node"

    def __init__(
        self, name: str, *, pipeline: str, version: str, policy: PolicyOptions | None = None
    ) -> None:
        self.name = name
        self.pipeline = pipeline
        self.version = version
        self.where = f'pipeline {pipeline}: node "{name}"'
        self.policy: Policy = policy_of(policy or {}, self.where)
        self.stand_in: Node[Any] | None = None
        self.code_version = ""
        self.codec: TypeAdapter[Any] | None = None
        if self.policy.cache is not None:
            self.codec = codec_of(self.result_type(), self.where)
        self._slots: WeakKeyDictionary[AbstractEventLoop, Semaphore] = WeakKeyDictionary()
        self._alone: AnyGraph | None = None

    @abstractmethod
    async def run(self, state: State, config: RunnableConfig) -> R:
        """Do the work once; what it raises is treated as the policy says."""

    async def leave(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """Do the work once and say what it leaves behind, by node name."""
        return {self.name: await self.run(state, config)}

    async def alone(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """Run as a step within another node's step, and say what that leaves behind."""
        if self._alone is None:
            graph: StateGraph[Any, Any, Any, Any] = StateGraph(Channels)
            graph.add_node(self.name, self.action(), metadata=self.metadata)
            graph.add_edge(START, self.name)
            self._alone = graph.compile()
        final = await self._alone.ainvoke(channels_of(state), inner(config))
        results = final["results"]
        return {**news(state, results), self.name: results[self.name]}

    def action(self) -> Action:
        """The function to hand to LangGraph."""

        async def action(channels: Channels, config: RunnableConfig) -> dict[str, Any]:
            return {"results": await carry_out(self, state_of(channels), config)}

        return action

    def slot(self) -> AbstractAsyncContextManager[Any]:
        """Held during a try; there are `concurrency` of them in a process."""
        if self.policy.concurrency is None:
            return nullcontext()
        # A semaphore belongs to the loop it is first waited for in.
        loop = get_running_loop()
        if loop not in self._slots:
            self._slots[loop] = Semaphore(self.policy.concurrency)
        return self._slots[loop]

    def result_type(self) -> Any:
        """Type of the result, as a cache needs to know it.

        Raises:
            DeclarationError: results of such a node cannot be kept.
        """
        raise DeclarationError(
            f"{self.where}: a {self.kind} cannot be cached", hint="cache the nodes in it"
        )

    def cache_input(self, state: State) -> Any:
        """What counts as the node's input when its cache names no key."""
        return [state.event, state.results, *state.within]

    def kept_type(self) -> Any:
        """Type of the result as far as it is known; None where nobody said."""
        return None

    def left_again(
        self,
        recorded: RecordedStep,
        state: State,
        replaying: Replaying,  # noqa: ARG002 - for nodes made of nodes
    ) -> dict[str, Any] | None:
        """What the node left behind when it was recorded; None when that cannot be told.

        Args:
            recorded: its step then.
            state: what the node sees now.
            replaying: knows the steps below.
        """
        failure = failure_again(recorded)
        if failure is not None and self.policy.on_failure == CONTINUE:
            return {self.name: failure}
        if not recorded.ended_well:
            return None
        if recorded.status == "skipped" and not recorded.given:
            return {self.name: None}
        try:
            return {self.name: value_again(self.kept_type(), recorded.output, state)}
        except ValueError:  # its type is another one by now
            return None

    @property
    def metadata(self) -> dict[str, Any]:
        """What the recorder learns about the node's runs."""
        return {"holdfast_kind": self.kind, "holdfast_version": self.version}

    def describe(self) -> dict[str, Any]:
        """The node as a drawing needs it."""
        told = {"name": self.name, "kind": self.kind, "version": self.version}
        return told | ({"policy": policy} if (policy := self.policy.describe()) else {})

    def sources(self) -> list[object]:
        """Functions and classes whose code the node's behaviour depends on."""
        return []

    def __repr__(self) -> str:
        return f"<{self.kind} {self.pipeline}:{self.name}>"


class FunctionNode(Node[R]):
    """A node made of a function, or of an object that can be called; still callable itself."""

    def __init__(
        self,
        name: str,
        fn: Callable[[State], Any],
        *,
        pipeline: str,
        version: str,
        policy: PolicyOptions | None = None,
    ) -> None:
        self.fn = fn
        super().__init__(name, pipeline=pipeline, version=version, policy=policy)
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

    def result_type(self) -> Any:
        """What the function says it returns; None when it does not say."""
        fn: Any = self.fn if inspect.isroutine(self.fn) else type(self.fn).__call__
        try:
            return get_type_hints(inspect.unwrap(fn)).get("return")
        except (NameError, TypeError):  # types that exist only for type checkers, a partial
            return None

    def kept_type(self) -> Any:
        """What the function says it returns."""
        return self.result_type()

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
