"""Notices and commands between the parts of a hub, and later between hubs."""

from .base import Bus, Notice
from .memory import MemoryBus

__all__ = ["Bus", "MemoryBus", "Notice"]
