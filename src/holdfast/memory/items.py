"""Items of long-term memory: whose they are, and how namespaces are matched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from holdfast.domain.memory_items import Namespace

ANY = "*"
"""Any one label, where namespaces are matched."""


def scope_of(kind: str, name: str) -> Namespace:
    """Under which namespace all items of an agent or a pipeline are; no other's run reaches them.

    Args:
        kind: `agent` or `pipeline`.
        name: id of the agent, or name of the pipeline.
    """
    return (f"{kind}s", name)


def within(namespace: Namespace, path: Sequence[str], *, at_end: bool = False) -> bool:
    """Whether a namespace begins (or ends) with labels; `*` stands for any one."""
    if len(path) > len(namespace):
        return False
    part = namespace[len(namespace) - len(path) :] if at_end else namespace[: len(path)]
    return all(want in (ANY, label) for want, label in zip(path, part, strict=True))


def listed(namespaces: Iterable[Namespace], op: Mapping[str, Any]) -> list[Namespace]:
    """Those that an operation asks for: cut to its depth, once, in order.

    Args:
        namespaces: all there are.
        op: `namespaces` of `MemoryPort.items`.
    """
    fitting = {
        one[: op["max_depth"]]
        for one in namespaces
        if all(within(one, m["path"], at_end=m["type"] == "suffix") for m in op["match"])
    }
    return sorted(fitting)[op["offset"] : op["offset"] + op["limit"]]
