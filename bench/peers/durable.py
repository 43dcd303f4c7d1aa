"""Durable runs of five steps a second in one process: Holdfast beside DBOS."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

from bench.harness import Line, duel
from bench.places import postgres

from .places import Side, side

PROBE = 40
RUNS = 200
ROUNDS = 7

GOAL = 3.0
"""Times DBOS."""


async def measure() -> AsyncIterator[Line]:
    """On SQLite, with DBOS as it comes and with a write-ahead log like ours; on PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="holdfast-peers-") as folder:
        for name, options in (("as it comes", ()), ("with a write-ahead log", ("wal",))):
            home = Path(folder, name.replace(" ", "-"))
            home.mkdir()
            theirs = f"sqlite:///{home}/dbos.db"
            yield await _line(f"SQLite, DBOS {name}", _ours(home), _theirs(theirs, *options))
        with postgres() as server:
            home = Path(folder, "postgresql")
            home.mkdir()
            yield await _line("PostgreSQL", _ours(home, server.empty()), _theirs(server.empty()))


def _ours(home: Path, database_url: str | None = None) -> AbstractAsyncContextManager[Side]:
    environ = {
        "HOLDFAST_HOME": str(home),
        "HOLDFAST_APPS": "bench.graphs",
        "HOLDFAST_RUNNER_SLOTS": "64",
        "HOLDFAST_LOG_LEVEL": "error",
    }
    if database_url is not None:
        environ["HOLDFAST_DATABASE_URL"] = database_url
    return side("holdfast", "durable_holdfast.py", environ=environ)


def _theirs(url: str, *options: str) -> AbstractAsyncContextManager[Side]:
    return side("dbos", "durable_dbos.py", url, *options)


async def _line(
    where: str,
    ours: AbstractAsyncContextManager[Side],
    theirs: AbstractAsyncContextManager[Side],
) -> Line:
    async with AsyncExitStack() as stack:
        mine, other = [await stack.enter_async_context(one) for one in (ours, theirs)]
        my_way, other_way = await _fastest(mine), await _fastest(other)
        settings = [await one.ask("setting") for one in (mine, other)]
        result = await duel(
            lambda: _per_second(mine, my_way), lambda: _per_second(other, other_way), ROUNDS
        )
    return Line(
        name=f"durable runs of 5 steps in one process, {where}",
        value=result.ours,
        unit="/s",
        against=result.theirs,
        ratio=result.ratio,
        bar=GOAL,
        at_least=True,
        note=f"{my_way}; {settings[0]} | {other_way}; {settings[1]}",
    )


async def _fastest(one: Side) -> str:
    """The way that a short try finds the fastest; each is warm by then."""
    took: dict[str, float] = {}
    for way in await one.ask("ways"):
        await one.ask("run", way=way, runs=PROBE // 4)
        took[way] = await one.ask("run", way=way, runs=PROBE)
    return min(took, key=took.__getitem__)


async def _per_second(one: Side, way: str) -> float:
    return RUNS / await one.ask("run", way=way, runs=RUNS)
