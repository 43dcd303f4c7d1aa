"""Collections over HTTP, by the client and by what it is told when something is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest

from holdfast.app import make_api
from holdfast.client import Client
from holdfast.errors import IllegalMove, InvalidInput, NotFound, ProviderFailed
from holdfast.testing.providers import FakeAnswer, FakeOpenAI

from .api_server import serving
from .conftest import OpenHub


@pytest.fixture
def server() -> FakeOpenAI:
    return FakeOpenAI()


@pytest.fixture
async def client(
    open_hub: OpenHub, hub_environ: dict[str, str], server: FakeOpenAI
) -> AsyncIterator[Client]:
    with server:
        real = {"model": "openai:small", "base_url": server.url}
        hub_environ["HOLDFAST_EMBEDDINGS"] = orjson.dumps({"real": real}).decode()
        async with (
            open_hub(in_process=True) as hub,
            serving(make_api(hub.parts)) as url,
            Client(url) as made,
        ):
            yield made


async def test_a_collection_from_its_first_document_to_its_end(client: Client) -> None:
    assert await client.collections() == {"items": []}
    put = await client.put_document("notes", "docs/a b.md", "The pump is red.", metadata={"n": 1})
    assert (put["embedded"], put["chunks"], put["tokens_used"]) == (True, 1, 0)
    again = await client.put_document("notes", "docs/a b.md", "The pump is red.", metadata={"n": 2})
    assert (again["embedded"], again["id"], again["metadata"]) == (False, put["id"], {"n": 2})
    for n in range(3):
        await client.put_document("notes", f"other {n}", f"Some text about thing {n}")
    found = await client.search("notes", "which pump", limit=1)
    assert found["items"][0]["key"] == "docs/a b.md"
    assert found["items"][0]["metadata"] == {"n": 2}
    none = await client.search("notes", "which pump", filters={"n": {"lt": 2}}, mode="keyword")
    assert none["items"] == []
    one = await client.collection("notes")
    assert (one["documents"], one["chunks"]) == (4, 4)
    assert one["embedding"] == {"provider": "hashing", "model": "ngrams-1", "dimensions": 384}
    keys = [item["key"] async for item in client.documents("notes")]
    assert keys == ["other 2", "other 1", "other 0", "docs/a b.md"]
    page = await client._ask("GET", "/api/v1/collections/notes/documents?limit=3")
    assert len(page["items"]) == 3
    rest = await client._ask("GET", page["next"])
    assert [item["key"] for item in rest["items"]] == ["docs/a b.md"]
    assert await client.delete_document("notes", "docs/a b.md") == {"deleted": "docs/a b.md"}
    assert (await client.search("notes", "red pump", mode="keyword"))["items"] == []
    await client.delete_collection("notes")
    assert await client.collections() == {"items": []}


async def test_what_is_wrong_is_told(client: Client, server: FakeOpenAI) -> None:
    with pytest.raises(NotFound, match="no collection nothing"):
        await client.search("nothing", "words")
    with pytest.raises(InvalidInput, match=r"filters.n.like must be eq, in, gt, gte, lt or lte"):
        await client.search("nothing", "words", filters={"n": {"like": "x"}})
    with pytest.raises(InvalidInput, match="embedding must be default or real, not 'nobody'"):
        await client.put_document("notes", "a", "text", embedding="nobody")
    with pytest.raises(InvalidInput, match="metadata.n must be"):
        await client.put_document("notes", "a", "text", metadata={"n": {"deep": 1}})
    await client.put_document("notes", "a", "text", embedding="real")
    with pytest.raises(IllegalMove, match=r"openai:small \(64 dimensions\)"):
        await client.put_document("notes", "b", "text", embedding="default")
    server.answer([FakeAnswer(status=401, error_code="key sk-1 is wrong")])
    with pytest.raises(ProviderFailed) as failed:
        await client.search("notes", "words")
    assert "HTTP 401" in str(failed.value)
    assert "sk-1" not in str(failed.value)
    for key in ("b",):
        with pytest.raises(NotFound, match="no document b in notes"):
            await client.delete_document("notes", key)
