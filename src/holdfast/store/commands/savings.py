"""Savings added to the sums of their day."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import and_, bindparam, update

from holdfast.domain.savings import KEY, SUMS, Saving, added_up
from holdfast.store.base import Writes
from holdfast.store.frames import plain
from holdfast.store.statements import Conflict, Insert, Statement
from holdfast.store.tables import cache_savings

_PLACE = Insert(cache_savings, unless=Conflict(KEY))
_ADD = Statement(
    update(cache_savings)
    .where(and_(*(cache_savings.c[name] == bindparam(f"of_{name}") for name in KEY)))
    .values({name: cache_savings.c[name] + bindparam(f"more_{name}") for name in SUMS})
)


def add_savings(tx: Writes, savings: Iterable[Saving]) -> None:
    """Add to the sums, in the order of their keys: two hubs never wait for each other in a ring."""
    sums = added_up(savings)
    if not sums:
        return
    keys = [[plain(value) for value in one.key] for one in sums]
    tx.insert(_PLACE, [[*key, *([0] * len(SUMS))] for key in keys])
    tx.change(
        _ADD,
        [
            {f"of_{name}": value for name, value in zip(KEY, key, strict=True)}
            | {f"more_{name}": getattr(one, name) for name in SUMS}
            for key, one in zip(keys, sums, strict=True)
        ],
    )
