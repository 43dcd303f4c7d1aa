"""The saver before its port: what goes together, what goes alone, and who hears of a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from holdfast.domain.checkpoints import Checkpoint, CheckpointsWanted, CheckpointWrites, Saved
from holdfast.engine.saver import PortSaver
from holdfast.engine.serializer import StrictSerializer
from holdfast.errors import PortError
from holdfast.ports import NoCheckpoints

AT: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "1"}}


class Port(NoCheckpoints):
    """Notes what it is asked; each call waits for `open`, and may be refused."""

    def __init__(self) -> None:
        self.asked: list[Sequence[Saved] | str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.refuses: str | None = None

    async def save(self, *, execution_id: str, saved: Sequence[Saved]) -> None:
        self.asked.append(saved)
        await self.open.wait()
        if self.refuses is not None:
            raise PortError(self.refuses)

    async def list(self, *, execution_id: str, wanted: CheckpointsWanted) -> Sequence[Checkpoint]:
        self.asked.append("list")
        return []


@pytest.fixture
async def port() -> Port:
    return Port()


def saver(port: Port, *, new_thread: str | None = None) -> PortSaver:
    return PortSaver(port, "x", StrictSerializer((), "tests"), new_thread=new_thread)


def checkpoint(number: int) -> Any:
    return {
        "v": 4,
        "id": str(number),
        "ts": "",
        "channel_values": {},
        "channel_versions": {},
        "versions_seen": {},
    }


async def put(saver: PortSaver, number: int) -> None:
    await saver.aput(AT, checkpoint(number), {}, {})


def kinds(asked: Sequence[Sequence[Saved] | str]) -> list[Any]:
    return [one if isinstance(one, str) else [type(saved) for saved in one] for one in asked]


async def test_writes_go_with_the_checkpoint_after_them(port: Port) -> None:
    mine = saver(port)
    writes = [asyncio.create_task(mine.aput_writes(AT, [("a", n)], f"task {n}")) for n in range(2)]
    await asyncio.sleep(0)
    port.open.clear()
    putting = asyncio.create_task(put(mine, 2))
    await asyncio.sleep(0)
    assert kinds(port.asked) == [[CheckpointWrites, CheckpointWrites, Checkpoint]]
    await asyncio.sleep(0)
    assert not any(one.done() for one in (*writes, putting)), "nothing is stored yet"
    port.open.set()
    await asyncio.gather(*writes, putting)
    assert len(port.asked) == 1


async def test_writes_go_alone_when_no_checkpoint_comes(port: Port) -> None:
    mine = saver(port)
    await mine.aput_writes(AT, [("a", 1)], "task")
    assert kinds(port.asked) == [[CheckpointWrites]]
    await put(mine, 2)
    assert kinds(port.asked) == [[CheckpointWrites], [Checkpoint]]


async def test_whoever_wrote_hears_that_it_was_refused(port: Port) -> None:
    mine = saver(port)
    port.refuses = "the lease is lost"
    told = await asyncio.gather(
        mine.aput_writes(AT, [("a", 1)], "one"),
        mine.aput_writes(AT, [("a", 1)], "two"),
        put(mine, 2),
        return_exceptions=True,
    )
    assert [str(one) for one in told] == ["the lease is lost"] * 3


async def test_writes_of_a_cancelled_step_go_with_the_next_checkpoint(port: Port) -> None:
    mine = saver(port)
    writing = asyncio.create_task(mine.aput_writes(AT, [("a", 1)], "task"))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait({writing})
    await put(mine, 2)
    assert kinds(port.asked) == [[CheckpointWrites, Checkpoint]]


async def test_what_was_written_is_handed_over_before_it_is_read(port: Port) -> None:
    mine = saver(port)
    writing = asyncio.create_task(mine.aput_writes(AT, [("a", 1)], "task"))
    await asyncio.sleep(0)
    await mine.aget_tuple(AT)
    assert kinds(port.asked) == [[CheckpointWrites], "list"]
    await writing


async def test_no_two_versions_are_alike(port: Port) -> None:
    savers = [saver(port) for _ in range(2)]
    made = [one.get_next_version(None, None) for one in savers for _ in range(20)]
    assert len(set(made)) == 40
    assert min(one.get_next_version(made[0], None) for one in savers) > max(made)


async def test_nothing_is_asked_for_where_nothing_can_be(port: Port) -> None:
    mine = saver(port, new_thread="t")
    assert await mine.aget_tuple(AT) is None
    assert port.asked == []
    await mine.aget_tuple({"configurable": {"thread_id": "another"}})
    assert port.asked == ["list"]
    await put(mine, 1)
    await mine.aget_tuple(AT)
    assert kinds(port.asked) == ["list", [Checkpoint], "list"]
