"""Questions about memory items; what has expired is not there."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from operator import mul
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    cast,
    column,
    func,
    or_,
    select,
    table,
)

from holdfast.domain.ids import MICROS, now_us
from holdfast.domain.memory_items import AFTER_SEPARATOR, Item, Namespace, apart, fits, joined
from holdfast.errors import InvalidInput
from holdfast.store.base import Query, Reads, Row
from holdfast.store.frames import from_json
from holdfast.store.statements import Statement, fill, pieces, sized, slots
from holdfast.store.tables import memory_items
from holdfast.store.vectors import literal

from .knowledge import Vector

MOST = 1000
"""Most items of one search."""

AT_ONCE = 200
"""Rows read at once when a filter decides which of them count."""

LAST = "\U0010ffff"
"""Behind every namespace."""

memory_vectors = table(
    "memory_vectors",
    column("owner_id"),
    column("namespace"),
    column("key"),
    column("embedded_by"),
    column("embedding", Vector()),
)
"""Only where pgvector is; see `store.vectors`."""

_COLUMNS = (
    *(memory_items.c.namespace, memory_items.c.key, memory_items.c.value),
    *(memory_items.c.created_at, memory_items.c.updated_at),
    *(memory_items.c.expires_at, memory_items.c.ttl_us, memory_items.c.embedded_by),
)
_LIVES: ColumnElement[bool] = or_(
    memory_items.c.expires_at.is_(None), memory_items.c.expires_at > bindparam("now")
)


def span(prefix: Sequence[str]) -> dict[str, str]:
    """Between what the namespaces under a prefix lie, as they are stored.

    Raises:
        InvalidInput: what can be no prefix.
    """
    low = joined(prefix)
    return {"low": low, "high": low + AFTER_SEPARATOR if low else LAST}


def _under(pick: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    return pick.where(
        memory_items.c.owner_id == bindparam("owner_id"),
        memory_items.c.namespace >= bindparam("low"),
        memory_items.c.namespace < bindparam("high"),
        _LIVES,
    )


def _item(row: Row, vector: bytes | None = None) -> Item:
    namespace, key, value, created_at, updated_at, expires_at, ttl_us, embedded_by = row
    return Item(
        namespace=apart(namespace),
        key=key,
        value=from_json(value),
        created_at=created_at,
        updated_at=updated_at,
        expires_at=expires_at,
        ttl_s=None if ttl_us is None else ttl_us / MICROS,
        vector=None if vector is None else bytes(vector),
        embedded_by=embedded_by,
    )


@cache
def _get(count: int) -> Statement:
    return Statement(
        select(*_COLUMNS).where(
            memory_items.c.owner_id == bindparam("owner_id"),
            memory_items.c.namespace == bindparam("within"),
            memory_items.c.key.in_(slots("key", count)),
            _LIVES,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GetItems(Query[list[Item | None]]):
    """Items by namespace and key, in the order asked; None for what is not there.

    Attributes:
        now: the caller's time, microseconds; None: this machine's.

    Raises:
        InvalidInput: what can be no namespace.
    """

    owner_id: str
    keys: Sequence[tuple[Namespace, str]]
    now: int | None = None

    def run(self, db: Reads) -> list[Item | None]:
        """Ask by primary key, namespace by namespace."""
        now = now_us() if self.now is None else self.now
        wanted: dict[str, list[str]] = {}
        for namespace, key in self.keys:
            wanted.setdefault(joined(namespace), []).append(key)
        found = {
            (within, row[1]): _item(row)
            for within, keys in wanted.items()
            for piece in pieces(sorted(set(keys)))
            for row in db.rows(
                _get(sized(piece)),
                {"owner_id": self.owner_id, "within": within, "now": now, **fill("key", piece)},
            )
        }
        return [found.get((joined(namespace), key)) for namespace, key in self.keys]


_NEWEST = Statement(
    _under(select(*_COLUMNS, memory_items.c.vector))
    .order_by(memory_items.c.updated_at.desc(), memory_items.c.namespace, memory_items.c.key)
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)
_EMBEDDED = Statement(
    _under(select(*_COLUMNS, memory_items.c.vector)).where(
        memory_items.c.vector.is_not(None), memory_items.c.embedded_by == bindparam("kind")
    )
)
_DISTANCE = memory_vectors.c.embedding.op("<#>")(cast(bindparam("query"), Vector()))
_NEAREST = Statement(
    _under(select(*_COLUMNS, memory_items.c.vector, -func.float8(_DISTANCE)))
    .where(
        memory_vectors.c.owner_id == memory_items.c.owner_id,
        memory_vectors.c.namespace == memory_items.c.namespace,
        memory_vectors.c.key == memory_items.c.key,
        memory_vectors.c.embedded_by == bindparam("kind"),
    )
    .order_by(_DISTANCE, memory_items.c.namespace, memory_items.c.key)
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchItems(Query[list[Item]]):
    """Items under a prefix of labels, the newest change first, or the most alike.

    Attributes:
        prefix: `("a",)` finds `("a",)` and `("a", "b")`, never `("ab",)`; `()` finds all.
        filter: see `domain.memory_items.fits`.
        limit: at most so many, 1 to `MOST`.
        offset: so many of those that fit are passed over.
        near: a vector of length 1: only items with a vector of its kind, the most alike first.
        embedded_by: what made it.
        vectors: whether the items come with theirs.
        now: the caller's time, microseconds; None: this machine's.

    Raises:
        InvalidInput: what can be no prefix, no filter, no limit.
    """

    owner_id: str
    prefix: Namespace = ()
    filter: Mapping[str, Any] = field(default_factory=dict[str, Any])
    limit: int = 10
    offset: int = 0
    near: bytes | None = None
    embedded_by: str | None = None
    vectors: bool = False
    now: int | None = None

    def run(self, db: Reads) -> list[Item]:
        """Read in order until enough of them fit."""
        if not 1 <= self.limit <= MOST or self.offset < 0:
            got = {"limit": self.limit, "offset": self.offset}
            raise InvalidInput(
                f"a search finds 1 to {MOST} items, from 0 on",
                fields=[{"field": "limit", "expected": f"1 to {MOST}", "got": got}],
            )
        now = now_us() if self.now is None else self.now
        values = {"owner_id": self.owner_id, "now": now, **span(self.prefix)}
        fitting = (one for one in self._in_order(db, values) if fits(one.value, self.filter))
        return list(islice(fitting, self.offset, self.offset + self.limit))

    def _in_order(self, db: Reads, values: Mapping[str, Any]) -> Iterator[Item]:
        if self.near is None:
            for row in _paged(db, _NEWEST, values):
                yield self._shown(row[:-1], row[-1])
        elif db.vectors:
            near = {**values, "kind": self.embedded_by, "query": literal(self.near)}
            for row in _paged(db, _NEAREST, near):
                yield replace(self._shown(row[:-2], row[-2]), score=row[-1])
        else:
            yield from self._compared(db, values, self.near)

    def _compared(self, db: Reads, values: Mapping[str, Any], near: bytes) -> Iterator[Item]:
        """What pgvector does, where there is none."""
        query = _numbers(near)
        rows = db.rows(_EMBEDDED, {**values, "kind": self.embedded_by})
        scored = [(sum(map(mul, query, _numbers(row[-1]))), row) for row in rows]
        for score, row in sorted(scored, key=lambda one: (-one[0], one[1][0], one[1][1])):
            yield replace(self._shown(row[:-1], row[-1]), score=score)

    def _shown(self, row: Row, vector: bytes | None) -> Item:
        return _item(row, vector if self.vectors else None)


def _paged(db: Reads, statement: Statement, values: Mapping[str, Any]) -> Iterator[Row]:
    offset = 0
    while True:
        rows = db.rows(statement, {**values, "limit": AT_ONCE, "offset": offset})
        yield from rows
        if len(rows) < AT_ONCE:
            return
        offset += AT_ONCE


def _numbers(packed: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(packed) // 4}f", packed)


_NAMESPACES = Statement(
    _under(select(memory_items.c.namespace)).distinct().order_by(memory_items.c.namespace)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListNamespaces(Query[list[Namespace]]):
    """The namespaces under a prefix that hold anything, in their order.

    Attributes:
        prefix: see `SearchItems`.
        now: the caller's time, microseconds; None: this machine's.

    Raises:
        InvalidInput: what can be no prefix.
    """

    owner_id: str
    prefix: Namespace = ()
    now: int | None = None

    def run(self, db: Reads) -> list[Namespace]:
        """Ask over the primary key."""
        now = now_us() if self.now is None else self.now
        values = {"owner_id": self.owner_id, "now": now, **span(self.prefix)}
        return [apart(namespace) for (namespace,) in db.rows(_NAMESPACES, values)]
