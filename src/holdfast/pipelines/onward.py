"""Which nodes of a declaration a node leads to."""

from __future__ import annotations

from .base import Declaration


def top_nodes(declaration: Declaration) -> list[str]:
    """Nodes that stand in no group, in the order of their declaration; routers are none."""
    told = declaration.describe()["nodes"]
    joints = ("start", "end", "router", "loop")
    return [one["name"] for one in told if one["kind"] not in joints and "group" not in one]


def nodes_from(declaration: Declaration, start: str) -> frozenset[str]:
    """The node itself and all that can run after it, by name."""
    onward: dict[str, list[str]] = {}
    for edge in declaration.describe()["edges"]:
        onward.setdefault(edge["from"], []).append(edge["to"])
    found: set[str] = set()
    left = [start]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += onward.get(name, [])
    return frozenset(found)
