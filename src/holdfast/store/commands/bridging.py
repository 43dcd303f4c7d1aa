"""What the hub that joins agents to channels of other programs writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from sqlalchemy import bindparam, update

from holdfast.store.base import Command, Lane, Writes
from holdfast.store.statements import Statement
from holdfast.store.tables import events

_TOLD = Statement(
    update(events)
    .where(events.c.id == bindparam("of"), events.c.owner_id == bindparam("owner"))
    .values(told_at=bindparam("at"))
)


@dataclass(frozen=True, slots=True)
class TurnTold(Command[None]):
    """The end of a turn was published on its channel: no other hub needs to; gone ones pass."""

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 4
    event_id: str
    owner_id: str

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[None]:
        """In the order of ids, as all who lock events do."""
        at = tx.now()
        told = sorted((command.event_id, command.owner_id) for command in commands)
        tx.change(_TOLD, [{"of": event, "owner": owner, "at": at} for event, owner in told])
        return [None] * len(commands)
