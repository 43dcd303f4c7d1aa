"""Deleting what was kept long enough: ended events with everything that ran for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Self

from sqlalchemy import bindparam, select

from holdfast.store.base import Command, Lane, Writes
from holdfast.store.queries.prune import FOR_GOOD
from holdfast.store.statements import Statement, fill, pieces, sized, slots
from holdfast.store.tables import events

from .forgetting import drop_events


@cache
def _still_there(count: int) -> Statement:
    return Statement(
        select(events.c.id, events.c.pinned)
        .where(
            events.c.id.in_(slots("id", count)),
            events.c.owner_id == bindparam("owner_id"),
            FOR_GOOD,
        )
        .order_by(events.c.id)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune(Command[int]):
    """Delete ended events with their executions.

    They are looked for beforehand (`OldEvents`): however long that takes, no record waits for it.
    What has not ended stays, and so do dead letters, which somebody may still want to replay.
    Texts that executions share stay too, and what was said in conversations: a message outlives
    the record of its turn, and goes with its session.

    Attributes:
        owner_id: whose.
        event_ids: few, for records wait meanwhile; the result is how many of them were there.
    """

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 8
    weight: ClassVar[int] = 256
    owner_id: str
    event_ids: Sequence[str]

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[int]:
        """One after the other."""
        return [_prune(tx, command) for command in commands]


def _prune(tx: Writes, command: Prune) -> int:
    found = [
        row
        for piece in pieces(command.event_ids)
        for row in tx.rows(
            _still_there(sized(piece)), {"owner_id": command.owner_id, **fill("id", piece)}
        )
    ]
    ids = [event_id for event_id, _ in found]
    drop_events(tx, ids, [(command.owner_id, id_) for id_, pinned in found if pinned is not None])
    return len(ids)
