"""Items of long-term memory: batches of reads and writes, found by filters and by likeness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.domain.knowledge import DEFAULT, Embedding
from holdfast.domain.memory_items import Item, Namespace, NewItem
from holdfast.errors import PortError
from holdfast.llm.embeddings import Vectors
from holdfast.memory.items import listed
from holdfast.store.commands import DeleteItems, PutItems, SweepItems, TouchItems
from holdfast.store.queries import GetItems, ListNamespaces, SearchItems

from .kit import Kit

Op = Mapping[str, Any]

Place = tuple[Namespace, str]


@dataclass(frozen=True, slots=True)
class _Embedded:
    """The vectors of a batch's texts."""

    kind: str
    of: Mapping[str, bytes]
    queries: Mapping[str, bytes]


async def batch(
    kit: Kit, owner_id: str, scope: Namespace, ops: Sequence[Op], *, made: Vectors | None = None
) -> list[Any]:
    """Carry out operations, see `MemoryPort.items`; its reads see what was there before it.

    Args:
        kit: the hub's parts.
        owner_id: whose items.
        scope: labels above all namespaces of the operations.
        ops: any.
        made: takes the embedding calls, as they are made.

    Raises:
        InvalidInput: an item cannot be stored.
        SettingsError: there is no embedding alias `default`, or it cannot be used.
        ModelError: the provider failed.
        PortError: there is no such operation.
    """
    vectors = Vectors() if made is None else made
    embedded = await _embed(kit, ops, vectors)
    results: list[Any] = []
    read: list[Item] = []
    for op in ops:
        match op["op"]:
            case "get":
                place = (_under(scope, op["namespace"]), op["key"])
                (item,) = await kit.store.read(GetItems(owner_id=owner_id, keys=(place,)))
                results.append(None if item is None else _told(item, scope))
                read += [item] if item is not None and op["refresh"] else []
            case "search":
                found = await _search(kit, owner_id, scope, op, embedded)
                results.append([_told(item, scope) for item in found])
                read += found if op["refresh"] else []
            case "namespaces":
                stored = await kit.store.read(ListNamespaces(owner_id=owner_id, prefix=scope))
                results.append(listed([one[len(scope) :] for one in stored], op))
            case "put":
                results.append(None)
            case other:
                raise PortError(f"no operation {other} on items")
    await _touch(kit, owner_id, read)
    await _write(kit, owner_id, scope, ops, embedded)
    return results


async def sweep(kit: Kit) -> int:
    """Delete what has expired, of all owners; how many those were."""
    return await kit.store.write(SweepItems())


async def _embed(kit: Kit, ops: Sequence[Op], vectors: Vectors) -> _Embedded:
    texts = list(dict.fromkeys(op["text"] for op in ops if op["op"] == "put" and op["text"]))
    asked = list(dict.fromkeys(op["query"] for op in ops if op["op"] == "search" and op["query"]))
    if not texts and not asked:
        return _Embedded("", {}, {})
    config = kit.embeddings.config(DEFAULT)
    packed: list[list[bytes]] = []
    for batch_of, query in ((texts, False), (asked, True)):
        before = len(vectors.packed)
        if batch_of:
            await kit.embeddings.embed(config, batch_of, query=query, into=vectors)
        packed.append(vectors.packed[before:])
    size = len((packed[0] + packed[1])[0]) // 4
    kind = Embedding(provider=config.provider, model=config.model, dimensions=size)
    of = dict(zip(texts, packed[0], strict=True))
    return _Embedded(str(kind), of, dict(zip(asked, packed[1], strict=True)))


async def _search(
    kit: Kit, owner_id: str, scope: Namespace, op: Op, embedded: _Embedded
) -> list[Item]:
    """The most alike first; those that have no vector of that kind come last, without a score."""
    prefix = _under(scope, op["prefix"])
    conditions: Mapping[str, Any] = op["filter"] or {}
    limit, offset = op["limit"], op["offset"]
    if limit == 0:
        return []
    if not op["query"]:
        return await kit.store.read(
            SearchItems(
                owner_id=owner_id, prefix=prefix, filter=conditions, limit=limit, offset=offset
            )
        )
    whose: dict[str, Any] = {"owner_id": owner_id, "prefix": prefix, "filter": conditions}
    most = offset + limit
    near = embedded.queries[op["query"]]
    found = await kit.store.read(
        SearchItems(**whose, limit=most, near=near, embedded_by=embedded.kind)
    )
    if len(found) < most:
        known = {_place(item) for item in found}
        others = await kit.store.read(SearchItems(**whose, limit=most))
        found += [item for item in others if _place(item) not in known]
    return found[offset:most]


async def _touch(kit: Kit, owner_id: str, read: Sequence[Item]) -> None:
    places = [_place(item) for item in read if item.ttl_s is not None]
    if places:
        await kit.store.write(TouchItems(owner_id, list(dict.fromkeys(places))))


async def _write(
    kit: Kit, owner_id: str, scope: Namespace, ops: Sequence[Op], embedded: _Embedded
) -> None:
    last = {(_under(scope, op["namespace"]), str(op["key"])): op for op in ops if op["op"] == "put"}
    new = [
        NewItem(
            namespace=namespace,
            key=key,
            value=op["value"],
            ttl_s=op["ttl_s"],
            vector=embedded.of[op["text"]] if op["text"] else None,
            embedded_by=embedded.kind if op["text"] else None,
        )
        for (namespace, key), op in last.items()
        if op["value"] is not None
    ]
    gone = [place for place, op in last.items() if op["value"] is None]
    if new:
        await kit.store.write(PutItems(owner_id, new))
    if gone:
        await kit.store.write(DeleteItems(owner_id, gone))


def _under(scope: Namespace, namespace: Sequence[str]) -> Namespace:
    return (*scope, *namespace)


def _place(item: Item) -> Place:
    return item.namespace, item.key


def _told(item: Item, scope: Namespace) -> dict[str, Any]:
    return {
        "namespace": item.namespace[len(scope) :],
        "key": item.key,
        "value": item.value,
        "created_at": item.created_at,
        "updated_at": item.updated_at,
        "score": item.score,
    }
