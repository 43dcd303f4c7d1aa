"""Child executions: started with the halt that waits for them, answered with what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import bindparam, func, select

from holdfast.domain.events import CHILD, MAX_CHILD_DEPTH, MAX_EVENT_BYTES, NewEvent
from holdfast.domain.executions import Record
from holdfast.domain.halts import Halt
from holdfast.domain.payload import EVENT_ENTRY, LOST_ENTRY, Payload, encode
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.store.base import Writes
from holdfast.store.frames import from_json
from holdfast.store.statements import Insert, Statement, fill, pieces, sized, slots
from holdfast.store.tables import events, executions

from .halting import Halts, NewChild, answer
from .held import Moved, open_in_group
from .intake import event_row

# Without a conflict clause: a child that is there already would be a fault, and must be seen.
_INSERT = Insert(events)
_AVAILABLE_AT = events.c.keys().index("available_at")
_DATA = Statement(select(events.c.data).where(events.c.id == bindparam("of")))


@cache
def _parents(count: int) -> Statement:
    return Statement(
        select(events.c.id, events.c.priority, events.c.traceparent).where(
            events.c.id.in_(slots("id", count))
        )
    )


def _chain() -> Statement:
    chain = (
        select(events.c.parent_id.label("parent"))
        .where(events.c.id == bindparam("of"), events.c.origin == CHILD)
        .cte("chain", recursive=True)
    )
    above = (
        select(events.c.parent_id)
        .join_from(events, executions, executions.c.event_id == events.c.id)
        .join(chain, chain.c.parent == executions.c.id)
        .where(events.c.origin == CHILD)
    )
    return Statement(select(func.count()).select_from(chain.union_all(above)))


_DEPTH = _chain()
"""How many executions above an event wait for it, directly or not."""


def begin(tx: Writes, halts: Halts) -> list[Moved]:
    """Store the events of children that halts of this transaction wait for.

    A parent whose children have all ended already, or could not be started, is queued at once;
    whoever called saves it.

    Returns:
        What is queued now.
    """
    if not halts.new and not halts.answered:
        return []
    now = tx.now()
    known = _known(tx, {one.event.id for one in halts.new})
    depths = {event_id: _depth(tx, event_id) for event_id in known}
    rows: list[tuple[object, ...]] = []
    begun: list[Moved] = []
    refused: list[tuple[tuple[str, str], Any]] = []
    answered = list(halts.answered)
    for one in halts.new:
        if depths[one.event.id] >= MAX_CHILD_DEPTH:
            given = {"child": None, "error": _too_deep(one)}
            refused.append(((one.event.id, one.wait_id), given))
            answered.append((one.event, one.child, given))
            continue
        priority, traceparent = known[one.event.id]
        event = _event(one, priority, traceparent)
        row = list(event_row(event, now))
        row[_AVAILABLE_AT] = now + one.child.after_us
        rows.append(tuple(row))
        begun.append(Moved(event.id, None, EventStatus.QUEUED))
    tx.insert(_INSERT, rows)
    answer(tx, refused)
    for event, child, given in answered:
        urgent = child.eager and "error" in given
        if event.status is EventStatus.WAITING and (
            urgent or not open_in_group(tx, event.id, child.group)
        ):
            event.move(EventStatus.QUEUED, now)
            begun.append(Moved(event.id, event.execution_id, event.status))
    return begun


def _known(tx: Writes, ids: set[str]) -> dict[str, tuple[int, str | None]]:
    return {
        id_: (priority, traceparent)
        for piece in pieces(sorted(ids))
        for id_, priority, traceparent in tx.rows(_parents(sized(piece)), fill("id", piece))
    }


def _depth(tx: Writes, event_id: str) -> int:
    ((count,),) = tx.rows(_DEPTH, {"of": event_id})
    return int(count)


def _event(one: NewChild, priority: int, traceparent: str | None) -> NewEvent:
    child = one.child
    if child.event_id is None or child.data is None:
        raise AssertionError(f"a child of {one.parent.id} came without an id or data")
    return NewEvent(
        id=child.event_id,
        owner_id=one.event.owner_id,
        type=child.pipeline,
        source=f"/executions/{one.parent.id}",
        subject=None,
        target=child.pipeline,
        target_kind=child.target_kind,
        data=child.data.encode(),
        idempotency_key=f"{one.event.id}/{one.wait_id}",
        body_hash=CHILD,
        priority=priority if child.priority is None else child.priority,
        traceparent=traceparent,
        occurred_at=None,
        parent_id=one.parent.id,
        origin=CHILD,
    )


def _too_deep(one: NewChild) -> dict[str, Any]:
    return {
        "code": "too_deep",
        "message": f"{one.child.pipeline} would be child execution number {MAX_CHILD_DEPTH + 1} "
        "within each other",
        "hint": "does a pipeline start itself? let a route end it",
    }


def what_came(tx: Writes, record: Record, halt: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a child's parent is told of a record that ends it; None when it brought no result.

    Args:
        tx: the transaction.
        record: the child's.
        halt: where it had stood still before, as its event keeps it.
    """
    run = record.execution
    if run.status not in (ExecutionStatus.SUCCEEDED, ExecutionStatus.PARTIAL):
        return None
    if run.output is None:
        return {"output": None}
    entries = list(record.entries)
    if record.part and halt is not None:  # entries of earlier parts only hold their places
        entries = [EVENT_ENTRY, *[LOST_ENTRY] * (Halt.of(halt).texts - 1), *entries]
    if entries[run.output] == LOST_ENTRY:
        return _kept_back(run.id, "output_lost", "did not reach the record")
    output = Payload(
        entries, event_data=_data(tx, run.event_id), blobs=dict(record.blobs).__getitem__
    ).get(run.output)
    if len(encode(output)) > MAX_EVENT_BYTES:
        told = f"is larger than {MAX_EVENT_BYTES} bytes of JSON"
        return _kept_back(run.id, "output_too_large", told)
    return {"output": output}


def _data(tx: Writes, event_id: str) -> Any:
    found = tx.rows(_DATA, {"of": event_id})
    return from_json(found[0][0]) if found else None


def _kept_back(execution_id: str, code: str, told: str) -> dict[str, Any]:
    return {
        "error": {
            "code": code,
            "message": f"the output of child execution {execution_id} {told}",
            "hint": "let it store what is large and give back where",
        }
    }
