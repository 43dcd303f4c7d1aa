"""Routers: ordered rules that choose the next node, each decision on record."""

from __future__ import annotations

import inspect
import linecache
import textwrap
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any, ClassVar, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from holdfast.errors import DeclarationError

from .nodes import Node
from .state import Channels, State, state_of

Predicate = Callable[[State], Any]


class Rule(NamedTuple):
    """Go to `target` if `predicate` holds."""

    target: str
    predicate: Predicate
    label: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What a router chose.

    Attributes:
        target: the node that runs next; `__end__` for none.
        rule: the rule that held, as its author wrote it; None for the fallback.
        fallback: no rule held.
    """

    target: str
    rule: str | None
    fallback: bool


class Router(Node[Decision]):
    """Tries its rules in order; the first that holds decides, else the fallback does."""

    kind: ClassVar[str] = "router"

    def __init__(
        self,
        source: str,
        rules: Sequence[tuple[str, Predicate]],
        *,
        otherwise: str | None,
        pipeline: str,
        version: str,
    ) -> None:
        super().__init__(f"{source}.route", pipeline=pipeline, version=version)
        self.source = source
        self.otherwise = otherwise
        self.rules = [
            Rule(target, predicate, rule_label(predicate, n))
            for n, (target, predicate) in enumerate(rules, 1)
        ]
        for rule in self.rules:
            looks_only(rule.predicate, rule.label, source, pipeline)

    @property
    def targets(self) -> list[str]:
        """Every node the router may lead to, each once."""
        ways = [rule.target for rule in self.rules]
        if self.otherwise is not None:
            ways.append(self.otherwise)
        return list(dict.fromkeys(ways))

    async def run(self, state: State, config: RunnableConfig) -> Decision:  # noqa: ARG002
        """Decide.

        Raises:
            DeclarationError: a rule answers neither True nor False.
        """
        for rule in self.rules:
            if holds(rule.predicate, rule.label, state, self.source, self.pipeline):
                return Decision(rule.target, rule.label, fallback=False)
        if self.otherwise is None:  # the wiring's check lets no such router through
            raise DeclarationError(f"pipeline {self.pipeline}: {self.name} has no way out")
        return Decision(self.otherwise, None, fallback=True)

    def action(self) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Runs the rules, keeps the decision as a result, and sends LangGraph on its way."""

        async def action(channels: Channels, config: RunnableConfig) -> Command[str]:
            decision = await self.run(state_of(channels), config)
            return Command(update={"results": {self.name: decision}}, goto=decision.target)

        return action

    def sources(self) -> list[object]:
        """The rules."""
        return [rule.predicate for rule in self.rules if inspect.isroutine(rule.predicate)]


def looks_only(predicate: Predicate, label: str, source: str, pipeline: str) -> None:
    """Refuse a rule that would have to be awaited.

    Raises:
        DeclarationError: it is async.
    """
    if inspect.iscoroutinefunction(predicate):
        raise DeclarationError(
            f'pipeline {pipeline}: rule {label} after "{source}" is async',
            hint="a rule only looks at the state; let a node fetch what it needs",
        )


def holds(predicate: Predicate, label: str, state: State, source: str, pipeline: str) -> bool:
    """What a rule says of the state.

    Raises:
        DeclarationError: neither True nor False; a forgotten return would silently mean "no".
    """
    answer = predicate(state)
    if answer is not True and answer is not False:
        raise DeclarationError(
            f"pipeline {pipeline}: rule {label!r} after "
            f'"{source}" answers {answer!r}, neither True nor False'
        )
    return answer


def rule_label(predicate: Predicate, n: int) -> str:
    """What to call a rule: its function's name, a lambda's own text, or its number."""
    name = getattr(predicate, "__name__", type(predicate).__name__)
    if name != "<lambda>":
        return name
    code: CodeType | None = getattr(predicate, "__code__", None)
    return (code and _expression(code)) or f"rule {n}"


def _expression(code: CodeType) -> str:
    """A lambda's body as it stands in its source file; empty where there is none.

    The positions of its instructions (PEP 657) span exactly the expression.
    """
    spans = [
        (line, column, end_line, end_column)
        for line, end_line, column, end_column in code.co_positions()
        if line and end_line and column is not None and end_column
    ]
    if not spans:
        return ""
    (first, start), (last, end) = min(s[:2] for s in spans), max(s[2:] for s in spans)
    lines = [
        linecache.getline(code.co_filename, number).encode() for number in range(first, last + 1)
    ]
    lines[-1] = lines[-1][:end]  # before the start: both may be one line
    lines[0] = lines[0][start:]
    text = " ".join(b"".join(lines).decode(errors="replace").split())
    return textwrap.shorten(text, 200, placeholder=" …")
