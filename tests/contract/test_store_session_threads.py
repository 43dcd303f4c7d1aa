"""What a session's graph begins its next turn with: stored with the outcome, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.domain.checkpoints import Checkpoint, CheckpointsWanted, Saved, Value
from holdfast.domain.events import Claimed
from holdfast.domain.status import ExecutionStatus
from holdfast.store import Store
from holdfast.store.commands import Finish
from holdfast.store.queries import Checkpoints

SESSION = "session-1"


def checkpoint(id_: str, *, ns: str = "", thread: str = SESSION, said: str = "x") -> Checkpoint:
    return Checkpoint(
        thread_id=thread,
        ns=ns,
        id=id_,
        parent_id=None,
        value=Value("msgpack", b"c"),
        metadata={"step": 1},
        versions={"messages": f"{id_}.v"},
        values={"messages": Value("msgpack", said.encode())},
    )


async def finish(store: Store, make: Any, claimed: Claimed, *saved: Saved, **fields: Any) -> str:
    record = make.record(claimed, saved=saved, **fields)
    return (await store.write(Finish(record))).outcome


async def kept(store: Store, thread: str = SESSION, owner: str = "local") -> list[tuple[str, str]]:
    found = await store.read(Checkpoints(owner, CheckpointsWanted(thread_id=thread)))
    return sorted((one.ns, one.id) for one in found)


async def test_a_success_brings_its_thread_on_and_only_the_newest_stays(
    store: Store, make: Any
) -> None:
    for id_ in ("1", "2", "3"):
        claimed = await make.running()
        done = await finish(store, make, claimed, checkpoint(id_), checkpoint(id_, ns="memory"))
        assert done == "applied"
    assert await kept(store) == [("", "3"), ("memory", "3")]
    (whole, _) = await store.read(Checkpoints("local", CheckpointsWanted(thread_id=SESSION)))
    assert whole.values["messages"].body == b"x"
    assert await kept(store, owner="eve") == []


async def test_what_belonged_to_one_task_of_a_turn_goes_with_it(store: Store, make: Any) -> None:
    claimed = await make.running()
    await finish(store, make, claimed, checkpoint("1"), checkpoint("1", ns="sub:task-7"))
    assert await kept(store) == [("", "1")]


@pytest.mark.parametrize(
    "status", [ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT, ExecutionStatus.CRASHED]
)
async def test_what_does_not_succeed_leaves_the_thread_as_it_was(
    store: Store, make: Any, status: ExecutionStatus
) -> None:
    await finish(store, make, await make.running(), checkpoint("1", said="one"))
    claimed = await make.running()
    error = {"code": "x", "message": "x"}
    execution = make.execution(claimed, status=status, error=error, output=None)
    await finish(store, make, claimed, checkpoint("2", said="two"), execution=execution)
    assert await kept(store) == [("", "1")]


async def test_what_has_lost_its_lease_leaves_the_thread_as_it_was(store: Store, make: Any) -> None:
    claimed = await make.running()
    assert await finish(store, make, claimed, checkpoint("1"), fence=99) == "superseded"
    assert await kept(store) == []


async def test_nothing_stays_under_the_event_itself(store: Store, make: Any) -> None:
    claimed = await make.running()
    await finish(store, make, claimed, checkpoint("1", thread=claimed.event_id))
    assert await kept(store, thread=claimed.event_id) == []


async def test_the_same_record_twice_changes_nothing(store: Store, make: Any) -> None:
    claimed = await make.running()
    for _ in range(2):
        assert await finish(store, make, claimed, checkpoint("1")) == "applied"
    assert await kept(store) == [("", "1")]
