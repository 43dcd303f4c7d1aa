"""Deleting what was kept long enough: ended events with everything that ran for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Self

from sqlalchemy import Table, bindparam, delete, select

from holdfast.store.base import Command, Lane, Writes
from holdfast.store.queries.prune import OLD
from holdfast.store.statements import Statement, fill, pieces, sized, slots
from holdfast.store.tables import (
    attempts,
    events,
    executions,
    interventions,
    payloads,
    steps,
    waits,
)

from .checkpoints import drop_threads

_OLDEST = Statement(
    select(events.c.id, events.c.pinned).where(*OLD).order_by(events.c.id).limit(bindparam("limit"))
)


@cache
def _executions_of(count: int) -> Statement:
    return Statement(select(executions.c.id).where(executions.c.event_id.in_(slots("id", count))))


def _delete(table: Table, column: str) -> Statement:
    return Statement(delete(table).where(table.c[column] == bindparam("of")))


_BY_EXECUTION = [_delete(table, "execution_id") for table in (attempts, steps, payloads)]
_EXECUTION = _delete(executions, "id")
_WAITS = _delete(waits, "event_id")
_INTERVENTIONS = _delete(interventions, "event_id")
_EVENT = _delete(events, "id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune(Command[int]):
    """Delete ended events of a pipeline with their executions, the oldest first.

    What has not ended stays, and so do dead letters, which somebody may still want to replay.
    Texts that executions share stay too.

    Attributes:
        owner_id: whose.
        target: name of the pipeline.
        before: those that ended earlier, microseconds since the epoch.
        limit: at most so many events; the result is how many it were.
    """

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 8
    weight: ClassVar[int] = 256
    owner_id: str
    target: str
    before: int
    limit: int = 50

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[int]:
        """One after the other."""
        return [_prune(tx, command) for command in commands]


def _prune(tx: Writes, command: Prune) -> int:
    found = tx.rows(
        _OLDEST,
        {
            "owner_id": command.owner_id,
            "target": command.target,
            "before": command.before,
            "limit": command.limit,
        },
    )
    ids = [event_id for event_id, _ in found]
    drop_threads(tx, [(command.owner_id, id_) for id_, pinned in found if pinned is not None])
    ran = [
        execution_id
        for piece in pieces(ids)
        for (execution_id,) in tx.rows(_executions_of(sized(piece)), fill("id", piece))
    ]
    for statement in (*_BY_EXECUTION, _EXECUTION):
        tx.change(statement, [{"of": execution_id} for execution_id in ran])
    for statement in (_WAITS, _INTERVENTIONS, _EVENT):
        tx.change(statement, [{"of": event_id} for event_id in ids])
    return len(ids)
