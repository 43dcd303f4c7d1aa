"""Questions of the hub that joins agents to channels of other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from sqlalchemy import select

from holdfast.domain.agents import Agent
from holdfast.store.base import Query, Reads
from holdfast.store.statements import Statement, fill, pieces, sized, slots
from holdfast.store.tables import agents, events
from holdfast.store.tables.events import UNTOLD

from .agents import CURRENT, agent_item

_UNTOLD = Statement(select(events.c.id, events.c.owner_id).where(UNTOLD).order_by(events.c.id))


@dataclass(frozen=True, slots=True)
class UntoldTurn:
    """A turn that came over a channel and whose end is not known to have been published there."""

    event_id: str
    owner_id: str


@dataclass(frozen=True, slots=True)
class UntoldTurns(Query[list[UntoldTurn]]):
    """Those of all owners, the oldest first; whether they have ended or not."""

    def run(self, db: Reads) -> list[UntoldTurn]:
        """Read the partial index that holds nothing else."""
        return [UntoldTurn(*row) for row in db.rows(_UNTOLD, {})]


@cache
def _agents(count: int) -> Statement:
    return Statement(CURRENT.where(agents.c.id.in_(slots("id", count))))


@dataclass(frozen=True, slots=True)
class AgentsOf(Query[list[Agent]]):
    """These agents, whosever they are; those that are gone are missing."""

    ids: Sequence[str]

    def run(self, db: Reads) -> list[Agent]:
        """Ask by primary key."""
        return [
            agent_item(row)
            for piece in pieces(self.ids)
            for row in db.rows(_agents(sized(piece)), fill("id", piece))
        ]
