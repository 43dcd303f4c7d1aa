"""What can be read, one module per noun.

Every query names the owner whose things it sees; the few that look across owners serve the hub
itself, not a caller, and say so.
"""

from __future__ import annotations

from .checkpoints import Checkpoints
from .events import CountEvents, CountQueued, EventById, ListEvents
from .executions import (
    EventWhole,
    ExecutionById,
    ExecutionsOf,
    ListExecutions,
    RecordOf,
    StoredRecord,
)
from .hub import AllHubs, AtRest, Holders, Lease, LeasesOf, Ping, Space, StillReady
from .keys import AllKeys
from .prune import CountOld
from .waits import GivenWait, PausedPipelines, WaitsOf

__all__ = [
    "AllHubs",
    "AllKeys",
    "AtRest",
    "Checkpoints",
    "CountEvents",
    "CountOld",
    "CountQueued",
    "EventById",
    "EventWhole",
    "ExecutionById",
    "ExecutionsOf",
    "GivenWait",
    "Holders",
    "Lease",
    "LeasesOf",
    "ListEvents",
    "ListExecutions",
    "PausedPipelines",
    "Ping",
    "RecordOf",
    "Space",
    "StillReady",
    "StoredRecord",
    "WaitsOf",
]
