"""Memory items: namespaces, filters, likeness, expiry, and whose they are."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from holdfast.domain.ids import now_us
from holdfast.domain.memory_items import MAX_DEPTH, MAX_KEY_CHARS, Item, NewItem
from holdfast.errors import InvalidInput
from holdfast.store import Store, migrations
from holdfast.store.commands import DeleteItems, PutItems, SweepItems, TouchItems
from holdfast.store.queries import ComparesVectors, GetItems, ListNamespaces, SearchItems
from holdfast.store.registry import address

from .agents_make import count
from .conftest import HOUR

KIND = "hashing:ngrams (2 dimensions)"


def packed(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def item(*path: str, **fields: Any) -> NewItem:
    """One whose path ends with its key."""
    *namespace, key = path
    return NewItem(**({"namespace": tuple(namespace), "key": key, "value": {"n": 1}} | fields))


class Memory:
    """One owner's."""

    def __init__(self, store: Store, owner_id: str = "local") -> None:
        self.store = store
        self.owner_id = owner_id

    async def put(self, *items: NewItem) -> None:
        for one in items:  # one after the other, for their times
            await self.store.write(PutItems(self.owner_id, [one]))

    async def get(self, *path: str, **fields: Any) -> Item | None:
        keys = [(tuple(path[:-1]), path[-1])]
        (found,) = await self.store.read(GetItems(owner_id=self.owner_id, keys=keys, **fields))
        return found

    async def search(self, *prefix: str, **fields: Any) -> list[Item]:
        return await self.store.read(SearchItems(owner_id=self.owner_id, prefix=prefix, **fields))

    async def keys(self, *prefix: str, **fields: Any) -> list[str]:
        return [one.key for one in await self.search(*prefix, **fields)]

    async def namespaces(self, *prefix: str, **fields: Any) -> list[tuple[str, ...]]:
        asked = ListNamespaces(owner_id=self.owner_id, prefix=prefix, **fields)
        return await self.store.read(asked)


@pytest.fixture
def memory(store: Store) -> Memory:
    return Memory(store)


async def test_an_item_is_kept_as_it_was_put(memory: Memory) -> None:
    value = {"text": "tea \0 \ud800", "list": [1, 2.5, None, True], "deep": {"a": {"b": "ü"}}}
    await memory.put(item("people", "ann@example.org", "likes", value=value))
    found = await memory.get("people", "ann@example.org", "likes")
    assert found is not None
    assert (found.namespace, found.key, found.value) == (
        ("people", "ann@example.org"),
        "likes",
        value,
    )
    assert (found.expires_at, found.ttl_s, found.score, found.vector) == (None, None, None, None)
    assert found.created_at == found.updated_at
    assert await memory.get("people", "ann@example.org", "hates") is None


async def test_a_second_put_replaces_all_but_the_birthday(memory: Memory) -> None:
    await memory.put(item("a", "k", ttl_s=60, vector=packed(1, 0), embedded_by=KIND))
    before = await memory.get("a", "k")
    await memory.put(item("a", "k", value={"n": 2}))
    after = await memory.get("a", "k")
    assert before is not None
    assert after is not None
    assert (after.value, after.expires_at, after.embedded_by) == ({"n": 2}, None, None)
    assert after.created_at == before.created_at < after.updated_at
    assert await memory.keys(near=packed(1, 0), embedded_by=KIND) == []


async def test_of_two_puts_at_once_the_later_counts(store: Store, memory: Memory) -> None:
    both = [item("a", "k", value={"n": n}) for n in (1, 2)]
    await store.write(PutItems("local", both))
    found = await memory.get("a", "k")
    assert found is not None
    assert found.value == {"n": 2}


async def test_many_are_got_in_the_order_asked(store: Store, memory: Memory) -> None:
    await memory.put(*(item("a", "b", f"k{n}") for n in range(90)), item("c", "k1"))
    keys = [(("a", "b"), f"k{n}") for n in reversed(range(90))]
    keys = [*keys, (("c",), "k1"), (("c",), "none"), (("c",), "k1")]
    found = await store.read(GetItems(owner_id="local", keys=keys))
    got = [None if one is None else (one.namespace, one.key) for one in found]
    assert got == [*keys[:91], None, keys[-1]]


async def test_a_prefix_is_of_whole_labels(memory: Memory) -> None:
    await memory.put(
        item("a", "k0"),
        item("a", "b", "k1"),
        item("a", "b", "c", "k2"),
        item("ab", "k3"),
        item("a.b", "k4"),
        item("a b", "k5"),
        item("a-", "k6"),
        item("A", "k7"),
        item("á", "k8"),
        item("\U0010fffe", "k9"),
    )
    assert sorted(await memory.keys()) == [f"k{n}" for n in range(10)]
    assert sorted(await memory.keys("a")) == ["k0", "k1", "k2"]
    assert sorted(await memory.keys("a", "b")) == ["k1", "k2"]
    assert await memory.keys("a", "b", "c") == ["k2"]
    assert await memory.keys("a.b") == ["k4"]
    assert await memory.keys("b") == []
    assert await memory.namespaces("a") == [("a",), ("a", "b"), ("a", "b", "c")]
    assert len(await memory.namespaces()) == 10


async def test_the_newest_change_comes_first_and_pages_go_on(memory: Memory) -> None:
    await memory.put(*(item("a", f"k{n}") for n in range(5)))
    await memory.put(item("a", "k1"))
    assert await memory.keys("a") == ["k1", "k4", "k3", "k2", "k0"]
    assert await memory.keys("a", limit=2, offset=1) == ["k4", "k3"]
    assert await memory.keys("a", limit=2, offset=4) == ["k0"]


async def test_filters_decide_before_the_page_is_cut(memory: Memory, store: Store) -> None:
    many = [item("a", f"k{n:03}", value={"n": n, "even": n % 2 == 0}) for n in range(450)]
    await store.write(PutItems("local", many))
    found = await memory.search("a", filter={"even": True, "n": {"$gte": 440}})
    assert sorted(one.value["n"] for one in found) == [440, 442, 444, 446, 448]
    every = [
        one.key
        for offset in range(0, 225, 50)
        for one in await memory.search("a", filter={"even": True}, limit=50, offset=offset)
    ]
    assert sorted(every) == [f"k{n:03}" for n in range(0, 450, 2)]
    for wrong in ({"limit": 0}, {"limit": 10_000}, {"offset": -1}, {"filter": {"n": {"$in": 1}}}):
        with pytest.raises(InvalidInput):
            await memory.search("a", **wrong)


async def test_likeness_is_the_same_on_every_database(memory: Memory) -> None:
    await memory.put(
        item("a", "east", vector=packed(1, 0), embedded_by=KIND),
        item("a", "b", "north", vector=packed(0, 1), embedded_by=KIND, value={"n": 2}),
        item("a", "between", vector=packed(0.6, 0.8), embedded_by=KIND),
        item("a", "plain"),
        item("a", "other", vector=packed(1, 0, 0), embedded_by="another"),
        item("z", "far", vector=packed(1, 0), embedded_by=KIND),
    )
    near: dict[str, Any] = {"near": packed(1, 0), "embedded_by": KIND}
    found = await memory.search("a", **near)
    assert [one.key for one in found] == ["east", "between", "north"]
    assert [one.score for one in found] == pytest.approx([1.0, 0.6, 0.0], abs=1e-6)
    assert all(one.vector is None for one in found)
    (one,) = await memory.search("a", **near, filter={"n": 2}, vectors=True)
    assert (one.key, one.vector, one.embedded_by) == ("north", packed(0, 1), KIND)
    assert await memory.keys("a", **near, limit=1, offset=1) == ["between"]
    # An item that is changed or deleted is not found by what it was.
    await memory.put(item("a", "east", vector=packed(0, 1), embedded_by=KIND))
    await memory.store.write(DeleteItems("local", [(("a",), "between")]))
    assert sorted(await memory.keys("a", **near)) == ["east", "north"]
    assert (await memory.search("a", **near))[0].score == pytest.approx(0.0, abs=1e-6)


async def test_vectors_that_pgvector_lacks_are_given_to_it(
    store: Store, memory: Memory, store_url: str, backend: str, reopen: Callable[[], Store]
) -> None:
    await memory.put(item("a", "k", vector=packed(1, 0), embedded_by=KIND), item("a", "none"))
    if backend == "sqlite" or not await store.read(ComparesVectors()):
        pytest.skip("nothing follows the bytes here")
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE memory_vectors"))
    migrations.upgrade(store_url)
    assert count(store_url, "memory_vectors") == 1
    assert await memory.keys("a", near=packed(1, 0), embedded_by=KIND) == ["k"]


async def test_what_has_expired_is_not_there(store: Store, memory: Memory, store_url: str) -> None:
    await memory.put(
        item("a", "short", ttl_s=60, vector=packed(1, 0), embedded_by=KIND),
        item("b", "long", ttl_s=7200.5),
        item("c", "ever"),
    )
    short = await memory.get("a", "short")
    assert short is not None
    assert (short.ttl_s, short.expires_at) == (60, short.created_at + 60_000_000)
    later = {"now": now_us() + HOUR}
    assert await memory.get("a", "short", **later) is None
    assert sorted(await memory.keys(**later)) == ["ever", "long"]
    assert await memory.keys(near=packed(1, 0), embedded_by=KIND, **later) == []
    assert await memory.namespaces(**later) == [("b",), ("c",)]
    assert await store.write(SweepItems()) == 0, "by the store's clock it is still there"
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("UPDATE memory_items SET expires_at = 5 WHERE key = 'short'"))
    assert await store.write(SweepItems()) == 1
    assert count(store_url, "memory_items") == 2
    assert await memory.keys(near=packed(1, 0), embedded_by=KIND) == []


async def test_a_sweep_takes_no_more_than_it_is_told(store: Store, memory: Memory) -> None:
    await memory.put(*(item("a", f"k{n}", ttl_s=0.000001) for n in range(5)))
    assert [await store.write(SweepItems(2)) for _ in range(4)] == [2, 2, 1, 0]


async def test_what_is_read_stays_longer(store: Store, memory: Memory, store_url: str) -> None:
    await memory.put(item("a", "k", ttl_s=60), item("a", "gone", ttl_s=60), item("a", "ever"))
    before = await memory.get("a", "k")
    keys = [(("a",), key) for key in ("k", "gone", "ever", "none")]
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("UPDATE memory_items SET expires_at = 5 WHERE key = 'gone'"))
    await store.write(TouchItems("local", keys))
    after = await memory.get("a", "k")
    assert before is not None
    assert after is not None
    assert after.expires_at is not None
    assert before.expires_at is not None
    assert after.expires_at > before.expires_at
    assert after.updated_at == before.updated_at
    assert await memory.get("a", "gone") is None
    ever = await memory.get("a", "ever")
    assert ever is not None
    assert ever.expires_at is None


async def test_nobody_reaches_anothers_items(store: Store, memory: Memory) -> None:
    await memory.put(item("a", "k", ttl_s=60, vector=packed(1, 0), embedded_by=KIND))
    before = await memory.get("a", "k")
    eve = Memory(store, "eve")
    assert await eve.get("a", "k") is None
    assert await eve.search() == await eve.namespaces() == []
    assert await eve.search(near=packed(1, 0), embedded_by=KIND) == []
    await store.write(TouchItems("eve", [(("a",), "k")]))
    await store.write(DeleteItems("eve", [(("a",), "k")]))
    await eve.put(item("a", "k", value={"of": "eve"}, vector=packed(0, 1), embedded_by=KIND))
    assert await memory.get("a", "k") == before
    (found,) = await memory.search(near=packed(1, 0), embedded_by=KIND)
    assert found.score == pytest.approx(1.0, abs=1e-6)
    await store.write(DeleteItems("local", [(("a",), "k")]))
    assert (await eve.search())[0].value == {"of": "eve"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"namespace": ()},
        {"namespace": ("",)},
        {"namespace": ("a", "b\x1fc")},
        {"namespace": ("a\n",)},
        {"namespace": ("\ud800",)},
        {"namespace": ("x" * 300,)},
        {"namespace": ("a",) * (MAX_DEPTH + 1)},
        {"key": ""},
        {"key": "\0"},
        {"key": "x" * (MAX_KEY_CHARS + 1)},
        {"ttl_s": 0},
        {"ttl_s": -1.0},
        {"vector": packed(1, 0)},
        {"embedded_by": KIND},
        {"value": {"big": "x" * 1024 * 1024}},
    ],
)
async def test_what_cannot_be_kept_is_refused_with_all_beside_it(
    store: Store, memory: Memory, wrong: dict[str, Any]
) -> None:
    values: dict[str, Any] = {"namespace": ("a",), "key": "bad", "value": {}, **wrong}
    fine, bad = item("a", "fine"), NewItem(**values)
    with pytest.raises(InvalidInput):
        await store.write(PutItems("local", [fine, bad]))
    assert await memory.keys() == []
