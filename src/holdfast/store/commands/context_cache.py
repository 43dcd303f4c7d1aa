"""Context caches moved, and what storing them costs put into the account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from sqlalchemy import bindparam, delete, or_, select, update

from holdfast.domain.context_cache import CacheMove, ContextCache, stored_token_s
from holdfast.domain.ids import MICROS
from holdfast.domain.savings import Saving, day_of
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.frames import plain
from holdfast.store.queries.context_cache import COLUMNS, NAMES, cache_item
from holdfast.store.statements import Conflict, Insert, Statement
from holdfast.store.tables import context_cache

from .held import lock
from .savings import add_savings

FORGOTTEN_US = 7 * 86400 * MICROS
"""How long one that has ended is still listed."""

_INSERT = Insert(context_cache, unless=Conflict(("key",)))

_LOCKED = lock(select(*COLUMNS).where(context_cache.c.key == bindparam("of")))

_SAVE = Statement(
    update(context_cache)
    .where(context_cache.c.key == bindparam("of"))
    .values({name: bindparam(name) for name in NAMES if name != "key"})
)

_FORGET = Statement(
    delete(context_cache).where(
        context_cache.c.changed_at < bindparam("before"),
        or_(context_cache.c.until.is_(None), context_cache.c.until < bindparam("before")),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheMoved:
    """What came of a move.

    Attributes:
        cache: how it stands now, whoever moved it.
        moved: whether this move changed it.
        at: the store's clock, by which its times are meant.
    """

    cache: ContextCache
    moved: bool
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheAccount:
    """On whose account its storage goes.

    Attributes:
        hour_pico: picodollars for one token kept for an hour; None: not known.
    """

    owner_id: str
    pipeline: str
    hour_pico: int | None


@dataclass(frozen=True, slots=True)
class MoveCache(Command[CacheMoved]):
    """Let something happen to a cache; of several hubs that try at once, one does it.

    Attributes:
        of: the cache as it is when nobody knows it.
    """

    lane: ClassVar[Lane] = "claim"
    order: ClassVar[int] = 0
    of: ContextCache
    move: CacheMove
    account: CacheAccount

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[CacheMoved]:
        """One after the other under the row's lock, in the order in which they came."""
        now = tx.now()
        of = {one.of.key: one.of for one in commands}
        held = {key: _held(tx, of[key], now) for key in sorted(of)}
        results: list[CacheMoved] = []
        moved: set[str] = set()
        stored: list[Saving] = []
        for one in commands:
            before = held[one.of.key]
            after = one.move.apply(before, now)
            if after is not None:
                held[after.key] = after
                moved.add(after.key)
                stored += _storage(before, after, one.account, now)
            results.append(CacheMoved(cache=held[one.of.key], moved=after is not None, at=now))
        tx.change(_SAVE, [_changes(held[key]) for key in sorted(moved)])
        if moved:
            tx.change(_FORGET, [{"before": now - FORGOTTEN_US}])
        add_savings(tx, stored)
        return results


def _held(tx: Writes, of: ContextCache, now: int) -> ContextCache:
    rows = tx.rows(_LOCKED, {"of": of.key})
    if not rows:
        tx.insert(_INSERT, [[_values(of, changed_at=now)[name] for name in NAMES]])
        rows = tx.rows(_LOCKED, {"of": of.key})  # another hub may have been quicker
    return cache_item(rows[0])


def _values(cache: ContextCache, **other: Any) -> dict[str, Any]:
    values = {name: getattr(cache, name) for name in NAMES} | other
    values["status"] = cache.status.value
    for name in ("model", "prompt", "resource", "reason"):  # what others said, word for word
        if values[name] is not None:
            values[name] = plain(values[name])
    return values


def _changes(cache: ContextCache) -> dict[str, Any]:
    values = _values(cache)
    values["of"] = values.pop("key")
    return values


def _storage(
    before: ContextCache, after: ContextCache, account: CacheAccount, now: int
) -> list[Saving]:
    token_s = stored_token_s(before, after, now)
    if not token_s:
        return []
    hour_pico = account.hour_pico
    return [
        Saving(
            day=day_of(now),
            owner_id=account.owner_id,
            prompt=after.prompt,
            pipeline=account.pipeline,
            provider=after.provider,
            model=after.model,
            storage_token_s=token_s,
            storage_pico=0 if hour_pico is None else token_s * hour_pico // 3600,
            unpriced=int(hour_pico is None),
        )
    ]
