"""Child executions: a pipeline runs another one and waits for it, holding no runner."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

import holdfast
from holdfast import settings
from holdfast.bus.base import CANCEL, QUEUED
from holdfast.domain.events import LOCAL_OWNER, MAX_CHILD_DEPTH
from holdfast.domain.executions import Totals
from holdfast.domain.status import EventStatus, ExecutionStatus, StepStatus
from holdfast.operations import read
from holdfast.operations.cancel import cancel_event
from holdfast.operations.resume import resume
from holdfast.operations.views import execution_view, record_view
from holdfast.store import migrations
from holdfast.store.queries import ListExecutions
from holdfast.testing.postgres import PostgresForTests

from .conftest import HubForTests, OpenHub, until_true


@pytest.fixture
def hub_environ(hub_environ: dict[str, str]) -> dict[str, str]:
    return hub_environ | {
        "HOLDFAST_APPS": "children_app",
        "HOLDFAST_MODELS": '{"fast": "scripted:rules"}',
    }


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, hub_environ: dict[str, str], postgres: PostgresForTests
) -> str:
    if request.param == "postgresql":
        hub_environ["HOLDFAST_DATABASE_URL"] = postgres.migrated()
    return request.param


@pytest.fixture(params=["runner", "in process"])
async def hub(request: pytest.FixtureRequest, open_hub: OpenHub, database: str):
    async with open_hub(
        in_process=request.param == "in process", runners=1, runner_slots=1
    ) as opened:
        yield opened


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().split()


async def children(hub: HubForTests, execution_id: str) -> list[read.Execution]:
    found = await read.executions(hub.kit, ListExecutions(owner_id=LOCAL_OWNER, limit=200))
    return sorted((one for one in found if one.parent_id == execution_id), key=lambda one: one.id)


async def test_a_child_is_an_execution_of_its_own_and_its_output_the_result(
    hub: HubForTests, tmp_path: Path
) -> None:
    rung: list[str | None] = []
    hub.kit.bus.listen(QUEUED, lambda notice: rung.append(notice.event_id))
    event, whole = await hub.run("parent.one", item="tea", folder=str(tmp_path))
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    assert whole.payload.get(whole.execution.output) == {
        "child": {"item": "tea", "price": 3, "version": "1"},
        "draft": "said order tea",
    }
    assert [(one.operation, one.status) for one in whole.steps] == [
        ("before", StepStatus.SUCCEEDED),
        ("draft", StepStatus.SUCCEEDED),
        ("price_of", StepStatus.SUCCEEDED),
        ("after", StepStatus.SUCCEEDED),
    ]
    assert calls(tmp_path) == ["before", "look_up:tea", "priced:tea", "after"]
    (child,) = await children(hub, whole.execution.id)
    assert (child.name, child.origin, child.status) == (
        "child.price",
        "child",
        ExecutionStatus.SUCCEEDED,
    )
    by_name = [event_id for event_id in rung if event_id is not None]
    assert by_name == [event.id, child.event_id, event.id], "nobody has to wait for a sweep"
    assert child.totals.tokens_output > 0
    assert whole.execution.totals.tokens_output > 0
    assert len((await hub.whole(child.id)).attempts) == len(whole.attempts) == 1, "each its own"
    started = await read.event(hub.kit, child.event_id, LOCAL_OWNER)
    assert (started.parent_id, started.origin) == (whole.execution.id, "child")
    assert started.source == f"/executions/{whole.execution.id}"
    family = await read.family(hub.kit, whole.execution.id, LOCAL_OWNER)
    view = record_view(whole.execution, whole.steps, whole.attempts, whole.payload, family)
    mine, both = whole.execution.totals.tokens_output, view["with_children"]["tokens"]["output"]
    assert view["tokens"]["output"] == mine
    assert both == mine + child.totals.tokens_output


async def waits_for_child(hub: HubForTests, event_id: str, item: str, folder: Path) -> str:
    """The parent's execution, once it waits and its child has begun."""

    async def stands() -> bool:
        event = await read.event(hub.kit, event_id, LOCAL_OWNER)
        assert event.finished_at is None, event.last_error
        begun = (folder / "calls").exists() and f"look_up:{item}" in calls(folder)
        return event.status is EventStatus.WAITING and begun

    await until_true(stands)
    event = await read.event(hub.kit, event_id, LOCAL_OWNER)
    assert event.execution_id is not None
    return event.execution_id


async def test_while_a_child_runs_its_parent_holds_no_runner(
    hub: HubForTests, tmp_path: Path
) -> None:
    """There is one slot: a parent that held it would wait for ever."""
    event_id = await hub.submit("parent.one", item="slow", folder=str(tmp_path))
    execution_id = await waits_for_child(hub, event_id, "slow", tmp_path)
    parent = (await hub.whole(execution_id)).execution
    assert parent.status is ExecutionStatus.WAITING
    (child,) = await children(hub, execution_id)
    assert child.status is ExecutionStatus.RUNNING
    assert [running.id for running in hub.kit.journal.all()] == [child.id]
    (wait,) = execution_view(parent)["waits"]
    assert (wait["kind"], wait["name"]) == ("child", "price_of")
    assert wait["child"] == {"pipeline": "child.price", "event_id": child.event_id, "step": 3}
    (tmp_path / "open").touch()
    assert (await hub.ended(event_id)).status is EventStatus.SUCCEEDED


async def test_many_children_run_side_by_side_and_wake_their_parent_once(
    hub: HubForTests, tmp_path: Path
) -> None:
    items = [f"item{n}" for n in range(12)]
    event, whole = await hub.run("parent.all", items=items, folder=str(tmp_path))
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    assert whole.payload.get(whole.execution.output) == sum(map(len, items))
    assert len(await children(hub, whole.execution.id)) == len(items)
    assert calls(tmp_path).count("total") == 1
    assert len(whole.execution.stops or []) == 1, "one wait for all of them, not one for each"
    assert {step.status for step in whole.steps} == {StepStatus.SUCCEEDED}


async def test_a_child_that_fails_fails_its_node(hub: HubForTests, tmp_path: Path) -> None:
    items = ["good", "bad1", "fine", "bad2"]
    event, whole = await hub.run("parent.all", items=items, folder=str(tmp_path))
    assert event.status is EventStatus.FAILED
    assert event.last_error is not None
    assert event.last_error["code"] == "branches_failed"
    failed = [
        one
        for one in await children(hub, whole.execution.id)
        if one.status is ExecutionStatus.FAILED
    ]
    assert len(failed) == 2
    for child in failed:
        assert child.id in event.last_error["message"], "the error names the child"
    assert "no price for bad1" in event.last_error["message"]
    told = [step.error for step in whole.steps if step.error and step.operation == "each"]
    assert [one["code"] for one in told] == ["child_failed", "child_failed"]


async def test_a_map_may_go_on_without_the_children_that_failed(
    hub: HubForTests, tmp_path: Path
) -> None:
    event, whole = await hub.run("parent.some", items=["good", "bad"], folder=str(tmp_path))
    assert whole.payload.get(whole.execution.output) == ["dict", "Failure"]
    assert whole.execution.status is ExecutionStatus.PARTIAL
    assert event.status is EventStatus.SUCCEEDED


async def test_a_retry_is_another_child(hub: HubForTests, tmp_path: Path) -> None:
    event, whole = await hub.run("parent.again", item="tea", folder=str(tmp_path))
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    assert whole.payload.get(whole.execution.output)["price"] == 3
    tried = await children(hub, whole.execution.id)
    assert [one.status for one in tried] == [
        ExecutionStatus.FAILED,
        ExecutionStatus.FAILED,
        ExecutionStatus.SUCCEEDED,
    ]
    assert len({one.event_id for one in tried}) == 3
    assert len(whole.steps) == 1


async def test_retries_of_children_in_a_map(hub: HubForTests, tmp_path: Path) -> None:
    items = ["a", "bb", "ccc"]
    event, whole = await hub.run("parent.again_all", items=items, folder=str(tmp_path))
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    assert [one["item"] for one in whole.payload.get(whole.execution.output)] == items
    assert len(await children(hub, whole.execution.id)) == 6
    assert Counter(calls(tmp_path)) == Counter(
        {f"look_up:{item}": 2 for item in items} | {f"priced:{item}": 1 for item in items}
    )


async def test_a_fallback_stands_in_for_a_child_that_failed(
    hub: HubForTests, tmp_path: Path
) -> None:
    event, whole = await hub.run("parent.instead", item="tea", folder=str(tmp_path))
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    assert whole.payload.get(whole.execution.output) == "guessed: child_failed"


async def test_input_that_does_not_fit_starts_nothing(hub: HubForTests, tmp_path: Path) -> None:
    event, whole = await hub.run("parent.one", item="tea", folder=str(tmp_path), broken=True)
    assert event.status is EventStatus.FAILED
    assert event.last_error is not None
    assert event.last_error["code"] == "invalid_input"
    assert await children(hub, whole.execution.id) == []


async def test_a_pipeline_that_starts_itself_is_stopped(hub: HubForTests, tmp_path: Path) -> None:
    event, _ = await hub.run("parent.endless", folder=str(tmp_path))
    assert event.status is EventStatus.FAILED
    assert event.last_error is not None
    assert "within each other" in event.last_error["message"]
    everything = await read.executions(hub.kit, ListExecutions(owner_id=LOCAL_OWNER, limit=200))
    assert len(everything) == MAX_CHILD_DEPTH + 1


async def test_a_child_beside_a_question(hub: HubForTests, tmp_path: Path) -> None:
    event_id = await hub.submit("parent.beside", item="slow", folder=str(tmp_path))
    execution_id = await waits_for_child(hub, event_id, "slow", tmp_path)
    await resume(hub.kit, execution_id, LOCAL_OWNER, answer=10)
    (tmp_path / "open").touch()
    event = await hub.ended(event_id)
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    whole = await hub.whole(execution_id)
    assert whole.payload.get(whole.execution.output) == 14
    assert calls(tmp_path).count("look_up:slow") == 1, "it was started once"


async def test_a_cancel_reaches_the_children(hub: HubForTests, tmp_path: Path) -> None:
    event_id = await hub.submit("parent.one", item="slow", folder=str(tmp_path))
    execution_id = await waits_for_child(hub, event_id, "slow", tmp_path)
    (child,) = await children(hub, execution_id)
    stopped: list[str | None] = []
    hub.kit.bus.listen(CANCEL, lambda notice: stopped.append(notice.execution_id))
    await cancel_event(hub.kit, event_id, LOCAL_OWNER)
    assert stopped == [child.id], "it is told at once"
    assert (await hub.ended(child.event_id)).status is EventStatus.CANCELLED
    assert (await hub.ended(event_id)).status is EventStatus.CANCELLED
    assert (await hub.whole(execution_id)).execution.status is ExecutionStatus.CANCELLED


async def test_cancelling_the_child_fails_its_node(hub: HubForTests, tmp_path: Path) -> None:
    event_id = await hub.submit("parent.one", item="slow", folder=str(tmp_path))
    execution_id = await waits_for_child(hub, event_id, "slow", tmp_path)
    (child,) = await children(hub, execution_id)
    await cancel_event(hub.kit, child.event_id, LOCAL_OWNER)
    event = await hub.ended(event_id)
    assert event.status is EventStatus.FAILED
    assert event.last_error is not None
    assert event.last_error["code"] == "child_failed"
    assert child.id in event.last_error["message"]


async def test_a_child_that_is_too_late_is_cancelled(hub: HubForTests, tmp_path: Path) -> None:
    event, whole = await hub.run("parent.hasty", item="slow", folder=str(tmp_path))
    assert event.status is EventStatus.FAILED
    assert event.last_error is not None
    assert event.last_error["code"] == "wait_expired"
    (child,) = await children(hub, whole.execution.id)
    assert (await hub.ended(child.event_id)).status is EventStatus.CANCELLED


async def test_children_of_children(hub: HubForTests, tmp_path: Path) -> None:
    """A child that waited itself gives its output as any other; sums go all the way down."""
    event, whole = await hub.run("parent.outer", item="tea", folder=str(tmp_path))
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    assert whole.payload.get(whole.execution.output) == {
        "child": {"item": "tea", "price": 3, "version": "1"},
        "draft": "said order tea",
    }
    family = await read.family(hub.kit, whole.execution.id, LOCAL_OWNER)
    view = record_view(whole.execution, whole.steps, whole.attempts, whole.payload, family)
    (child,) = view["children"]
    assert (child["name"], child["step"], child["status"]) == ("parent.one", 1, "succeeded")
    everything = await read.executions(hub.kit, ListExecutions(owner_id=LOCAL_OWNER))
    sums = sum((one.totals for one in everything), Totals())
    assert view["with_children"]["executions"] == len(everything) == 3
    assert view["with_children"]["tokens"]["output"] == sums.tokens_output > 0
    assert view["tokens"]["output"] == 0, "its own sums leave them out"
    assert view["with_children"]["estimated"]


async def test_a_child_is_watched_and_listed_over_http(
    open_hub: OpenHub, database: str, hub_environ: dict[str, str], tmp_path: Path
) -> None:
    await asyncio.to_thread(migrations.upgrade, settings.load(environ=hub_environ).store_url)
    async with holdfast.connect(settings.load(environ=hub_environ)) as client:
        data = {"item": "slow", "folder": str(tmp_path)}
        event_id = (await client.submit("parent.one", data))["id"]
        async with asyncio.timeout(20):
            while not (tmp_path / "calls").exists() or "look_up:slow" not in calls(tmp_path):
                await asyncio.sleep(0.01)
        execution_id = (await client.event(event_id))["execution_id"]
        shown = await client.execution(execution_id)
        assert shown["status"] == "waiting"
        (child,) = shown["children"]
        assert (child["status"], child["step"]) == ("running", 3)
        assert shown["waits"][0]["child"]["event_id"] == child["event_id"]
        (tmp_path / "open").touch()
        told = [(one.type, one.data.get("operation")) async for one in client.follow(execution_id)]
        assert ("step.started", "price_of") in told
        kinds = [kind for kind, _ in told if kind.startswith("execution.")]
        assert kinds[-3:] == ["execution.waiting", "execution.resumed", "execution.finished"]
        page = await client.executions_page(parent_id=execution_id)
        assert [one["id"] for one in page["items"]] == [child["id"]]
        assert (await client.executions_page(parent_id=child["id"]))["items"] == []


async def test_a_child_in_an_included_pipeline_and_a_loop(hub: HubForTests, tmp_path: Path) -> None:
    """Each round starts a child of its own."""
    event, whole = await hub.run("parent.rounds", item="tea", folder=str(tmp_path))
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    assert len(await children(hub, whole.execution.id)) == 3
    assert calls(tmp_path).count("priced:tea") == 3
