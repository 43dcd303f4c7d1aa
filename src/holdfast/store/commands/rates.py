"""Rates within a claim: what an owner's pipeline may still begin, and what it has begun."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from sqlalchemy import bindparam, exists, func, select, update

from holdfast.domain.rates import Rate
from holdfast.store.base import Writes
from holdfast.store.frames import from_json, to_json
from holdfast.store.statements import Conflict, Insert, Statement
from holdfast.store.tables import events, rates

from .held import lock

FULL = exists(
    select(rates.c.pipeline).where(
        rates.c.owner_id == events.c.owner_id,
        rates.c.pipeline == events.c.target,
        rates.c.free_at > bindparam("now"),
    )
)
"""As many of the event's pipeline as may began lately."""

_PLACE = Insert(rates, unless=Conflict(("owner_id", "pipeline")))
_COLUMNS = (rates.c.starts,)
_ONE = select(*_COLUMNS).where(
    rates.c.owner_id == bindparam("owner"), rates.c.pipeline == bindparam("of")
)
_HELD = lock(_ONE)
_FREE = lock(_ONE, skip_locked=True)
_SAVE = Statement(
    update(rates)
    .where(rates.c.owner_id == bindparam("owner"), rates.c.pipeline == bindparam("of"))
    .values(starts=bindparam("starts"), free_at=bindparam("free_at"))
)
_NEXT = Statement(select(func.min(rates.c.free_at)).where(rates.c.free_at > bindparam("now")))
_OVER = Statement(
    select(rates.c.pipeline)
    .where(rates.c.free_at <= bindparam("now"), rates.c.free_at > 0)
    .limit(1)
)

Key = tuple[str, str]
"""Owner and pipeline."""


class Allowances:
    """What the pipelines with a rate may begin in one claim.

    Args:
        tx: the claim's.
        declared: rates by pipeline.
        now: the claim's time.
    """

    def __init__(self, tx: Writes, declared: Mapping[str, Rate], now: int) -> None:
        self._tx = tx
        self._declared = declared
        self._now = now
        self._starts: dict[Key, dict[int, int]] = {}
        self._left: dict[Key, int] = {}
        self._taken: Counter[Key] = Counter()

    def hold(self, keys: Iterable[Key]) -> None:
        """Lock what is counted of these, in order, so that two hubs never wait for each other.

        Those of a later round may be another hub's: it is asked for them another time.
        """
        wait = not self._starts
        for owner, name in sorted(set(keys)):
            if name not in self._declared or (owner, name) in self._starts:
                continue
            self._tx.insert(_PLACE, [(owner, name, "{}", 0)])
            rows = self._tx.rows(_HELD if wait else _FREE, {"owner": owner, "of": name})
            if not rows:
                self._left[owner, name] = 0
                continue
            starts = {int(end): n for end, n in from_json(rows[0][0]).items()}
            self._starts[owner, name] = starts
            self._left[owner, name] = self._declared[name].left(starts, self._now)

    def take(self, owner: str, name: str) -> bool:
        """Whether one more may begin; it is counted then."""
        if name not in self._declared:
            return True
        if self._left[owner, name] <= 0:
            return False
        self._left[owner, name] -= 1
        self._taken[owner, name] += 1
        return True

    def holds(self, owner: str, name: str) -> bool:
        """Whether it is ours to write down that this is full; else another hub is about to."""
        return (owner, name) in self._starts

    def write(self) -> None:
        """Write down what was taken; what is full is passed over by every claim until it is not."""
        values: list[dict[str, object]] = []
        for (owner, name), starts in self._starts.items():
            taken = self._taken.pop((owner, name), 0)
            counted, free_at = self._declared[name].after(starts, self._now, taken)
            self._starts[owner, name] = counted
            values.append(
                {
                    "owner": owner,
                    "of": name,
                    "starts": to_json({str(end): n for end, n in counted.items()}),
                    "free_at": free_at,
                }
            )
        self._tx.change(_SAVE, values)


def next_free(tx: Writes, now: int) -> tuple[int | None, bool]:
    """When the next full pipeline may begin another, and whether one may again by now."""
    ((following,),) = tx.rows(_NEXT, {"now": now})
    return following, bool(tx.rows(_OVER, {"now": now}))
