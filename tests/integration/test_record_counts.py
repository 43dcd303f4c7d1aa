"""How an execution and its steps ended, as the database has it: a rate made of it is true."""

from __future__ import annotations

import pytest

from holdfast.domain.status import EventStatus, ExecutionStatus, StepStatus
from holdfast.testing.postgres import PostgresForTests

from .conftest import OpenHub

WAYS = {
    "well": StepStatus.SUCCEEDED,
    "badly": StepStatus.FAILED,
    "not_at_all": StepStatus.SKIPPED,
}


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_steps_count_as_what_they_are(
    open_hub: OpenHub, database: str, hub_environ: dict[str, str], postgres: PostgresForTests
) -> None:
    """Skipped is neither waiting nor failed; where each step failed, nothing succeeded."""
    if database == "postgresql":
        hub_environ["HOLDFAST_DATABASE_URL"] = postgres.migrated()
    expected = {
        "counts.mixed": (ExecutionStatus.PARTIAL, (6, 2, 3, 1)),
        "counts.all_failed": (ExecutionStatus.PARTIAL, (2, 0, 0, 2)),
        "counts.all_skipped": (ExecutionStatus.SUCCEEDED, (2, 0, 2, 0)),
    }
    async with open_hub(in_process=True, apps="counts_app") as hub:
        for name, (status, counts) in expected.items():
            event, whole = await hub.run(name)
            run = whole.execution
            assert (event.status, run.status) == (EventStatus.SUCCEEDED, status)
            told = (run.steps_total, run.steps_succeeded, run.steps_skipped, run.steps_failed)
            assert told == counts
            for step in whole.steps:
                assert step.status is WAYS[step.operation.rpartition("_")[0]], step.operation
                reason = "nothing to do" if step.status is StepStatus.SKIPPED else None
                assert step.skip_reason == reason
