"""Status words and, in one table each, the moves that are legal between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from holdfast.errors import IllegalMove


class EventStatus(StrEnum):
    """Where an event stands."""

    QUEUED = "queued"  # accepted and committed; waits for a worker
    RUNNING = "running"  # a worker holds its lease
    WAITING = "waiting"  # holds no worker; resumes with an answer or at a time
    PAUSED = "paused"  # stopped by a person; resumes on request
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # permanent error, budget, timeout, or not to be run again
    DEAD = "dead"  # used up its deliveries or crashed three times: a dead letter
    CANCELLED = "cancelled"


class ExecutionStatus(StrEnum):
    """How one run of a graph stands or ended."""

    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"  # finished, but a step that was allowed to fail did
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"  # its process died
    SUPERSEDED = "superseded"  # finished after its lease was lost; outcome not applied


class StepStatus(StrEnum):
    """How a step or one of its attempts stands or ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"  # carries its reason
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"  # blocking code that could not be stopped; its result is discarded


E = EventStatus
EVENT_MOVES: Mapping[EventStatus, frozenset[EventStatus]] = {
    # Back to waiting: the version it is pinned to is not loaded any more.
    E.QUEUED: frozenset({E.RUNNING, E.WAITING, E.CANCELLED}),
    E.RUNNING: frozenset(
        {E.QUEUED, E.WAITING, E.PAUSED, E.SUCCEEDED, E.FAILED, E.DEAD, E.CANCELLED}
    ),
    E.WAITING: frozenset({E.QUEUED, E.CANCELLED}),
    E.PAUSED: frozenset({E.QUEUED, E.CANCELLED}),
    E.DEAD: frozenset({E.QUEUED, E.CANCELLED}),  # replayed; discarded, with a reason
    E.SUCCEEDED: frozenset(),
    E.FAILED: frozenset(),
    E.CANCELLED: frozenset(),
}

X = ExecutionStatus
EXECUTION_MOVES: Mapping[ExecutionStatus, frozenset[ExecutionStatus]] = {
    X.RUNNING: frozenset(X) - {X.RUNNING},
    X.WAITING: frozenset({X.RUNNING, X.CANCELLED}),
    X.PAUSED: frozenset({X.RUNNING, X.CANCELLED}),
    **{
        end: frozenset[ExecutionStatus]()
        for end in (
            X.SUCCEEDED,
            X.PARTIAL,
            X.FAILED,
            X.CANCELLED,
            X.TIMED_OUT,
            X.CRASHED,
            X.SUPERSEDED,
        )
    },
}

EVENT_ENDS: frozenset[EventStatus] = frozenset({E.SUCCEEDED, E.FAILED, E.DEAD, E.CANCELLED})
"""Where an event rests: nothing runs for it any more (a dead letter may be replayed)."""

EXECUTION_ENDS: frozenset[ExecutionStatus] = frozenset(
    status for status, moves in EXECUTION_MOVES.items() if not moves
)

HALTED: frozenset[ExecutionStatus] = frozenset({X.WAITING, X.PAUSED})
"""Where an execution stands still and holds no runner."""

MAX_CRASHES = 3
"""An event whose process died this often is set aside as `dead`."""


def move_event(event_id: str, old: EventStatus, new: EventStatus) -> EventStatus:
    """Return `new` when the move is legal.

    Raises:
        IllegalMove: the table has no such move.
    """
    if new not in EVENT_MOVES[old]:
        raise IllegalMove(f"event {event_id} is {old} and cannot become {new}")
    return new


def event_after(
    outcome: ExecutionStatus,
    *,
    crashes: int,
    cancel_requested: bool,
    redeliver: bool = True,
    temporary: bool = False,
    errors: int = 0,
    retries: int = 0,
    postponed: bool = False,
) -> EventStatus:
    """What an event becomes when its execution ended with `outcome`.

    Args:
        outcome: an end status of the execution.
        crashes: how often the event's process died, this time included.
        cancel_requested: somebody asked to cancel while it ran.
        redeliver: whether it can be run again; a recording cannot.
        temporary: it failed with an error that may be gone the next time.
        errors: how often it did, this time included.
        retries: how many such errors are followed by another delivery.
        postponed: it failed only because a breaker was open.
    """
    if postponed and redeliver and outcome is X.FAILED:
        return E.CANCELLED if cancel_requested else E.QUEUED
    match outcome:
        case X.SUCCEEDED | X.PARTIAL:
            return E.SUCCEEDED
        case X.FAILED if temporary:
            return _once_more(cancel_requested, redeliver, worn_out=errors > retries)
        case X.FAILED | X.TIMED_OUT:
            return E.FAILED
        case X.CANCELLED:
            return E.CANCELLED
        case X.CRASHED:
            return _once_more(cancel_requested, redeliver, worn_out=crashes >= MAX_CRASHES)
        case X.WAITING:
            return E.CANCELLED if cancel_requested else E.WAITING
        case X.PAUSED:
            return E.CANCELLED if cancel_requested else E.PAUSED
        case _:
            raise IllegalMove(f"an execution that is {outcome} does not end its event")


def _once_more(cancel_requested: bool, redeliver: bool, *, worn_out: bool) -> EventStatus:
    if cancel_requested:
        return E.CANCELLED
    if not redeliver:
        return E.FAILED
    return E.DEAD if worn_out else E.QUEUED
