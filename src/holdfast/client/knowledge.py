"""What `Client` can do about collections of documents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import orjson

View = dict[str, Any]

COLLECTIONS = "/api/v1/collections"

EMBEDDING_S = 300.0
"""How much longer than usual an answer may take in which a provider embeds."""

_JSON = {"content-type": "application/json"}


class Knowledge(ABC):
    """Part of `Client`."""

    async def collections(self) -> View:
        """All collections, by name: `items`."""
        return await self._ask("GET", COLLECTIONS)

    async def collection(self, name: str) -> View:
        """A collection: what made its vectors, how much it holds."""
        return await self._ask("GET", _path(name))

    async def delete_collection(self, name: str) -> View:
        """Delete a collection with all its documents."""
        return await self._ask("DELETE", _path(name))

    async def documents(self, collection: str) -> AsyncGenerator[View]:
        """A collection's documents, the newest first, without their texts."""
        path: str | None = f"{_path(collection)}/documents"
        while path is not None:
            page = await self._ask("GET", path)
            for item in page["items"]:
                yield item
            path = page["next"]

    async def put_document(
        self,
        collection: str,
        key: str,
        text: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        embedding: str | None = None,
    ) -> View:
        """Add a document, or put it in the place of the one of that key.

        Args:
            collection: made with its first document.
            key: names the document in there.
            text: what is found.
            metadata: what filters look at.
            embedding: alias; by default the collection's own.
        """
        body = {"key": key, "text": text, "metadata": dict(metadata or {}), "embedding": embedding}
        path = f"{_path(collection)}/documents"
        content = orjson.dumps(body)
        return await self._ask("PUT", path, extra_s=EMBEDDING_S, headers=_JSON, content=content)

    async def delete_document(self, collection: str, key: str) -> View:
        """Delete a document; it is found no more."""
        return await self._ask("DELETE", f"{_path(collection)}/documents?{urlencode({'key': key})}")

    async def search(self, collection: str, query: str, **options: Any) -> View:
        """Search a collection: `items`, the best first.

        Args:
            collection: where.
            query: what for.
            **options: `mode` (`hybrid`, `semantic`, `keyword`), `limit`, `filters`, `min_score`.
        """
        path = f"{_path(collection)}/search"
        content = orjson.dumps({"query": query, **options})
        return await self._ask("POST", path, extra_s=EMBEDDING_S, headers=_JSON, content=content)

    @abstractmethod
    async def _ask(self, method: str, path: str, *, extra_s: float = 0, **rest: Any) -> View: ...


def _path(name: str) -> str:
    return f"{COLLECTIONS}/{quote(name, safe='')}"
