"""Knowledge: documents put in, replaced and removed, each with its chunks in one transaction."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from sqlalchemy import bindparam, cast, delete, insert, select, update

from holdfast.domain.ids import new_id
from holdfast.domain.knowledge import Collection, Document, NewDocument, facts_of
from holdfast.errors import HoldfastError, IllegalMove, NotFound
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.frames import plain, to_json
from holdfast.store.queries.knowledge import (
    COLLECTION,
    DOCUMENT,
    Vector,
    chunk_vectors,
    collection_item,
    document_item,
)
from holdfast.store.statements import Conflict, Insert, Statement
from holdfast.store.tables import chunks, collections, document_facts, documents
from holdfast.store.vectors import literal

from .held import lock

_ID_BITS = 62

_COLLECTION = Insert(collections, unless=Conflict(("owner_id", "name")))
_DOCUMENT = Insert(documents)
_CHUNK = Insert(chunks)
_FACT = Insert(document_facts)
_VECTOR = Statement(
    insert(chunk_vectors).values(
        chunk_id=bindparam("chunk_id"),
        owner_id=bindparam("owner_id"),
        collection_id=bindparam("collection_id"),
        document_id=bindparam("document_id"),
        embedding=cast(bindparam("embedding"), Vector()),
    )
)

_BY_NAME = lock(
    select(*COLLECTION).where(
        collections.c.owner_id == bindparam("owner"), collections.c.name == bindparam("of_name")
    )
)
_BY_KEY = lock(
    select(*DOCUMENT).where(
        documents.c.collection_id == bindparam("collection"), documents.c.key == bindparam("of_key")
    )
)
_CHANGED = Statement(
    update(collections)
    .where(collections.c.id == bindparam("of"))
    .values(version=bindparam("to"), updated_at=bindparam("at"))
)
_REPLACED = Statement(
    update(documents)
    .where(documents.c.id == bindparam("of"))
    .values(
        content_hash=bindparam("hash"),
        metadata=bindparam("facts"),
        version=bindparam("to"),
        chunks=bindparam("many"),
        tokens=bindparam("counted"),
        updated_at=bindparam("at"),
    )
)

_OF_DOCUMENT = [
    Statement(delete(table).where(table.c.document_id == bindparam("of")))
    for table in (chunks, document_facts)
]
_VECTORS_OF_DOCUMENT = Statement(
    delete(chunk_vectors).where(chunk_vectors.c.document_id == bindparam("of"))
)
_DROP_DOCUMENT = Statement(delete(documents).where(documents.c.id == bindparam("of")))

_DOCUMENTS_IN = select(documents.c.id).where(documents.c.collection_id == bindparam("of"))
_OF_COLLECTION = [
    Statement(delete(chunks).where(chunks.c.document_id.in_(_DOCUMENTS_IN))),
    Statement(delete(document_facts).where(document_facts.c.document_id.in_(_DOCUMENTS_IN))),
    Statement(delete(documents).where(documents.c.collection_id == bindparam("of"))),
    Statement(delete(collections).where(collections.c.id == bindparam("of"))),
]
_VECTORS_OF_COLLECTION = Statement(
    delete(chunk_vectors).where(chunk_vectors.c.collection_id == bindparam("of"))
)


@dataclass(frozen=True, slots=True)
class PutDocument(Command[Document | None]):
    """Add a document, or put it in the place of the one of that key; old chunks go with it.

    The collection is made with its first document. The result is None when no chunks were given
    and the stored ones are of another text, or of none.

    Raises:
        IllegalMove: the collection's vectors are of another kind.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 8
    weight: ClassVar[int] = 32
    document: NewDocument

    @classmethod
    def write_many(
        cls, tx: Writes, commands: Sequence[Self]
    ) -> Sequence[Document | HoldfastError | None]:
        """One after the other."""
        return [_put(tx, command.document) for command in commands]


def _put(tx: Writes, new: NewDocument) -> Document | HoldfastError | None:
    now, kind = tx.now(), new.embedding
    found = _find(tx, new.owner_id, new.collection)
    if found is None:
        if new.chunks is None:
            return None
        made = (new_id(), new.owner_id, new.collection)
        tx.insert(_COLLECTION, [(*made, kind.provider, kind.model, kind.dimensions, 0, now, now)])
        found = _find(tx, new.owner_id, new.collection)
        assert found is not None  # noqa: S101 - just made, by this or by another hub
    if found.embedding != kind:
        return other_kind(found, str(kind))
    rows = tx.rows(_BY_KEY, {"collection": found.id, "of_key": new.key})
    stored = document_item(rows[0]) if rows else None
    if new.chunks is None:
        if stored is None or stored.content_hash != new.content_hash:
            return None
        return _describe(tx, found, stored, new)
    return _replace(tx, found, stored, new)


def other_kind(collection: Collection, wanted: str) -> IllegalMove:
    """The refusal to mix vectors that cannot be compared."""
    return IllegalMove(
        f"collection {collection.name} was embedded with {collection.embedding}, not with {wanted}",
        hint="use the embedding alias it was made with, index into another collection, or remove "
        "it and index its documents anew",
    )


def _find(tx: Writes, owner_id: str, name: str) -> Collection | None:
    rows = tx.rows(_BY_NAME, {"owner": owner_id, "of_name": name})
    return collection_item(rows[0]) if rows else None


def _describe(tx: Writes, found: Collection, stored: Document, new: NewDocument) -> Document:
    if new.metadata != stored.metadata:
        tx.change(_OF_DOCUMENT[1], [{"of": stored.id}])
        _facts(tx, new, stored.id)
        _update(tx, stored.id, new, stored.version, stored.chunks, stored.tokens)
        _move(tx, found, found.version)
    ((row),) = tx.rows(_BY_KEY, {"collection": found.id, "of_key": new.key})
    return document_item(row)


def _replace(
    tx: Writes, found: Collection, stored: Document | None, new: NewDocument
) -> Document | None:
    version, now, parts = found.version + 1, tx.now(), new.chunks or ()
    tokens = sum(part.tokens for part in parts)
    if stored is None:
        document_id = new_id()
        row = (document_id, new.owner_id, found.id, new.key, new.content_hash)
        told = (to_json(dict(new.metadata)), version, len(parts), tokens, now, now)
        tx.insert(_DOCUMENT, [(*row, *told)])
    else:
        document_id = stored.id
        _empty(tx, document_id)
        _update(tx, document_id, new, version, len(parts), tokens)
    ids = [secrets.randbits(_ID_BITS) for _ in parts]
    place = (new.owner_id, found.id, document_id)
    tx.insert(
        _CHUNK,
        [
            (id_, *place, part.n, plain(part.text), part.tokens, part.vector)
            for id_, part in zip(ids, parts, strict=True)
        ],
    )
    if tx.vectors:
        names = ("owner_id", "collection_id", "document_id")
        tx.change(
            _VECTOR,
            [
                {"chunk_id": id_, **dict(zip(names, place, strict=True)), "embedding": written}
                for id_, written in zip(ids, [literal(p.vector) for p in parts], strict=True)
            ],
        )
    _facts(tx, new, document_id)
    _move(tx, found, version)
    ((row),) = tx.rows(_BY_KEY, {"collection": found.id, "of_key": new.key})
    return document_item(row)


def _facts(tx: Writes, new: NewDocument, document_id: str) -> None:
    facts = [(document_id, key, value, new.owner_id) for key, value in facts_of(new.metadata)]
    tx.insert(_FACT, facts)


def _update(
    tx: Writes, document_id: str, new: NewDocument, version: int, many: int, tokens: int
) -> None:
    values: dict[str, Any] = {"of": document_id, "hash": new.content_hash, "to": version}
    values |= {"facts": to_json(dict(new.metadata)), "many": many, "counted": tokens}
    tx.change(_REPLACED, [{**values, "at": tx.now()}])


def _move(tx: Writes, found: Collection, version: int) -> None:
    tx.change(_CHANGED, [{"of": found.id, "to": version, "at": tx.now()}])


def _empty(tx: Writes, document_id: str) -> None:
    for statement in _OF_DOCUMENT:
        tx.change(statement, [{"of": document_id}])
    if tx.vectors:
        tx.change(_VECTORS_OF_DOCUMENT, [{"of": document_id}])


@dataclass(frozen=True, slots=True)
class RemoveDocument(Command[None]):
    """Delete a document with its chunks.

    Raises:
        NotFound: no such collection or document of that owner.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 8
    collection: str
    key: str
    owner_id: str

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[HoldfastError | None]:
        """One after the other; the second finds none."""
        return [_remove(tx, command) for command in commands]


def _remove(tx: Writes, command: RemoveDocument) -> HoldfastError | None:
    found = _find(tx, command.owner_id, command.collection)
    rows = tx.rows(_BY_KEY, {"collection": found.id, "of_key": command.key}) if found else []
    if found is None or not rows:
        return NotFound(f"there is no document {command.key} in {command.collection}")
    stored = document_item(rows[0])
    _empty(tx, stored.id)
    tx.change(_DROP_DOCUMENT, [{"of": stored.id}])
    _move(tx, found, found.version + 1)
    return None


@dataclass(frozen=True, slots=True)
class RemoveCollection(Command[None]):
    """Delete a collection with all its documents.

    Raises:
        NotFound: no such collection of that owner.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 8
    weight: ClassVar[int] = 256
    name: str
    owner_id: str

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[HoldfastError | None]:
        """One after the other; the second finds none."""
        return [_remove_all(tx, command) for command in commands]


def _remove_all(tx: Writes, command: RemoveCollection) -> HoldfastError | None:
    found = _find(tx, command.owner_id, command.name)
    if found is None:
        return NotFound(f"there is no collection {command.name}")
    if tx.vectors:
        tx.change(_VECTORS_OF_COLLECTION, [{"of": found.id}])
    for statement in _OF_COLLECTION:
        tx.change(statement, [{"of": found.id}])
    return None
