"""Events: what came in, and the right to run it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from .halts import Halt
from .status import EventStatus

LOCAL_OWNER = "local"
"""The principal of a hub without keys."""

MAX_EVENT_BYTES = 1024 * 1024
"""Largest request body an event may come in."""

MAX_DELAY_S = 366 * 86_400
"""How far ahead an event may be sent."""

MAX_DEPTH = 100
"""Deepest nesting of an event's data: JSON writers give up at 254."""


ANSWERS = "wait"
"""Kind of target of an event that runs nothing and only answers those who wait for it."""


MAX_CHILD_DEPTH = 10
"""Deepest nesting of child executions: one that starts itself for ever ends here."""

CHILD: Final = "child"

Origin = Literal["child", "replay"]
"""Why an execution has a parent: that one waits for what comes of it, or is run once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event as it was checked at the door, before it is stored."""

    id: str
    owner_id: str
    type: str  # CloudEvents `type`; the target pipeline's name unless `target` says otherwise
    source: str  # CloudEvents `source`: who sent it (URI reference)
    subject: str | None
    target: str  # name of the pipeline
    target_kind: str  # "pipeline" or ANSWERS
    data: bytes  # JSON, as it came (validated against the pipeline's schema)
    idempotency_key: str | None  # unique per owner
    body_hash: str  # hex digest of the canonical body, to tell a repeat from a conflict
    priority: int  # higher runs first
    traceparent: str | None  # W3C trace context
    occurred_at: int | None  # CloudEvents `time`, microseconds
    parent_id: str | None = None  # execution that its executions come from
    origin: Origin | None = None  # … and why; None where there is no parent
    replay: str | None = None  # JSON: how a replay is to run
    session_id: str | None = None  # of its owner; runs after what came before it in there
    deliver_at: int | None = None  # not run before
    delay_us: int = 0  # … nor before this long after it was stored
    singleton_key: str | None = None  # no other unfinished event of its pipeline has it
    dedup_key: str | None = None  # hash of what counts as the same event
    dedup_us: int = 0  # how long another such event is taken for this one


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A stored event."""

    id: str
    owner_id: str
    type: str
    source: str
    subject: str | None
    target: str
    target_kind: str
    data: Any  # decoded JSON; None in lists, which do not load it
    idempotency_key: str | None
    body_hash: str
    priority: int
    status: EventStatus
    deliveries: int  # how often it was handed to a worker
    crashes: int  # how often its process died
    available_at: int  # not claimed before
    lease_owner: str | None  # boot id of the hub that runs it
    lease_until: int | None
    fence: int  # grows with every claim; a write with an older one changes nothing
    cancel_requested_at: int | None
    execution_id: str | None  # its newest execution
    traceparent: str | None
    occurred_at: int | None
    received_at: int
    finished_at: int | None
    last_error: dict[str, Any] | None  # {"code", "message", …} of the newest failure
    pause_requested_at: int | None = None
    pinned: str | None = None  # graph version of its checkpoints; no other may go on from them
    halt: dict[str, Any] | None = None  # where its halted execution goes on, see `domain.halts`
    parent_id: str | None = None  # execution that its executions come from
    origin: Origin | None = None  # … and why; None where there is no parent
    replay: dict[str, Any] | None = None  # how a replay is to run
    errors: int = 0  # how often it ended with a temporary error
    redeliver: int = 1  # 0: once it began it never begins again
    session_id: str | None = None  # the conversation it is a turn of
    singleton_key: str | None = None  # no other unfinished event of its pipeline has it
    discarded: dict[str, Any] | None = None  # {"at", "by", "reason"} of a dead letter
    postponed_for: str | None = None  # the open breaker whose closing it waits for


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """The right to run one event now: its lease, its fence and the execution row made for it."""

    event_id: str
    owner_id: str
    target: str
    target_kind: str
    data: bytes
    traceparent: str | None
    execution_id: str
    fence: int
    delivery: int  # 1 for the first
    crashes: int
    started_at: int
    goes_on: bool = False  # there are checkpoints to go on from
    halt: Halt | None = None  # where the same execution goes on
    session_id: str | None = None
    answers: dict[str, Any] = field(default_factory=dict[str, Any])  # by id of the wait
    children: dict[str, str] = field(default_factory=dict[str, str])  # … and its child's event id
    parent_id: str | None = None  # execution that this one comes from
    origin: Origin | None = None  # … and why; None where there is no parent
    replay: str | None = None  # JSON: how a replay is to run
