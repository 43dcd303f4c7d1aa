"""Code that a step gave up, while its execution went on."""

from __future__ import annotations

import threading

from holdfast.domain.status import StepStatus
from holdfast.pipelines.pipeline import Pipeline

from .conftest import Engines, Job


async def test_a_runner_learns_of_code_that_outlives_its_step() -> None:
    release = threading.Event()
    pipeline = Pipeline("test.given.up", version="1", event=Job)
    pipeline.node("blocked", lambda state: release.wait(10), timeout=0.02, on_failure="continue")
    pipeline.start("blocked")
    pipeline.edge("blocked", pipeline.node("after", lambda state: "went on"))
    engines = Engines([pipeline])
    try:
        record = await engines.run("test.given.up")
    finally:
        release.set()
    assert record.output == "went on"
    assert engines.abandoned == engines.ended
    assert [one.status for one in record.attempts] == [StepStatus.ABANDONED]
    assert record.running.execution().flags["abandoned"] is True


async def test_a_runner_whose_steps_all_ended_is_left_in_peace() -> None:
    pipeline = Pipeline("test.calm", version="1", event=Job)
    pipeline.start(pipeline.node("sync", lambda state: 1, timeout=5, retries=1))
    engines = Engines([pipeline])
    record = await engines.run("test.calm")
    assert engines.abandoned == []
    assert [one.status for one in record.attempts] == [StepStatus.SUCCEEDED]
