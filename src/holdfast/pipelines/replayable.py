"""Whether a replay can run as it is asked to: the nodes and prompts that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from holdfast.domain.prompts import EDITED, Draft
from holdfast.domain.replays import Plan
from holdfast.errors import DeclarationError, InvalidInput

from .base import Declaration
from .halting import Halting
from .model import ModelNode
from .onward import top_nodes
from .wording import worded

PARTS = ("user", "system")
"""The parts of a prompt."""


def check_plan(
    declaration: Declaration, plan: Plan, versions: Mapping[str, Draft] = MappingProxyType({})
) -> Plan:
    """A plan as runs of the declaration understand it.

    Args:
        declaration: what is to run.
        plan: how.
        versions: contents of the versions of prompts that the plan names, by hash.

    Raises:
        InvalidInput: it names a node that the declaration does not have, or a prompt cannot be
            rendered; `fields` says where.
    """
    if plan.start is not None and plan.start not in (known := top_nodes(declaration)):
        raise _unknown("from", plan.start, "node", known, declaration)
    nodes = dict(models_of(declaration))
    prompts: dict[str, Mapping[str, str]] = {}
    for name, parts in plan.prompts.items():
        if name not in nodes:
            raise _unknown(f"prompts.{name}", name, "model node", list(nodes), declaration)
        node, owner = nodes[name]
        try:
            stored = versions.get(parts.get("version", ""))
            other = node.edited(parts) if stored is None else worded(stored, EDITED)
            node.check_prompt(owner.node_names(), other)
        except DeclarationError as error:
            raise InvalidInput(
                error.message,
                hint=error.hint,
                fields=[
                    {"field": f"prompts.{name}", "expected": "a template", "got": error.message}
                ],
            ) from error
        prompts[node.key] = parts
    if plan.aliases and not nodes:
        raise _unknown("aliases", next(iter(plan.aliases)), "model node", [], declaration)
    used = sorted({node.alias for node, _ in nodes.values()})
    for alias in plan.aliases:
        if alias not in used:
            raise _unknown(f"aliases.{alias}", alias, "model alias", used, declaration)
    return replace(plan, prompts=prompts)


def models_of(declaration: Declaration) -> Iterator[tuple[str, tuple[ModelNode[object], Halting]]]:
    """Model nodes by the name a plan has for them: those of included pipelines with theirs."""
    if isinstance(declaration, Halting):
        for node in declaration.all_nodes():
            if isinstance(node, ModelNode):
                yield node.name, (node, declaration)
    for other in declaration.included():
        for name, found in models_of(other):
            yield (name if ":" in name else f"{other.name}:{name}"), found


def _unknown(
    field: str, given: str, what: str, known: list[str], declaration: Declaration
) -> InvalidInput:
    told = ", ".join(known) or "none"
    return InvalidInput(
        f"pipeline {declaration.name} has no {what} {given!r}",
        hint=f"known: {told}",
        fields=[{"field": field, "expected": f"one of: {told}", "got": given}],
    )
