"""`Graph`: a ready LangGraph graph, registered unchanged."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Unpack, cast, get_args, get_type_hints

import orjson
from langchain_core.messages import BaseMessage
from langgraph.errors import GraphBubbleUp
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.types import interrupt
from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError

from holdfast.errors import DeclarationError, InvalidInput

from .base import AnyGraph, Declaration, DeclarationOptions
from .fingerprint import calling_module, fingerprint
from .kept import kept_types, members_of
from .schemas import refused, shorten, validate_model
from .waiting import check_free_answer

MESSAGES_SCHEMA: dict[str, Any] = {
    "type": "array",
    "description": "chat messages",
    "items": {
        "type": "object",
        "properties": {"role": {"type": "string"}, "content": {}},
        "required": ["role", "content"],
    },
}
"""JSON schema of a channel of LangChain messages: the form LangGraph takes from outside."""


class Graph(Declaration):
    """A LangGraph graph made elsewhere; its nodes, channels and limits stay its own."""

    def __init__(
        self,
        name: str,
        graph: Any,
        *,
        version: str,
        event: type[BaseModel] | None = None,
        checkpoints: bool | None = None,
        **options: Unpack[DeclarationOptions],
    ) -> None:
        """Register a graph.

        A checkpointer or a store it was compiled with is replaced: Holdfast keeps its state.

        Args:
            name: dotted name that events are addressed to.
            graph: a `StateGraph`, compiled or not, or an `entrypoint` of the functional API.
            version: the author's own.
            event: schema of the events' data. Without it the data must be a JSON object that
                fits the graph's input channels as far as their types are known.
            checkpoints: whether its runs have checkpoints, which `interrupt()` needs. None finds
                out: when it was compiled with a checkpointer or breakpoints, or the modules of its
                nodes import `interrupt`.
            **options: `description`, `deadline`, `priority`, `retries`, `max_running` and
                `retention`; see `Declaration`.

        Raises:
            DeclarationError: it is no LangGraph graph, it does not compile, or it has a budget.
        """
        super().__init__(name, version=version, **options)
        if self.budget is not None:
            raise DeclarationError(
                f"graph {name}: a budget cannot be kept, the graph asks its models by itself",
                hint="ask models by alias, in nodes of a Pipeline(…, budget=…)",
            )
        self._event = event
        self._module = calling_module()
        self._graph = self._compiled(graph)
        self._checkpoints = _halts(self._graph) if checkpoints is None else checkpoints

    @property
    def may_halt(self) -> bool:
        """Whether it may interrupt itself."""
        return self._checkpoints

    def kept(self) -> Iterable[type[Any]]:
        """What its channels may hold, as far as their types say."""
        builder: Any = getattr(self._graph, "builder", None)
        schemas = [*getattr(builder, "schemas", {}), self._event]
        hints = [hint for schema in schemas if schema is not None for hint in members_of(schema)]
        return kept_types([*schemas, *hints, *self.keeps])

    def check_answer(self, name: str, answer: Any) -> None:  # noqa: ARG002
        """Anything but null; a schema given to `interrupt` is LangGraph's to check."""
        check_free_answer(answer)

    @classmethod
    def adopted(cls, name: str, graph: Any, module: str) -> Graph:
        """A bare graph found in an app's module, as version 1."""
        made = cls(name, graph, version="1")
        made._module = module
        return made

    def check(self) -> None:
        """Nothing to prove: LangGraph did when it compiled the graph."""

    def graph(self) -> AnyGraph:
        """The graph as it was given, compiled."""
        return self._graph

    def validate(self, data: Any) -> Any:
        """Decoded JSON as the graph's input, values converted to their channels' types.

        Raises:
            InvalidInput: with each wrong or unknown field.
        """
        model = self._event or self._input_model
        if model is not None:
            return validate_model(model, data, self.name)
        if not isinstance(data, dict):
            raise self._refused("data", "a JSON object", shorten(data))
        given = cast("dict[str, Any]", data)
        if self._inputs is None:
            return given
        if not given:
            raise self._refused("data", f"one of: {', '.join(self._inputs)}", "{}")
        return {name: self._value(name, value) for name, value in given.items()}

    def schema(self) -> dict[str, Any]:
        """JSON schema of the event's data; a channel whose type has none is left open."""
        model = self._event or self._input_model
        if model is not None:
            return model.model_json_schema()
        if self._inputs is None:
            return {"type": "object", "title": self.name}
        return {
            "type": "object",
            "title": self.name,
            "properties": {name: _schema(hint) for name, hint in self._inputs.items()},
            "additionalProperties": False,
        }

    def initial(self, event: Any) -> Any:
        """The fields of the validated event; LangGraph takes them by channel."""
        if isinstance(event, BaseModel):
            return event if self._event is None else event.model_dump()
        return event

    def result(self, final: Mapping[str, Any]) -> Any:
        """The graph's whole output."""
        return final

    def failures(self, final: Mapping[str, Any]) -> list[Any]:  # noqa: ARG002 - the contract
        """None: what a foreign graph tolerates is its own affair."""
        return []

    def describe(self) -> dict[str, Any]:
        """Nodes and edges as LangGraph draws them; nodes of subgraphs are prefixed."""
        drawn = self._graph.get_graph(xray=True)
        kinds = {"__start__": "start", "__end__": "end"}
        return {
            "nodes": [
                {"name": node.id, "kind": kinds.get(node.id, "node")}
                for node in drawn.nodes.values()
            ],
            "edges": [
                {"from": edge.source, "to": edge.target}
                | ({"label": str(edge.data)} if edge.data else {})
                for edge in drawn.edges
            ],
        }

    def _hash_code(self) -> str:
        """Over the modules that the graph and its nodes' functions come from."""
        functions = [self._event] if self._event else []
        for node in getattr(getattr(self._graph, "builder", None), "nodes", {}).values():
            bound: Any = getattr(node, "runnable", None)
            functions += [
                fn
                for fn in (getattr(bound, "func", None), getattr(bound, "afunc", None))
                if inspect.isfunction(fn)
            ]
        return fingerprint(self._module, functions, orjson.dumps(self.describe()).decode())

    @cached_property
    def _input_model(self) -> type[BaseModel] | None:
        schema = self._input_schema
        if inspect.isclass(schema) and issubclass(schema, BaseModel):
            return schema
        return None

    @cached_property
    def _inputs(self) -> dict[str, Any] | None:
        """Type hints by input channel; None when the graph does not declare its input."""
        if self._input_schema is None:
            return None
        try:
            return get_type_hints(self._input_schema)
        except (NameError, TypeError):  # types that exist only for type checkers
            return dict.fromkeys(getattr(self._input_schema, "__annotations__", {}), Any)

    @property
    def _input_schema(self) -> Any:
        return getattr(getattr(self._graph, "builder", None), "input_schema", None)

    def _value(self, name: str, value: Any) -> Any:
        inputs = self._inputs or {}
        if name not in inputs:
            raise self._refused(
                f"data.{name}", f"one of the graph's inputs: {', '.join(inputs)}", "another field"
            )
        adapter = None if _holds_messages(inputs[name]) else _adapter(inputs[name])
        if adapter is None:
            return value
        try:
            return adapter.validate_json(orjson.dumps(value))
        except ValidationError as error:
            raise refused(self.name, error, f"data.{name}") from error

    def _refused(self, field: str, expected: str, got: str) -> InvalidInput:
        return InvalidInput(
            f"pipeline {self.name}: {field}: expected {expected}, got {got}",
            hint=f"see the schema: holdfast pipelines show {self.name}",
            fields=[{"field": field, "expected": expected, "got": got}],
        )

    def _compiled(self, graph: Any) -> AnyGraph:
        if isinstance(graph, StateGraph):
            try:
                graph = cast("StateGraph[Any]", graph).compile(name=self.name)
            except (ValueError, GraphBubbleUp) as error:
                raise DeclarationError(f"graph {self.name} does not compile: {error}") from error
        if not isinstance(graph, Pregel):
            raise DeclarationError(
                f"graph {self.name}: {type(graph).__name__} is no LangGraph graph"
            )
        return cast("AnyGraph", graph)


def _halts(graph: AnyGraph) -> bool:
    """Whether runs of a foreign graph seem to need checkpoints."""
    if graph.checkpointer or graph.interrupt_before_nodes or graph.interrupt_after_nodes:
        return True
    inside = cast("Iterable[tuple[str, Any]]", graph.get_subgraphs(recurse=True))
    return _halts_itself(graph) or any(_halts_itself(sub) for _, sub in inside)


def _halts_itself(graph: Any) -> bool:
    for node in graph.nodes.values():
        bound: Any = getattr(node, "bound", None)
        for fn in (getattr(bound, "func", None), getattr(bound, "afunc", None)):
            known = getattr(inspect.unwrap(fn), "__globals__", {}) if fn is not None else {}
            if any(value is interrupt for value in known.values()):
                return True
    return False


def is_graph(value: object) -> bool:
    """Whether `value` is something that `Graph` can register."""
    return isinstance(value, StateGraph | Pregel)


def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(hint)
    except PydanticUserError:  # a class pydantic knows nothing of: not checked
        return None


def _schema(hint: Any) -> dict[str, Any]:
    if _holds_messages(hint):
        return MESSAGES_SCHEMA
    adapter = _adapter(hint)
    try:
        return adapter.json_schema() if adapter else {}
    except PydanticUserError:
        return {}


def _holds_messages(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, BaseMessage):
        return True
    return any(_holds_messages(part) for part in get_args(hint))
