"""Knowledge: documents in collections, cut into chunks, and what a search asks and finds."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, cast

from holdfast.errors import InvalidInput

DEFAULT = "default"
"""Name of the embedding alias used where none is named."""

MAX_TEXT_CHARS = 2_000_000
MAX_KEY_CHARS = 500
MAX_QUERY_CHARS = 20_000
MAX_LIMIT = 100
MAX_FACTS = 64
MAX_FACT_BYTES = 800
MAX_FACT_KEY_BYTES = 400
"""Of metadata, in UTF-8: as much as an index of PostgreSQL's takes."""
MAX_CONDITIONS = 8
MAX_CHOICES = 64

RRF_K = 60
"""Damps first places when rankings are fused (Cormack, Clarke and Büttcher, SIGIR 2009)."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # … and what is no character


class Mode(StrEnum):
    """How a search ranks."""

    HYBRID = "hybrid"  # both of the others, their ranks fused
    SEMANTIC = "semantic"  # by the likeness of embeddings
    KEYWORD = "keyword"  # by the words they share


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """What made a collection's vectors; all of a collection are of one kind.

    Attributes:
        provider: such as `openai` or `hashing`.
        model: as the provider names it.
        dimensions: numbers in a vector.
    """

    provider: str
    model: str
    dimensions: int

    def __str__(self) -> str:
        return f"{self.provider}:{self.model} ({self.dimensions} dimensions)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A stored collection.

    Attributes:
        version: grows with every change of its documents.
        documents: how many it has; None where nobody counted.
    """

    id: str
    owner_id: str
    name: str
    embedding: Embedding
    version: int
    created_at: int
    updated_at: int
    documents: int | None = None
    chunks: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A stored document, without its text: that is in its chunks.

    Attributes:
        key: its name within the collection.
        content_hash: of the text and of how it was cut.
        version: of the collection when its chunks were last replaced.
        tokens: of all its chunks, as they were counted or estimated.
    """

    id: str
    collection_id: str
    key: str
    content_hash: str
    metadata: Mapping[str, Any]
    version: int
    chunks: int
    tokens: int
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document.

    Attributes:
        n: its place in the document, from 0.
        text: as it stands there.
        tokens: about how many.
        vector: float32, little-endian, of length 1.
    """

    n: int
    text: str
    tokens: int
    vector: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """A document with its chunks, ready to be stored.

    Attributes:
        chunks: None: they are what is stored already, and only the metadata may differ.
    """

    owner_id: str
    collection: str
    embedding: Embedding
    key: str
    content_hash: str
    metadata: Mapping[str, Any]
    chunks: Sequence[Chunk] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One chunk that a search found.

    Attributes:
        key: of its document.
        n: its place in the document, from 0.
        text: the chunk.
        score: by which hits are ordered; comparable within one answer only.
        similarity: cosine of the angle to the query, -1 to 1; None where it was found by words
            alone.
        metadata: of the document.
    """

    key: str
    n: int
    text: str
    score: float
    similarity: float | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found, as a node's result.

    Attributes:
        query: as it was asked.
        hits: the best first.
    """

    collection: str
    query: str
    mode: str
    hits: list[Hit]

    @property
    def text(self) -> str:
        """All hits, each under the key of its document: fit for a prompt."""
        return "\n\n".join(f"[{hit.key}]\n{hit.text}" for hit in self.hits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became of a document, as a node's result.

    Attributes:
        embedded: False when the same text was there already, embedded by the same model.
        tokens: of all its chunks, about.
    """

    collection: str
    key: str
    chunks: int
    tokens: int
    embedded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition on documents' metadata, in the form the store compares.

    Attributes:
        key: of the metadata.
        choices: sort keys one of which must be met; empty for a range.
        low: sort key that is the least one allowed.
        high: … the greatest one.
        but: sort keys that are not allowed although they are within.
    """

    key: str
    choices: tuple[str, ...] = ()
    low: str = ""
    high: str = ""
    but: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is asked of a collection.

    Attributes:
        query: words, or a question.
        limit: most hits.
        conditions: on the documents' metadata; all must hold.
        min_score: least similarity of what embeddings find; hits by words are not held to it.
    """

    collection: str
    query: str
    mode: Mode = Mode.HYBRID
    limit: int = 5
    conditions: tuple[Condition, ...] = ()
    min_score: float | None = None


def read_search(
    *,
    collection: str,
    query: str,
    mode: str = Mode.HYBRID,
    limit: int = 5,
    filters: Mapping[str, Any] | None = None,
    min_score: float | None = None,
) -> Search:
    """A search as it was asked for, checked.

    Raises:
        InvalidInput: a field that cannot be meant, above all an unknown operator of a filter.
    """
    check_collection(collection)
    if not query.strip():
        raise refused("query", "some text", query)
    if len(query) > MAX_QUERY_CHARS:
        raise refused("query", f"at most {MAX_QUERY_CHARS} characters", len(query))
    if mode not in set(Mode):
        raise refused("mode", " or ".join(Mode), mode)
    if not 1 <= limit <= MAX_LIMIT:
        raise refused("limit", f"1 to {MAX_LIMIT}", limit)
    if min_score is not None and not -1 <= min_score <= 1:
        raise refused("min_score", "a cosine, -1 to 1", min_score)
    if min_score is not None and mode == Mode.KEYWORD:
        raise refused("min_score", "nothing where the mode is keyword", min_score)
    return Search(
        collection=collection,
        query=query,
        mode=Mode(mode),
        limit=limit,
        conditions=read_filters(filters or {}),
        min_score=min_score,
    )


def read_filters(filters: Mapping[str, Any]) -> tuple[Condition, ...]:
    """Conditions out of `{"lang": "de", "year": {"gte": 2020, "lt": 2024}, "team": {"in": […]}}`.

    Raises:
        InvalidInput: an unknown operator or a value that nothing can be compared with.
    """
    if len(filters) > MAX_CONDITIONS:
        raise refused("filters", f"at most {MAX_CONDITIONS}", len(filters))
    # In one order, so that few statements serve all searches.
    return tuple(
        sorted((_condition(k, v) for k, v in filters.items()), key=lambda c: len(c.choices))
    )


_BOUNDS = ("gt", "gte", "lt", "lte")


def _condition(key: str, wanted: Any) -> Condition:
    where = f"filters.{key}"
    if not isinstance(wanted, Mapping):
        return Condition(key=key, choices=(sort_key(where, wanted),))
    operators = cast("Mapping[str, Any]", wanted)
    for name in operators:
        if name not in ("in", "eq", *_BOUNDS):
            raise refused(f"{where}.{name}", "eq, in, gt, gte, lt or lte", name)
    if not operators or (len(operators) > 1 and not set(operators) <= set(_BOUNDS)):
        raise refused(where, "eq, or in, or bounds", ", ".join(operators) or "nothing")
    if "eq" in operators:
        return Condition(key=key, choices=(sort_key(f"{where}.eq", operators["eq"]),))
    if "in" in operators:
        return _one_of(key, f"{where}.in", operators["in"])
    return _range(key, where, operators)


def _one_of(key: str, where: str, choices: Any) -> Condition:
    if not isinstance(choices, list | tuple) or not choices:
        raise refused(where, "a list of values", choices)
    values = cast("Sequence[Any]", choices)
    if len(values) > MAX_CHOICES:
        raise refused(where, f"at most {MAX_CHOICES} values", len(values))
    return Condition(key=key, choices=tuple(sort_key(where, value) for value in values))


def _range(key: str, where: str, bounds: Mapping[str, Any]) -> Condition:
    if {"gt", "gte"} <= bounds.keys() or {"lt", "lte"} <= bounds.keys():
        raise refused(where, "one bound on each side", ", ".join(bounds))
    for name, value in bounds.items():
        if isinstance(value, bool):
            raise refused(f"{where}.{name}", "a number or a text", value)
    keys = {name: sort_key(f"{where}.{name}", value) for name, value in bounds.items()}
    kinds = {one[0] for one in keys.values()}
    if len(kinds) > 1:
        raise refused(where, "bounds of one kind", ", ".join(map(repr, bounds.values())))
    (kind,) = kinds
    low = keys.get("gte") or keys.get("gt") or kind
    high = keys.get("lte") or keys.get("lt") or f"{kind}g"  # after every hex digit
    but = tuple(keys[name] for name in ("gt", "lt") if name in keys)
    return Condition(key=key, low=low, high=high, but=but)


def sort_key(where: str, value: Any) -> str:
    """A value as text that sorts as the value does, whatever the database's collation.

    Raises:
        InvalidInput: neither text nor a finite number nor a truth value.
    """
    match value:
        case bool():
            return f"b{int(value)}"
        case int() | float():
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if math.isfinite(number):
                (bits,) = struct.unpack(">Q", struct.pack(">d", number + 0.0))
                return f"n{bits ^ (0xFFFFFFFFFFFFFFFF if bits >> 63 else 1 << 63):016x}"
        case str() if len(raw := value.encode("utf-8", "surrogatepass")) <= MAX_FACT_BYTES:
            return f"t{raw.hex()}"
        case _:
            pass
    raise refused(where, f"text up to {MAX_FACT_BYTES} bytes, number or truth value", value)


def facts_of(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What filters see of metadata: keys and sort keys; a list counts with each of its items.

    Raises:
        InvalidInput: a value is neither text, number or truth value nor a list of such.
    """
    found: list[tuple[str, str]] = []
    for key, value in metadata.items():
        if not key or _CONTROL.search(key) or len(key.encode()) > MAX_FACT_KEY_BYTES:
            raise refused("metadata", f"keys of 1 to {MAX_FACT_KEY_BYTES} bytes", key)
        values = cast("list[Any]", value) if isinstance(value, list) else [value]
        found += [(key, sort_key(f"metadata.{key}", one)) for one in values]
    found = list(dict.fromkeys(found))
    if len(found) > MAX_FACTS:
        raise refused("metadata", f"at most {MAX_FACTS} values", len(found))
    return found


def check_collection(name: str) -> None:
    """Make sure that this can be a collection's name.

    Raises:
        InvalidInput: it cannot.
    """
    if NAME.fullmatch(name) is None:
        raise refused("collection", "up to 200 letters, digits and ._-", name)


def check_key(key: str) -> None:
    """Make sure that this can be a document's key.

    Raises:
        InvalidInput: it cannot.
    """
    if not key or len(key) > MAX_KEY_CHARS or _CONTROL.search(key):
        raise refused("key", f"1 to {MAX_KEY_CHARS} characters, none of control", key)


def content_hash(text: str, cut: Sequence[int]) -> str:
    """Names a text and how it was cut: what is the same need not be embedded again."""
    digest = hashlib.sha256(json.dumps(list(cut)).encode())
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def fused(rankings: Iterable[Sequence[str]]) -> dict[str, float]:
    """Reciprocal rank fusion: a score for each id that some ranking has, the best first."""
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, one in enumerate(ranking, 1):
            scores[one] = scores.get(one, 0.0) + 1 / (RRF_K + rank)
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def refused(where: str, expected: str, got: Any) -> InvalidInput:
    """The error for a field that cannot be used."""
    shown = repr(got)[:100]
    return InvalidInput(
        f"{where} must be {expected}, not {shown}",
        fields=[{"field": where, "expected": expected, "got": shown}],
    )
