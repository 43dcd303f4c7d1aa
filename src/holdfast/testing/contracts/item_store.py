"""The contract of a store of items: what LangGraph expects of its `BaseStore`.

Inherit `ItemStoreContract` and give it a store that embeds by hashing.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    PutOp,
    SearchOp,
)

PEOPLE = ("users", "profiles")

KNOBS = {
    "pump": {"text": "the red knob of the pump turns left", "n": 1, "kind": "tool"},
    "mower": {"text": "the blade of the mower is sharp", "n": 2, "kind": "tool"},
    "radio": {"text": "the radio has a big dial", "n": 3, "kind": "toy"},
}


async def _keys(store: BaseStore, prefix: tuple[str, ...] = (), **asked: Any) -> list[str]:
    return [one.key for one in await store.asearch(prefix, **asked)]


class ItemStoreContract:
    """Tests for any store; the fixture `store` is an empty one."""

    async def test_what_is_put_is_got(self, store: BaseStore) -> None:
        """Whole, with its place and times; the newest value counts."""
        value = {"name": "Zoë ☃", "age": 7, "tags": ["a", None], "deep": {"x": [1.5, True]}}
        await store.aput(PEOPLE, "zoe", value)
        item = await store.aget(PEOPLE, "zoe")
        assert item is not None
        assert (item.namespace, item.key, item.value) == (PEOPLE, "zoe", value)
        assert item.created_at.tzinfo is not None
        assert item.created_at <= item.updated_at
        await store.aput(PEOPLE, "zoe", {"name": "Zoe"})
        again = await store.aget(PEOPLE, "zoe")
        assert again is not None
        assert again.value == {"name": "Zoe"}
        assert again.updated_at >= item.updated_at

    async def test_what_is_not_there_is_none(self, store: BaseStore) -> None:
        """Also under another namespace, and after it was deleted, twice."""
        assert await store.aget(PEOPLE, "zoe") is None
        await store.aput(PEOPLE, "zoe", {"n": 1})
        assert await store.aget(("users",), "zoe") is None
        assert await store.aget((*PEOPLE, "old"), "zoe") is None
        await store.adelete(PEOPLE, "zoe")
        await store.adelete(PEOPLE, "zoe")
        assert await store.aget(PEOPLE, "zoe") is None
        assert await store.asearch(()) == []

    @pytest.mark.parametrize("key", ["a.b", "a/b", "ü", "%", "_", "'", "x" * 200, "*"])
    async def test_keys_are_any_text(self, store: BaseStore, key: str) -> None:
        """They mean nothing but themselves."""
        await store.aput(PEOPLE, key, {"n": 1})
        await store.aput(PEOPLE, "other", {"n": 2})
        item = await store.aget(PEOPLE, key)
        assert item is not None
        assert item.value == {"n": 1}

    @pytest.mark.parametrize(
        "namespace", [(), ("",), ("a.b",), ("langgraph", "x"), ("users", ""), (1,)]
    )
    async def test_namespaces_that_cannot_be_are_refused(
        self, store: BaseStore, namespace: Any
    ) -> None:
        """Nothing is stored."""
        with pytest.raises(InvalidNamespaceError):
            await store.aput(namespace, "k", {"n": 1})
        assert await store.asearch(()) == []

    async def test_a_batch_answers_in_order_and_reads_before_it_writes(
        self, store: BaseStore
    ) -> None:
        """Of two values for one key the last counts."""
        await store.aput(PEOPLE, "a", {"n": 1})
        got = await store.abatch(
            [
                PutOp(PEOPLE, "a", {"n": 2}),
                GetOp(PEOPLE, "a"),
                PutOp(PEOPLE, "b", {"n": 3}),
                SearchOp(PEOPLE),
                PutOp(PEOPLE, "b", {"n": 4}),
                ListNamespacesOp(),
                GetOp(PEOPLE, "nobody"),
            ]
        )
        put, item, _, found, _, namespaces, nobody = got
        assert put is None
        assert nobody is None
        assert item is not None
        assert item.value == {"n": 1}  # type: ignore[union-attr]
        assert [one.key for one in found] == ["a"]  # type: ignore[union-attr]
        assert namespaces == [PEOPLE]
        assert {one.key: one.value["n"] for one in await store.asearch(PEOPLE)} == {"a": 2, "b": 4}

    async def test_an_item_put_and_deleted_in_one_batch_is_gone(self, store: BaseStore) -> None:
        """And the other way round it is there."""
        await store.abatch(
            [
                PutOp(PEOPLE, "a", {"n": 1}),
                PutOp(PEOPLE, "a", None),
                PutOp(PEOPLE, "b", None),
                PutOp(PEOPLE, "b", {"n": 2}),
            ]
        )
        assert await _keys(store) == ["b"]

    async def test_a_search_finds_what_is_under_a_prefix(self, store: BaseStore) -> None:
        """Whole labels count, the empty prefix has all."""
        for namespace in (("a",), ("a", "b"), ("ab",), ("b", "a")):
            await store.aput(namespace, "k", {"n": 1})
        found = {one.namespace for one in await store.asearch(("a",))}
        assert found == {("a",), ("a", "b")}
        assert len(await store.asearch(())) == 4

    async def test_pages_have_every_item_once(self, store: BaseStore) -> None:
        """Ten a page unless something else is asked for."""
        for n in range(23):
            await store.aput(("pages",), f"k{n}", {"n": n})
        assert len(await store.asearch(("pages",))) == 10
        pages = [await _keys(store, ("pages",), limit=7, offset=at) for at in range(0, 28, 7)]
        assert [len(page) for page in pages] == [7, 7, 7, 2]
        assert {key for page in pages for key in page} == {f"k{n}" for n in range(23)}
        assert await _keys(store, ("pages",), limit=0) == []

    @pytest.mark.parametrize(
        ("conditions", "wanted"),
        [
            ({"kind": "tool"}, {"pump", "mower"}),
            ({"kind": {"$eq": "toy"}}, {"radio"}),
            ({"kind": {"$ne": "toy"}}, {"pump", "mower"}),
            ({"n": {"$gt": 1}}, {"mower", "radio"}),
            ({"n": {"$gte": 2, "$lt": 3}}, {"mower"}),
            ({"n": {"$lte": 2.5}}, {"pump", "mower"}),
            ({"kind": "tool", "n": {"$gt": 1}}, {"mower"}),
            ({"nothing": "there"}, set[str]()),
            ({"kind": ["tool"]}, set[str]()),
        ],
    )
    async def test_filters(
        self, store: BaseStore, conditions: dict[str, Any], wanted: set[str]
    ) -> None:
        """All conditions hold."""
        for key, value in KNOBS.items():
            await store.aput(("knobs",), key, value)
        assert set(await _keys(store, ("knobs",), filter=conditions)) == wanted

    async def test_filters_look_into_values(self, store: BaseStore) -> None:
        """A mapping has at least what is wanted of it; a list has exactly that."""
        await store.aput(("deep",), "a", {"at": {"city": "Bonn", "zip": 1}, "tags": ["x", "y"]})
        await store.aput(("deep",), "b", {"at": {"city": "Kiel", "zip": 1}, "tags": ["x"]})
        assert await _keys(store, ("deep",), filter={"at": {"city": "Bonn"}}) == ["a"]
        assert await _keys(store, ("deep",), filter={"at": {"zip": {"$gt": 1}}}) == []
        assert await _keys(store, ("deep",), filter={"tags": ["x"]}) == ["b"]

    async def test_filters_come_before_pages(self, store: BaseStore) -> None:
        """A page is full as long as there is anything left."""
        for n in range(40):
            await store.aput(("pages",), f"k{n}", {"odd": n % 2})
        assert len(await _keys(store, ("pages",), filter={"odd": 1}, limit=15)) == 15
        assert len(await _keys(store, ("pages",), filter={"odd": 1}, limit=15, offset=15)) == 5

    async def test_an_unknown_operator_is_refused(self, store: BaseStore) -> None:
        """By its name."""
        await store.aput(("knobs",), "a", {"n": 1})
        with pytest.raises(Exception, match=r"\$regex"):
            await store.asearch(("knobs",), filter={"n": {"$regex": "x"}})

    async def test_a_query_ranks_by_likeness(self, store: BaseStore) -> None:
        """The best first, with scores; those without a vector come last and have none."""
        for key, value in KNOBS.items():
            await store.aput(("knobs",), key, value)
        await store.aput(("knobs",), "hidden", {"text": "the red knob"}, index=False)
        found = await store.asearch(("knobs",), query="which red knob turns the pump")
        assert (found[0].key, found[-1].key) == ("pump", "hidden")
        scores = [one.score for one in found[:-1]]
        assert None not in scores
        assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]
        assert found[-1].score is None
        toys = await store.asearch(("knobs",), query="red knob pump", filter={"kind": "toy"})
        assert [one.key for one in toys] == ["radio"]
        assert len(await store.asearch(("knobs",), query="red knob", limit=2)) == 2

    async def test_only_the_fields_named_are_found(self, store: BaseStore) -> None:
        """A later value is found by what it says then."""
        await store.aput(("f",), "a", {"text": "apples and pears", "note": "x"}, index=["text"])
        await store.aput(("f",), "b", {"text": "x", "note": "apples and pears"}, index=["text"])
        found = await store.asearch(("f",), query="apples and pears")
        assert [one.key for one in found] == ["a", "b"]
        await store.aput(("f",), "a", {"text": "wheels", "note": "x"}, index=["text"])
        await store.aput(("f",), "b", {"text": "apples and pears"}, index=["text"])
        found = await store.asearch(("f",), query="apples and pears")
        assert [one.key for one in found] == ["b", "a"]

    async def test_namespaces_are_listed(self, store: BaseStore) -> None:
        """By beginning and end, with wildcards, cut to a depth, in order, in pages."""
        for namespace in (
            ("a", "b", "c"),
            ("a", "b", "d", "e"),
            ("a", "b", "d", "i"),
            ("a", "b", "f"),
            ("a", "c", "f"),
            ("b", "b", "f"),
        ):
            await store.aput(namespace, "k", {"n": 1})
        names = store.alist_namespaces
        assert len(await names()) == 6
        assert await names(prefix=("a", "b"), max_depth=3) == [
            ("a", "b", "c"),
            ("a", "b", "d"),
            ("a", "b", "f"),
        ]
        assert await names(suffix=("f",)) == [("a", "b", "f"), ("a", "c", "f"), ("b", "b", "f")]
        assert await names(prefix=("a", "*", "f")) == [("a", "b", "f"), ("a", "c", "f")]
        assert await names(prefix=("a",), suffix=("b", "f")) == [("a", "b", "f")]
        assert await names(suffix=("*", "i")) == [("a", "b", "d", "i")]
        assert await names(max_depth=1) == [("a",), ("b",)]
        assert await names(limit=2, offset=1) == [("a", "b", "d", "e"), ("a", "b", "d", "i")]
        assert await names(prefix=("z",)) == []
        assert await names(prefix=("a", "b", "c", "d", "e")) == []

    async def test_threads_may_ask(self, store: BaseStore) -> None:
        """As sync nodes do."""

        def work() -> list[Any]:
            store.put(PEOPLE, "sync", {"n": 1, "text": "from a thread"})
            item = store.get(PEOPLE, "sync")
            found = store.search(PEOPLE, query="thread", filter={"n": 1})
            spaces = store.list_namespaces(prefix=("users",))
            store.delete(PEOPLE, "sync")
            gone = store.get(PEOPLE, "sync")
            return [item and item.value["n"], [one.key for one in found], spaces, gone]

        assert await asyncio.to_thread(work) == [1, ["sync"], [PEOPLE], None]
