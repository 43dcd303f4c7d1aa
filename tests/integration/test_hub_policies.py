"""Policies, limits, caches and retention with a real hub and real runners."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.ids import MICROS, now_us
from holdfast.domain.status import EventStatus, ExecutionStatus, StepStatus
from holdfast.errors import NotFound, UnknownPipeline
from holdfast.operations.prune import prune

from .conftest import HubForTests, OpenHub, until, until_true

DAY = 86_400 * MICROS


@pytest.fixture(params=["runner", "in process"])
async def hub(request: pytest.FixtureRequest, open_hub: OpenHub):
    in_process = request.param == "in process"
    async with open_hub(in_process=in_process, runners=1, apps=["policies_app"]) as opened:
        yield opened


async def test_tries_stand_ins_and_failures_are_stored(hub: HubForTests) -> None:
    event, whole = await hub.run("policies.tried", text="x")
    assert event.status is EventStatus.SUCCEEDED
    assert whole.execution.status is ExecutionStatus.PARTIAL
    assert whole.execution.error is not None
    assert [one["node"] for one in whole.execution.error["failures"]] == ["notify"]
    assert [(s.operation, s.status.value, s.parent) for s in whole.steps] == [
        ("fetch", "failed", None),
        ("spare", "succeeded", 1),
        ("notify", "failed", None),
    ]
    assert whole.steps[0].error is not None
    assert whole.steps[0].error["fallback"] == "spare"
    assert [(a.n, a.status.value, a.error_class, a.usage, a.cost_pico) for a in whole.attempts] == [
        (1, "failed", "temporary", "none", 0),
        (2, "failed", "temporary", "none", 0),
    ]
    assert all(a.duration_us is not None for a in whole.attempts)
    totals = whole.execution.totals
    assert (totals.usage_unknown, totals.cost_unknown) == (0, 0)
    assert whole.execution.steps_failed == 2


async def test_maps_and_loops_are_stored(hub: HubForTests) -> None:
    _, whole = await hub.run("policies.kept", items=["a", "b"])
    assert whole.execution.status is ExecutionStatus.SUCCEEDED
    assert [(s.operation, s.kind) for s in whole.steps] == [
        ("each", "map"),
        ("word", "node"),
        ("word", "node"),
        *[("again", "node"), ("again.loop", "loop")] * 3,
    ]
    assert whole.payload.get(whole.steps[0].output) == ["A", "B"]
    rounds = [whole.payload.get(s.output) for s in whole.steps if s.kind == "loop"]
    assert [one["round"] for one in rounds] == [1, 2, 3]


async def test_results_are_kept_over_executions(hub: HubForTests, tmp_path: Path) -> None:
    event, first = await hub.run("policies.cached", text="a", folder=str(tmp_path))
    assert event.priority == 7
    _, second = await hub.run("policies.cached", text="a", folder=str(tmp_path))
    _, other = await hub.run("policies.cached", text="b", folder=str(tmp_path))
    assert (tmp_path / "looked").read_text() == "ab"
    (step,) = second.steps
    assert (step.status, step.skip_reason) == (
        StepStatus.SKIPPED,
        f"cached from execution {first.execution.id}",
    )
    assert second.payload.get(second.execution.output) == "A"
    assert second.execution.steps_skipped == 1
    assert other.steps[0].status is StepStatus.SUCCEEDED


async def test_code_given_up_by_a_step_costs_its_runner_and_nothing_else(
    open_hub: OpenHub, tmp_path: Path
) -> None:
    async with open_hub(runners=1, apps=["policies_app"]) as hub:
        (before,) = hub.crew.workers
        event, whole = await hub.run("policies.blocked", folder=str(tmp_path))
        assert event.status is EventStatus.SUCCEEDED
        assert whole.execution.status is ExecutionStatus.PARTIAL
        assert whole.payload.get(whole.execution.output) == "went on"
        assert [a.status for a in whole.attempts] == [StepStatus.ABANDONED]
        assert whole.execution.flags["abandoned"] is True

        async def replaced() -> bool:
            return before not in hub.crew.workers and hub.crew.ready

        await until_true(replaced)
        (tmp_path / "open").touch()


async def test_a_hub_runs_no_more_than_the_pipeline_allows(
    hub: HubForTests, tmp_path: Path
) -> None:
    ids = [
        await hub.submit("policies.few", text=str(n), folder=str(tmp_path), items=[])
        for n in range(4)
    ]
    await until(tmp_path / "holding-0")
    # Another pipeline's event, sent last, does not wait behind those.
    event, _ = await hub.run("policies.tried")
    assert event.status is EventStatus.SUCCEEDED
    (tmp_path / "open").touch()
    for event_id in ids:
        event = await hub.ended(event_id)
        assert event.status is EventStatus.SUCCEEDED
        assert event.execution_id is not None
        whole = await hub.whole(event.execution_id)
        assert whole.payload.get(whole.execution.output) == 1


async def test_what_is_older_than_the_retention_is_pruned(hub: HubForTests) -> None:
    old = [(await hub.run("policies.kept", items=["a"]))[0] for _ in range(3)]
    other, _ = await hub.run("policies.tried")
    assert await prune(hub.kit, LOCAL_OWNER) == {"policies.kept": 0}
    later = now_us() + 31 * DAY
    assert await prune(hub.kit, LOCAL_OWNER, dry_run=True, now=later) == {"policies.kept": 3}
    assert await prune(hub.kit, LOCAL_OWNER, pipeline="policies.tried", now=later) == {}
    assert await prune(hub.kit, LOCAL_OWNER, now=later) == {"policies.kept": 3}
    for event in old:
        assert event.execution_id is not None
        with pytest.raises(NotFound):
            await hub.whole(event.execution_id)
        with pytest.raises(NotFound):
            await hub.executions(event.id)
    assert len(await hub.executions(other.id)) == 1
    with pytest.raises(UnknownPipeline):
        await prune(hub.kit, LOCAL_OWNER, pipeline="policies.kapt")
