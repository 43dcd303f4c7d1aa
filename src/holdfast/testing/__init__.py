"""For tests, ours and our users': fake providers, in-memory parts, contract suites, replays."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .replays import Replayed, replayed

__all__ = ["Replayed", "replayed"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that a fake alone costs no engine."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("holdfast.testing.replays"), name)
