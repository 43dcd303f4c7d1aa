"""Hubs telling that they live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from sqlalchemy import bindparam, delete, update

from holdfast.domain.hubs import FORGET_US, NewHub
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.statements import Conflict, Insert, Statement
from holdfast.store.tables import allowances, hubs

_INSERT = Insert(hubs, unless=Conflict(("id",)))
_SEEN = Statement(
    update(hubs)
    .where(hubs.c.id == bindparam("of"))
    .values(seen_at=bindparam("at"), stopping=bindparam("stop"))
)
_LEFT = Statement(delete(hubs).where(hubs.c.id == bindparam("of")))
_SET_ASIDE = Statement(delete(allowances).where(allowances.c.hub_id == bindparam("of")))
_FORGET = Statement(delete(hubs).where(hubs.c.seen_at < bindparam("before")))


@dataclass(frozen=True, slots=True)
class HubBeat(Command[None]):
    """A hub lives; those that have not been heard of for long are forgotten."""

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 8
    hub: NewHub

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[None]:
        """One row each; one that was forgotten while it stood still is there again."""
        now = tx.now()
        told = [command.hub for command in commands]
        tx.insert(
            _INSERT,
            [
                (
                    *(hub.id, hub.kind, " ".join(hub.roles), hub.host, hub.pid, hub.version),
                    *(int(hub.stopping), now, now),
                )
                for hub in told
            ],
        )
        tx.change(_SEEN, [{"of": hub.id, "at": now, "stop": int(hub.stopping)} for hub in told])
        tx.change(_FORGET, [{"before": now - FORGET_US}])
        return [None] * len(commands)


@dataclass(frozen=True, slots=True)
class HubLeft(Command[None]):
    """A hub has stopped, or its death was found out: it holds nothing any more."""

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 9
    hub_id: str

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[None]:
        """Forget them."""
        left = [{"of": command.hub_id} for command in commands]
        tx.change(_SET_ASIDE, left)
        tx.change(_LEFT, left)
        return [None] * len(commands)
