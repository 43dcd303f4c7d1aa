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
from .hub import Lease, LeasesOf, Ping
from .keys import AllKeys
from .lineage import SentBy
from .prune import CountOld
from .schedules import ListSchedules, ScheduleByName
from .waits import GivenWait, PausedPipelines, WaitsOf

__all__ = [
    "AllBreakers",
    "AllKeys",
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
    "StoredRecord",
    "WaitsOf",
]
