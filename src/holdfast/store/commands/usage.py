"""The ledger written: lines with the record, folded into sums by day later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from sqlalchemy import bindparam, select, update

from holdfast.domain.executions import Record
from holdfast.domain.usage import SUMS
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.frames import plain
from holdfast.store.queries.usage import LOOSE
from holdfast.store.statements import Conflict, Insert, Statement
from holdfast.store.tables import usage, usage_days

from .held import lock

_LINES = Insert(usage)

_KEY = ("owner_id", "day", "kind", "name", "alias", "provider", "model")
_LINE = ("execution_id", "part", "line")

_LOOSE = lock(
    select(*(usage.c[name] for name in (*_LINE, *_KEY, *SUMS)))
    .where(LOOSE)
    .order_by(usage.c.owner_id)
    .limit(bindparam("limit")),
    skip_locked=True,
)
_DAY = Insert(usage_days, unless=Conflict(_KEY))
_ADD = Statement(
    update(usage_days)
    .where(*(usage_days.c[name] == bindparam(f"of_{name}") for name in _KEY))
    .values({name: usage_days.c[name] + bindparam(f"add_{name}") for name in SUMS})
)
_FOLDED = Statement(
    update(usage)
    .where(*(usage.c[name] == bindparam(f"of_{name}") for name in _LINE))
    .values(folded=1)
)


def write_lines(tx: Writes, records: Iterable[Record]) -> None:
    """Add the lines of records to the ledger, in their transaction."""
    now = tx.now()
    rows: list[tuple[Any, ...]] = []
    for record in records:
        run = record.execution
        session = None if run.session_id is None else plain(run.session_id)
        for place, line in enumerate(record.usage):
            rows.append(
                (
                    *(run.id, record.part, place, run.owner_id, run.event_id, session, now),
                    *(line.day, plain(run.kind), plain(run.name), plain(line.alias)),
                    *(plain(line.provider), plain(line.model)),
                    *(getattr(line.sums, name) for name in SUMS),
                    0,
                )
            )
    tx.insert(_LINES, rows)


@dataclass(frozen=True, slots=True)
class FoldUsage(Command[int]):
    """Add loose lines to the sums by day; how many those were.

    Attributes:
        limit: at most so many.
    """

    lane: ClassVar[Lane] = "claim"
    order: ClassVar[int] = 9
    weight: ClassVar[int] = 64
    limit: int = 500

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[int]:
        """One after the other; of several hubs each takes lines that no other one has."""
        return [_fold(tx, command.limit) for command in commands]


def _fold(tx: Writes, limit: int) -> int:
    lines = tx.rows(_LOOSE, {"limit": limit})
    first = len(_LINE)
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row in lines:
        key, values = tuple(row[first : first + len(_KEY)]), row[first + len(_KEY) :]
        known = sums.setdefault(key, [0] * len(SUMS))
        sums[key] = [a + b for a, b in zip(known, values, strict=True)]
    # In the order of their keys: two hubs that fold never wait for each other.
    days = sorted(sums.items())
    tx.insert(_DAY, [(*key, *([0] * len(SUMS))) for key, _ in days])
    tx.change(
        _ADD,
        [
            {
                **{f"of_{name}": value for name, value in zip(_KEY, key, strict=True)},
                **{f"add_{name}": value for name, value in zip(SUMS, values, strict=True)},
            }
            for key, values in days
        ],
    )
    tx.change(
        _FOLDED,
        [dict(zip([f"of_{name}" for name in _LINE], row[:first], strict=True)) for row in lines],
    )
    return len(lines)
