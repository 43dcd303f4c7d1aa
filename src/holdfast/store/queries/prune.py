"""What was kept long enough."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, func, or_, select

from holdfast.domain.status import EVENT_ENDS, EventStatus
from holdfast.store.base import Query, Reads
from holdfast.store.statements import Statement
from holdfast.store.tables import events
from holdfast.store.tables.base import word

ENDED_FOR_GOOD = sorted(EVENT_ENDS - {EventStatus.DEAD})
"""A dead letter may still be replayed."""

FOR_GOOD = or_(*(events.c.status == word(status) for status in ENDED_FOR_GOOD))

OLD = (
    events.c.owner_id == bindparam("owner_id"),
    events.c.target == bindparam("target"),
    FOR_GOOD,
    events.c.finished_at < bindparam("before"),
)

_OLDEST = Statement(
    select(events.c.id)
    .where(*OLD, events.c.id > bindparam("after"))
    .order_by(events.c.id)
    .limit(bindparam("limit"))
)
_COUNT = Statement(select(func.count()).select_from(events).where(*OLD))


@dataclass(frozen=True, slots=True, kw_only=True)
class CountOld(Query[int]):
    """How many events of a pipeline ended before a time.

    Attributes:
        owner_id: whose.
        target: name of the pipeline.
        before: microseconds since the epoch.
    """

    owner_id: str
    target: str
    before: int

    def run(self, db: Reads) -> int:
        """Count over the index of an owner's events by pipeline."""
        values = {"owner_id": self.owner_id, "target": self.target, "before": self.before}
        ((count,),) = db.rows(_COUNT, values)
        return int(count)


@dataclass(frozen=True, slots=True, kw_only=True)
class OldEvents(Query[list[str]]):
    """Ids of a pipeline's events that ended before a time, the oldest first.

    Attributes:
        owner_id: whose.
        target: name of the pipeline.
        before: microseconds since the epoch.
        after: the last id of the batch before: what was deleted may still lie in the index.
        limit: at most so many.
    """

    owner_id: str
    target: str
    before: int
    after: str = ""
    limit: int = 500

    def run(self, db: Reads) -> list[str]:
        """Ask over the index of an owner's events by pipeline."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return [event_id for (event_id,) in db.rows(_OLDEST, values)]
