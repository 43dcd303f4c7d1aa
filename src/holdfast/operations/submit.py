"""Take an event in: check it, store it, ring the bell."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypedDict, cast

import orjson

from holdfast.bus import Notice
from holdfast.bus.base import DELAYED, ENDED, QUEUED
from holdfast.domain.agents import AGENT
from holdfast.domain.conversations import NewTurn
from holdfast.domain.events import ANSWERS, MAX_DELAY_S, MAX_DEPTH, NewEvent
from holdfast.domain.ids import MICROS, new_id, now_us
from holdfast.errors import InvalidInput, UnknownPipeline
from holdfast.pipelines.base import Declaration
from holdfast.store.commands import Submit, Submitted

from .kit import Kit
from .views import microseconds


async def submit(
    kit: Kit,
    *,
    owner_id: str,
    type: str,  # noqa: A002 - CloudEvents' name
    data: Any,
    source: str = "/",
    subject: str | None = None,
    time: datetime | None = None,
    target: str | None = None,
    priority: int | None = None,
    idempotency_key: str | None = None,
    traceparent: str | None = None,
    session_id: str | None = None,
    deliver_at: datetime | None = None,
    delay_s: float = 0,
    event_id: str | None = None,
) -> Submitted:
    """Store an event so that it will run; when this returns, it is committed.

    Args:
        kit: the hub's parts.
        owner_id: whose event it is.
        type: CloudEvents type; names the pipeline unless `target` does. One that names none, but
            that some node waits for, only answers those who wait.
        data: decoded JSON, checked against the pipeline's schema.
        source: CloudEvents source.
        subject: CloudEvents subject.
        time: when it happened, as the sender says; with a time zone.
        target: the pipeline, when it is not `type`.
        priority: higher runs first; None for the pipeline's own.
        idempotency_key: the same key and body give the same event again.
        traceparent: W3C trace context of the request.
        session_id: the conversation it is a turn of: turns run one after the other.
        deliver_at: not run before; with a time zone.
        delay_s: not run earlier than this many seconds from now.
        event_id: a `new_id` made before, by whoever listens for the event's end first.

    Raises:
        UnknownPipeline: no such pipeline is loaded.
        InvalidInput: the data does not fit its schema; `fields` says where.
        IdempotencyConflict: the key came before with another body.
        NobodyWaits: it runs no pipeline, and nothing waits for it now.
        SingletonBusy: its pipeline runs one such event at a time, and one has not ended.
    """
    name = target or type
    answers = target is None and name not in kit.registry and name in kit.registry.awaited()
    declaration = None if answers else checked(kit, name, "target" if target else "type")
    check_depth(data)
    body = kept_json(data)
    kind, usual = ANSWERS, 0
    unique: Unique = {}
    if declaration is not None:
        unique = uniqueness(
            declaration, declaration.validate(data), [owner_id, subject, session_id, data]
        )
        kind, usual = declaration.kind, declaration.priority
    occurred_at, at = microseconds(time), microseconds(deliver_at)
    _check_delay(delay_s, at)
    later = [session_id, at, delay_s] if session_id is not None or at or delay_s else []
    event = NewEvent(
        id=event_id or new_id(),
        owner_id=owner_id,
        type=type,
        source=source,
        subject=subject,
        target=name,
        target_kind=kind,
        data=body,
        idempotency_key=idempotency_key,
        body_hash=event_hash(
            [type, name, source, subject, occurred_at, priority or 0, data, *later]
        )
        if idempotency_key is not None
        else "",
        priority=usual if priority is None else priority,
        traceparent=traceparent,
        occurred_at=occurred_at,
        session_id=session_id,
        deliver_at=at,
        delay_us=int(delay_s * MICROS),
        **unique,
    )
    return await take_in(kit, event)


async def take_in(kit: Kit, event: NewEvent, turn: NewTurn | None = None) -> Submitted:
    """Store an event that was checked, and ring; when this returns, it is committed.

    Args:
        kit: the hub's parts.
        event: whatever runs it.
        turn: of an agent's: the message, stored with it.

    Raises:
        IdempotencyConflict, NobodyWaits, SingletonBusy: see `submit`.
        NotFound: the turn is for no agent or session of that owner.
        IllegalMove: the turn's session is archived.
    """
    submitted = await kit.store.write(Submit(event, turn=turn))
    for waiting in submitted.answered:
        kit.bus.publish(Notice(QUEUED, event_id=waiting))
    if submitted.created and event.target_kind == ANSWERS:
        kit.bus.publish(Notice(ENDED, event_id=submitted.id, status=submitted.status))
    elif submitted.created:
        agent = event.target if event.target_kind == AGENT else None
        if agent is None:
            kit.metrics.add("holdfast_events_submitted_total", pipeline=event.target)
        else:
            kit.metrics.add("holdfast_messages_total", agent=agent)
        if event.deliver_at or event.delay_us:
            kit.bus.publish(Notice(DELAYED, event_id=submitted.id))
        kit.bus.publish(Notice(QUEUED, event_id=submitted.id, target=event.target))
    return submitted


class Unique(TypedDict, total=False):
    """Fields of `NewEvent` by which others like it are known."""

    singleton_key: str | None
    dedup_key: str
    dedup_us: int


def uniqueness(declaration: Declaration, event: Any, body: list[Any]) -> Unique:
    """What a pipeline says of events like this one.

    Args:
        declaration: of the pipeline.
        event: what it made of the data.
        body: what two events share that are the same, their owner included.
    """
    fields: Unique = {"singleton_key": declaration.singleton_key(event)}
    if declaration.dedup is not None:
        fields["dedup_key"] = event_hash([declaration.name, *body])
        fields["dedup_us"] = int(declaration.dedup.total_seconds() * MICROS)
    return fields


def _check_delay(delay_s: float, deliver_at: int | None) -> None:
    ahead = max(delay_s, 0 if deliver_at is None else (deliver_at - now_us()) / MICROS)
    if not 0 <= delay_s <= MAX_DELAY_S or ahead > MAX_DELAY_S:
        field = "delay" if deliver_at is None else "deliver_at"
        expected = f"at most {MAX_DELAY_S // 86_400} days ahead"
        raise InvalidInput(
            f"the event is to be delivered in {ahead:,.0f} s; {expected} is allowed",
            fields=[{"field": field, "expected": expected, "got": f"{ahead:.0f} s"}],
        )


def checked(kit: Kit, name: str, field: str) -> Declaration:
    """The pipeline of that name.

    Raises:
        UnknownPipeline: it is not loaded; `fields` names `field`.
    """
    try:
        return kit.registry.pipeline(name)
    except UnknownPipeline as error:
        error.fields = [{**place, "field": field} for place in error.fields]
        raise


def kept_json(data: Any, field: str = "data") -> bytes:
    """Data as it is stored.

    Raises:
        InvalidInput: it holds what is no JSON, such as a number of more than 64 bits.
    """
    try:
        return orjson.dumps(data)
    except TypeError as error:
        raise InvalidInput(
            f"{field} cannot be kept as JSON: {error}",
            fields=[{"field": field, "expected": "JSON", "got": str(error)}],
        ) from error


def check_depth(data: Any, field: str = "data") -> None:
    """Refuse data nested deeper than can be written again.

    Raises:
        InvalidInput: deeper than `MAX_DEPTH`.
    """
    level: list[Any] = [data] if isinstance(data, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise InvalidInput(
        f"{field} is nested more than {MAX_DEPTH} levels deep",
        fields=[{"field": field, "expected": f"at most {MAX_DEPTH} levels", "got": "more"}],
    )


def _children(node: Any) -> list[Any]:
    found = cast("Iterable[Any]", node.values() if isinstance(node, dict) else node)
    return [child for child in found if isinstance(child, dict | list)]


def event_hash(parts: list[Any]) -> str:
    """Tells a repeat from a conflict: the hash of what an event says."""
    canonical = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()
