"""A recorded no-op through hub and one runner, against the bare `ainvoke` of the same graph."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from .bare import bare
from .harness import Line, duel
from .places import environment, local_hub

ROUNDS = 5
ALONE = 150
IN_FLIGHT = 32
LOADED = 1600


async def measure() -> AsyncIterator[Line]:
    """Five nodes that do nothing, one at a time and 32 at once, on SQLite."""
    with environment(runners=1) as environ:
        async with local_hub(environ) as hub, bare() as graph:
            for name, what in (("noop", "LangGraph graph"), ("declared", "declared pipeline")):
                full = f"bench.{name}"
                await hub.run_many(full, 320, IN_FLIGHT)

                async def ours(runs: int, in_flight: int, full: str = full) -> float:
                    began = time.perf_counter()
                    await hub.run_many(full, runs, in_flight)
                    return (time.perf_counter() - began) / runs

                alone = await duel(
                    lambda: ours(ALONE, 1), lambda: graph.seconds(name, ALONE), ROUNDS
                )
                yield Line(
                    name=f"{what}, 5 no-op nodes, one at a time",
                    value=1000 * alone.ours,
                    unit="ms",
                    against=1000 * alone.theirs,
                    ratio=alone.ratio,
                    bar=2.0,
                    note="submit, claim, run, record, commit",
                )
                before, ran = hub.cpu(), 0

                async def loaded() -> float:
                    nonlocal ran
                    ran += LOADED
                    return await ours(LOADED, 2 * IN_FLIGHT)

                load = await duel(
                    loaded, lambda: graph.seconds(name, LOADED, IN_FLIGHT), ROUNDS
                )
                used = [1000 * (b - a) / ran for a, b in zip(before, hub.cpu(), strict=True)]
                yield Line(
                    name=f"{what}, under load",
                    value=1000 * load.ours,
                    unit="ms",
                    against=1000 * load.theirs,
                    ratio=load.ratio,
                    bar=2.0,
                    note=f"{1 / load.ours:,.0f}/s; CPU: hub {used[0]:.2f} ms, "
                    f"runner {used[1]:.2f} ms",
                )
