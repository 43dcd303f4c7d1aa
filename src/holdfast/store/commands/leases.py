"""The right to run an event: taking it and keeping it; `reaping` takes it from the dead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from time import monotonic_ns
from typing import Any, ClassVar, Literal, Self

from sqlalchemy import bindparam, select, update
from sqlalchemy.sql.elements import ColumnElement

from holdfast.domain.agents import AGENT
from holdfast.domain.events import Claimed
from holdfast.domain.executions import Execution, Totals
from holdfast.domain.halts import Halt
from holdfast.domain.ids import new_id
from holdfast.domain.rates import Rate
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.store.base import Command, Lane, Row, Writes
from holdfast.store.queries.agents import TARGETS
from holdfast.store.queries.turns import FOR_AGENTS, FOR_PIPELINES, ITS_TURN
from holdfast.store.rows import execution_row
from holdfast.store.statements import Insert, Statement, fill, sized, slots
from holdfast.store.tables import events, executions, pauses
from holdfast.store.tables.base import word

from .halting import set_aside, waits_of
from .held import COLUMNS, NAMES, HeldEvent, held, hold, lock, save
from .horizon import WHOLE, Horizon
from .rates import FULL, Allowances

CLAIMED_COLUMNS = (
    events.c.target,
    events.c.target_kind,
    events.c.data,
    events.c.traceparent,
    events.c.parent_id,
    events.c.origin,
    events.c.replay,
    events.c.session_id,
    events.c.priority,
)


def _next(*which: ColumnElement[bool]) -> Statement:
    return lock(
        select(*COLUMNS, *CLAIMED_COLUMNS)
        .where(
            *which,
            events.c.available_at <= bindparam("now"),
            events.c.available_at >= bindparam("since"),
            events.c.priority >= bindparam("priority"),
            events.c.cancel_requested_at.is_(None),
            events.c.target.not_in(select(pauses.c.pipeline)),
            ITS_TURN,
            ~FULL,
        )
        .order_by(events.c.priority.desc(), events.c.available_at, events.c.id)
        .limit(bindparam("limit")),
        skip_locked=True,
    )


@cache
def next_runnable(names: int) -> Statement:
    """The best events that may run now, locked; what others are claiming is passed over."""
    return _next(*FOR_PIPELINES, events.c.target.in_(slots("name", names)))


next_of_agent = _next(*FOR_AGENTS, events.c.target == bindparam("name"))
"""The same of one agent. Asked for each: no index has those of several in their order."""


_INSERT_EXECUTION = Insert(executions)
_GO_ON = Statement(
    update(executions)
    .where(executions.c.id == bindparam("of"))
    .values(status=word(ExecutionStatus.RUNNING))
)

_ID = NAMES.index("id")
_OWNER = NAMES.index("owner_id")
_AVAILABLE_AT = NAMES.index("available_at")
_SESSION = len(NAMES) + [column.name for column in CLAIMED_COLUMNS].index("session_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(Command[list[Claimed]]):
    """Take the best runnable events, each with a lease, a new fence and a `running` execution.

    Attributes:
        kind: whose events; neither kind's wait behind the other's.
        versions: per pipeline's name or agent's id (graph version, code version); only these are
            taken.
        once: names of the pipelines whose events must not begin twice.
        rates: of the pipelines that have one; counted for each owner apart.
        room: how many more of a pipeline or agent may be taken; one that is not named has no
            limit.
        limit: at most so many.
        lease_owner: boot id of the hub.
        lease_us: length of the lease.
        horizon: where to look; None for everywhere. An agent's queue is always looked at whole.
    """

    lane: ClassVar[Lane] = "claim"
    order: ClassVar[int] = 3
    versions: Mapping[str, tuple[str, str]]
    limit: int
    lease_owner: str
    lease_us: int
    room: Mapping[str, int] = field(default_factory=dict[str, int])
    once: frozenset[str] = frozenset()
    rates: Mapping[str, Rate] = field(default_factory=dict[str, Rate])
    horizon: Horizon | None = None
    kind: Literal["pipeline", "agent"] = "pipeline"

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[list[Claimed]]:
        """One after the other: the first takes the best."""
        return [_claim(tx, command) for command in commands]


def _claim(tx: Writes, command: Claim) -> list[Claimed]:
    now = tx.now()
    picked = _pick(tx, command, now)
    if not picked:
        return []
    # A turn must not seem to have begun before the one whose end let it.
    began = tx.later() if any(row[_SESSION] is not None for row in picked) else now
    found = [(held(row[: len(COLUMNS)]), row[len(COLUMNS) :]) for row in picked]
    halted = [event.id for event, _ in found if event.halt is not None]
    answers = waits_of(tx, halted) if halted else {}
    taken: list[HeldEvent] = []
    claimed: list[Claimed] = []
    runs: list[list[Any]] = []
    resumed: list[dict[str, Any]] = []
    for event, more in found:
        target, target_kind, data, traceparent, parent_id, origin, replay, session_id, _ = more
        taken.append(event)
        version = command.versions[target][0]
        if event.pinned not in (None, version):
            if target_kind != AGENT:
                set_aside(event, version, now)
                continue
            event.pinned = version  # a conversation goes on, whatever was changed in the meantime
        halt = None if event.halt is None else Halt.of(event.halt)
        goes_on = halt is not None and halt.same
        event.move(EventStatus.RUNNING, now)
        event.deliveries += not goes_on
        event.redeliver = int(target not in command.once)
        event.fence += 1
        event.lease_owner = command.lease_owner
        event.lease_until = now + command.lease_us
        if event.execution_id is None or not goes_on:
            event.execution_id = new_id()
        claim = Claimed(
            event_id=event.id,
            owner_id=event.owner_id,
            target=target,
            target_kind=target_kind,
            data=data.encode(),
            traceparent=traceparent,
            execution_id=event.execution_id,
            fence=event.fence,
            delivery=event.deliveries,
            crashes=event.crashes,
            started_at=began,
            goes_on=event.pinned is not None,
            session_id=session_id,
            halt=halt if goes_on else None,
            answers={
                wait.id: wait.answer
                for wait in answers.get(event.id, ())
                if wait.answer is not None
            },
            children={
                wait.id: wait.child_id
                for wait in answers.get(event.id, ())
                if wait.child_id is not None
            },
            parent_id=parent_id,
            origin=origin,
            replay=replay,
        )
        claimed.append(claim)
        if goes_on:
            resumed.append({"of": event.execution_id})
        else:
            runs.append(execution_row(_begun(claim, command.versions[target])))
    save(tx, taken)
    tx.insert(_INSERT_EXECUTION, runs)
    tx.change(_GO_ON, resumed)
    return claimed


def _pick(tx: Writes, command: Claim, now: int) -> list[Row]:
    """The best that may run now, of each pipeline no more than there is room for."""
    room = dict(command.room)
    names = sorted(name for name in command.versions if room.get(name, 1) > 0)
    picked: dict[str, Row] = {}
    allowances = Allowances(tx, command.rates, now)
    horizon = command.horizon if command.kind == "pipeline" else None
    bound = WHOLE if horizon is None else horizon.bound(now)
    looks: list[tuple[list[Row], int]] = []
    while names and len(picked) < command.limit:
        values = {"now": now, "limit": command.limit, **bound._asdict()}
        began = monotonic_ns()
        # The planner sees how large the index has grown and takes another, with all of the dead.
        with nullcontext() if bound == WHOLE else tx.in_order():
            if command.kind == "pipeline":
                rows = tx.rows(next_runnable(sized(names)), {**values, **fill("name", names)})
            else:
                rows = _of_agents(tx, names, room, values)
        looks.append((rows, (monotonic_ns() - began) // 1000))
        if command.rates:
            allowances.hold((row[_OWNER], row[len(COLUMNS)]) for row in rows)
        slow = False
        for row in rows:
            event_id, owner, target = row[_ID], row[_OWNER], row[len(COLUMNS)]
            if event_id in picked or room.get(target) == 0 or len(picked) >= command.limit:
                continue
            if not allowances.take(owner, target):
                slow = slow or allowances.holds(owner, target)
                continue
            picked[event_id] = row
            if target in room:
                room[target] -= 1
        if command.rates:
            allowances.write()
        full = [name for name in names if room.get(name) == 0]
        if not (full or slow) or len(rows) < command.limit:
            break
        # Pipelines that are full now may have hidden others behind them.
        names = [name for name in names if name not in full]
    if horizon is not None and looks:
        rows, took_us = looks[0]
        if all(row[_ID] in picked for row in rows):
            found = [(row[-1], row[_AVAILABLE_AT]) for row in rows]
            more = len(rows) == command.limit
            horizon.looked(bound, found, more=more, now=now, took_us=took_us)
        else:
            horizon.forget()  # what was passed over lies in front
    return list(picked.values())


def _of_agents(
    tx: Writes, names: Sequence[str], room: Mapping[str, int], values: Mapping[str, Any]
) -> list[Row]:
    """The best of several agents; those that have nothing queued are not asked."""
    wanted, limit = set(names), values["limit"]
    rows = [
        row
        for (name,) in tx.rows(TARGETS, {})
        if name in wanted
        for row in tx.rows(
            next_of_agent, {**values, "name": name, "limit": min(limit, room.get(name, limit))}
        )
    ]
    return sorted(rows, key=_place)[:limit]


def _place(row: Row) -> tuple[int, int, str]:
    return -row[-1], row[_AVAILABLE_AT], row[_ID]


def _begun(claim: Claimed, versions: tuple[str, str]) -> Execution:
    graph_version, code_version = versions
    return Execution(
        id=claim.execution_id,
        owner_id=claim.owner_id,
        event_id=claim.event_id,
        kind=claim.target_kind,
        name=claim.target,
        graph_version=graph_version,
        code_version=code_version,
        delivery=claim.delivery,
        parent_id=claim.parent_id,
        session_id=claim.session_id,
        trace_id=_trace_id(claim.traceparent),
        status=ExecutionStatus.RUNNING,
        input=0,  # the event's data, see domain.payload
        output=None,
        error=None,
        started_at=claim.started_at,
        finished_at=None,
        duration_us=None,
        steps_total=0,
        steps_succeeded=0,
        steps_skipped=0,
        steps_failed=0,
        totals=Totals(),
        flags={},
        seq=0,
        origin=claim.origin,
    )


def _trace_id(traceparent: str | None) -> str | None:
    """The trace id within a W3C `traceparent`."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extended:
    """What came of extending leases.

    Attributes:
        lost: events that are no longer ours; whatever runs for them must stop.
        cancel_requested: events of ours that somebody wants cancelled.
        pause_requested: … or paused.
    """

    lost: tuple[str, ...]
    cancel_requested: tuple[str, ...]
    pause_requested: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendLeases(Command[Extended]):
    """Keep leases for another `lease_us`, and hear which are lost and which to cancel.

    Attributes:
        leases: (event id, fence) of each.
    """

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 5
    lease_owner: str
    leases: Sequence[tuple[str, int]]
    lease_us: int

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Extended]:
        """Extend what is still held under the same fence."""
        now = tx.now()
        found = hold(tx, [event_id for command in commands for event_id, _ in command.leases])
        kept: dict[str, HeldEvent] = {}
        results: list[Extended] = []
        for command in commands:
            lost: list[str] = []
            cancel: list[str] = []
            pause: list[str] = []
            for event_id, fence in command.leases:
                event = found.get(event_id)
                if event is None or not event.leased_to(command.lease_owner, fence):
                    lost.append(event_id)
                    continue
                event.lease_until = now + command.lease_us
                kept[event_id] = event
                if event.cancel_requested_at is not None:
                    cancel.append(event_id)
                elif event.pause_requested_at is not None:
                    pause.append(event_id)
            results.append(
                Extended(
                    lost=tuple(lost),
                    cancel_requested=tuple(cancel),
                    pause_requested=tuple(pause),
                )
            )
        save(tx, kept.values())
        return results
