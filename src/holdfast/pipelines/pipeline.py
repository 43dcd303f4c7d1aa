"""`Pipeline`: nodes, routes and groups declared in Python, compiled to LangGraph."""

from __future__ import annotations

import keyword
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar, overload

import orjson
from langgraph.graph import END as END  # noqa: PLC0414 - part of the public face
from langgraph.graph import START, StateGraph
from pydantic import BaseModel

from holdfast.llm.scripted import Script

from .base import AnyGraph, Declaration
from .fingerprint import calling_module, fingerprint
from .model import ModelNode
from .nodes import FunctionNode, Node, callable_of, name_of
from .parallel import OnFailure, Parallel
from .router import Predicate, Router
from .schemas import validate_model
from .state import Channels, State
from .wiring import Wiring

R = TypeVar("R")
A = TypeVar("A", bound=BaseModel)
N = TypeVar("N", bound=Node[Any])

Target = Node[Any] | str
"""A node, its name, or END."""

RESERVED = frozenset({"event", "results", "failures", "items", "keys", "values", "get"})
"""Names that `State` or a group's outcome already gives another meaning."""


class Pipeline(Declaration):
    """A graph declared node by node.

    It is sealed by its first use (or by `check`): then the wiring is proven and compiled once.
    An execution's output is the result of the last node that ran, or what `output` makes of the
    final state.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str,
        event: type[BaseModel],
        description: str = "",
        deadline: float | None = None,
        scripted: Script | None = None,
        output: Callable[[State], Any] | None = None,
    ) -> None:
        """Declare an empty pipeline.

        Args:
            name: dotted name that events are addressed to.
            version: the author's own; recorded with every execution.
            event: schema of the events' data; fields it does not name are refused.
            description: one sentence for people.
            deadline: seconds an execution may take; None for the hub's default.
            scripted: rules that answer where a model alias is scripted, not a real model.
            output: makes the execution's output of the final state.

        Raises:
            DeclarationError: the name, version or deadline cannot be used.
        """
        super().__init__(name, version=version, description=description, deadline=deadline)
        self._event = event
        self._scripted = scripted
        self._output = output
        self._wiring = Wiring(name)
        self._module = calling_module()
        self._compiled: AnyGraph | None = None

    # -- declaring -------------------------------------------------------------------------

    @overload
    def node(self, target: type[Any], /) -> FunctionNode[Any]: ...
    @overload
    def node(self, target: Callable[[State], Awaitable[R]], /) -> FunctionNode[R]: ...
    @overload
    def node(self, target: Callable[[State], R], /) -> FunctionNode[R]: ...
    @overload
    def node(
        self, target: str, /, *, version: str | None = None
    ) -> Callable[[Callable[[State], Any]], FunctionNode[Any]]: ...
    @overload
    def node(
        self, target: str, fn: type[Any], /, *, version: str | None = None
    ) -> FunctionNode[Any]: ...
    @overload
    def node(
        self, target: str, fn: Callable[[State], Awaitable[R]], /, *, version: str | None = None
    ) -> FunctionNode[R]: ...
    @overload
    def node(
        self, target: str, fn: Callable[[State], R], /, *, version: str | None = None
    ) -> FunctionNode[R]: ...
    def node(self, target: Any, fn: Any = None, /, *, version: str | None = None) -> Any:
        """Declare a node: `@p.node`, `@p.node("name")` or `p.node("name", function)`.

        Functions and objects that can be called, sync (run in a thread) or async, with the
        `State` as their one argument; a class is made once. Raising `Skip` skips the step.

        Args:
            target: the function, or the node's name when it shall be another than the function's.
            fn: the function, object or class.
            version: recorded with its steps; the pipeline's by default.

        Raises:
            DeclarationError: the name is taken or unusable, or nothing can be called.
        """
        if not isinstance(target, str):
            return self._function(name_of(target), target, version=version)
        if fn is not None:
            return self._function(target, fn, version=version)
        return partial(self._function, target, version=version)

    @overload
    def model(
        self,
        name: str,
        *,
        prompt: str,
        system: str | None = None,
        alias: str = "standard",
        answer: type[A],
        tries: int = 3,
        credits: int = 0,
        version: str | None = None,
    ) -> ModelNode[A]: ...
    @overload
    def model(
        self,
        name: str,
        *,
        prompt: str,
        system: str | None = None,
        alias: str = "standard",
        answer: None = None,
        tries: int = 3,
        credits: int = 0,
        version: str | None = None,
    ) -> ModelNode[str]: ...
    def model(
        self,
        name: str,
        *,
        prompt: str,
        system: str | None = None,
        alias: str = "standard",
        answer: type[BaseModel] | None = None,
        tries: int = 3,
        credits: int = 0,  # noqa: A002 - the record's own word
        version: str | None = None,
    ) -> ModelNode[Any]:
        """Declare a node that asks a chat model.

        Args:
            name: of the node.
            prompt: Jinja2 template of the user message; its variables are `event`, `results`,
                and each finished node by name.
            system: template of the system message.
            alias: which model, as the settings name it.
            answer: pydantic schema the answer must fit; its validators see the `State` as
                `info.context`. Without it the result is the text.
            tries: how often to ask until an answer fits; each try is recorded.
            credits: charged for an accepted answer.
            version: recorded with its steps; the pipeline's by default.

        Raises:
            DeclarationError: a template's syntax, the name or a number is wrong.
        """
        return self._add(
            ModelNode(
                name,
                pipeline=self.name,
                version=version or self.version,
                prompt=prompt,
                system=system,
                alias=alias,
                answer=answer,
                tries=tries,
                credits=credits,
                script=self._scripted,
            )
        )

    def parallel(
        self, name: str, branches: Sequence[Target], *, on_failure: OnFailure = "abort"
    ) -> Parallel:
        """Declare a group of nodes that run side by side.

        `state.judge` has the branches' results as attributes; each is a result of its own, too.

        Args:
            name: of the group, which is a node like any other.
            branches: nodes declared before; from now on they run in this group only.
            on_failure: `abort` ends the execution with one error that names the failed branches,
                once all have ended; `continue` goes on, and the execution ends `partial`.

        Raises:
            DeclarationError: a branch is unknown or belongs to another group.
        """
        members = [self._branch(name, branch) for branch in branches]
        if len({member.name for member in members}) != len(members) or not members:
            raise self._wiring.error(f'group "{name}" needs branches, each of them once')
        group = self._add(
            Parallel(name, members, on_failure=on_failure, pipeline=self.name, version=self.version)
        )
        self._wiring.groups.update({member.name: name for member in members})
        return group

    def start(self, node: Target) -> None:
        """Say which node runs first."""
        self._unsealed()
        if self._wiring.start is not None:
            raise self._wiring.error(f'it already starts with "{self._wiring.start}"')
        self._wiring.start = self._name(node)

    def edge(self, source: Target, target: Target) -> None:
        """Let `target` follow `source`; a node that nothing follows ends the run."""
        name = self._source(source)
        self._wiring.edges[name] = self._name(target)

    def chain(self, *nodes: Target) -> None:
        """Let the nodes follow each other."""
        for source, target in pairwise(nodes):
            self.edge(source, target)

    def route(
        self,
        source: Target,
        rules: Mapping[Any, Predicate] | Sequence[tuple[Target, Predicate]],
        *,
        otherwise: Target | None = None,
    ) -> None:
        """Let rules choose what follows `source`; the decision is recorded as a step.

        Args:
            source: the node after which to decide.
            rules: tried in order, the first that answers True decides: `{target: predicate}`,
                or pairs where a target comes up twice. A predicate takes the `State`.
            otherwise: the way when no rule holds; a router must have one. END ends the run.
        """
        pairs = list(rules.items()) if isinstance(rules, Mapping) else list(rules)
        name = self._source(source)
        self._wiring.routers[name] = Router(
            name,
            [(self._name(target), predicate) for target, predicate in pairs],
            otherwise=None if otherwise is None else self._name(otherwise),
            pipeline=self.name,
            version=self.version,
        )

    # -- the contract ----------------------------------------------------------------------

    def check(self) -> None:
        """Seal the pipeline: prove its wiring and its prompts, and compile it.

        Raises:
            DeclarationError: the first fault found, with the node's name.
        """
        self.graph()

    def graph(self) -> AnyGraph:
        """The compiled graph, made once; nothing can be declared afterwards.

        Raises:
            DeclarationError: as `check`.
        """
        if self._compiled is None:
            self._wiring.check()
            for node in self._wiring.nodes.values():
                if isinstance(node, ModelNode):
                    for prompt in node.prompts:
                        prompt.check(self._wiring.nodes)
            self._compiled = self._compile()
        return self._compiled

    def validate(self, data: Any) -> BaseModel:
        """Decoded JSON as an instance of the event schema.

        Raises:
            InvalidInput: with each wrong or unknown field.
        """
        return validate_model(self._event, data, self.name)

    def schema(self) -> dict[str, Any]:
        """JSON schema of the event's data."""
        return self._event.model_json_schema()

    def initial(self, event: Any) -> dict[str, Any]:
        """The graph's input for a validated event."""
        return {"event": event, "results": {}}

    def result(self, final: Mapping[str, Any]) -> Any:
        """What `output` makes of the final state, or the last node's result."""
        if self._output is not None:
            return self._output(State(final["event"], final["results"]))
        last = (name for name in reversed(final["results"]) if name in self._wiring.nodes)
        return final["results"][next(last)]

    def failures(self, final: Mapping[str, Any]) -> list[Any]:
        """Branches that failed in groups that may go on without them."""
        return State(final["event"], final["results"]).failures

    def describe(self) -> dict[str, Any]:
        """Nodes and edges for drawing; branches name their `group`."""
        return self._wiring.describe()

    def _hash_code(self) -> str:
        """Over the modules that the nodes, rules and schemas come from, and the prompts."""
        nodes = [*self._wiring.nodes.values(), *self._wiring.routers.values()]
        prompts = [
            prompt.source
            for node in nodes
            if isinstance(node, ModelNode)
            for prompt in node.prompts
        ]
        objects = [self._event, *(item for node in nodes for item in node.sources())]
        wiring = orjson.dumps(self.describe()).decode()
        return fingerprint(self._module, objects, wiring, *prompts)

    # -- helpers ---------------------------------------------------------------------------

    def _function(self, name: str, fn: Any, *, version: str | None) -> FunctionNode[Any]:
        where = f'pipeline {self.name}: node "{name}"'
        return self._add(
            FunctionNode(
                name,
                callable_of(fn, where),
                pipeline=self.name,
                version=version or self.version,
            )
        )

    def _add(self, node: N) -> N:
        self._unsealed()
        name = node.name
        if not name.isidentifier() or name.startswith("_") or keyword.iskeyword(name):
            raise self._wiring.error(
                f"{name!r} is no name for a node",
                hint='results are read as state.name; give one: @pipeline.node("name")',
            )
        if name in RESERVED:
            raise self._wiring.error(
                f'the name "{name}" is taken: state.{name} means another thing'
            )
        if name in self._wiring.nodes:
            raise self._wiring.error(
                f'two nodes are called "{name}"', hint='give one of them a name: node("name", …)'
            )
        self._wiring.nodes[name] = node
        return node

    def _branch(self, group: str, branch: Target) -> Node[Any]:
        name = self._name(branch)
        if name not in self._wiring.nodes:
            raise self._wiring.error(f'group "{group}": there is no node "{name}" yet')
        if other := self._wiring.groups.get(name):
            raise self._wiring.error(f'node "{name}" is a branch of "{other}" already')
        return self._wiring.nodes[name]

    def _name(self, target: Target) -> str:
        if isinstance(target, str):
            return target
        if isinstance(target, Node):  # pyright: ignore[reportUnnecessaryIsInstance] - user input
            if self._wiring.nodes.get(target.name) is not target:
                raise self._wiring.error(f"{target!r} is a node of another pipeline")
            return target.name
        raise self._wiring.error(f"{target!r} is neither a node nor a node's name")

    def _source(self, source: Target) -> str:
        self._unsealed()
        name = self._name(source)
        if name in self._wiring.edges or name in self._wiring.routers:
            raise self._wiring.error(
                f'node "{name}" already leads somewhere',
                hint="to run several nodes at once use parallel, to choose one use route",
            )
        return name

    def _unsealed(self) -> None:
        if self._compiled is not None:
            raise self._wiring.error("it is sealed: declare everything before its first use")

    def _compile(self) -> AnyGraph:
        wiring = self._wiring
        graph: StateGraph[Any, Any, Any, Any] = StateGraph(Channels)
        for node in wiring.members():
            graph.add_node(node.name, node.action(), metadata=node.metadata)
        for router in wiring.routers.values():
            graph.add_node(
                router.name,
                router.action(),
                metadata=router.metadata,
                destinations=tuple(router.targets),
            )
        graph.add_edge(START, wiring.start or END)
        for node in wiring.members():
            router = wiring.routers.get(node.name)
            graph.add_edge(node.name, router.name if router else wiring.edges.get(node.name, END))
        return graph.compile(name=self.name)
