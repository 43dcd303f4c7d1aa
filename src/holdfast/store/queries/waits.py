"""Questions about what halted events wait for, and about paused pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select

from holdfast.domain.halts import Wait
from holdfast.store.base import Query, Reads
from holdfast.store.frames import from_json
from holdfast.store.statements import Statement
from holdfast.store.tables import pauses, waits

_OF_EVENT = Statement(
    select(waits.c.spec, waits.c.answer, waits.c.answered_at)
    .where(waits.c.event_id == bindparam("event_id"), waits.c.owner_id == bindparam("owner_id"))
    .order_by(waits.c.id)
)

_PAUSED = Statement(select(pauses.c.pipeline).order_by(pauses.c.pipeline))


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenWait:
    """A wait and, once there is one, its answer.

    Attributes:
        answer: `{"answer": …}`, `{"woken": true}`, `{"expired": true}`, `{"event", "data"}`, or
            `{"child": {…}}` with the child's `output` or `error`.
        answered_at: when it came.
    """

    wait: Wait
    answer: dict[str, Any] | None
    answered_at: int | None


@dataclass(frozen=True, slots=True)
class WaitsOf(Query[list[GivenWait]]):
    """What an event waits for; nothing when it is another owner's."""

    event_id: str
    owner_id: str

    def run(self, db: Reads) -> list[GivenWait]:
        """Ask by event."""
        rows = db.rows(_OF_EVENT, {"event_id": self.event_id, "owner_id": self.owner_id})
        return [
            GivenWait(
                wait=Wait.of(from_json(spec)),
                answer=None if answer is None else from_json(answer),
                answered_at=answered_at,
            )
            for spec, answer, answered_at in rows
        ]


@dataclass(frozen=True, slots=True)
class PausedPipelines(Query[list[str]]):
    """Names of the pipelines that are paused, for everybody alike."""

    def run(self, db: Reads) -> list[str]:
        """Ask for all."""
        return [name for (name,) in db.rows(_PAUSED, {})]
