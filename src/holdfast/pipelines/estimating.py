"""What is known of a run's prompts before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.messages.utils import count_tokens_approximately

from holdfast.errors import PromptError

from .base import Declaration
from .model import ModelNode
from .replayable import models_of
from .state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPrompt:
    """A model node's prompt.

    Attributes:
        tokens: about so many, once; None where it needs what earlier nodes make.
    """

    node: str
    alias: str
    tokens: int | None


def planned_prompts(declaration: Declaration, event: Any) -> list[PlannedPrompt]:
    """The prompts of a run on an event, as far as they need nothing else; no node is run."""
    state = State(event, {})
    return [
        PlannedPrompt(node=name, alias=node.alias, tokens=_tokens(node, state, whole=whole))
        for name, (node, owner) in models_of(declaration)
        for whole in (owner is declaration,)
    ]


def _tokens(node: ModelNode[object], state: State, *, whole: bool) -> int | None:
    if not whole:  # of an included pipeline, whose event is made on the way
        return None
    if any(name == "results" for prompt in node.wording.prompts for name, _, _ in prompt.looks()):
        return None
    try:
        texts = [prompt.render(state) for prompt in node.wording.prompts]
    except PromptError:
        return None
    messages = [*map(SystemMessage, texts[:-1]), HumanMessage(texts[-1])]
    return count_tokens_approximately(messages)
