"""How a pipeline's nodes are joined, and the proof that they can be run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import prod
from typing import Any

from langgraph.graph import END, START, StateGraph

from holdfast.errors import DeclarationError

from .base import AnyGraph
from .loop import Loop
from .nodes import Node
from .router import Router
from .state import Channels


@dataclass(slots=True)
class Wiring:
    """The declared parts of one pipeline, by name; names are checked at the end, not before.

    Attributes:
        pipeline: its name, for errors.
        nodes: every node, branches and fallbacks included, routers and loops not.
        groups: the group or map each branch belongs to.
        start: the first node.
        edges: the node that follows each node.
        routers: the router that follows each node.
        loops: the loop that decides, before edge or router, whether to go back.
    """

    pipeline: str
    nodes: dict[str, Node[Any]] = field(default_factory=dict[str, Node[Any]])
    groups: dict[str, str] = field(default_factory=dict[str, str])
    start: str | None = None
    edges: dict[str, str] = field(default_factory=dict[str, str])
    routers: dict[str, Router] = field(default_factory=dict[str, Router])
    loops: dict[str, Loop] = field(default_factory=dict[str, Loop])

    @property
    def stand_ins(self) -> dict[str, str]:
        """The nodes that only run when another fails, each with one that it stands in for."""
        return {
            node.policy.fallback: node.name for node in self.nodes.values() if node.policy.fallback
        }

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
        self._check_stand_ins()
        for loop in self.loops.values():
            self._target(loop.source, "a loop")
            self._target(loop.back_to, f'the way back of the loop after "{loop.source}"')
        reached = self._reached(self.start)
        stand_ins = self.stand_ins
        for name in self.nodes:
            if name not in reached and name not in self.groups and name not in stand_ins:
                raise self.error(f'node "{name}" is never reached (no route leads to it)')
        if cycle := self._cycle(self.start):
            raise self.error(
                f"nodes go round in a loop: {' → '.join(cycle)}",
                hint=f'bound it: pipeline.loop("{cycle[-2]}", back_to="{cycle[-1]}", while_=…, '
                "at_most=…) in place of that way",
            )
        for loop in self.loops.values():
            self._settle(loop)

    def ways(self) -> Iterator[tuple[str, list[str]]]:
        """Each node that something follows, with what may follow it."""
        for source, target in self.edges.items():
            yield source, [target]
        for source, router in self.routers.items():
            yield source, router.targets

    def members(self) -> list[Node[Any]]:
        """Nodes of the outer graph: neither branches of groups nor nodes that only stand in."""
        elsewhere = {*self.groups, *self.stand_ins}
        return [node for name, node in self.nodes.items() if name not in elsewhere]

    def way_out(self, name: str) -> str:
        """What follows a node when it does not go back: its router, a node, or the end."""
        router = self.routers.get(name)
        return router.name if router else self.edges.get(name, END)

    def compile(self) -> AnyGraph:
        """The LangGraph graph; `check` must have passed."""
        graph: StateGraph[Any, Any, Any, Any] = StateGraph(Channels)
        for node in self.members():
            graph.add_node(node.name, node.action(), metadata=node.metadata)
        for decider in (*self.routers.values(), *self.loops.values()):
            graph.add_node(
                decider.name,
                decider.action(),
                metadata=decider.metadata,
                destinations=tuple(decider.targets),
            )
        graph.add_edge(START, self.start or END)
        for node in self.members():
            loop = self.loops.get(node.name)
            graph.add_edge(node.name, loop.name if loop else self.way_out(node.name))
        compiled = graph.compile(name=self.pipeline)
        if not self.loops:
            return compiled
        # The loops have bounds of their own; LangGraph's must not come before them.
        rounds = prod(loop.at_most for loop in self.loops.values())
        return compiled.with_config(recursion_limit=len(graph.nodes) * rounds + 1)

    def describe(self) -> dict[str, Any]:
        """Nodes and edges for drawing."""
        stand_ins = self.stand_ins
        nodes: list[dict[str, Any]] = [
            {"name": START, "kind": "start"},
            *(
                node.describe()
                | ({"group": self.groups[name]} if name in self.groups else {})
                | ({"stands_in_for": stand_ins[name]} if name in stand_ins else {})
                for name, node in self.nodes.items()
            ),
            *(router.describe() for router in self.routers.values()),
            *(loop.describe() for loop in self.loops.values()),
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
        edges: list[dict[str, str]] = []
        source = name
        if loop := self.loops.get(name):
            back = f"{loop.label}, at most {loop.at_most} times"
            edges += [
                {"from": name, "to": loop.name},
                {"from": loop.name, "to": loop.back_to, "label": back},
            ]
            source = loop.name
        edges.append({"from": source, "to": self.way_out(name)})
        if loop:
            edges[-1]["label"] = "otherwise"
        router = self.routers.get(name)
        if router is None:
            return edges
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
        if failing := self.stand_ins.get(name):
            raise self.error(
                f'{role} names "{name}", which only stands in when "{failing}" fails',
                hint=f'what follows "{failing}" follows it too',
            )

    def _check_stand_ins(self) -> None:
        """Each is a node of its own, and no chain of them ends where it began."""
        for node in self.nodes.values():
            chain = [node.name]
            while fallback := self.nodes[chain[-1]].policy.fallback:
                if fallback not in self.nodes:
                    near = get_close_matches(fallback, self.nodes, 1)
                    raise self.error(
                        f'on_failure of "{chain[-1]}" names "{fallback}", which is no node',
                        hint=f"did you mean {near[0]}?" if near else 'or "abort" or "continue"',
                    )
                if group := self.groups.get(fallback):
                    raise self.error(
                        f'"{fallback}" cannot stand in for "{chain[-1]}": '
                        f'it is a branch of "{group}"'
                    )
                if fallback in chain:
                    raise self.error(
                        f"nodes stand in for each other: {' → '.join([*chain, fallback])}"
                    )
                chain.append(fallback)

    def _settle(self, loop: Loop) -> None:
        """Tell a loop where it leads on and which loops lie inside it.

        Raises:
            DeclarationError: what it goes back to does not lead to it.
        """
        after = self._reached(loop.back_to)
        if loop.source not in after:
            raise self.error(
                f'the loop after "{loop.source}" goes back to "{loop.back_to}", '
                f'which does not lead to "{loop.source}"',
                hint="go back to a node that runs before it; to go forward use route",
            )
        body = {name for name in after if loop.source in self._reached(name)}
        loop.onward = self.way_out(loop.source)
        loop.inside = [
            other.name
            for other in self.loops.values()
            if other is not loop and other.source in body and other.back_to in body
        ]

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
