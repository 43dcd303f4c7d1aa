"""Following an execution: in order, from any number on, the same live and stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from holdfast.domain.status import ExecutionStatus
from holdfast.errors import NotFound
from holdfast.operations import progress, read
from holdfast.operations.export import export_execution
from holdfast.operations.progress import Entry, entries, follow

from .conftest import LOCAL_OWNER, Desk, tries


async def all_of(desk: Desk, execution_id: str, after: int = -1) -> list[Entry]:
    async with asyncio.timeout(10):
        return [entry async for entry in follow(desk.kit, execution_id, LOCAL_OWNER, after)]


class Follower:
    """Reads along in the background."""

    def __init__(self, desk: Desk, execution_id: str, after: int = -1) -> None:
        self.seen: list[Entry] = []
        self._changed = asyncio.Event()
        self.task = asyncio.create_task(
            self._read(follow(desk.kit, execution_id, LOCAL_OWNER, after))
        )

    async def _read(self, source: AsyncIterator[Entry]) -> None:
        async with aclosing(source) as stream:  # type: ignore[type-var]
            async for entry in stream:
                self.seen.append(entry)
                self._changed.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.seen) < count:
                self._changed.clear()
                await self._changed.wait()


def numbers(found: list[Entry]) -> list[int]:
    return [entry.seq for entry in found if entry.seq is not None]


async def test_it_tells_in_order_what_happened_and_ends_with_the_end(desk: Desk) -> None:
    running = await desk.begun()
    desk.tell(running, tries(running.id))
    await desk.store(running)
    found = await all_of(desk, running.id)
    step = [
        "step.started",
        "attempt.started",
        "attempt.finished",
        "attempt.started",
        "attempt.finished",
        "step.finished",
    ]
    assert [one.type for one in found] == ["execution.started", *step, *step, "execution.finished"]
    assert numbers(found) == sorted(set(numbers(found)))
    assert found[-1].data["output"] == {"answer": "all of it"}
    assert found[-1].data["status"] == "succeeded"


async def test_from_any_number_on_it_tells_exactly_the_rest(desk: Desk) -> None:
    running = await desk.begun()
    desk.tell(running, tries(running.id, steps=3))
    await desk.store(running)
    whole = await all_of(desk, running.id)
    for after in range(-1, running.seq + 2):
        rest = await all_of(desk, running.id, after)
        assert rest == [one for one in whole if one.seq is not None and one.seq > after]


async def test_live_it_tells_the_same_as_afterwards(desk: Desk) -> None:
    running = await desk.begun()
    follower = Follower(desk, running.id)
    await follower.until(1)
    for raw in tries(running.id):
        desk.tell(running, [raw])
        await asyncio.sleep(0)  # the follower reads after each change
    await desk.store(running)
    await asyncio.wait_for(follower.task, 10)
    assert follower.seen == await all_of(desk, running.id)


async def test_one_who_comes_back_at_any_moment_misses_nothing_and_gets_nothing_twice(
    desk: Desk,
) -> None:
    running = await desk.begun()
    changes = tries(running.id)
    followers: list[Follower] = []
    heard: list[list[Entry]] = []
    for at in range(len(changes) + 1):
        # One who heard some entries, went away, and comes back with the last number.
        whole = await read.execution(desk.kit, running.id, LOCAL_OWNER)
        before = [one for one in entries(whole, -1) if one.type != "execution.finished"]
        cut = before[: len(before) * (at % 3 + 1) // 3]
        heard.append(cut)
        last = cut[-1].seq if cut else -1
        assert last is not None
        followers.append(Follower(desk, running.id, last))
        await asyncio.sleep(0)
        if at < len(changes):
            desk.tell(running, [changes[at]])
    await desk.store(running)
    stored = await all_of(desk, running.id)
    for cut, follower in zip(heard, followers, strict=True):
        await asyncio.wait_for(follower.task, 10)
        assert [*cut, *follower.seen] == stored


async def test_its_end_is_told_only_once_it_is_stored(desk: Desk) -> None:
    running = await desk.begun()
    follower = Follower(desk, running.id)
    desk.tell(running, tries(running.id))
    await follower.until(13)
    assert follower.seen[-1].type == "step.finished"
    await desk.store(running)
    await asyncio.wait_for(follower.task, 10)
    assert follower.seen[-1].type == "execution.finished"


async def test_streamed_text_is_told_in_pieces_and_a_late_follower_gets_it_so_far(
    desk: Desk,
) -> None:
    running = await desk.begun()
    changes = tries(running.id)
    early = Follower(desk, running.id)
    desk.tell(running, changes[:2])
    desk.kit.journal.tokens(running.id, 1, "one ")
    await early.until(4)
    desk.kit.journal.tokens(running.id, 1, "two ")
    await early.until(5)
    late = Follower(desk, running.id, 2)
    await late.until(1)
    desk.kit.journal.tokens(running.id, 1, "three")
    await early.until(6)
    await late.until(2)

    def told(follower: Follower) -> list[tuple[str, bool]]:
        return [(e.data["text"], e.data["so_far"]) for e in follower.seen if e.type == "tokens"]

    assert told(early) == [("one ", True), ("two ", False), ("three", False)]
    assert told(late) == [("one two ", True), ("three", False)]
    # The next try begins its text anew.
    desk.tell(running, changes[2:4])
    desk.kit.journal.tokens(running.id, 1, "again")
    await early.until(9)
    assert told(early)[-1] == ("again", True)
    desk.tell(running, changes[4:])
    await desk.store(running)
    await asyncio.wait_for(asyncio.gather(early.task, late.task), 10)
    assert all(one.seq is None for one in early.seen if one.type == "tokens")


async def test_somebody_elses_execution_cannot_be_followed(desk: Desk) -> None:
    running = await desk.begun()
    desk.tell(running, tries(running.id)[:3])
    for _ in range(2):
        with pytest.raises(NotFound):
            async for _ in follow(desk.kit, running.id, "somebody else"):
                pass
        with pytest.raises(NotFound):
            await read.execution(desk.kit, running.id, "somebody else")
        with pytest.raises(NotFound):
            await export_execution(desk.kit, running.id, "somebody else")
        if running.finished is None:
            desk.tell(running, tries(running.id)[3:])
            await desk.store(running)
    with pytest.raises(NotFound):
        await all_of(desk, "nobody")
    assert desk.kit.journal._watchers == {}


async def test_one_claimed_but_not_begun_is_waited_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "HEARTBEAT_S", 0.01)
    await desk.submit()
    claimed = await desk.claim()
    follower = Follower(desk, claimed.execution_id)
    await follower.until(2)
    assert [one.type for one in follower.seen[:2]] == ["execution.started", "heartbeat"]
    running = desk.begin(claimed)
    desk.tell(running, tries(running.id))
    await desk.store(running)
    await asyncio.wait_for(follower.task, 10)
    told = [one for one in follower.seen if one.type != "heartbeat"]
    assert told == await all_of(desk, running.id)


async def test_a_crash_is_told_like_any_end(desk: Desk) -> None:
    running = await desk.begun()
    follower = Follower(desk, running.id)
    desk.tell(running, tries(running.id)[:3])
    await follower.until(4)
    error = {"code": "runner_lost", "message": "gone"}
    assert desk.kit.journal.break_off(running.id, ExecutionStatus.CRASHED, error) is running
    await desk.store(running)
    await asyncio.wait_for(follower.task, 10)
    assert follower.seen == await all_of(desk, running.id)
    assert follower.seen[-1].data["status"] == "crashed"
    assert follower.seen[-2].data["error"] == error


async def test_an_export_has_everything_and_is_plain_json(desk: Desk) -> None:
    import orjson

    running = await desk.begun(data={"text": "x", "number": 7})
    desk.tell(running, tries(running.id))
    await desk.store(running)
    exported = await export_execution(desk.kit, running.id, LOCAL_OWNER)
    assert orjson.loads(orjson.dumps(exported)) == exported
    assert exported["format"] == "holdfast.execution/1"
    assert exported["event"]["data"] == {"text": "x", "number": 7}
    execution: dict[str, Any] = exported["execution"]
    assert execution["input"] == {"text": "x", "number": 7}
    assert execution["output"] == {"answer": "all of it"}
    step, _ = execution["steps"]
    assert step["input"]["text"].startswith("a question 0")
    failed, answered = step["attempts"]
    assert failed["error"]["type"] == "TimeoutError"
    assert failed["tokens"]["usage"] == "unknown"
    assert answered["prompt_system"] == "Be brief."
    assert answered["prompt_user"].startswith("a question 0")
    assert answered["messages"] == [answered["prompt_user"]]
    assert answered["raw_response"] == {"content": "answer 0"}
    assert answered["validation"]["outcome"] == "valid"
    assert execution["tokens"]["input"] == 20
    assert execution["unknown"]["usage"] == 2


async def test_a_running_one_is_shown_as_it_stands_and_only_to_its_owner(desk: Desk) -> None:
    running = await desk.begun()
    desk.tell(running, tries(running.id)[:3])
    whole = await read.execution(desk.kit, running.id, LOCAL_OWNER)
    assert (whole.execution.status, len(whole.steps), len(whole.attempts)) == ("running", 1, 1)
    assert (await read.summary(desk.kit, running.id, LOCAL_OWNER)).steps_total == 1
    with pytest.raises(NotFound):
        await read.summary(desk.kit, running.id, "somebody else")
