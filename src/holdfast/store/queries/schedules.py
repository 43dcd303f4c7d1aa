"""Questions about schedules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import bindparam, select

from holdfast.domain.schedules import Missed, Schedule
from holdfast.errors import NotFound
from holdfast.store.base import Query, Reads
from holdfast.store.frames import from_json
from holdfast.store.statements import Statement
from holdfast.store.tables import schedules

NAMES = tuple(field.name for field in fields(Schedule))

COLUMNS = tuple(schedules.c[name] for name in NAMES)

_OF_OWNER = (
    select(*COLUMNS).where(schedules.c.owner_id == bindparam("owner_id")).order_by(schedules.c.name)
)
_LIST = Statement(_OF_OWNER)
_BY_NAME = Statement(_OF_OWNER.where(schedules.c.name == bindparam("of_name")))


def schedule_item(row: Sequence[Any]) -> Schedule:
    """A schedule out of a row of `COLUMNS`."""
    values = dict(zip(NAMES, row, strict=True))
    values["missed"] = Missed(values["missed"])
    values["enabled"] = bool(values["enabled"])
    for name in ("data", "last_error"):
        if values[name] is not None:
            values[name] = from_json(values[name])
    return Schedule(**values)


@dataclass(frozen=True, slots=True)
class ListSchedules(Query[list[Schedule]]):
    """All schedules of an owner, by name."""

    owner_id: str

    def run(self, db: Reads) -> list[Schedule]:
        """Ask by owner."""
        return [schedule_item(row) for row in db.rows(_LIST, {"owner_id": self.owner_id})]


@dataclass(frozen=True, slots=True)
class ScheduleByName(Query[Schedule]):
    """One schedule.

    Raises:
        NotFound: no such schedule of that owner.
    """

    name: str
    owner_id: str

    def run(self, db: Reads) -> Schedule:
        """Ask by name."""
        for row in db.rows(_BY_NAME, {"owner_id": self.owner_id, "of_name": self.name}):
            return schedule_item(row)
        raise NotFound(f"there is no schedule {self.name}")
