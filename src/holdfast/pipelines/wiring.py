"""How a pipeline's nodes are joined, and the proof that they can be run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from langgraph.graph import END, START

from holdfast.errors import DeclarationError

from .nodes import Node
from .router import Router


@dataclass(slots=True)
class Wiring:
    """The declared parts of one pipeline, by name; names are checked at the end, not before.

    Attributes:
        pipeline: its name, for errors.
        nodes: every node, branches included, routers not.
        groups: the group each branch belongs to.
        start: the first node.
        edges: the node that follows each node.
        routers: the router that follows each node.
    """

    pipeline: str
    nodes: dict[str, Node[Any]] = field(default_factory=dict[str, Node[Any]])
    groups: dict[str, str] = field(default_factory=dict[str, str])
    start: str | None = None
    edges: dict[str, str] = field(default_factory=dict[str, str])
    routers: dict[str, Router] = field(default_factory=dict[str, Router])

    def check(self) -> None:
        """Prove that every node is reached and every way ends.

        Raises:
            DeclarationError: naming the node at fault.
        """
        if self.start is None:
            raise self.error("no start", hint="say where it begins: pipeline.start(node)")
        self._target(self.start, "the start")
        for source, targets in self.ways():
            self._target(source, "an edge or a route")
            for target in targets:
                self._target(target, f'a way out of "{source}"')
        for router in self.routers.values():
            if router.otherwise is None:
                raise self.error(
                    f'the router after "{router.source}" has no way out when no rule holds',
                    hint="pass otherwise=node, or otherwise=END",
                )
        reached = self._reached(self.start)
        for name in self.nodes:
            if name not in reached and name not in self.groups:
                raise self.error(f'node "{name}" is never reached (no route leads to it)')
        if cycle := self._cycle(self.start):
            raise self.error(
                f"nodes go round in a loop: {' → '.join(cycle)}",
                hint="a pipeline runs forward; for loops register a LangGraph graph: Graph(…)",
            )

    def ways(self) -> Iterator[tuple[str, list[str]]]:
        """Each node that something follows, with what may follow it."""
        for source, target in self.edges.items():
            yield source, [target]
        for source, router in self.routers.items():
            yield source, router.targets

    def members(self) -> list[Node[Any]]:
        """Nodes of the outer graph: all but the branches of groups."""
        return [node for name, node in self.nodes.items() if name not in self.groups]

    def describe(self) -> dict[str, Any]:
        """Nodes and edges for drawing."""
        nodes: list[dict[str, Any]] = [
            {"name": START, "kind": "start"},
            *(
                node.describe() | ({"group": self.groups[name]} if name in self.groups else {})
                for name, node in self.nodes.items()
            ),
            *(router.describe() for router in self.routers.values()),
            {"name": END, "kind": "end"},
        ]
        edges: list[dict[str, str]] = [{"from": START, "to": self.start or END}]
        for node in self.members():
            edges += self._edges_from(node.name)
        return {"nodes": nodes, "edges": edges}

    def error(self, message: str, *, hint: str = "") -> DeclarationError:
        """A declaration error that names the pipeline."""
        return DeclarationError(f"pipeline {self.pipeline}: {message}", hint=hint)

    def _edges_from(self, name: str) -> list[dict[str, str]]:
        router = self.routers.get(name)
        if router is None:
            return [{"from": name, "to": self.edges.get(name, END)}]
        edges = [{"from": name, "to": router.name}]
        edges += [
            {"from": router.name, "to": rule.target, "label": rule.label} for rule in router.rules
        ]
        if router.otherwise is not None:
            edges.append({"from": router.name, "to": router.otherwise, "label": "otherwise"})
        return edges

    def _target(self, name: str, role: str) -> None:
        if name == END and role.startswith("a way"):
            return
        if name not in self.nodes:
            near = get_close_matches(name, [*self.nodes, "END"], 1)
            known = f"known: {', '.join(self.nodes) or 'none'}"
            raise self.error(
                f'{role} names "{name}", which is no node',
                hint=f"did you mean {near[0]}? {known}" if near else known,
            )
        if group := self.groups.get(name):
            raise self.error(
                f'{role} names "{name}", which is a branch of "{group}"',
                hint=f'use "{group}": its branches start and end together',
            )

    def _next(self, name: str) -> list[str]:
        router = self.routers.get(name)
        ways = router.targets if router else [self.edges[name]] if name in self.edges else []
        return [way for way in ways if way != END]

    def _reached(self, start: str) -> set[str]:
        reached: set[str] = set()
        waiting = [start]
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting += self._next(name)
        return reached

    def _cycle(self, start: str) -> list[str]:
        """The names along the first loop found, its first node again at the end; or nothing."""
        done: set[str] = set()
        path = [start]
        ways = [iter(self._next(start))]
        while ways:
            following = next(ways[-1], None)
            if following is None:
                ways.pop()
                done.add(path.pop())
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following not in done:
                path.append(following)
                ways.append(iter(self._next(following)))
        return []
