"""What the engine needs to know of anything an app declares."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from langgraph.graph.state import CompiledStateGraph

from holdfast.errors import DeclarationError

MAX_NAME_CHARS = 200

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")

AnyGraph = CompiledStateGraph[Any, Any, Any, Any]


class Declaration(ABC):
    """A named, versioned graph with an event schema.

    Attributes:
        kind: what an event's `target_kind` calls it.
        name: dotted; events are addressed to it.
        version: the author's own; changes when the meaning does.
        description: one sentence for people.
        deadline: seconds an execution may take; None for the hub's default.
    """

    kind: ClassVar[str] = "pipeline"

    def __init__(
        self, name: str, *, version: str, description: str = "", deadline: float | None = None
    ) -> None:
        if len(name) > MAX_NAME_CHARS or not _NAME.fullmatch(name):
            raise DeclarationError(
                f"{name!r} is no name for a pipeline",
                hint="use letters, digits, - and _ in parts joined by dots: support.triage",
            )
        if not version:
            raise DeclarationError(f"pipeline {name}: the version is empty")
        if deadline is not None and deadline <= 0:
            raise DeclarationError(f"pipeline {name}: a deadline of {deadline} s is in the past")
        self.name = name
        self.version = version
        self.description = description
        self.deadline = deadline

    @cached_property
    def code_version(self) -> str:
        """Short hash of the code behind the declaration; changes when the code does."""
        return self._hash_code()

    @abstractmethod
    def _hash_code(self) -> str: ...

    @abstractmethod
    def check(self) -> None:
        """Prove that the declaration can run.

        Raises:
            DeclarationError: it cannot; the message names pipeline and node.
        """

    @abstractmethod
    def graph(self) -> AnyGraph:
        """The compiled graph, made once.

        Raises:
            DeclarationError: as `check`.
        """

    @abstractmethod
    def validate(self, data: Any) -> Any:
        """Decoded JSON into the event that nodes see.

        Raises:
            InvalidInput: `fields` names each wrong or unknown field as `data.…`.
        """

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """JSON schema of the event's data."""

    @abstractmethod
    def initial(self, event: Any) -> Any:
        """The graph's input for a validated event."""

    @abstractmethod
    def result(self, final: Mapping[str, Any]) -> Any:
        """The execution's output, out of the graph's final state."""

    @abstractmethod
    def failures(self, final: Mapping[str, Any]) -> list[Any]:
        """Steps that failed and were allowed to; the execution is then `partial`."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Nodes and edges for drawing, as JSON.

        Returns:
            `{"nodes": [{"name", "kind", "version"?, "group"?, …}], "edges": [{"from", "to",
            "label"?}]}`; the way in and out are the nodes `__start__` and `__end__`.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, version={self.version!r})"
