"""Questions about events and executions that come from others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select

from holdfast.store.base import Query, Reads
from holdfast.store.frames import from_json
from holdfast.store.statements import Statement
from holdfast.store.tables import events

_SENT_BY = Statement(
    select(events.c.id, events.c.type, events.c.data)
    .where(
        events.c.owner_id == bindparam("owner_id"),
        events.c.id > bindparam("execution_id"),
        events.c.source == bindparam("source"),
        events.c.origin.is_(None),
    )
    .order_by(events.c.id)
)


@dataclass(frozen=True, slots=True)
class SentBy(Query[list[dict[str, Any]]]):
    """The events that an execution sent, oldest first, each `{"id", "type", "data"}`.

    Looked for among those that came after the execution began: ids sort by time.
    """

    execution_id: str
    owner_id: str

    def run(self, db: Reads) -> list[dict[str, Any]]:
        """Ask by source, over the owner's index of ids."""
        rows = db.rows(
            _SENT_BY,
            {
                "owner_id": self.owner_id,
                "execution_id": self.execution_id,
                "source": f"/executions/{self.execution_id}",
            },
        )
        return [{"id": id_, "type": kind, "data": from_json(data)} for id_, kind, data in rows]
