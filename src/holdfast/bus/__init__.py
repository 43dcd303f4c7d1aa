"""Notices and commands between the parts of a hub, and between hubs."""

from .base import Bus, Notice
from .in_process import MemoryBus

__all__ = ["Bus", "MemoryBus", "Notice"]
