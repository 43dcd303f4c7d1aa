"""An agent that is a LangGraph graph made elsewhere: its memory are its own checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from holdfast.domain.payload import encode
from holdfast.errors import DeclarationError, NoResult
from holdfast.pipelines.base import AnyGraph
from holdfast.pipelines.graph import Graph, is_graph
from holdfast.pipelines.waiting import check_free_answer

from .config import GraphSettings
from .declaration import AgentDeclaration
from .loading import load
from .schemas import TurnData
from .simple import tokens_of
from .turn import question

ANSWERS = ("response", "answer", "output")
"""Channels that hold the answer of a graph without messages."""


class GraphAgent(AgentDeclaration):
    """Runs a graph turn by turn on the thread of the session.

    It gets the question and nothing of earlier turns: its checkpoints have those. A turn that
    fails leaves the thread as it was.
    """

    @property
    def settings(self) -> GraphSettings:
        """Of its configuration."""
        assert self.config.graph is not None  # noqa: S101 - what makes it one
        return self.config.graph.settings

    @property
    def long_term(self) -> bool:
        """Always: whether it uses a store is its own affair."""
        return True

    @property
    def may_halt(self) -> bool:
        """It may interrupt itself."""
        return True

    def thread_id(self, event_id: str, session_id: str | None) -> str:
        """The session's."""
        return session_id or event_id

    def kept(self) -> Iterable[type[Any]]:
        """What its channels may hold, as far as their types say."""
        return [TurnData, *self._adopted.kept()]

    def check(self) -> None:
        """Import the graph.

        Raises:
            DeclarationError: it cannot be, or it is no LangGraph graph.
        """
        self.graph()

    def check_answer(self, name: str, answer: Any) -> None:
        """Anything but null.

        Raises:
            InvalidInput: it is null.
        """
        del name
        check_free_answer(answer)

    def graph(self) -> AnyGraph:
        """The graph, imported once.

        Raises:
            DeclarationError: as `check`.
        """
        return self._graph

    @cached_property
    def _graph(self) -> AnyGraph:
        graph = self._adopted.graph()
        limits = self.settings.limits
        if "steps" not in limits.model_fields_set:  # its own, as it was compiled
            return graph
        return graph.with_config(recursion_limit=limits.steps)

    @cached_property
    def _adopted(self) -> Graph:
        path = self.settings.graph
        at = f"{self.where}: graph.settings.graph"
        found = load(path, at)
        if not is_graph(found):
            raise DeclarationError(
                f"{at}: {path} is {type(found).__name__} and no LangGraph graph",
                hint="name a StateGraph, compiled or not, or an entrypoint",
            )
        return Graph.adopted(self.name, found, path.partition(":")[0])

    @property
    def _inputs(self) -> Sequence[str]:
        schema = self._adopted.schema()
        return list(schema.get("properties", {}))

    def initial(self, event: TurnData) -> Any:
        """The question as a message where the graph takes messages, else the turn's data."""
        if "messages" in self._inputs:
            return {"messages": [question(event)]}
        given = event.model_dump()
        known = {name: value for name, value in given.items() if name in self._inputs}
        return known or given

    def result(self, final: Any) -> dict[str, Any]:
        """The newest message of the model's, or what the graph calls its answer.

        Raises:
            NoResult: there is neither.
        """
        text = _answer(final)
        if text is None or not text.strip():
            raise NoResult(
                f"{self.where}: the graph ended without an answer",
                hint=f"end with a message of the model's, or with one of {', '.join(ANSWERS)}",
            )
        return {"response": text, "tokens": tokens_of(text)}

    def failures(self, final: Mapping[str, Any]) -> list[Any]:
        """None: what a foreign graph tolerates is its own affair."""
        del final
        return []

    def sources(self) -> Sequence[object]:
        """What the graph's nodes are made of, once it is imported."""
        adopted: Graph | None = self.__dict__.get("_adopted")
        return [] if adopted is None else [adopted.code_version]

    def describe(self) -> dict[str, Any]:
        """As LangGraph draws it, once it is imported; before, one node that stands for it."""
        adopted: Graph | None = self.__dict__.get("_adopted")
        if adopted is not None:
            return adopted.describe()
        return {
            "nodes": [
                {"name": "__start__", "kind": "start"},
                {"name": "graph", "kind": "graph", "path": self.settings.graph},
                {"name": "__end__", "kind": "end"},
            ],
            "edges": [{"from": "__start__", "to": "graph"}, {"from": "graph", "to": "__end__"}],
        }


def _answer(final: Any) -> str | None:
    if isinstance(final, BaseMessage):
        return str(final.text)
    if isinstance(final, str):
        return final
    if not isinstance(final, Mapping):
        return None if final is None else encode(final).decode()
    state = cast("Mapping[str, Any]", final)
    for message in reversed(cast("Sequence[Any]", state.get("messages") or ())):
        if isinstance(message, HumanMessage):
            break  # of this turn nothing was said
        if isinstance(message, AIMessage) and str(message.text).strip():
            return str(message.text)
    for name in ANSWERS:
        value = state.get(name)
        if isinstance(value, BaseMessage):
            return str(value.text)
        if isinstance(value, str) and value.strip():
            return value
    return None
