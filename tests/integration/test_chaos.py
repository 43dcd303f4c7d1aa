"""A short form of the kill matrix; `make chaos` runs all of it, and the storm."""

from __future__ import annotations

import pytest
from chaos import matrix, places

SHORT = [
    ("sqlite", "claim.after", "runner"),
    ("sqlite", "finish.before", "hub"),
    ("postgresql", "step.after", "database"),
    ("celery-redis", "step.before", "runner"),
]


@pytest.mark.parametrize(("place", "point", "victim"), SHORT)
async def test_whoever_is_killed_every_event_ends_once(place: str, point: str, victim: str) -> None:
    with places.place(place) as there:
        found = await matrix.run(there, matrix.Case(point, victim, hit=2, seed=7))
    assert found.faults == []
    assert found.events == 24
