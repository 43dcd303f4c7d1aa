"""Questions about knowledge: what is there, what is near, what has the words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar

from sqlalchemy import (
    Select,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
    table,
)
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import UserDefinedType

from holdfast.domain.knowledge import Collection, Condition, Document, Embedding
from holdfast.errors import NotFound
from holdfast.store.base import Query, Reads
from holdfast.store.frames import from_json
from holdfast.store.statements import Statement, fill, pieces, sized, slots
from holdfast.store.tables import chunks, collections, document_facts, documents

from .pages import MAX_PAGE, check_limit

MAX_WORDS = 64
"""Words of a query that count."""

_WORD = re.compile(r"[^\W_]+")


class Vector(UserDefinedType[str]):
    """pgvector's type; values are its text form."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Its name."""
        return "vector"


chunk_vectors = table(
    "chunk_vectors",
    column("chunk_id"),
    column("owner_id"),
    column("collection_id"),
    column("document_id"),
    column("embedding", Vector()),
)
"""Only where pgvector is; see `store.vectors`."""

_chunk_words = table("chunk_words", column("rowid"), column("rank"))

COLLECTION = (
    *(collections.c.id, collections.c.owner_id, collections.c.name, collections.c.provider),
    *(collections.c.model, collections.c.dimensions, collections.c.version),
    *(collections.c.created_at, collections.c.updated_at),
)

_DOCUMENT_NAMES = tuple(field.name for field in fields(Document))

DOCUMENT = tuple(documents.c[name] for name in _DOCUMENT_NAMES)


def collection_item(row: Sequence[Any]) -> Collection:
    """A collection out of a row of `COLLECTION`, with or without counts behind it."""
    id_, owner_id, name, provider, model, dimensions, version, created_at, updated_at, *counts = row
    return Collection(
        id=id_,
        owner_id=owner_id,
        name=name,
        embedding=Embedding(provider=provider, model=model, dimensions=dimensions),
        version=version,
        created_at=created_at,
        updated_at=updated_at,
        documents=int(counts[0]) if counts else None,
        chunks=int(counts[1] or 0) if counts else None,
    )


def document_item(row: Sequence[Any]) -> Document:
    """A document out of a row of `DOCUMENT`."""
    values = dict(zip(_DOCUMENT_NAMES, row, strict=True))
    values["metadata"] = from_json(values["metadata"])
    return Document(**values)


_COUNTED = (
    select(*COLLECTION, func.count(documents.c.id), func.sum(documents.c.chunks))
    .select_from(collections.outerjoin(documents, documents.c.collection_id == collections.c.id))
    .where(collections.c.owner_id == bindparam("owner_id"))
    .group_by(*COLLECTION)
    .order_by(collections.c.name)
)
_LIST = Statement(_COUNTED)
_COUNTED_BY_NAME = Statement(_COUNTED.where(collections.c.name == bindparam("of_name")))
_BY_NAME = Statement(
    select(*COLLECTION).where(
        collections.c.owner_id == bindparam("owner_id"),
        collections.c.name == bindparam("of_name"),
    )
)


@dataclass(frozen=True, slots=True)
class ListCollections(Query[list[Collection]]):
    """All collections of an owner, by name, with their counts."""

    owner_id: str

    def run(self, db: Reads) -> list[Collection]:
        """Ask by owner."""
        return [collection_item(row) for row in db.rows(_LIST, {"owner_id": self.owner_id})]


@dataclass(frozen=True, slots=True)
class CollectionByName(Query[Collection]):
    """One collection.

    Attributes:
        counted: with how many documents and chunks it has.

    Raises:
        NotFound: no such collection of that owner.
    """

    name: str
    owner_id: str
    counted: bool = False

    def run(self, db: Reads) -> Collection:
        """Ask by name."""
        statement = _COUNTED_BY_NAME if self.counted else _BY_NAME
        for row in db.rows(statement, {"owner_id": self.owner_id, "of_name": self.name}):
            return collection_item(row)
        raise NotFound(f"there is no collection {self.name}")


_OF_COLLECTION = (
    select(*DOCUMENT)
    .select_from(documents.join(collections, documents.c.collection_id == collections.c.id))
    .where(
        collections.c.owner_id == bindparam("owner_id"),
        documents.c.owner_id == bindparam("owner_id"),
        collections.c.name == bindparam("of_name"),
    )
)
_DOCUMENT_BY_KEY = Statement(_OF_COLLECTION.where(documents.c.key == bindparam("of_key")))
_NEWEST = _OF_COLLECTION.order_by(documents.c.id.desc()).limit(bindparam("limit"))
_PAGE = {
    True: Statement(_NEWEST.where(documents.c.id < bindparam("before"))),
    False: Statement(_NEWEST),
}


@dataclass(frozen=True, slots=True)
class DocumentByKey(Query[Document]):
    """One document.

    Raises:
        NotFound: no such collection or document of that owner.
    """

    collection: str
    key: str
    owner_id: str

    def run(self, db: Reads) -> Document:
        """Ask by key."""
        values = {"owner_id": self.owner_id, "of_name": self.collection, "of_key": self.key}
        for row in db.rows(_DOCUMENT_BY_KEY, values):
            return document_item(row)
        raise NotFound(f"there is no document {self.key} in {self.collection}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDocuments(Query[list[Document]]):
    """A page of a collection's documents, the newest first."""

    collection: str
    owner_id: str
    before: str | None = None
    limit: int = MAX_PAGE

    def run(self, db: Reads) -> list[Document]:
        """Ask by id."""
        check_limit(self.limit)
        values: dict[str, Any] = {"owner_id": self.owner_id, "of_name": self.collection}
        values |= {"limit": self.limit, "before": self.before}
        rows = db.rows(_PAGE[self.before is not None], values)
        return [document_item(row) for row in rows]


_VERSIONS = Statement(
    select(documents.c.id, documents.c.version).where(
        documents.c.owner_id == bindparam("owner_id"),
        documents.c.collection_id == bindparam("collection"),
    )
)
_NEW_VECTORS = Statement(
    select(chunks.c.id, chunks.c.document_id, chunks.c.vector)
    .select_from(chunks.join(documents, chunks.c.document_id == documents.c.id))
    .where(
        documents.c.owner_id == bindparam("owner_id"),
        documents.c.collection_id == bindparam("collection"),
        documents.c.version > bindparam("since"),
    )
)
_VERSION = Statement(
    select(collections.c.version).where(
        collections.c.owner_id == bindparam("owner_id"),
        collections.c.id == bindparam("collection"),
    )
)


@dataclass(frozen=True, slots=True)
class News:
    """What has become of a collection's vectors since a version.

    Attributes:
        version: up to which this is told.
        documents: the version of each one that is there.
        vectors: chunk, document and vector of those that are newer.
    """

    version: int
    documents: dict[str, int]
    vectors: list[tuple[int, str, bytes]]


@dataclass(frozen=True, slots=True)
class VectorNews(Query[News]):
    """The vectors that a hub does not have in memory yet.

    Raises:
        NotFound: the collection is gone.
    """

    snapshot: ClassVar[bool] = True
    collection_id: str
    owner_id: str
    since: int = -1

    def run(self, db: Reads) -> News:
        """All versions, and the vectors of what is newer."""
        whose = {"owner_id": self.owner_id, "collection": self.collection_id}
        for (version,) in db.rows(_VERSION, whose):
            versions = {row[0]: row[1] for row in db.rows(_VERSIONS, whose)}
            vectors = db.rows(_NEW_VECTORS, {**whose, "since": self.since})
            return News(version, versions, [(a, b, c) for a, b, c in vectors])
        raise NotFound("the collection is gone")


def _holds(n: int, choices: int) -> ColumnElement[bool]:
    """That a document's metadata meet the n-th condition."""
    value = document_facts.c.value
    if choices:
        meets = value.in_(slots(f"choice_{n}", choices))
    else:
        meets = (
            (value >= bindparam(f"low_{n}"))
            & (value <= bindparam(f"high_{n}"))
            & value.not_in(slots(f"but_{n}", 2))
        )
    return (
        select(document_facts.c.key)
        .where(
            document_facts.c.document_id == documents.c.id,
            document_facts.c.owner_id == bindparam("owner_id"),
            document_facts.c.key == bindparam(f"key_{n}"),
            meets,
        )
        .exists()
    )


def _shape(conditions: Sequence[Condition]) -> tuple[int, ...]:
    return tuple(sized(one.choices) if one.choices else 0 for one in conditions)


def _values(conditions: Sequence[Condition]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for n, one in enumerate(conditions):
        values[f"key_{n}"] = one.key
        if one.choices:
            values |= fill(f"choice_{n}", one.choices)
        else:
            but = (*one.but, "", "")  # no value is empty
            values |= {f"low_{n}": one.low, f"high_{n}": one.high}
            values |= {f"but_{n}_0": but[0], f"but_{n}_1": but[1]}
    return values


def _filtered(pick: Select[*tuple[Any, ...]], shape: tuple[int, ...]) -> Select[*tuple[Any, ...]]:
    for n, choices in enumerate(shape):
        pick = pick.where(_holds(n, choices))
    return pick


@cache
def _matching(shape: tuple[int, ...]) -> Statement:
    return Statement(
        _filtered(
            select(documents.c.id).where(
                documents.c.owner_id == bindparam("owner_id"),
                documents.c.collection_id == bindparam("collection"),
            ),
            shape,
        )
    )


@dataclass(frozen=True, slots=True)
class MatchingDocuments(Query[set[str]]):
    """Ids of the documents whose metadata meet all conditions."""

    collection_id: str
    owner_id: str
    conditions: tuple[Condition, ...]

    def run(self, db: Reads) -> set[str]:
        """Ask for all at once."""
        whose = {"owner_id": self.owner_id, "collection": self.collection_id}
        statement = _matching(_shape(self.conditions))
        return {id_ for (id_,) in db.rows(statement, whose | _values(self.conditions))}


_DISTANCE = chunk_vectors.c.embedding.op("<#>")(cast(bindparam("query"), Vector()))


@cache
def _nearest(shape: tuple[int, ...]) -> Statement:
    pick: Select[*tuple[Any, ...]] = (
        select(chunk_vectors.c.chunk_id, -_number(_DISTANCE))
        .where(
            chunk_vectors.c.owner_id == bindparam("owner_id"),
            chunk_vectors.c.collection_id == bindparam("collection"),
        )
        .order_by(_DISTANCE)
        .limit(bindparam("limit"))
    )
    if shape:
        joined = documents.c.id == chunk_vectors.c.document_id
        pick = _filtered(pick.where(joined), shape)
    return Statement(pick)


def _number(value: ColumnElement[Any]) -> ColumnElement[float]:
    """`value` as what it is: SQLAlchemy does not know the results of pgvector's operators."""
    return func.float8(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestChunks(Query[list[tuple[int, float]]]):
    """Chunks by their likeness to a vector, found by pgvector, the nearest first.

    Attributes:
        vector: of length 1, see `store.vectors.literal`.
    """

    collection_id: str
    owner_id: str
    vector: str
    conditions: tuple[Condition, ...]
    limit: int

    def run(self, db: Reads) -> list[tuple[int, float]]:
        """Exactly: every vector of the collection is compared."""
        values = {"owner_id": self.owner_id, "collection": self.collection_id}
        values |= {"query": self.vector, "limit": self.limit, **_values(self.conditions)}
        return [(id_, score) for id_, score in db.rows(_nearest(_shape(self.conditions)), values)]


@dataclass(frozen=True, slots=True)
class ComparesVectors(Query[bool]):
    """Whether the database itself compares vectors; concerns nobody's things."""

    def run(self, db: Reads) -> bool:
        """Look for the table."""
        return db.vectors


_TSVECTOR: ColumnElement[Any] = literal_column(
    "to_tsvector('simple', regexp_replace(chunks.text, '[!-/:-@[-`{-~]+', ' ', 'g'))"
)
"""The expression of the index `ix_chunks_words`."""


@cache
def _with_words(dialect: str, shape: tuple[int, ...]) -> Statement:
    pick: Select[*tuple[Any, ...]] = select(chunks.c.id).where(
        chunks.c.owner_id == bindparam("owner_id"),
        chunks.c.collection_id == bindparam("collection"),
    )
    if dialect == "sqlite":
        pick = pick.where(
            _chunk_words.c.rowid == chunks.c.id,
            literal_column("chunk_words").op("MATCH")(bindparam("words")),
        ).order_by(literal_column("bm25(chunk_words, 0.0, 1.0)"), chunks.c.id)
    else:
        words = func.to_tsquery(literal_column("'simple'"), bindparam("words"))
        pick = pick.where(_TSVECTOR.op("@@")(words)).order_by(
            func.ts_rank_cd(_TSVECTOR, words, literal_column("1")).desc(), chunks.c.id
        )
    if shape:
        pick = _filtered(pick.where(documents.c.id == chunks.c.document_id), shape)
    return Statement(pick.limit(bindparam("limit")))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunksWithWords(Query[list[int]]):
    """Chunks that have any of a query's words, the best first.

    On SQLite BM25 counts words over all collections, for the ranking alone.
    """

    collection_id: str
    owner_id: str
    query: str
    conditions: tuple[Condition, ...]
    limit: int

    def run(self, db: Reads) -> list[int]:
        """Ask the full-text index."""
        words = list(dict.fromkeys(_WORD.findall(self.query)))[:MAX_WORDS]
        if not words:
            return []
        if db.dialect == "sqlite":
            any_of = " OR ".join(f'"{word}"' for word in words)
            asked = f'(collection_id : "{self.collection_id}") AND (text : ({any_of}))'
        else:
            asked = " | ".join(f"'{word}'" for word in words)
        values: dict[str, Any] = {"owner_id": self.owner_id, "collection": self.collection_id}
        values |= {"words": asked, "limit": self.limit, **_values(self.conditions)}
        statement = _with_words(db.dialect, _shape(self.conditions))
        return [id_ for (id_,) in db.rows(statement, values)]


@cache
def _by_ids(count: int) -> Statement:
    return Statement(
        select(chunks.c.id, documents.c.key, chunks.c.n, chunks.c.text, documents.c.metadata)
        .select_from(chunks.join(documents, chunks.c.document_id == documents.c.id))
        .where(
            chunks.c.owner_id == bindparam("owner_id"),
            documents.c.owner_id == bindparam("owner_id"),
            chunks.c.id.in_(slots("id", count)),
        )
    )


@dataclass(frozen=True, slots=True)
class FoundChunk:
    """A chunk with what is told of its document."""

    key: str
    n: int
    text: str
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChunksByIds(Query[dict[int, FoundChunk]]):
    """The texts of chunks; those that are gone meanwhile are left out."""

    ids: Sequence[int]
    owner_id: str

    def run(self, db: Reads) -> dict[int, FoundChunk]:
        """Ask in pieces."""
        return {
            id_: FoundChunk(key, n, text, from_json(metadata))
            for piece in pieces(self.ids)
            for id_, key, n, text, metadata in db.rows(
                _by_ids(sized(piece)), {"owner_id": self.owner_id, **fill("id", piece)}
            )
        }
