"""Executions wait, hold no runner, and go on: after an answer, a time, an event, a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holdfast.bus import Notice
from holdfast.bus.base import HALTED
from holdfast.domain.checkpoints import CheckpointsWanted
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.status import EventStatus, ExecutionStatus, StepStatus
from holdfast.errors import (
    AlreadyAnswered,
    IllegalMove,
    InvalidInput,
    NobodyWaits,
    NotFound,
    VersionGone,
)
from holdfast.operations import read
from holdfast.operations.cancel import cancel_event
from holdfast.operations.many import many_executions, whole_pipeline
from holdfast.operations.pause import pause, pause_pipeline, resume_pipeline
from holdfast.operations.progress import follow
from holdfast.operations.resume import migrate, resume
from holdfast.operations.submit import submit
from holdfast.operations.views import execution_view
from holdfast.store.queries import Checkpoints, ListExecutions, WaitsOf
from holdfast.testing.postgres import PostgresForTests

from .conftest import HubForTests, OpenHub, until, until_true


@pytest.fixture
def hub_environ(hub_environ: dict[str, str]) -> dict[str, str]:
    return hub_environ | {
        "HOLDFAST_APPS": "waiting_app",
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
    async with open_hub(in_process=request.param == "in process", runners=1) as opened:
        yield opened


async def halted(hub: HubForTests, event_id: str, status: EventStatus = EventStatus.WAITING) -> str:
    """The execution, once its event stands still."""

    async def stands() -> bool:
        event = await read.event(hub.kit, event_id, LOCAL_OWNER)
        assert event.finished_at is None, event.last_error
        return event.status is status

    await until_true(stands)
    event = await read.event(hub.kit, event_id, LOCAL_OWNER)
    assert event.execution_id is not None
    return event.execution_id


async def holds_no_runner(hub: HubForTests, execution_id: str) -> None:
    """The halt is stored beside the record's way out of the journal: either may come first."""

    async def let_go() -> bool:
        held = any(worker.in_flight for worker in hub.crew.workers)
        return not held and hub.kit.journal.get(execution_id) is None

    await until_true(let_go)


async def answer(hub: HubForTests, execution_id: str, given: Any, wait: str | None = None) -> None:
    await resume(hub.kit, execution_id, LOCAL_OWNER, answer=given, wait=wait)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().split()


async def test_a_human_checkpoint_waits_and_goes_on_as_the_same_execution(
    hub: HubForTests, tmp_path: Path
) -> None:
    event_id = await hub.submit("wait.buying", item="tea", folder=str(tmp_path))
    execution_id = await halted(hub, event_id)
    await holds_no_runner(hub, execution_id)
    before = await hub.whole(execution_id)
    assert before.execution.status is ExecutionStatus.WAITING
    assert [step.status for step in before.steps][-1] is StepStatus.RUNNING
    (wait,) = execution_view(before.execution)["waits"]
    assert (wait["name"], wait["question"]) == ("approve", "Buy it for 3?")
    assert wait["schema"]["required"] == ["yes"]

    await answer(hub, execution_id, {"yes": True, "why": "thirsty"})
    event = await hub.ended(event_id)
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    assert (event.execution_id, event.deliveries, event.crashes) == (execution_id, 1, 0)
    whole = await hub.whole(execution_id)
    assert [(step.step, step.operation) for step in whole.steps] == [
        (1, "price"),
        (2, "draft"),
        (3, "approve"),
        (4, "buy"),
    ]
    assert {step.status for step in whole.steps} == {StepStatus.SUCCEEDED}
    assert whole.payload.get(whole.execution.output) == {
        "bought": True,
        "why": "thirsty",
        "price": 3,
        "draft": "said Buy tea for 3",
    }
    assert whole.payload.get(whole.steps[1].output)
    assert (whole.execution.steps_total, whole.execution.steps_succeeded) == (4, 4)
    assert whole.execution.totals == before.execution.totals, "the draft is counted once"
    numbers = [n for step in whole.steps for n in (step.seq, step.end_seq)]
    assert len(set(numbers)) == len(numbers), "change numbers go on counting"
    assert calls(tmp_path) == ["price", "buy"], "what was done is not done again"
    left = await hub.kit.store.read(Checkpoints(LOCAL_OWNER, CheckpointsWanted(thread_id=event_id)))
    assert left == [], "checkpoints are pruned at the end"
    assert await hub.kit.store.read(WaitsOf(event_id, LOCAL_OWNER)) == []


async def test_answers_are_checked_and_only_the_first_is_taken(
    hub: HubForTests, tmp_path: Path
) -> None:
    execution_id = await halted(
        hub, await hub.submit("wait.buying", item="tea", folder=str(tmp_path))
    )
    with pytest.raises(InvalidInput) as wrong:
        await answer(hub, execution_id, {"yes": "perhaps", "extra": 1})
    assert {one["field"] for one in wrong.value.fields} == {"answer.yes", "answer.extra"}
    with pytest.raises(InvalidInput, match="waits for an answer"):
        await resume(hub.kit, execution_id, LOCAL_OWNER)
    with pytest.raises(NotFound):
        await answer(hub, execution_id, {"yes": True}, wait="somebody")
    with pytest.raises(NotFound):
        await resume(hub.kit, execution_id, "eve", answer={"yes": True})
    await answer(hub, execution_id, {"yes": False})
    with pytest.raises(AlreadyAnswered):
        await answer(hub, execution_id, {"yes": True})
    event = await hub.ended((await hub.whole(execution_id)).execution.event_id)
    whole = await hub.whole(event.execution_id or "")
    assert whole.payload.get(whole.execution.output)["bought"] is False
    with pytest.raises(IllegalMove):
        await answer(hub, execution_id, {"yes": True})


async def test_several_waits_are_answered_one_by_one(hub: HubForTests, tmp_path: Path) -> None:
    event_id = await hub.submit("wait.both", folder=str(tmp_path))
    execution_id = await halted(hub, event_id)
    with pytest.raises(InvalidInput, match="2 answers"):
        await answer(hub, execution_id, "x")
    await answer(hub, execution_id, "2", wait="second")

    async def one_left() -> bool:
        event = await read.event(hub.kit, event_id, LOCAL_OWNER)
        waits = await hub.kit.store.read(WaitsOf(event_id, LOCAL_OWNER))
        return event.status is EventStatus.WAITING and len(waits) == 1

    await until_true(one_left)
    await answer(hub, execution_id, "1")
    event = await hub.ended(event_id)
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    whole = await hub.whole(execution_id)
    assert whole.payload.get(whole.execution.output) == "1 2 third"
    assert calls(tmp_path) == ["third"], "a branch that was done is not done again"
    assert len({step.operation for step in whole.steps}) == len(whole.steps)


async def test_a_foreign_graphs_interrupts_are_free_questions(hub: HubForTests) -> None:
    event_id = await hub.submit("wait.foreign", messages=[{"role": "user", "content": "hi"}])
    execution_id = await halted(hub, event_id)
    view = execution_view((await hub.whole(execution_id)).execution)
    assert [wait["question"] for wait in view["waits"]] == ["which one?"]
    await answer(hub, execution_id, "red")

    async def second() -> bool:
        event = await read.event(hub.kit, event_id, LOCAL_OWNER)
        if event.status is not EventStatus.WAITING:
            return False
        view = execution_view((await hub.whole(execution_id)).execution)
        return view["waits"][0]["question"] == {"and": "red"}

    await until_true(second)
    await answer(hub, execution_id, "blue")
    event = await hub.ended(event_id)
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    whole = await hub.whole(execution_id)
    messages = whole.payload.get(whole.execution.output)["messages"]
    assert [one["content"] for one in messages] == ["hi", "before", "red blue"]


async def test_an_event_answers_who_waits_for_it(hub: HubForTests) -> None:
    with pytest.raises(NobodyWaits):
        await hub.submit("payment", amount=1)
    tea = await hub.submit("wait.paid", item="tea")
    pie = await hub.submit("wait.paid", item="pie")
    await halted(hub, tea)
    await halted(hub, pie)
    with pytest.raises(NobodyWaits, match="about ham"):
        await submit(
            hub.kit, owner_id=LOCAL_OWNER, type="payment", data={"amount": 1}, subject="ham"
        )
    with pytest.raises(NobodyWaits):
        await submit(hub.kit, owner_id="eve", type="payment", data={"amount": 1}, subject="tea")
    sent = await submit(
        hub.kit, owner_id=LOCAL_OWNER, type="payment", data={"amount": 7}, subject="tea"
    )
    assert (sent.status, sent.answered) == (EventStatus.SUCCEEDED, (tea,))
    event = await hub.ended(tea)
    whole = await hub.whole(event.execution_id or "")
    assert whole.payload.get(whole.execution.output) == {"paid": 7}
    assert (await read.event(hub.kit, pie, LOCAL_OWNER)).status is EventStatus.WAITING


async def test_a_waiting_execution_is_cancelled_at_once(hub: HubForTests, tmp_path: Path) -> None:
    event_id = await hub.submit("wait.buying", item="tea", folder=str(tmp_path))
    execution_id = await halted(hub, event_id)
    told = await cancel_event(hub.kit, event_id, LOCAL_OWNER)
    assert told.status is EventStatus.CANCELLED
    whole = await hub.whole(execution_id)
    assert whole.execution.status is ExecutionStatus.CANCELLED
    assert whole.steps[-1].status is StepStatus.CANCELLED
    with pytest.raises(IllegalMove):
        await answer(hub, execution_id, {"yes": True})


async def test_a_stream_tells_of_halts(hub: HubForTests, tmp_path: Path) -> None:
    event_id = await hub.submit("wait.buying", item="tea", folder=str(tmp_path))
    execution_id = await halted(hub, event_id)
    told: list[tuple[int | None, str]] = []
    async for entry in follow(hub.kit, execution_id, LOCAL_OWNER):
        told.append((entry.seq, entry.type))
        if entry.type == "execution.waiting":
            await answer(hub, execution_id, {"yes": True})
    kinds = [kind for _, kind in told if kind not in ("tokens", "heartbeat")]
    at = kinds.index("execution.waiting")
    assert kinds[at : at + 2] == ["execution.waiting", "execution.resumed"]
    assert kinds[-1] == "execution.finished"
    numbers = [seq for seq, _ in told if seq is not None]
    assert numbers == sorted(set(numbers))
    again = [entry.type async for entry in follow(hub.kit, execution_id, LOCAL_OWNER)]
    assert again == kinds, "read later it is the same"


async def test_a_running_execution_is_paused_before_its_next_step(
    hub: HubForTests, tmp_path: Path
) -> None:
    event_id = await hub.submit("wait.slow", folder=str(tmp_path))
    await until(tmp_path / "begun")
    running = (await hub.executions(event_id))[0]
    await pause(hub.kit, running.id, LOCAL_OWNER)
    (tmp_path / "open").touch()
    await halted(hub, event_id, EventStatus.PAUSED)
    assert calls(tmp_path) == ["begin"]
    with pytest.raises(InvalidInput, match="takes no answer"):
        await answer(hub, running.id, "x")
    with pytest.raises(IllegalMove):
        await pause(hub.kit, running.id, LOCAL_OWNER)
    await resume(hub.kit, running.id, LOCAL_OWNER)
    event = await hub.ended(event_id)
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    assert calls(tmp_path) == ["begin", "finish"]
    assert [one.id for one in await hub.executions(event_id)] == [running.id]


async def test_what_has_no_checkpoints_is_not_paused(open_hub: OpenHub, tmp_path: Path) -> None:
    async with open_hub(runners=1, apps="spine_app") as hub:
        event_id = await hub.submit("test.gated", folder=str(tmp_path))
        await until(tmp_path / "pid-1")
        running = (await hub.executions(event_id))[0]
        with pytest.raises(IllegalMove, match="no checkpoints"):
            await pause(hub.kit, running.id, LOCAL_OWNER)
        (tmp_path / "open").touch()
        assert (await hub.ended(event_id)).status is EventStatus.SUCCEEDED


async def test_a_paused_pipeline_starts_nothing_and_survives_a_restart(
    open_hub: OpenHub, tmp_path: Path
) -> None:
    async with open_hub(in_process=True) as hub:
        await pause_pipeline(hub.kit, "wait.hasty", LOCAL_OWNER)
        event_id = await hub.submit("wait.hasty")
    async with open_hub(in_process=True) as hub:
        other = await hub.submit("wait.sleepy")
        await halted(hub, other)
        assert (await read.event(hub.kit, event_id, LOCAL_OWNER)).status is EventStatus.QUEUED
        await resume_pipeline(hub.kit, "wait.hasty")
        await halted(hub, event_id)


async def test_many_are_cancelled_by_a_filter(open_hub: OpenHub, tmp_path: Path) -> None:
    async with open_hub(in_process=True) as hub:
        ids = [await hub.submit("wait.hasty") for _ in range(3)]
        other = await hub.submit("wait.sleepy")
        for event_id in (*ids, other):
            await halted(hub, event_id)
        wanted = ListExecutions(owner_id=LOCAL_OWNER, name="wait.hasty")
        counted = await many_executions(hub.kit, "cancel", wanted, dry_run=True)
        assert (counted.matched, counted.done) == (3, 0)
        done = await many_executions(hub.kit, "cancel", wanted, dry_run=False)
        assert (done.matched, done.done, done.refused) == (3, 3, [])
        for event_id in ids:
            event = await read.event(hub.kit, event_id, LOCAL_OWNER)
            assert event.status is EventStatus.CANCELLED
        await pause_pipeline(hub.kit, "wait.sleepy", LOCAL_OWNER)
        queued = await hub.submit("wait.sleepy")
        whole = await whole_pipeline(hub.kit, "cancel", "wait.sleepy", LOCAL_OWNER)
        assert (whole.matched, whole.done) == (2, 2)
        assert (await read.event(hub.kit, queued, LOCAL_OWNER)).status is EventStatus.CANCELLED


async def test_timers_wake_and_waits_expire_by_the_stores_clock(
    open_hub: OpenHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import holdfast.app as app
    from holdfast.domain.ids import MICROS, now_us
    from holdfast.store.registry import open_store

    ahead = [0]

    def with_clock(url: str, **options: Any) -> Any:
        return open_store(url, clock=lambda: now_us() + ahead[0], **options)

    monkeypatch.setattr(app, "open_store", with_clock)
    async with open_hub(in_process=True) as hub:
        asleep = await hub.submit("wait.sleepy")
        asked = await hub.submit("wait.hasty")
        unpaid = await hub.submit("wait.paid", item="tea")
        for event_id in (asleep, asked, unpaid):
            await halted(hub, event_id)
        ahead[0] = 3599 * MICROS - 60 * MICROS
        hub.kit.bus.publish(Notice(HALTED))
        await halted(hub, asleep)
        ahead[0] = 3601 * MICROS
        hub.kit.bus.publish(Notice(HALTED))
        assert (await hub.ended(asleep)).status is EventStatus.SUCCEEDED
        for event_id in (asked, unpaid):
            event = await hub.ended(event_id)
            assert event.status is EventStatus.FAILED
            assert event.last_error is not None
            assert event.last_error["code"] == "wait_expired"


async def test_a_wait_survives_a_restart_and_new_code_of_the_same_version(
    open_hub: OpenHub, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_hub(runners=1) as hub:
        event_id = await hub.submit("wait.buying", item="tea", folder=str(tmp_path))
        execution_id = await halted(hub, event_id)
    import waiting_app

    monkeypatch.setattr(waiting_app.buying, "code_version", "othercode")
    async with open_hub(in_process=True) as hub:
        await answer(hub, execution_id, {"yes": True})
        event = await hub.ended(event_id)
        assert event.status is EventStatus.SUCCEEDED, event.last_error
        whole = await hub.whole(execution_id)
        ((old, new),) = whole.execution.flags["code_changed"]
        assert (old == whole.execution.code_version, new) == (True, "othercode")
        assert calls(tmp_path) == ["price", "buy"]


async def test_another_version_refuses_until_it_is_told_to_go_on(
    open_hub: OpenHub, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import waiting_app

    async with open_hub(in_process=True) as hub:
        event_id = await hub.submit("wait.buying", item="tea", folder=str(tmp_path))
        execution_id = await halted(hub, event_id)
        asleep = await hub.submit("wait.buying", item="pie", folder=str(tmp_path))
        answered = await halted(hub, asleep)
        await pause_pipeline(hub.kit, "wait.buying", LOCAL_OWNER)
        await answer(hub, answered, {"yes": False})  # and then it is not claimed any more
    monkeypatch.setattr(waiting_app.buying, "version", "2")
    async with open_hub(in_process=True) as hub:
        with pytest.raises(VersionGone, match="version 1"):
            await answer(hub, execution_id, {"yes": True})
        await resume_pipeline(hub.kit, "wait.buying")
        await halted(hub, asleep)
        set_aside = await read.event(hub.kit, asleep, LOCAL_OWNER)
        assert set_aside.last_error is not None
        assert set_aside.last_error["code"] == "version_gone"
        with pytest.raises(VersionGone, match="not loaded"):
            await migrate(hub.kit, execution_id, LOCAL_OWNER, "3")
        await migrate(hub.kit, execution_id, LOCAL_OWNER, "2")
        assert (await read.event(hub.kit, event_id, LOCAL_OWNER)).status is EventStatus.WAITING
        await answer(hub, execution_id, {"yes": True})
        assert (await hub.ended(event_id)).status is EventStatus.SUCCEEDED
        await migrate(hub.kit, answered, LOCAL_OWNER, "2")
        event = await hub.ended(asleep)
        assert event.status is EventStatus.SUCCEEDED, "its answer was kept"
