"""Vectors of collections in the hub's memory, for databases that compare none themselves.

A matrix follows the store: every search asks for the collection's version first, and takes in what
is newer. So a search sees every document that was stored before it, by whatever hub.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from holdfast.domain.knowledge import Collection
from holdfast.errors import SettingsError
from holdfast.store import Store
from holdfast.store.queries import VectorNews

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from holdfast.store.queries.knowledge import News

KEPT_BYTES = 512 * 1024 * 1024
"""What all matrices together may take; the one that was not used for longest goes first."""


class Matrix:
    """The vectors of one collection."""

    def __init__(self, dimensions: int) -> None:
        np = _numpy()
        self.version = -1
        self.lock = asyncio.Lock()
        self._dimensions = dimensions
        self._vectors: NDArray[np.float32] = np.empty((0, dimensions), np.float32)
        self._chunks: NDArray[np.int64] = np.empty(0, np.int64)
        self._documents: list[str] = []  # of each row

    @property
    def size(self) -> int:
        """Bytes its vectors take."""
        return self._vectors.nbytes

    def take(self, news: News) -> None:
        """Drop what is gone or replaced and add what is new."""
        np = _numpy()
        known, since = news.documents, self.version
        keep = [known.get(one, since + 1) <= since for one in self._documents]
        fresh = b"".join(vector for _, _, vector in news.vectors)
        added = np.frombuffer(fresh, "<f4").reshape(-1, self._dimensions)
        ids = np.array([id_ for id_, _, _ in news.vectors], np.int64)
        if all(keep):
            kept, kept_ids = self._vectors, self._chunks
        else:
            mask = np.array(keep, bool)
            kept, kept_ids = self._vectors[mask], self._chunks[mask]
        self._vectors = np.concatenate([kept, added]).astype(np.float32, copy=False)
        self._chunks = np.concatenate([kept_ids, ids])
        self._documents = [
            *(one for one, stays in zip(self._documents, keep, strict=True) if stays),
            *(document for _, document, _ in news.vectors),
        ]
        self.version = news.version

    def nearest(
        self, query: bytes, limit: int, among: AbstractSet[str] | None
    ) -> list[tuple[int, float]]:
        """Chunks by likeness to a vector, the nearest first.

        Args:
            query: float32 bytes of length 1.
            limit: most chunks.
            among: only those of these documents; None for all.
        """
        np = _numpy()
        vectors, chunks = self._vectors, self._chunks
        if among is not None:
            mask = np.array([one in among for one in self._documents], bool)
            vectors, chunks = vectors[mask], chunks[mask]
        scores = vectors @ np.frombuffer(query, "<f4")
        most = min(limit, len(scores))
        if most == 0:
            return []
        top = np.argpartition(scores, len(scores) - most)[len(scores) - most :]
        top = top[np.lexsort((chunks[top], -scores[top]))]
        return [(int(chunks[row]), float(scores[row])) for row in top]


class Matrices:
    """The matrices of one hub.

    Args:
        limit: bytes that all of them may take together; one alone may take more.
    """

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, Matrix] = OrderedDict()

    async def nearest(
        self,
        store: Store,
        collection: Collection,
        query: bytes,
        limit: int,
        among: AbstractSet[str] | None,
    ) -> list[tuple[int, float]]:
        """Chunks of a collection by likeness; see `Matrix.nearest`.

        Raises:
            SettingsError: numpy is not installed.
            NotFound: the collection is gone.
        """
        matrix = self._kept.get(collection.id)
        if matrix is None:
            matrix = self._kept[collection.id] = Matrix(collection.embedding.dimensions)
        self._kept.move_to_end(collection.id)
        async with matrix.lock:  # one search loads what is new, the others wait for it
            if matrix.version < collection.version:
                query_news = VectorNews(collection.id, collection.owner_id, matrix.version)
                await asyncio.to_thread(matrix.take, await store.read(query_news))
                self._make_room()
            return await asyncio.to_thread(matrix.nearest, query, limit, among)

    def forget(self, collection_id: str) -> None:
        """Free a matrix whose collection is gone."""
        self._kept.pop(collection_id, None)

    def _make_room(self) -> None:
        while len(self._kept) > 1 and sum(one.size for one in self._kept.values()) > self._limit:
            self._kept.popitem(last=False)


def _numpy() -> Any:
    try:
        import numpy as np
    except ImportError as error:
        raise SettingsError(
            "searching by likeness on this database needs numpy, which is not installed",
            hint="pip install 'holdfast[knowledge]', or use PostgreSQL with pgvector",
        ) from error
    return np
