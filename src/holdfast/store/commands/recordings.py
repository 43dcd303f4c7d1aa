"""Events of recordings: they come in together with their record and are never run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import select

from holdfast.domain.events import NewEvent
from holdfast.domain.executions import Record
from holdfast.domain.status import EventStatus
from holdfast.errors import HoldfastError, InvalidInput, NotFound
from holdfast.store.base import Writes
from holdfast.store.frames import plain
from holdfast.store.statements import Insert, Statement, fill, pieces, sized, slots
from holdfast.store.tables import events, executions

_INSERT = Insert(events)

_TEXTS = ("owner_id", "type", "source", "target", "traceparent")


@cache
def _events(count: int) -> Statement:
    return Statement(
        select(events.c.id, events.c.owner_id, events.c.execution_id).where(
            events.c.id.in_(slots("id", count))
        )
    )


@cache
def _executions(count: int) -> Statement:
    return Statement(
        select(executions.c.id, executions.c.owner_id, executions.c.event_id).where(
            executions.c.id.in_(slots("id", count))
        )
    )


def admit(tx: Writes, records: Sequence[Record]) -> dict[str, HoldfastError]:
    """Make the events of recordings that are new, leased to their records.

    The same transaction ends them; a recording that is stored already is left alone.

    Returns:
        Why some are refused, by execution id.
    """
    recorded = [record for record in records if record.event is not None]
    if not recorded:
        return {}
    known = _known(tx, _events, [r.execution.event_id for r in recorded])
    taken = _known(tx, _executions, [r.execution.id for r in recorded])
    refused: dict[str, HoldfastError] = {}
    new: dict[str, tuple[object, ...]] = {}
    for record in recorded:
        run, event = record.execution, record.event
        assert event is not None  # noqa: S101 - for the type checker
        ours = (run.owner_id, run.id), (run.owner_id, run.event_id)
        there = known.get(run.event_id), taken.get(run.id)
        if there == ours or event.id in new:
            continue
        error = _unfit(event)
        if error is None and there != (None, None):
            # Ids are made by the recorder: one that is in use must not open another's record.
            error = NotFound(f"execution {run.id} is no recording of event {run.event_id}")
        if error is not None:
            refused[run.id] = error
        else:
            new[event.id] = _row(record, event, tx.now())
    tx.insert(_INSERT, list(new.values()))
    return refused


def _known(tx: Writes, statement: Any, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    return {
        id_: (owner, other)
        for piece in pieces(ids)
        for id_, owner, other in tx.rows(statement(sized(piece)), fill("id", piece))
    }


def _row(record: Record, event: NewEvent, now: int) -> tuple[object, ...]:
    values: dict[str, object] = {
        "id": event.id,
        "owner_id": event.owner_id,
        "type": event.type,
        "source": event.source,
        "target": event.target,
        "target_kind": event.target_kind,
        "data": event.data.decode(),
        "body_hash": event.body_hash,
        "priority": event.priority,
        "status": EventStatus.RUNNING.value,
        "deliveries": 1,
        "crashes": 0,
        "available_at": now,
        "lease_owner": record.lease_owner,
        "lease_until": now,
        "fence": record.fence,
        "execution_id": record.execution.id,
        "traceparent": event.traceparent,
        "occurred_at": event.occurred_at,
        "received_at": now,
        "errors": 0,
        "redeliver": 1,
    }
    return tuple(values.get(column.name) for column in events.columns)


def _unfit(event: NewEvent) -> HoldfastError | None:
    for name in _TEXTS:
        text = getattr(event, name)
        if text is not None and plain(text) != text:
            return InvalidInput(
                f"the recording's {name} holds a NUL or a lone surrogate",
                fields=[{"field": name, "expected": "text", "got": ascii(text)[:100]}],
            )
    return None
