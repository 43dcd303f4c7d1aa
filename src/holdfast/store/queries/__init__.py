"""What can be read, one module per noun.

Every query names the owner whose things it sees; the few that look across owners serve the hub
itself, not a caller, and say so.
"""

from __future__ import annotations

from .events import CountEvents, CountQueued, EventById, ListEvents
from .executions import ExecutionById, ExecutionsOf, ListExecutions, RecordOf, StoredRecord
from .hub import Lease, LeasesOf, Ping
from .keys import AllKeys

__all__ = [
    "AllKeys",
    "CountEvents",
    "CountQueued",
    "EventById",
    "ExecutionById",
    "ExecutionsOf",
    "Lease",
    "LeasesOf",
    "ListEvents",
    "ListExecutions",
    "Ping",
    "RecordOf",
    "StoredRecord",
]
