"""Children start with their parent's halt and answer it with their end, in one transaction."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.domain.events import CHILD, MAX_EVENT_BYTES, Claimed, Event
from holdfast.domain.executions import Record, Totals
from holdfast.domain.halts import ChildRun, Halt, Wait, WaitKind
from holdfast.domain.ids import new_id
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.errors import AlreadyAnswered, IllegalMove, NotFound
from holdfast.store import Store
from holdfast.store.commands import (
    Answer,
    Cancel,
    Claim,
    Finish,
    Finished,
    Reap,
    TakeBack,
    Unpause,
)
from holdfast.store.queries import EventById, FamilyOf, ListEvents, WaitsOf

ASK = Wait(id="ask", kind=WaitKind.ANSWER, name="ask")


def wait(event_id: str, id_: str = "w1", **fields: Any) -> Wait:
    child = ChildRun(pipeline="quote", data='{"n": 2}', event_id=event_id, step=1, **fields)
    return Wait(id=id_, kind=WaitKind.CHILD, name="quoted", child=child)


def halt(make: Any, of: Claimed, *waits: Wait, **fields: Any) -> Record:
    status = fields.pop("status", ExecutionStatus.WAITING)
    part = 0 if of.halt is None else of.halt.part
    values: dict[str, Any] = {
        "part": part + 1,
        "steps": 0,
        "texts": 2 * (part + 1),
        "seq": 4,
        "started_at": of.started_at,
        "code_version": "c1",
        "counts": {},
        "totals": Totals(),
        "flags": {},
        "stops": [{"waits": []}],
    }
    return make.record(
        of, status, waits=waits, halt=Halt(**values), part=part, steps=(), attempts=(), **fields
    )


async def claimed(make: Any, target: str, **fields: Any) -> Claimed:
    (found,) = await make.claimed(versions={target: ("g1", "c1")}, **fields)
    return found


async def waiting(make: Any, *waits: Wait) -> Claimed:
    """A parent that stands still."""
    parent = await make.running()
    await make.store.write(Finish(halt(make, parent, *waits)))
    return parent


async def event(store: Store, id_: str) -> Event:
    return await store.read(EventById(id_, "local"))


async def test_a_child_is_stored_with_the_halt_that_waits_for_it(store: Store, make: Any) -> None:
    await make.submitted(priority=7, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    (parent,) = await make.claimed()
    child_id = new_id()
    done: Finished = await store.write(Finish(halt(make, parent, wait(child_id))))
    assert [(one.event_id, one.status) for one in done.others] == [(child_id, EventStatus.QUEUED)]
    child = await event(store, child_id)
    assert (child.parent_id, child.origin) == (parent.execution_id, CHILD)
    assert (child.target, child.data, child.owner_id) == ("quote", {"n": 2}, "local")
    assert (child.priority, child.traceparent) == (7, parent.traceparent)
    (given,) = await store.read(WaitsOf(parent.event_id, "local"))
    assert given.wait.child is not None
    assert given.wait.child.data is None, "the data stands in the child's event only"
    run = await claimed(make, "quote")
    assert (run.parent_id, run.origin) == (parent.execution_id, CHILD)


async def test_a_child_may_have_a_priority_of_its_own(store: Store, make: Any) -> None:
    child_id = new_id()
    await waiting(make, wait(child_id, priority=-3))
    assert (await event(store, child_id)).priority == -3


async def test_a_parent_that_waits_for_a_child_takes_no_answer(store: Store, make: Any) -> None:
    parent = await waiting(make, wait(new_id()))
    for wait_id in (None, "w1"):
        given = Answer(event_id=parent.event_id, owner_id="local", wait_id=wait_id, given=1)
        with pytest.raises((IllegalMove, NotFound)) as refused:
            await store.write(given)
        assert not isinstance(refused.value, AlreadyAnswered)


async def test_a_superseded_parent_starts_nobody(store: Store, make: Any) -> None:
    parent = await make.running(lease_us=-1)
    await store.write(Reap(lease_owner="boot-2"))
    done = await store.write(Finish(halt(make, parent, wait(new_id()))))
    assert (done.outcome, done.others) == ("superseded", ())
    assert len(await store.read(ListEvents(owner_id="local"))) == 1


async def test_a_halt_that_is_stored_twice_starts_one_child(store: Store, make: Any) -> None:
    parent = await make.running()
    await store.write(Finish(halt(make, parent, wait(new_id()))))
    await store.write(Finish(halt(make, parent, wait(new_id()))))  # a journal that is read again
    assert len(await store.read(ListEvents(owner_id="local", target="quote"))) == 1


async def succeeds(make: Any, child_id: str) -> None:
    await make.store.write(Finish(make.record(await claimed(make, "quote"))))


async def echoes(make: Any, child_id: str) -> None:
    child = await claimed(make, "quote")
    execution = make.execution(child, output=0)
    await make.store.write(Finish(make.record(child, execution=execution)))


async def fails(make: Any, child_id: str) -> None:
    child = await claimed(make, "quote")
    error = {"code": "step_failed", "message": "no"}
    execution = make.execution(child, status=ExecutionStatus.FAILED, error=error)
    await make.store.write(Finish(make.record(child, execution=execution)))


async def is_too_large(make: Any, child_id: str) -> None:
    entries = (["e"], ["v", "x" * MAX_EVENT_BYTES])
    await make.store.write(Finish(make.record(await claimed(make, "quote"), entries=entries)))


async def is_cancelled_in_the_queue(make: Any, child_id: str) -> None:
    await make.store.write(Cancel(child_id, "local"))


async def is_cancelled_while_it_waits(make: Any, child_id: str) -> None:
    await make.store.write(Finish(halt(make, await claimed(make, "quote"), ASK)))
    await make.store.write(Cancel(child_id, "local"))


async def is_cancelled_while_it_runs(make: Any, child_id: str) -> None:
    child = await claimed(make, "quote")
    await make.store.write(Cancel(child_id, "local"))
    await make.store.write(Finish(make.record(child, ExecutionStatus.CANCELLED)))


async def dies_three_times(make: Any, child_id: str) -> None:
    for _ in range(2):
        child = await claimed(make, "quote")
        await make.store.write(Finish(make.record(child, ExecutionStatus.CRASHED)))
    await claimed(make, "quote", lease_us=-1)
    await make.store.write(Reap(lease_owner="boot-2"))


async def is_cancelled_and_its_hub_dies(make: Any, child_id: str) -> None:
    await claimed(make, "quote", lease_owner="boot-3")
    await make.store.write(Cancel(child_id, "local"))
    await make.store.write(TakeBack("boot-3"))


@pytest.mark.parametrize(
    ("way", "told"),
    [
        (succeeds, {"output": "an answer"}),
        (echoes, {"output": {"n": 2}}),
        (fails, "step_failed"),
        (is_too_large, "output_too_large"),
        (is_cancelled_in_the_queue, "cancelled"),
        (is_cancelled_while_it_waits, "cancelled"),
        (is_cancelled_while_it_runs, "cancelled"),
        (dies_three_times, "runner_lost"),
        (is_cancelled_and_its_hub_dies, "cancelled"),
    ],
)
async def test_every_way_to_rest_answers_the_parent(
    store: Store, make: Any, way: Any, told: Any
) -> None:
    child_id = new_id()
    parent = await waiting(make, wait(child_id))
    await way(make, child_id)
    child = await event(store, child_id)
    assert (await event(store, parent.event_id)).status is EventStatus.QUEUED
    again = await claimed(make, "triage")
    answer = again.answers["w1"]
    who = {
        "event_id": child_id,
        "execution_id": child.execution_id,
        "status": child.status.value,
    }
    assert answer["child"] == who
    assert again.children == {"w1": child_id}
    if isinstance(told, dict):
        assert answer == {"child": who, **told}
    else:
        assert answer["error"]["code"] == told


async def test_a_group_is_woken_by_its_last_child(store: Store, make: Any) -> None:
    ids = [new_id(), new_id(), new_id()]
    parent = await waiting(
        make,
        wait(ids[0], "w1", group="map"),
        wait(ids[1], "w2", group="map"),
        wait(ids[2], "w3", group="other"),
    )
    await store.write(Cancel(ids[0], "local"))
    assert (await event(store, parent.event_id)).status is EventStatus.WAITING
    done = await store.write(Cancel(ids[1], "local"))
    assert [(one.event_id, one.status) for one in done.others] == [
        (parent.event_id, EventStatus.QUEUED)
    ]
    again = await claimed(make, "triage")
    assert set(again.answers) == {"w1", "w2"}
    assert set(again.children) == {"w1", "w2", "w3"}


async def test_a_failure_that_can_be_mended_wakes_at_once(store: Store, make: Any) -> None:
    ids = [new_id(), new_id()]
    parent = await waiting(make, wait(ids[0], "w1", eager=True), wait(ids[1], "w2", eager=True))
    await store.write(Cancel(ids[0], "local"))
    assert (await event(store, parent.event_id)).status is EventStatus.QUEUED


async def test_an_end_while_the_parent_runs_is_found_when_it_halts(store: Store, make: Any) -> None:
    child_id = new_id()
    parent = await waiting(make, ASK, wait(child_id))
    await store.write(
        Answer(event_id=parent.event_id, owner_id="local", wait_id="ask", given="yes")
    )
    again = await claimed(make, "triage")
    assert set(again.answers) == {"ask"}
    await succeeds(make, child_id)
    assert (await event(store, parent.event_id)).status is EventStatus.RUNNING
    done = await store.write(Finish(halt(make, again, wait(child_id))))
    assert parent.event_id in {one.event_id for one in done.others}
    last = await claimed(make, "triage")
    assert last.answers["w1"]["output"] == "an answer"
    assert len(await store.read(ListEvents(owner_id="local", target="quote"))) == 1


async def test_children_of_a_paused_parent_go_on(store: Store, make: Any) -> None:
    child_id = new_id()
    parent = await waiting(make, ASK, wait(child_id))
    await store.write(
        Answer(event_id=parent.event_id, owner_id="local", wait_id="ask", given="yes")
    )
    again = await claimed(make, "triage")
    await store.write(Finish(halt(make, again, status=ExecutionStatus.PAUSED)))
    assert (await event(store, child_id)).status is EventStatus.QUEUED
    await succeeds(make, child_id)
    assert (await event(store, parent.event_id)).status is EventStatus.PAUSED
    await store.write(Unpause(parent.event_id, "local"))
    assert (await claimed(make, "triage")).answers["w1"]["output"] == "an answer"


async def test_children_that_nobody_waits_for_are_called_off(store: Store, make: Any) -> None:
    """Down the chain: one that waits, and what it waits for; one that runs gets the wish."""
    ids = [new_id(), new_id(), new_id()]
    parent = await waiting(make, ASK, wait(ids[0], "w1"), wait(ids[1], "w2"))
    running = await claimed(make, "quote", limit=1)
    assert running.event_id == ids[0]
    chained = await claimed(make, "quote", limit=1)
    await store.write(Finish(halt(make, chained, wait(ids[2]))))
    await store.write(
        Answer(event_id=parent.event_id, owner_id="local", wait_id="ask", given="yes")
    )
    again = await claimed(make, "triage")
    done = await store.write(Finish(make.record(again, ExecutionStatus.FAILED, part=1)))
    assert {(one.event_id, one.status) for one in done.others} == {
        (ids[0], EventStatus.RUNNING),
        (ids[1], EventStatus.CANCELLED),
        (ids[2], EventStatus.CANCELLED),
    }
    assert (await event(store, ids[0])).cancel_requested_at is not None
    for id_ in ids[1:]:
        assert (await event(store, id_)).status is EventStatus.CANCELLED


async def test_children_of_a_dead_letter_go_on(store: Store, make: Any) -> None:
    child_id = new_id()
    parent = await waiting(make, ASK, wait(child_id))
    await store.write(
        Answer(event_id=parent.event_id, owner_id="local", wait_id="ask", given="yes")
    )
    for _ in range(3):
        again = await claimed(make, "triage")
        part = 0 if again.halt is None else again.halt.part
        await store.write(Finish(make.record(again, ExecutionStatus.CRASHED, part=part)))
    assert (await event(store, parent.event_id)).status is EventStatus.DEAD
    assert (await event(store, child_id)).status is EventStatus.QUEUED
    await succeeds(make, child_id)
    assert (await event(store, parent.event_id)).status is EventStatus.DEAD


async def test_one_cancel_ends_the_whole_family(store: Store, make: Any) -> None:
    child_id = new_id()
    parent = await waiting(make, wait(child_id))
    done = await store.write(Cancel(parent.event_id, "local"))
    assert [(one.event_id, one.status) for one in done.others] == [
        (child_id, EventStatus.CANCELLED)
    ]
    assert (await event(store, child_id)).status is EventStatus.CANCELLED


async def test_sums_of_a_family_count_each_execution_once(store: Store, make: Any) -> None:
    ids = [new_id(), new_id()]
    parent = await waiting(make, wait(ids[0]))
    child = await claimed(make, "quote")
    lineage: dict[str, Any] = {"parent_id": parent.execution_id, "origin": CHILD}
    record = halt(make, child, wait(ids[1]))
    waits = make.execution(child, status=ExecutionStatus.WAITING, **lineage)
    await store.write(Finish(Record(**{**vars_of(record), "execution": waits})))
    grandchild = await claimed(make, "quote")
    lineage = {"parent_id": child.execution_id, "origin": CHILD}
    crashed = make.execution(grandchild, status=ExecutionStatus.CRASHED, **lineage)
    await store.write(Finish(make.record(grandchild, execution=crashed)))
    again = await claimed(make, "quote")
    family = await store.read(FamilyOf(parent.execution_id, "local"))
    assert [one.id for one in family.children] == [child.execution_id]
    assert (family.rested, [one.id for one in family.running]) == (2, [again.execution_id])
    assert family.totals == Totals(
        tokens_input=200, tokens_output=14, cost_pico=5_200_000, credits=2
    )
    assert (await store.read(FamilyOf(parent.execution_id, "eve"))).children == ()


def vars_of(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


async def test_a_claim_of_another_hub_sees_the_child(store: Store, make: Any) -> None:
    """Rows only: nothing of a child lives in the hub that started it."""
    child_id = new_id()
    parent = await waiting(make, wait(child_id))
    other = Claim(
        versions={"quote": ("g1", "c1")}, limit=1, lease_owner="boot-9", lease_us=1_000_000
    )
    (child,) = await store.write(other)
    await store.write(Finish(make.record(child, lease_owner="boot-9")))
    assert (await event(store, parent.event_id)).status is EventStatus.QUEUED
