"""Documents, chunks and searches, on every database."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from holdfast.domain.knowledge import (
    Chunk,
    Collection,
    Condition,
    Document,
    Embedding,
    NewDocument,
    read_filters,
)
from holdfast.errors import IllegalMove, InvalidInput, NotFound
from holdfast.llm.embeddings import Embeddings, Vectors
from holdfast.store import Store, migrations
from holdfast.store.commands import PutDocument, RemoveCollection, RemoveDocument
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
    VectorNews,
)
from holdfast.store.registry import address
from holdfast.store.vectors import literal

KIND = Embedding(provider="hashing", model="ngrams-1", dimensions=384)


async def vectors_of(*texts: str) -> list[bytes]:
    embeddings, into = Embeddings(), Vectors()
    await embeddings.embed(embeddings.config("default"), texts, into=into)
    return into.packed


class Shelf:
    """Puts documents into a store and asks what is there."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def put(
        self, key: str, *texts: str, collection: str = "docs", owner: str = "a", **metadata: Any
    ) -> Document:
        vectors = await vectors_of(*texts)
        parts = [Chunk(n, t, 1, v) for n, (t, v) in enumerate(zip(texts, vectors, strict=True))]
        new = NewDocument(
            owner_id=owner,
            collection=collection,
            embedding=KIND,
            key=key,
            content_hash="|".join(texts),
            metadata=metadata,
            chunks=parts,
        )
        stored = await self.store.write(PutDocument(new))
        assert stored is not None
        return stored

    async def collection(self, name: str = "docs", owner: str = "a") -> Collection:
        return await self.store.read(CollectionByName(name, owner, counted=True))

    async def words(
        self, query: str, *, name: str = "docs", owner: str = "a", **filters: Any
    ) -> list[str]:
        found = await self.collection(name, owner)
        ids = await self.store.read(
            ChunksWithWords(
                collection_id=found.id,
                owner_id=owner,
                query=query,
                conditions=read_filters(filters),
                limit=10,
            )
        )
        return await self.texts(ids, owner)

    async def texts(self, ids: list[int], owner: str = "a") -> list[str]:
        chunks = await self.store.read(ChunksByIds(ids, owner))
        return [chunks[id_].text for id_ in ids if id_ in chunks]

    async def matching(self, conditions: Any, owner: str = "a") -> set[str]:
        found = await self.collection(owner=owner)
        read: tuple[Condition, ...] = read_filters(conditions)
        ids = await self.store.read(MatchingDocuments(found.id, owner, read))
        listed = await self.store.read(ListDocuments(collection="docs", owner_id=owner))
        return {one.key for one in listed if one.id in ids}


@pytest.fixture
def shelf(store: Store) -> Shelf:
    return Shelf(store)


async def test_a_changed_document_takes_the_place_of_the_old_one(shelf: Shelf) -> None:
    first = await shelf.put("manual", "Turn the red knob.", "Then wait.", lang="en")
    second = await shelf.put("manual", "Press the green button.", lang="de")
    assert (second.id, second.created_at) == (first.id, first.created_at)
    assert (second.chunks, second.metadata, second.version) == (1, {"lang": "de"}, 2)
    assert await shelf.words("knob wait") == []
    assert await shelf.words("button") == ["Press the green button."]
    assert await shelf.matching({"lang": "en"}) == set()
    found = await shelf.collection()
    assert (found.documents, found.chunks, found.version) == (1, 1, 2)
    news = await shelf.store.read(VectorNews(found.id, "a"))
    assert (news.version, news.documents) == (2, {first.id: 2})
    assert [v for _, _, v in news.vectors] == await vectors_of("Press the green button.")


async def test_only_what_is_newer_is_told(shelf: Shelf) -> None:
    await shelf.put("a", "one")
    b = await shelf.put("b", "two")
    found = await shelf.collection()
    assert [d for _, d, _ in (await shelf.store.read(VectorNews(found.id, "a", 1))).vectors] == [
        b.id
    ]
    await shelf.store.write(RemoveDocument("docs", "a", "a"))
    news = await shelf.store.read(VectorNews(found.id, "a", 2))
    assert (news.version, set(news.documents), news.vectors) == (3, {b.id}, [])


async def test_metadata_alone_can_change(shelf: Shelf) -> None:
    before = await shelf.put("k", "text", year=2020)
    new = NewDocument(
        owner_id="a",
        collection="docs",
        embedding=KIND,
        key="k",
        content_hash="text",
        metadata={"year": 2021},
        chunks=None,
    )
    after = await shelf.store.write(PutDocument(new))
    assert after is not None
    assert (after.metadata, after.version, after.chunks) == ({"year": 2021}, before.version, 1)
    assert await shelf.matching({"year": 2021}) == {"k"}
    assert await shelf.matching({"year": 2020}) == set()
    # Without chunks and with another text there is nothing to store.
    other = NewDocument(
        owner_id="a",
        collection="docs",
        embedding=KIND,
        key="k",
        content_hash="other",
        metadata={},
        chunks=None,
    )
    assert await shelf.store.write(PutDocument(other)) is None
    assert (await shelf.store.read(DocumentByKey("docs", "k", "a"))).metadata == {"year": 2021}


async def test_a_collection_has_one_kind_of_vectors(shelf: Shelf) -> None:
    await shelf.put("k", "text")
    kind = Embedding(provider="openai", model="small", dimensions=2)
    new = NewDocument(
        owner_id="a",
        collection="docs",
        embedding=kind,
        key="other",
        content_hash="h",
        metadata={},
        chunks=[Chunk(0, "t", 1, b"\0" * 8)],
    )
    with pytest.raises(IllegalMove, match=r"ngrams-1.*not with openai:small"):
        await shelf.store.write(PutDocument(new))
    assert (await shelf.collection()).documents == 1


async def test_words_are_found_whatever_their_case_and_around_punctuation(shelf: Shelf) -> None:
    texts = ("The KRAKEN-7 pump, 4.5 bar.", "Über den Wolken", "mail bob@example.com", "snake_case")
    await shelf.put("k", *texts)
    for query, found in (
        ("kraken", texts[0]),
        ("kraken-7 valve", texts[0]),
        ("über", texts[1]),
        ("wolken?", texts[1]),
        ("example", texts[2]),
        ("snake", texts[3]),
        ("\"'); DROP OR NEAR(mail", texts[2]),
    ):
        assert await shelf.words(query) == [found], query
    assert await shelf.words("?! *") == []
    assert await shelf.words("krak") == []


async def test_more_of_the_words_come_first(shelf: Shelf) -> None:
    await shelf.put("a", "the pump is loud", "the pump valve leaks", "the weather is fine")
    assert (await shelf.words("leaking pump valve"))[0] == "the pump valve leaks"


FACTS: dict[str, dict[str, Any]] = {
    "a": {"year": 2019, "lang": "de", "tags": ["x", "y"], "final": True},
    "b": {"year": 2020.5, "lang": "en", "tags": ["y"], "final": False},
    "c": {"year": -3, "lang": "fr", "tags": [], "final": 1},
    "d": {"year": "2020", "lang": "Ünï"},
    "e": {},
}


@pytest.mark.parametrize(
    ("filters", "keys"),
    [
        ({"year": 2019}, "a"),
        ({"year": {"eq": 2019.0}}, "a"),
        ({"year": "2020"}, "d"),
        ({"year": {"gte": 2019}}, "ab"),
        ({"year": {"gt": 2019}}, "b"),
        ({"year": {"lt": 2019}}, "c"),
        ({"year": {"lte": 2019}}, "ac"),
        ({"year": {"gt": -3, "lt": 2020.5}}, "a"),
        ({"lang": {"in": ["de", "en", "xx"]}}, "ab"),
        ({"lang": {"gte": "e", "lt": "f"}}, "b"),
        ({"lang": {"gt": "en"}}, "dfc"),
        ({"lang": "Ünï"}, "d"),
        ({"tags": "y"}, "ab"),
        ({"final": True}, "a"),
        ({"final": 1}, "c"),
        ({"year": {"gte": 0}, "lang": "de", "final": True}, "a"),
        ({"nothing": 1}, ""),
    ],
)
async def test_filters_look_at_metadata(shelf: Shelf, filters: Any, keys: str) -> None:
    for key, facts in FACTS.items():
        await shelf.put(key, f"same words in {key}", **facts)
    assert await shelf.matching(filters) == set(keys) & set(FACTS)
    found = await shelf.words("same", **filters)
    assert {text[-1] for text in found} == set(keys) & set(FACTS)


async def test_the_longest_names_and_values_fit(shelf: Shelf) -> None:
    chance = random.Random(3)  # nothing that could be compressed

    def letters(count: int) -> str:
        return "".join(chr(chance.randrange(0x10000, 0x20000)) for _ in range(count))

    key, name, value = letters(500), letters(100), letters(200)
    await shelf.put(key, "words", collection="c" * 200, **{name: [value, 10**400 * 0, 1e308]})
    assert await shelf.words("words", name="c" * 200, **{name: value}) == ["words"]
    with pytest.raises(InvalidInput, match="800 bytes"):
        read_filters({"k": letters(201)})
    with pytest.raises(InvalidInput, match="number"):
        read_filters({"k": 10**400})


async def test_nobody_sees_or_moves_what_is_anothers(shelf: Shelf) -> None:
    store = shelf.store
    await shelf.put("k", "secret plans", owner="a")
    theirs = await shelf.collection(owner="a")
    for query in (
        CollectionByName("docs", "b"),
        DocumentByKey("docs", "k", "b"),
        VectorNews(theirs.id, "b"),
    ):
        with pytest.raises(NotFound):
            await store.read(query)
    for command in (RemoveDocument("docs", "k", "b"), RemoveCollection("docs", "b")):
        with pytest.raises(NotFound):
            await store.write(command)
    assert await store.read(ListCollections("b")) == []
    assert await store.read(ListDocuments(collection="docs", owner_id="b")) == []
    await shelf.put("k", "plans of my own", owner="b")  # the same names are another's
    # Even who knows the ids finds nothing.
    asked: dict[str, Any] = {"collection_id": theirs.id, "conditions": (), "limit": 5}
    assert await store.read(ChunksWithWords(owner_id="b", query="secret", **asked)) == []
    ids = await store.read(ChunksWithWords(owner_id="a", query="secret", **asked))
    assert len(ids) == 1
    assert await store.read(ChunksByIds(ids, "b")) == {}
    assert await store.read(MatchingDocuments(theirs.id, "b", ())) == set()
    if await store.read(ComparesVectors()):
        vector = literal((await vectors_of("secret plans"))[0])
        assert await store.read(NearestChunks(owner_id="b", vector=vector, **asked)) == []
        assert await store.read(NearestChunks(owner_id="a", vector=vector, **asked))
    assert await shelf.words("plans", owner="b") == ["plans of my own"]


async def test_what_is_removed_is_gone_everywhere(shelf: Shelf, store_url: str) -> None:
    await shelf.put("k", "one two", "three", a=1)
    await shelf.put("l", "one", a=1)
    await shelf.put("m", "one", collection="other")
    tables = ["chunks"]
    if await shelf.store.read(ComparesVectors()):
        tables.append("chunk_vectors")
    if store_url.startswith("sqlite"):
        tables.append("chunk_words_docsize")  # what FTS5 knows of
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)

    def left(table: str) -> int:
        with engine.connect() as connection:
            return int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)

    assert [left(table) for table in tables] == [4] * len(tables)
    await shelf.store.write(RemoveDocument("docs", "k", "a"))
    assert await shelf.words("one") == ["one"]
    assert [left(table) for table in tables] == [2] * len(tables)
    await shelf.store.write(RemoveCollection("docs", "a"))
    with pytest.raises(NotFound):
        await shelf.collection()
    assert await shelf.words("one", name="other") == ["one"]
    tables += ["documents", "collections"]
    assert [left(table) for table in tables] == [1] * len(tables)
    assert left("document_facts") == 0


async def test_two_writers_of_one_document_leave_one_whole(shelf: Shelf) -> None:
    await asyncio.gather(
        *(shelf.put("k", *(f"part {n} of {writer}" for n in range(3))) for writer in range(8))
    )
    found = await shelf.collection()
    assert (found.documents, found.chunks, found.version) == (1, 3, 8)
    texts = await shelf.words("part")
    assert len({one.rpartition(" ")[2] for one in texts}) == 1
    assert len(texts) == 3


async def test_pgvector_ranks_as_plain_arithmetic_does(shelf: Shelf) -> None:
    if not await shelf.store.read(ComparesVectors()):
        pytest.skip("this database compares no vectors itself")
    words, chance = "red green blue pump valve motor loud quiet".split(), random.Random(7)  # noqa: SIM905
    texts = sorted({" ".join(chance.sample(words, 4)) for _ in range(60)})
    await shelf.put("k", *texts[::2], side="even")
    await shelf.put("l", *texts[1::2], side="odd")
    (query,) = await vectors_of("red pump loud")
    packed = dict(zip(texts, await vectors_of(*texts), strict=True))
    found = await shelf.collection()
    for filters, wanted in (({}, texts), ({"side": "odd"}, texts[1::2])):
        near = await shelf.store.read(
            NearestChunks(
                collection_id=found.id,
                owner_id="a",
                vector=literal(query),
                conditions=read_filters(filters),
                limit=100,
            )
        )
        names = await shelf.texts([id_ for id_, _ in near])
        scores = {t: dot(query, packed[t]) for t in wanted}
        assert sorted(names) == sorted(wanted)
        assert [s for _, s in near] == pytest.approx([scores[t] for t in names], abs=1e-5)
        assert [s for _, s in near] == sorted((s for _, s in near), reverse=True)


def dot(a: bytes, b: bytes) -> float:
    return sum(x * y for x, y in zip(memoryview(a).cast("f"), memoryview(b).cast("f"), strict=True))


async def test_pgvector_can_come_later(
    shelf: Shelf, store_url: str, reopen: Callable[[], Store]
) -> None:
    if not await shelf.store.read(ComparesVectors()):
        pytest.skip("this database compares no vectors itself")
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE chunk_vectors"))
    store = reopen()
    try:
        assert not await store.read(ComparesVectors())
        await Shelf(store).put("k", "stored without it")
    finally:
        await store.close()
    await asyncio.to_thread(migrations.upgrade, store_url)
    found = await shelf.collection()
    (query,) = await vectors_of("stored without it")
    asked = NearestChunks(
        collection_id=found.id, owner_id="a", vector=literal(query), conditions=(), limit=1
    )
    ((_, score),) = await shelf.store.read(asked)
    assert score == pytest.approx(1.0, abs=1e-5)
