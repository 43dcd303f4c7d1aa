"""How an author joins nodes: names that are taken once, ways, choices and loops."""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar, Unpack

from .base import AnyGraph, Declaration, DeclarationOptions
from .loop import Exceeded, Loop
from .nodes import Node
from .router import Predicate, Router
from .wiring import Wiring

N = TypeVar("N", bound=Node[Any])

Target = Node[Any] | str
"""A node, its name, or END."""

RESERVED = frozenset(
    {"event", "results", "failures", "item", "index", "within", "items", "keys", "values", "get"}
)
"""Names that `State` or a group's outcome already gives another meaning."""


class Joining(Declaration):
    """A declaration made of nodes, open until its first use."""

    def __init__(self, name: str, *, version: str, **options: Unpack[DeclarationOptions]) -> None:
        super().__init__(name, version=version, **options)
        self._wiring = Wiring(name)
        self._compiled: AnyGraph | None = None

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

    def loop(
        self,
        source: Target,
        *,
        back_to: Target,
        while_: Predicate,
        at_most: int,
        exceeded: Exceeded = "fail",
    ) -> None:
        """Let the run go back from `source` as long as a rule holds; each decision is recorded.

        When it does not go back, what `edge` or `route` says of `source` follows.

        Args:
            source: the last node of a round.
            back_to: the first node of a round; may be `source` itself.
            while_: takes the `State`, answers True to go round again.
            at_most: how often the nodes of the loop may run, the first time included.
            exceeded: what happens when the rule still holds after that: `fail` ends the execution
                with `LoopExceeded`, `continue` goes on.

        Raises:
            DeclarationError: the bound has no sense, or `source` ends another loop already.
        """
        self._unsealed()
        name = self._name(source)
        if name in self._wiring.loops:
            raise self._wiring.error(f'a loop goes back from "{name}" already')
        self._wiring.loops[name] = Loop(
            name,
            back_to=self._name(back_to),
            while_=while_,
            at_most=at_most,
            exceeded=exceeded,
            pipeline=self.name,
            version=self.version,
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
