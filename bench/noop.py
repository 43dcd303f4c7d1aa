"""A recorded no-op through hub and one runner, against the bare `ainvoke` of the same graph."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from .harness import Line, duel
from .places import Bare, LocalHub, bare, environment, local_hub

ROUNDS = 5
ALONE = 100
IN_FLIGHT = 32
LOADED = 1280
WARM = 320
BAR = 2.0


async def measure() -> AsyncIterator[Line]:
    """Five nodes that do nothing, one at a time and many at once, on SQLite."""
    with environment(runners=1) as environ:
        async with local_hub(environ) as hub, bare() as graph:
            for name, what in (("noop", "a ready graph"), ("declared", "a declared pipeline")):
                await _recorded(hub, name, WARM, IN_FLIGHT)
                yield await _alone(hub, graph, name, what)
                yield await _loaded(hub, graph, name, what)


async def _alone(hub: LocalHub, graph: Bare, name: str, what: str) -> Line:
    both = await duel(
        lambda: _recorded(hub, name, ALONE, 1), lambda: graph.seconds(name, ALONE), ROUNDS
    )
    return Line(
        name=f"5 no-op nodes through hub and runner, {what}, one at a time",
        value=1000 * both.ours,
        unit="ms",
        against=1000 * both.theirs,
        ratio=both.ratio,
        bar=BAR,
        note="submitted, claimed, run, recorded, committed",
    )


async def _loaded(hub: LocalHub, graph: Bare, name: str, what: str) -> Line:
    before = hub.cpu()
    both = await duel(
        lambda: _recorded(hub, name, LOADED, IN_FLIGHT),
        lambda: graph.seconds(name, LOADED, IN_FLIGHT),
        ROUNDS,
    )
    used = [1000 * (b - a) / (ROUNDS * LOADED) for a, b in zip(before, hub.cpu(), strict=True)]
    return Line(
        name=f"… {what}, {IN_FLIGHT} in flight",
        value=1000 * both.ours,
        unit="ms",
        against=1000 * both.theirs,
        ratio=both.ratio,
        bar=BAR,
        note=f"{1 / both.ours:,.0f}/s; CPU: hub {used[0]:.2f} ms, runner {used[1]:.2f} ms",
    )


async def _recorded(hub: LocalHub, name: str, runs: int, in_flight: int) -> float:
    """Seconds a recorded execution costs: wall over runs."""
    began = time.perf_counter()
    await hub.run_many(f"bench.{name}", runs, in_flight)
    return (time.perf_counter() - began) / runs
