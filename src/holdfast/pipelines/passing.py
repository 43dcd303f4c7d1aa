"""Nodes that a replay passes over: their recorded results, made again what the nodes gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import orjson
from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from holdfast.domain.replays import FROM_RECORD, RecordedStep
from holdfast.recording import Replaying, StepHandle

from .context import running_context
from .state import Branches, Failure, State

if TYPE_CHECKING:
    from .nodes import Node


def passed_over(node: Node[Any], state: State, step: StepHandle) -> dict[str, Any] | None:
    """What a node left behind when it was recorded, if a replay need not run it.

    Its step is then recorded as skipped. A result that cannot be made again from the record (a
    failure that something stood in for, say) lets the node run, its models answered from there.
    """
    run = running_context()
    replaying = run.replaying if run is not None else None
    if replaying is None or (recorded := replaying.passes_over(step.number)) is None:
        return None
    left = node.left_again(recorded, state, replaying)
    if left is None:
        return None
    reason = recorded.skip_reason
    if not recorded.given:
        reason = f"{FROM_RECORD}{replaying.recorded.execution_id}"
    step.skip(reason or "")
    return left


def failure_again(recorded: RecordedStep) -> Failure | None:
    """The failure that a step left which was allowed to fail; None when it left none."""
    told: Any = recorded.output
    if recorded.status != "failed" or not isinstance(told, dict):
        return None
    fields = cast("Mapping[str, Any]", told)
    if set(fields) != {"node", "type", "message", "code"}:
        return None
    return Failure(**fields)


def value_again(hint: Any, output: Any, state: State) -> Any:
    """A recorded value as an instance of its type.

    Args:
        hint: the type; None where nobody said.
        output: as JSON.
        state: what validators may look at.

    Raises:
        ValueError: it does not fit that type (any more).
    """
    if hint is None or hint is Any:
        return output
    try:
        return TypeAdapter(hint).validate_json(orjson.dumps(output), context=state)
    except (ValidationError, PydanticSchemaGenerationError) as error:
        raise ValueError(str(error)) from error


def branches_again(
    name: str,
    members: Mapping[str, Node[Any]],
    recorded: RecordedStep,
    state: State,
    replaying: Replaying,
) -> dict[str, Any] | None:
    """What a group left: each branch, then the group; None when a branch did not end well."""
    below = {one.operation: one for one in replaying.below(recorded)}
    if recorded.given and not below:
        return _given_branches(name, members, recorded, state)
    if not recorded.ended_well or not below.keys() >= members.keys():
        return None
    results: dict[str, Any] = {}
    for branch, node in members.items():
        left = node.left_again(below[branch], state, replaying)
        if left is None or not below[branch].ended_well:
            return None
        results |= left
    return {**results, name: Branches(name, {branch: results[branch] for branch in members})}


def _given_branches(
    name: str, members: Mapping[str, Node[Any]], recorded: RecordedStep, state: State
) -> dict[str, Any] | None:
    outputs: Any = recorded.output
    if not isinstance(outputs, dict) or cast("dict[str, Any]", outputs).keys() != members.keys():
        return None
    try:
        results = {
            branch: value_again(node.kept_type(), outputs[branch], state)
            for branch, node in members.items()
        }
    except ValueError:
        return None
    return {**results, name: Branches(name, results)}
