"""Runs graphs with the recorder attached, and shows what a hub would make of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from holdfast.domain.status import ExecutionStatus
from holdfast.recording import Collector, RecordingHandler
from holdfast.testing.ports import MemorySink, Recorded


class Recording:
    """One execution's recorder over a sink in memory."""

    def __init__(self) -> None:
        self.sink = MemorySink()
        self.collector = Collector("x1", self.sink)

    @property
    def config(self) -> dict[str, Any]:
        return {"callbacks": [RecordingHandler(self.collector)]}

    async def run(self, graph: Any, given: Any, **config: Any) -> Recorded:
        """Run a graph to its end, good or bad."""
        status, output = ExecutionStatus.SUCCEEDED, None
        try:
            output = await graph.ainvoke(given, {**self.config, **config})
        except Exception:  # noqa: BLE001 - tests look at the record
            status = ExecutionStatus.FAILED
        self.collector.finish(status, output=output)
        return self.record()

    def record(self) -> Recorded:
        return self.sink.record("x1")


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    """Planted faults are logged with their tracebacks: here they are only collected."""
    with capture_logs() as collected:
        yield collected


@pytest.fixture
def recording() -> Recording:
    return Recording()
