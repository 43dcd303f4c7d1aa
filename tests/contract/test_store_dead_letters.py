"""Dead letters: mended, run again or discarded once, and nothing of them forgotten."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.domain.dead_letters import Action
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.errors import HoldfastError, IllegalMove, NotFound
from holdfast.store import Store
from holdfast.store.commands import Cancel, Finish, Intervene, Intervened, Prune
from holdfast.store.queries import (
    EventById,
    ExecutionsOf,
    InterventionsOf,
    ListDeadLetters,
    OldEvents,
)

E, X = EventStatus, ExecutionStatus
AWAY = {"code": "step_failed", "message": "away", "error_class": "temporary"}


async def dead(store: Store, make: Any, **fields: Any) -> str:
    submitted = await make.submitted(**fields)
    target = fields.get("target", "triage")
    (claimed,) = await make.claimed(versions={target: ("g1", "c1")})
    run = make.execution(claimed, status=X.FAILED, error=AWAY)
    done = await store.write(Finish(make.record(claimed, execution=run)))
    assert done.event_status is E.DEAD
    return submitted.id


def deed(event_id: str, action: Action, **fields: Any) -> Intervene:
    given = {"event_id": event_id, "owner_id": "local", "by": "key-1", "action": action}
    return Intervene(**(given | fields))


async def test_a_replayed_one_counts_anew_and_keeps_its_history(store: Store, make: Any) -> None:
    event_id = await dead(store, make)
    done = await store.write(deed(event_id, Action.REPLAYED))
    assert done == Intervened(event_id=event_id, execution_id=done.execution_id, status=E.QUEUED)
    event = await store.read(EventById(event_id, "local"))
    assert (event.deliveries, event.crashes, event.errors) == (0, 0, 0)
    assert event.finished_at is None
    (claimed,) = await make.claimed()
    assert (claimed.event_id, claimed.delivery) == (event_id, 1)
    await store.write(Finish(make.record(claimed)))
    assert (await store.read(EventById(event_id, "local"))).status is E.SUCCEEDED
    assert len(await store.read(ExecutionsOf(event_id, "local"))) == 2
    (told,) = await store.read(InterventionsOf(event_id, "local"))
    assert (told.action, told.by, told.reason) == (Action.REPLAYED, "key-1", None)
    assert told.before["last_error"] == AWAY
    assert (told.before["deliveries"], told.before["errors"]) == (1, 1)


async def test_an_edited_one_keeps_what_it_was(store: Store, make: Any) -> None:
    event_id = await dead(store, make, data=b'{"n": 1}')
    await store.write(deed(event_id, Action.EDITED, data=b'{"n": 2}'))
    await store.write(deed(event_id, Action.EDITED, data=b'{"n": 3}'))
    event = await store.read(EventById(event_id, "local"))
    assert (event.status, event.data) == (E.DEAD, {"n": 3})
    told = await store.read(InterventionsOf(event_id, "local"))
    assert [(one.action, one.data) for one in told] == [
        (Action.EDITED, {"n": 1}),
        (Action.EDITED, {"n": 2}),
    ]
    await store.write(deed(event_id, Action.REPLAYED))
    (claimed,) = await make.claimed()
    assert claimed.data == b'{"n": 3}'


async def test_a_discarded_one_says_who_and_why_and_is_done_with(store: Store, make: Any) -> None:
    event_id = await dead(store, make)
    done = await store.write(deed(event_id, Action.DISCARDED, reason="a test \x00"))
    assert done.status is E.CANCELLED
    event = await store.read(EventById(event_id, "local"))
    assert event.discarded is not None
    assert (event.discarded["by"], event.discarded["at"]) == ("key-1", event.finished_at)
    for action in Action:
        with pytest.raises(IllegalMove, match="no dead letter"):
            await store.write(deed(event_id, action, data=b"{}"))
    assert len(await store.read(InterventionsOf(event_id, "local"))) == 1


async def test_only_one_of_two_at_once_gets_it(store: Store, make: Any) -> None:
    event_id = await dead(store, make)
    results = await asyncio.gather(
        *(store.write(deed(event_id, Action.REPLAYED)) for _ in range(5)),
        *(store.write(deed(event_id, Action.DISCARDED, reason="no")) for _ in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, Intervened) for one in results) == 1
    assert sum(isinstance(one, IllegalMove) for one in results) == 9
    assert len(await store.read(InterventionsOf(event_id, "local"))) == 1


@pytest.mark.parametrize("action", list(Action))
async def test_nobody_touches_anothers_or_what_is_not_dead(
    store: Store, make: Any, action: Action
) -> None:
    event_id = await dead(store, make)
    queued = (await make.submitted()).id
    fields = {"data": b"{}", "reason": "why not"}
    wanted: list[tuple[Intervene, type[HoldfastError]]] = [
        (deed(event_id, action, owner_id="eve", **fields), NotFound),
        (deed("unknown", action, **fields), NotFound),
        (deed(queued, action, **fields), IllegalMove),
    ]
    for command, refused in wanted:
        with pytest.raises(refused):
            await store.write(command)
    assert await store.read(InterventionsOf(event_id, "local")) == []
    await store.write(deed(event_id, action, **fields))
    assert await store.read(InterventionsOf(event_id, "eve")) == []


async def test_a_dead_letter_is_not_cancelled_without_a_reason(store: Store, make: Any) -> None:
    event_id = await dead(store, make)
    with pytest.raises(IllegalMove, match="discard"):
        await store.write(Cancel(event_id, "local"))
    assert (await store.read(EventById(event_id, "local"))).status is E.DEAD


async def test_they_are_listed_in_pages_by_filters(store: Store, make: Any) -> None:
    triage = [await dead(store, make) for _ in range(5)]
    mail = await dead(store, make, target="mail")
    await dead(store, make, owner_id="eve")
    gone = triage.pop(0)
    await store.write(deed(gone, Action.DISCARDED, reason="no"))

    async def listed(**filters: Any) -> list[str]:
        found = await store.read(ListDeadLetters(owner_id="local", **filters))
        assert all(one.data is None for one in found)
        return [one.id for one in found]

    assert await listed() == [mail, *reversed(triage)]
    assert await listed(target="triage", limit=3) == triage[:0:-1]
    assert await listed(target="triage", before=triage[1]) == [triage[0]]
    assert await listed(discarded=True) == [gone]
    died = (await store.read(EventById(triage[1], "local"))).finished_at
    assert died is not None
    assert await listed(since=died, target="triage") == triage[:0:-1]
    assert await listed(until=died) == [triage[0]]


async def test_pruning_takes_the_history_along(store: Store, make: Any) -> None:
    kept, gone = await dead(store, make), await dead(store, make)
    await store.write(deed(gone, Action.DISCARDED, reason="no"))
    old = await store.read(OldEvents(owner_id="local", target="triage", before=2**60))
    assert old == [gone]
    assert await store.write(Prune(owner_id="local", event_ids=[kept, gone])) == 1
    assert await store.read(InterventionsOf(gone, "local")) == []
    assert (await store.read(EventById(kept, "local"))).status is E.DEAD
