"""Which nodes of a pipeline an execution has done: every declared one, also those still to come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from holdfast.domain.executions import Execution, Step
from holdfast.domain.status import EXECUTION_ENDS, HALTED, StepStatus
from holdfast.pipelines.base import Declaration

from . import read
from .kit import Kit
from .views import View, iso, milliseconds

PENDING, NOT_RUN = "pending", "not_run"
"""A node that has not run: it may still, or the execution has ended without it."""

INNER = {"pipeline"}
"""Kinds of nodes whose steps belong to another pipeline."""

WORST_FIRST = ("failed", "abandoned", "cancelled", "succeeded", "skipped")


async def nodes_of(kit: Kit, execution_id: str, owner_id: str) -> View:
    """Each node of an execution's pipeline with its status, live while it runs.

    A node of an included pipeline is named after the node that includes it: `quote.price`.

    Raises:
        NotFound: no such execution of that owner.
    """
    whole = await read.execution(kit, execution_id, owner_id)
    execution = whole.execution
    declaration = _declaration(kit, execution)
    steps = _by_node(whole.steps)
    declared = {} if declaration is None else dict(_declared(declaration, ""))
    rows = [
        _row(name, node, steps.get(name, []), whole.steps, execution)
        for name, node in (declared or {name: {} for name in steps if ":" not in name}).items()
    ]
    return {
        "id": execution.id,
        "event_id": execution.event_id,
        "name": execution.name,
        "version": execution.graph_version,
        "status": execution.status.value,
        "declared": declaration is not None,
        "nodes": rows,
    }


def _declaration(kit: Kit, execution: Execution) -> Declaration | None:
    """The pipeline as the execution knew it; None when it is not loaded in that version."""
    if execution.name not in kit.registry:
        return None
    found = kit.registry.get(execution.name)
    return found if found.version == execution.graph_version else None


def _declared(declaration: Declaration, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node by its whole name, those of included pipelines after the node itself."""
    included = {other.name: other for other in declaration.included()}
    nodes: list[dict[str, Any]] = declaration.describe()["nodes"]
    places = {_decided_after(node): place for place, node in reversed(list(enumerate(nodes)))}

    def place(node: dict[str, Any]) -> int:
        return places[_decided_after(node)]

    for node in sorted(nodes, key=place):  # what decides after a node is told right after it
        if node["kind"] in ("start", "end"):
            continue
        name = prefix + str(node["name"])
        yield name, node
        other = included.get(str(node.get("pipeline", "")))
        if other is not None and node["kind"] in INNER:
            yield from _declared(other, f"{name}.")


def _decided_after(node: dict[str, Any]) -> str:
    name = str(node["name"])
    return name.rpartition(".")[0] if node["kind"] in ("router", "loop") else name


def _by_node(steps: tuple[Step, ...]) -> dict[str, list[Step]]:
    """Steps by the whole name of their node, in their order."""
    found: dict[str, list[Step]] = {}
    names: dict[int, str] = {}
    parents: dict[int, int | None] = {}
    inside: dict[int, str] = {}  # what the names below a step begin with
    for step in steps:
        prefix = inside.get(step.parent or 0, "")
        name = names[step.step] = prefix + step.operation
        inside[step.step] = f"{name}." if step.kind in INNER else prefix
        found.setdefault(name, []).append(step)
        # A foreign graph's subgraphs: LangGraph draws their nodes as `outer:inner`.
        above = step.parent
        while above is not None:
            found.setdefault(f"{names[above]}:{step.operation}", []).append(step)
            above = parents.get(above)
        parents[step.step] = step.parent
    return found


def _row(
    name: str, node: dict[str, Any], runs: list[Step], steps: tuple[Step, ...], of: Execution
) -> View:
    last = runs[-1] if runs else None
    return {
        "name": name,
        "kind": node.get("kind") or (last.kind if last is not None else "node"),
        "group": node.get("group"),
        "status": _status(runs, steps, of),
        "runs": len(runs),
        "outcomes": dict(Counter(_shown(one, of) for one in runs)),
        "step": None if last is None else last.step,
        "skip_reason": None if last is None else last.skip_reason,
        "error": next((one.error for one in reversed(runs) if one.error is not None), None),
        "started_at": None if last is None else iso(last.started_at),
        "duration_ms": None if last is None else milliseconds(last.duration_us),
    }


def _status(runs: list[Step], steps: tuple[Step, ...], of: Execution) -> str:
    """The status of the last run; of a map's items, which are one run, the one that matters."""
    if not runs:
        return NOT_RUN if of.status in EXECUTION_ENDS else PENDING
    last = runs[-1]
    kinds = {step.step: step.kind for step in steps}
    if last.parent is None or kinds.get(last.parent) != "map":
        return _shown(last, of)
    items = {_shown(one, of) for one in runs if one.parent == last.parent}
    unfinished = sorted(items - {*WORST_FIRST})
    return unfinished[0] if unfinished else next(one for one in WORST_FIRST if one in items)


def _shown(step: Step, of: Execution) -> str:
    """A step that has not ended stands as its execution stands."""
    if step.status is StepStatus.RUNNING and of.status in HALTED:
        return of.status.value
    return step.status.value
