"""Every store of items keeps the contract: LangGraph's own in memory, and ours wherever it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from langgraph.store.base import BaseStore, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore

from holdfast.bus import MemoryBus
from holdfast.domain.ids import MICROS, now_us
from holdfast.domain.memory_items import Namespace
from holdfast.engine.item_store import PortStore
from holdfast.errors import InvalidInput, PortError
from holdfast.journal import Journal
from holdfast.llm import hashing
from holdfast.llm.embeddings import Vectors, read_embeddings
from holdfast.operations.items import batch, sweep
from holdfast.operations.kit import Kit
from holdfast.pipelines.registry import Registry
from holdfast.ports import KnowledgeAnswer
from holdfast.store import Store
from holdfast.store.queries import GetItems
from holdfast.telemetry import Metrics
from holdfast.testing.contracts.item_store import ItemStoreContract
from holdfast.testing.ports import ASSESSOR
from holdfast.testing.remembering import MemoryMemory


class TestLangGraphsOwn(ItemStoreContract):
    """What we hold ours against."""

    @pytest.fixture
    def store(self) -> BaseStore:
        index: Any = {"dims": hashing.DIMENSIONS, "embed": hashing.embed_all}
        return InMemoryStore(index=index)


class TestOverMemory(ItemStoreContract):
    @pytest.fixture
    async def store(self) -> BaseStore:
        return PortStore(MemoryMemory(), "execution")


class OverAStore(MemoryMemory):
    """The items of a `MemoryPort` as a hub answers them, without a hub; through JSON."""

    def __init__(self, kit: Kit, owner_id: str = "a", scope: Namespace = ("agents", "x")) -> None:
        super().__init__()
        self.kit = kit
        self.owner_id = owner_id
        self.scope = scope

    async def items(
        self,
        *,
        execution_id: str,
        ops: Sequence[Mapping[str, Any]],
    ) -> KnowledgeAnswer:
        crossed, made = orjson.loads(orjson.dumps(list(ops))), Vectors()
        value = await batch(self.kit, self.owner_id, self.scope, crossed, made=made)
        return KnowledgeAnswer(value=orjson.loads(orjson.dumps(value)), calls=made.calls)


@pytest.fixture
async def kit(reopen: Callable[[], Store], tmp_path: Path) -> AsyncIterator[Kit]:
    opened, metrics = reopen(), Metrics()
    journal = Journal(tmp_path / "journal", "boot", ASSESSOR, metrics)
    yield Kit(
        store=opened,
        registry=Registry([]),
        journal=journal,
        bus=MemoryBus(),
        metrics=metrics,
        boot_id="boot",
    )
    journal.close()
    await opened.close()


class TestOverTheStore(ItemStoreContract):
    @pytest.fixture
    async def store(self, kit: Kit) -> BaseStore:
        return PortStore(OverAStore(kit), "execution")


async def test_owners_and_agents_see_only_their_own(kit: Kit) -> None:
    places = [("a", "x"), ("a", "y"), ("b", "x")]
    stores = [
        PortStore(OverAStore(kit, owner, ("agents", agent)), "execution") for owner, agent in places
    ]
    for n, store in enumerate(stores):
        await store.aput(("notes",), "k", {"n": n, "text": "the same"})
    for n, store in enumerate(stores):
        item = await store.aget(("notes",), "k")
        assert item is not None
        assert (item.value["n"], item.namespace) == (n, ("notes",))
        for asked in ({}, {"query": "the same"}, {"filter": {"text": "the same"}}):
            assert [one.value["n"] for one in await store.asearch((), **asked)] == [n]
        assert await store.alist_namespaces() == [("notes",)]
    await stores[0].adelete(("notes",), "k")
    assert await stores[0].asearch(()) == []
    assert len(await stores[1].asearch(())) == len(await stores[2].asearch(())) == 1


async def test_what_has_a_time_to_live_lives_longer_when_it_is_read(kit: Kit) -> None:
    store = PortStore(OverAStore(kit), "execution")

    async def expires() -> int | None:
        places = [(("agents", "x", "notes"), "k")]
        (item,) = await kit.store.read(GetItems(owner_id="a", keys=places))
        return item and item.expires_at

    await store.aput(("notes",), "k", {"n": 1}, ttl=10)
    first = await expires()
    assert first is not None
    assert first == pytest.approx(now_us() + 600 * MICROS, abs=60 * MICROS)
    await store.aget(("notes",), "k", refresh_ttl=False)
    await store.asearch(("notes",), refresh_ttl=False)
    assert await expires() == first, "nobody asked for more time"
    await store.aget(("notes",), "k")
    by_get = await expires()
    assert by_get is not None
    assert by_get > first
    await store.asearch(("notes",))
    by_search = await expires()
    assert by_search is not None
    assert by_search > by_get
    await store.aput(("notes",), "k", {"n": 2})
    assert await expires() is None, "the newest put says how long"


async def test_what_has_expired_is_gone_and_then_swept(kit: Kit) -> None:
    store = PortStore(OverAStore(kit), "execution")
    await store.aput(("notes",), "short", {"n": 1}, ttl=1e-6)
    await store.aput(("notes",), "long", {"n": 1}, ttl=10)
    async with asyncio.timeout(10):
        while await store.aget(("notes",), "short", refresh_ttl=False) is not None:
            await asyncio.sleep(0.001)
    assert [one.key for one in await store.asearch(("notes",))] == ["long"]
    assert [one.key for one in await store.asearch(("notes",), query="n")] == ["long"]
    assert await sweep(kit) == 1
    assert await sweep(kit) == 0
    assert await store.aget(("notes",), "long") is not None


async def test_each_text_and_query_is_embedded_once(kit: Kit) -> None:
    """And nothing else is: what it costs is told by the calls."""
    port = OverAStore(kit)
    calls: list[int] = []

    async def noted(**asked: Any) -> KnowledgeAnswer:
        answer = await OverAStore.items(port, **asked)
        calls.extend(call.texts for call in answer.calls)
        return answer

    port.items = noted  # type: ignore[method-assign]
    store = PortStore(port, "execution")
    await store.abatch(
        [
            PutOp(("n",), "a", {"t": "one"}),
            PutOp(("n",), "b", {"t": "one"}),
            PutOp(("n",), "c", {"t": "two"}),
            PutOp(("n",), "d", {"t": "three"}, index=False),
            SearchOp(("n",), query="one"),
        ]
    )
    assert calls == [2, 1]
    calls.clear()
    await store.aget(("n",), "a")
    await store.asearch(("n",))
    await store.adelete(("n",), "a")
    assert calls == []


async def test_vectors_of_another_model_are_not_compared(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was embedded otherwise is found without a score."""
    store = PortStore(OverAStore(kit), "execution")
    await store.aput(("n",), "old", {"t": "the red knob"})
    smaller = read_embeddings(
        {"default": {"model": "hashing:ngrams-1", "parameters": {"dimensions": 64}}}, {}
    )
    monkeypatch.setattr(kit.embeddings, "_configs", smaller)
    await store.aput(("n",), "new", {"t": "a blue dial"})
    found = await store.asearch(("n",), query="the red knob")
    assert [one.key for one in found] == ["new", "old"]
    assert found[0].score is not None
    assert found[1].score is None


@pytest.mark.parametrize(
    ("put", "told"),
    [
        ({"key": "k", "value": {"n": {1}}}, "JSON"),
        ({"key": "k", "value": {"n": 2**70}}, "JSON"),
        ({"key": "k", "value": {"n": "x" * 2_000_000}}, "value"),
        ({"key": "x" * 1000, "value": {"n": 1}}, "key"),
        ({"key": "k", "value": {"n": 1}, "ttl": -1}, "ttl"),
    ],
)
async def test_what_cannot_be_kept_is_refused(kit: Kit, put: dict[str, Any], told: str) -> None:
    store = PortStore(OverAStore(kit), "execution")
    with pytest.raises(InvalidInput, match=told):
        await store.aput(("n",), **put)
    assert await store.asearch(()) == []


async def test_waiting_without_await_in_the_loop_is_refused(kit: Kit) -> None:
    """It would wait for itself."""
    with pytest.raises(PortError, match="without await"):
        PortStore(OverAStore(kit), "execution").get(("n",), "k")
