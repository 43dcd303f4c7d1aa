"""Holdfast runs LLM pipelines and agents and keeps everything they did."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.client import Client, SyncClient
    from holdfast.client.local import connect
    from holdfast.pipelines.cards.actions import action
    from holdfast.pipelines.cards.load import load_card, load_cards
    from holdfast.pipelines.context import RunContext, current_run
    from holdfast.pipelines.graph import Graph
    from holdfast.pipelines.nodes import Skip
    from holdfast.pipelines.pipeline import END, Pipeline
    from holdfast.pipelines.state import State
    from holdfast.pipelines.wording import stored
    from holdfast.recorder import Recorder

_HOMES = {
    "Client": "holdfast.client",
    "END": "holdfast.pipelines.pipeline",
    "Graph": "holdfast.pipelines.graph",
    "Pipeline": "holdfast.pipelines.pipeline",
    "Recorder": "holdfast.recorder",
    "RunContext": "holdfast.pipelines.context",
    "Skip": "holdfast.pipelines.nodes",
    "State": "holdfast.pipelines.state",
    "SyncClient": "holdfast.client",
    "action": "holdfast.pipelines.cards.actions",
    "connect": "holdfast.client.local",
    "current_run": "holdfast.pipelines.context",
    "load_card": "holdfast.pipelines.cards.load",
    "load_cards": "holdfast.pipelines.cards.load",
    "stored": "holdfast.pipelines.wording",
}

__all__ = [
    "END",
    "Client",
    "Graph",
    "Pipeline",
    "Recorder",
    "RunContext",
    "Skip",
    "State",
    "SyncClient",
    "action",
    "connect",
    "current_run",
    "load_card",
    "load_cards",
    "stored",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562), so that `import holdfast` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
