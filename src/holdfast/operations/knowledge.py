"""Knowledge: documents indexed, replaced, removed, and found by likeness and by words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.domain.knowledge import (
    DEFAULT,
    MAX_TEXT_CHARS,
    Chunk,
    Collection,
    Document,
    Embedding,
    Hit,
    Mode,
    NewDocument,
    Search,
    check_collection,
    check_key,
    content_hash,
    facts_of,
    fused,
    refused,
)
from holdfast.domain.splitting import OVERLAP_TOKENS, SIZE_TOKENS, split
from holdfast.errors import NotFound
from holdfast.llm.embeddings import Vectors, dimensions_of
from holdfast.ports import ModelConfig
from holdfast.store.commands import PutDocument, RemoveCollection, RemoveDocument
from holdfast.store.commands.knowledge import other_kind
from holdfast.store.queries import (
    ChunksByIds,
    ChunksWithWords,
    CollectionByName,
    ComparesVectors,
    DocumentByKey,
    ListCollections,
    ListDocuments,
    MatchingDocuments,
    NearestChunks,
)
from holdfast.store.vectors import literal

from .kit import Kit

CANDIDATES = 4
"""A hybrid search looks at so many times the hits that it gives, from either side."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """What became of a document.

    Attributes:
        embedded: whether its text was; False when it was there already, by the same model.
    """

    document: Document
    embedded: bool


async def index(
    kit: Kit,
    *,
    owner_id: str,
    collection: str,
    key: str,
    text: str,
    metadata: Mapping[str, Any] | None = None,
    alias: str | None = None,
    made: Vectors | None = None,
) -> Indexed:
    """Add a document, or put it in the place of the one of that key; found from now on.

    The first document of a collection decides how it is embedded. A text that is there already, by
    the same model, is not embedded again.

    Args:
        kit: the hub's parts.
        owner_id: whose.
        collection: its name; made when there is none.
        key: names the document in there.
        text: what is found.
        metadata: what filters look at.
        alias: of the embeddings; None for the collection's own, or `default`.
        made: takes the embedding calls, as they are made.

    Raises:
        InvalidInput: a field cannot be used.
        IllegalMove: the collection was embedded by another model.
        SettingsError: there is no such alias, or what it needs is not installed.
        ModelError: the provider failed.
    """
    check_collection(collection)
    check_key(key)
    facts = dict(metadata or {})
    facts_of(facts)
    if not text.strip():
        raise refused("text", "more than white space", text[:20])
    if len(text) > MAX_TEXT_CHARS:
        raise refused("text", f"at most {MAX_TEXT_CHARS} characters", len(text))
    known = await _known(kit, collection, owner_id)
    config = _config(kit, known, alias)
    hashed = content_hash(text, (SIZE_TOKENS, OVERLAP_TOKENS))
    told: dict[str, Any] = {"owner_id": owner_id, "collection": collection, "key": key}
    told |= {"content_hash": hashed, "metadata": facts}
    if known is not None:
        same = NewDocument(**told, embedding=known.embedding, chunks=None)
        if (stored := await kit.store.write(PutDocument(same))) is not None:
            return Indexed(stored, embedded=False)
    vectors = Vectors() if made is None else made
    pieces = split(text)
    await kit.embeddings.embed(config, [piece.text for piece in pieces], into=vectors)
    chunks = [
        Chunk(n, piece.text, piece.tokens, vector)
        for n, (piece, vector) in enumerate(zip(pieces, vectors.packed, strict=True))
    ]
    kind = Embedding(
        provider=config.provider, model=config.model, dimensions=len(chunks[0].vector) // 4
    )
    stored = await kit.store.write(PutDocument(NewDocument(**told, embedding=kind, chunks=chunks)))
    assert stored is not None  # noqa: S101 - it had chunks
    return Indexed(stored, embedded=True)


async def _known(kit: Kit, name: str, owner_id: str) -> Collection | None:
    try:
        return await kit.store.read(CollectionByName(name, owner_id))
    except NotFound:
        return None


def _config(kit: Kit, known: Collection | None, alias: str | None) -> ModelConfig:
    if alias is not None and alias not in kit.embeddings:
        raise refused("embedding", " or ".join(kit.embeddings), alias)
    if known is None:
        return kit.embeddings.config(alias or DEFAULT)
    if alias is None:
        return kit.embeddings.like(known.embedding)
    config, kind = kit.embeddings.config(alias), known.embedding
    # Before anything is paid for; the store looks again at what came.
    size = dimensions_of(config) or kind.dimensions
    if (config.provider, config.model, size) != (kind.provider, kind.model, kind.dimensions):
        raise other_kind(known, f"{config.provider}:{config.model} ({size} dimensions)")
    return config


async def search(
    kit: Kit, asked: Search, *, owner_id: str, made: Vectors | None = None
) -> list[Hit]:
    """Find chunks, the best first.

    Raises:
        NotFound: no such collection of that owner.
        SettingsError: no alias stands for what made its vectors, or numpy is not installed.
        ModelError: the provider failed.
    """
    collection = await kit.store.read(CollectionByName(asked.collection, owner_id))
    many = asked.limit * (CANDIDATES if asked.mode is Mode.HYBRID else 1)
    near: dict[int, float] = {}
    if asked.mode is not Mode.KEYWORD:
        near = await _nearest(kit, collection, asked, many, Vectors() if made is None else made)
    words: Sequence[int] = ()
    if asked.mode is not Mode.SEMANTIC:
        words = await kit.store.read(
            ChunksWithWords(
                collection_id=collection.id,
                owner_id=owner_id,
                query=asked.query,
                conditions=asked.conditions,
                limit=many,
            )
        )
    if asked.mode is Mode.SEMANTIC:
        scores = near
    else:
        rankings = [list(map(str, near)), list(map(str, words))]
        scores = {int(id_): score for id_, score in fused(rankings).items()}
    best = list(scores)[: asked.limit]
    chunks = await kit.store.read(ChunksByIds(best, owner_id))
    return [
        Hit(
            key=chunks[id_].key,
            n=chunks[id_].n,
            text=chunks[id_].text,
            score=scores[id_],
            similarity=near.get(id_),
            metadata=chunks[id_].metadata,
        )
        for id_ in best
        if id_ in chunks  # else it was removed meanwhile
    ]


async def _nearest(
    kit: Kit, collection: Collection, asked: Search, many: int, made: Vectors
) -> dict[int, float]:
    config = kit.embeddings.like(collection.embedding)
    await kit.embeddings.embed(config, [asked.query], query=True, into=made)
    (query,) = made.packed
    if len(query) // 4 != collection.embedding.dimensions:
        got = f"{config.provider}:{config.model} ({len(query) // 4} dimensions)"
        raise other_kind(collection, got)
    owner_id, conditions = collection.owner_id, asked.conditions
    if await kit.store.read(ComparesVectors()):
        found = await kit.store.read(
            NearestChunks(
                collection_id=collection.id,
                owner_id=owner_id,
                vector=literal(query),
                conditions=conditions,
                limit=many,
            )
        )
    else:
        among = None
        if conditions:
            matching = MatchingDocuments(collection.id, owner_id, conditions)
            among = await kit.store.read(matching)
        found = await kit.matrices.nearest(kit.store, collection, query, many, among)
    least = asked.min_score
    return {id_: score for id_, score in found if least is None or score >= least}


async def collections(kit: Kit, owner_id: str) -> list[Collection]:
    """All collections of an owner, by name."""
    return await kit.store.read(ListCollections(owner_id))


async def collection(kit: Kit, name: str, owner_id: str) -> Collection:
    """One collection, with its counts.

    Raises:
        NotFound: no such collection of that owner.
    """
    return await kit.store.read(CollectionByName(name, owner_id, counted=True))


async def documents(
    kit: Kit, collection: str, owner_id: str, *, before: str | None = None, limit: int = 50
) -> list[Document]:
    """A page of a collection's documents, the newest first.

    Raises:
        NotFound: no such collection of that owner.
    """
    await kit.store.read(CollectionByName(collection, owner_id))
    asked = ListDocuments(collection=collection, owner_id=owner_id, before=before, limit=limit)
    return await kit.store.read(asked)


async def document(kit: Kit, collection: str, key: str, owner_id: str) -> Document:
    """One document.

    Raises:
        NotFound: no such collection or document of that owner.
    """
    return await kit.store.read(DocumentByKey(collection, key, owner_id))


async def remove_document(kit: Kit, collection: str, key: str, owner_id: str) -> None:
    """Delete a document; found no more from now on.

    Raises:
        NotFound: no such collection or document of that owner.
    """
    await kit.store.write(RemoveDocument(collection, key, owner_id))


async def remove_collection(kit: Kit, name: str, owner_id: str) -> None:
    """Delete a collection with all its documents.

    Raises:
        NotFound: no such collection of that owner.
    """
    known = await kit.store.read(CollectionByName(name, owner_id))
    await kit.store.write(RemoveCollection(name, owner_id))
    kit.matrices.forget(known.id)
