"""What can be read, one module per noun.

Every query names the owner whose things it sees; the few that look across owners serve the hub
itself, not a caller, and say so.
"""

from __future__ import annotations

from .breakers import AllBreakers, BreakersNow
from .checkpoints import Checkpoints
from .children import Family, FamilyOf
from .dead_letters import InterventionsOf, ListDeadLetters
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
from .lineage import SentBy
from .prune import CountOld
from .schedules import ListSchedules, ScheduleByName
from .waits import GivenWait, PausedPipelines, WaitsOf

__all__ = [
    "AllBreakers",
    "AllHubs",
    "AllKeys",
    "AtRest",
    "BreakersNow",
    "Checkpoints",
    "CountEvents",
    "CountOld",
    "CountQueued",
    "EventById",
    "EventWhole",
    "ExecutionById",
    "ExecutionsOf",
    "Family",
    "FamilyOf",
    "GivenWait",
    "Holders",
    "InterventionsOf",
    "Lease",
    "LeasesOf",
    "ListDeadLetters",
    "ListEvents",
    "ListExecutions",
    "ListSchedules",
    "PausedPipelines",
    "Ping",
    "RecordOf",
    "ScheduleByName",
    "SentBy",
    "Space",
    "StillReady",
    "StoredRecord",
    "WaitsOf",
]
