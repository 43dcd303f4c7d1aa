"""One execution from start to end: deadline, cancel, outcome."""

from .engine import Engine

__all__ = ["Engine"]
