"""What runs now: in memory for live views, on disk for the case that the hub dies."""

from .folder import Orphan
from .journal import Journal
from .running import Running

__all__ = ["Journal", "Orphan", "Running"]
