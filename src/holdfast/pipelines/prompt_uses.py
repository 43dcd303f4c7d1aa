"""Who uses a prompt of the registry, and whether another version of it would do there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from holdfast.domain.prompts import Draft
from holdfast.errors import DeclarationError, InvalidInput

from .base import Declaration
from .halting import Halting
from .model import ModelNode
from .wording import worded


@dataclass(frozen=True, slots=True)
class Use:
    """A model node that asks for a prompt."""

    pipeline: Halting
    node: ModelNode[object]
    label: str | None  # None: it uses the file's text


def uses(declarations: Iterable[Declaration], name: str) -> Iterator[Use]:
    """Where a prompt is used."""
    for one in declarations:
        if isinstance(one, Halting):
            for node in one.all_nodes():
                if isinstance(node, ModelNode) and node.stored and node.stored.name == name:
                    yield Use(one, node, node.stored.label)


def check_fits(declarations: Iterable[Declaration], draft: Draft, label: str) -> None:
    """Prove that every node which asks for the label can render a version.

    Raises:
        InvalidInput: one cannot; the message names it.
    """
    wording = worded(draft, label)
    for use in uses(declarations, draft.name):
        if use.label == label:
            try:
                use.node.check_prompt(use.pipeline.node_names(), wording)
            except DeclarationError as error:
                raise InvalidInput(
                    f"version {draft.hash} cannot be {label}: {error.message}",
                    hint=error.hint,
                    fields=[{"field": "version", "expected": "what fits", "got": error.message}],
                ) from error
