"""The tables, the same on SQLite and PostgreSQL.

Columns carry plain types only (text, integers, bytes), nothing that converts a value on its way in
or out, so that a statement compiled once can be handed to the bare driver. Times and durations are
microseconds, money is picodollars, structured values are JSON text. A column is named like the
field of the domain object it holds.
"""

from __future__ import annotations

from .base import metadata
from .breakers import breakers
from .checkpoints import checkpoint_blobs, checkpoint_writes, checkpoints, pauses, waits
from .dead_letters import interventions
from .events import duplicates, events
from .executions import attempts, executions, steps
from .hubs import hubs
from .keys import api_keys, users
from .payloads import blobs, payloads
from .rates import rates
from .schedules import schedules

__all__ = [
    "api_keys",
    "attempts",
    "blobs",
    "breakers",
    "checkpoint_blobs",
    "checkpoint_writes",
    "checkpoints",
    "duplicates",
    "events",
    "executions",
    "hubs",
    "interventions",
    "metadata",
    "pauses",
    "payloads",
    "rates",
    "schedules",
    "steps",
    "users",
    "waits",
]
