"""What a search costs beside the bare dot product that it is made of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from holdfast.app import run_hub
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.knowledge import Chunk, Embedding, NewDocument, read_search
from holdfast.llm import hashing
from holdfast.operations.kit import Kit
from holdfast.operations.knowledge import search
from holdfast.settings import load
from holdfast.store import migrations
from holdfast.store.commands import PutDocument
from holdfast.testing.postgres import running_postgres

from .harness import Line

CHUNKS = 20_000
DIMENSIONS = hashing.DIMENSIONS
PER_DOCUMENT = 100
ROUNDS = 60
LIMIT = 5

KIND = Embedding(provider="hashing", model=hashing.MODEL, dimensions=DIMENSIONS)


async def measure() -> AsyncIterator[Line]:
    """Searches of 20,000 vectors on both databases, each beside numpy alone."""
    chance = np.random.default_rng(7)
    matrix = chance.standard_normal((CHUNKS, DIMENSIONS)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    with TemporaryDirectory(prefix="holdfast-bench-") as folder:
        url = f"sqlite:///{folder}/holdfast.db"
        async for line in _searches("SQLite", url, Path(folder), matrix):
            yield line
    with running_postgres() as server, TemporaryDirectory(prefix="holdfast-bench-") as folder:
        async for line in _searches(
            "PostgreSQL, pgvector", server.migrated(), Path(folder), matrix
        ):
            yield line


async def _searches(name: str, url: str, home: Path, matrix: Any) -> AsyncIterator[Line]:
    await asyncio.to_thread(migrations.upgrade, url)
    settings = load({"home": home, "database_url": url, "log_level": "error"}, environ={})
    async with run_hub(settings, in_process=True) as parts:
        kit = parts.kit
        began = time.perf_counter()
        for start in range(0, CHUNKS, PER_DOCUMENT):
            await _put(kit, start, matrix[start : start + PER_DOCUMENT])
        yield Line(
            name=f"{name}: a chunk stored",
            value=1e6 * (time.perf_counter() - began) / CHUNKS,
            unit="µs",
            note=f"documents of {PER_DOCUMENT} chunks, vectors given",
        )
        began = time.perf_counter()
        await _search(kit, "semantic")
        yield Line(
            name=f"{name}: the first search",
            value=1000 * (time.perf_counter() - began),
            unit="ms",
            note="loads the vectors" if name == "SQLite" else "",
        )
        for mode in ("semantic", "keyword", "hybrid"):
            ours: list[float] = []
            bare: list[float] = []
            for _ in range(ROUNDS):
                bare.append(_bare(matrix))
                began = time.perf_counter()
                await _search(kit, mode)
                ours.append(time.perf_counter() - began)
            yield Line(
                name=f"{name}: a {mode} search, p50",
                value=1000 * median(ours),
                unit="ms",
                against=1000 * median(bare),
                ratio=median(mine / alone for mine, alone in zip(ours, bare, strict=True)),
                note=f"{CHUNKS:,} x {DIMENSIONS}, against one numpy dot product",
            )


async def _put(kit: Kit, start: int, vectors: Any) -> None:
    chunks = [
        Chunk(n, f"chunk {start + n} of words{(start + n) % 500}", 5, vector.tobytes())
        for n, vector in enumerate(vectors)
    ]
    new = NewDocument(
        owner_id=LOCAL_OWNER,
        collection="bench",
        embedding=KIND,
        key=str(start),
        content_hash=str(start),
        metadata={"start": start},
        chunks=chunks,
    )
    await kit.store.write(PutDocument(new))


async def _search(kit: Kit, mode: str) -> None:
    asked = read_search(
        collection="bench", query="which words42 or words43", mode=mode, limit=LIMIT
    )
    hits = await search(kit, asked, owner_id=LOCAL_OWNER)
    assert len(hits) == LIMIT


def _bare(matrix: Any) -> float:
    query = np.array(hashing.embed("which words42 or words43"), np.float32)
    began = time.perf_counter()
    scores = matrix @ query
    np.argpartition(scores, CHUNKS - LIMIT)[-LIMIT:]
    return time.perf_counter() - began
