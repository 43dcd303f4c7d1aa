"""Memory items: put, deleted, kept for longer, swept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from sqlalchemy import bindparam, cast, delete, insert, select, update

from holdfast.domain.ids import MICROS
from holdfast.domain.memory_items import (
    MAX_VALUE_BYTES,
    Namespace,
    NewItem,
    check_item,
    joined,
)
from holdfast.errors import HoldfastError, InvalidInput
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.frames import plain, to_json
from holdfast.store.queries.knowledge import Vector
from holdfast.store.queries.memory_items import memory_vectors, span
from holdfast.store.statements import Conflict, Insert, Statement
from holdfast.store.tables import memory_items
from holdfast.store.vectors import literal

from .held import lock

_KEY = ("owner_id", "namespace", "key")
_INSERT = Insert(memory_items, unless=Conflict(_KEY))


def _is_it(table: Any) -> list[Any]:
    return [
        table.c.owner_id == bindparam("owner"),
        table.c.namespace == bindparam("within"),
        table.c.key == bindparam("of"),
    ]


_REPLACE = Statement(
    update(memory_items)
    .where(*_is_it(memory_items))
    .values(
        value=bindparam("says"),
        updated_at=bindparam("at"),
        expires_at=bindparam("until"),
        ttl_us=bindparam("ttl"),
        vector=bindparam("packed"),
        embedded_by=bindparam("kind"),
    )
)
_TOUCH = Statement(
    update(memory_items)
    .where(
        *_is_it(memory_items),
        memory_items.c.ttl_us.is_not(None),
        memory_items.c.expires_at > bindparam("now"),
    )
    .values(expires_at=bindparam("at") + memory_items.c.ttl_us)
)
_DELETE = Statement(delete(memory_items).where(*_is_it(memory_items)))
_DELETE_VECTOR = Statement(delete(memory_vectors).where(*_is_it(memory_vectors)))
_VECTOR = Statement(
    insert(memory_vectors).values(
        owner_id=bindparam("owner"),
        namespace=bindparam("within"),
        key=bindparam("of"),
        embedded_by=bindparam("kind"),
        embedding=cast(bindparam("embedding"), Vector()),
    )
)
_DROP = [
    Statement(
        delete(table).where(
            table.c.owner_id == bindparam("owner"),
            table.c.namespace >= bindparam("low"),
            table.c.namespace < bindparam("high"),
        )
    )
    for table in (memory_items, memory_vectors)
]


@dataclass(frozen=True, slots=True)
class PutItems(Command[None]):
    """Store items; each takes the place of the one with its namespace and key.

    Raises:
        InvalidInput: names what cannot be stored; then none of them is.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 8
    weight: ClassVar[int] = 8
    owner_id: str
    items: Sequence[NewItem]

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[HoldfastError | None]:
        """All at once; of two with one key the later one."""
        now = tx.now()
        results: list[HoldfastError | None] = []
        rows: dict[tuple[str, str, str], dict[str, Any]] = {}
        for command in commands:
            try:
                for item in command.items:
                    check_item(item)
                values = [_values(command.owner_id, item, now) for item in command.items]
            except InvalidInput as error:
                results.append(error)
                continue
            rows |= {(one["owner"], one["within"], one["of"]): one for one in values}
            results.append(None)
        # In the order of their keys: two hubs that store the same never wait for each other.
        _store(tx, [rows[key] for key in sorted(rows)], now)
        return results


def _values(owner_id: str, item: NewItem, now: int) -> dict[str, Any]:
    ttl = None if item.ttl_s is None else max(1, round(item.ttl_s * MICROS))
    says = to_json(dict(item.value))
    if len(says.encode()) > MAX_VALUE_BYTES:
        raise InvalidInput(
            f"the value of memory item {item.key} is larger than {MAX_VALUE_BYTES} bytes of JSON",
            fields=[{"field": "value", "expected": f"{MAX_VALUE_BYTES} bytes", "got": len(says)}],
        )
    return {
        "owner": owner_id,
        "within": joined(item.namespace),
        "of": item.key,
        "says": says,
        "at": now,
        "until": None if ttl is None else now + ttl,
        "ttl": ttl,
        "packed": item.vector,
        "kind": item.embedded_by and plain(item.embedded_by),
    }


def _store(tx: Writes, values: Sequence[dict[str, Any]], now: int) -> None:
    tx.insert(
        _INSERT,
        [
            (
                *(one["owner"], one["within"], one["of"], one["says"], now, now),
                *(one["until"], one["ttl"], one["packed"], one["kind"]),
            )
            for one in values
        ],
    )
    tx.change(_REPLACE, values)
    if tx.vectors:
        tx.change(_DELETE_VECTOR, values)
        tx.change(
            _VECTOR,
            [
                {**one, "embedding": literal(one["packed"])}
                for one in values
                if one["packed"] is not None
            ],
        )


_Keys = Sequence[tuple[Namespace, str]]


def _places(owner_id: str, keys: _Keys) -> list[dict[str, Any]]:
    """Where items lie, in the order of their keys."""
    places = {(joined(namespace), key) for namespace, key in keys}
    return [{"owner": owner_id, "within": within, "of": key} for within, key in sorted(places)]


@dataclass(frozen=True, slots=True)
class DeleteItems(Command[None]):
    """Delete items by namespace and key; one that is not there is passed over.

    Raises:
        InvalidInput: what can be no namespace.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 9
    owner_id: str
    keys: Sequence[tuple[Namespace, str]]

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[HoldfastError | None]:
        """One after the other."""
        results: list[HoldfastError | None] = []
        for command in commands:
            try:
                _drop(tx, _places(command.owner_id, command.keys))
                results.append(None)
            except InvalidInput as error:
                results.append(error)
        return results


def _drop(tx: Writes, places: Sequence[dict[str, Any]]) -> None:
    tx.change(_DELETE, places)
    if tx.vectors:
        tx.change(_DELETE_VECTOR, places)


@dataclass(frozen=True, slots=True)
class TouchItems(Command[None]):
    """Items were read: those that expire do so a whole `ttl_s` from now.

    Raises:
        InvalidInput: what can be no namespace.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 10
    owner_id: str
    keys: Sequence[tuple[Namespace, str]]

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[HoldfastError | None]:
        """One after the other; what has expired does not come back."""
        now = {"at": tx.now(), "now": tx.now()}
        results: list[HoldfastError | None] = []
        for command in commands:
            try:
                places = _places(command.owner_id, command.keys)
                tx.change(_TOUCH, [{**one, **now} for one in places])
                results.append(None)
            except InvalidInput as error:
                results.append(error)
        return results


EXPIRED = lock(
    select(*(memory_items.c[name] for name in _KEY))
    .where(memory_items.c.expires_at.is_not(None), memory_items.c.expires_at <= bindparam("now"))
    .order_by(memory_items.c.expires_at)
    .limit(bindparam("limit")),
    skip_locked=True,
)


@dataclass(frozen=True, slots=True)
class SweepItems(Command[int]):
    """Delete what has expired by the store's clock, of all owners; how many those were.

    Attributes:
        limit: at most so many; call it again when it was so many.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 11
    limit: int = 500

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[int]:
        """One after the other; the second finds nothing left."""
        results: list[int] = []
        for command in commands:
            rows = tx.rows(EXPIRED, {"now": tx.now(), "limit": command.limit})
            _drop(tx, [dict(zip(("owner", "within", "of"), row, strict=True)) for row in rows])
            results.append(len(rows))
        return results


def drop_namespace(tx: Writes, owner_id: str, prefix: Namespace) -> None:
    """Delete all of an owner's items under a prefix."""
    under = {"owner": owner_id, **span(prefix)}
    tx.change(_DROP[0], [under])
    if tx.vectors:
        tx.change(_DROP[1], [under])
