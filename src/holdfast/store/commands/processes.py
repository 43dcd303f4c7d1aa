"""Supervised processes: one row a target, held by one hub at a time, by the store's clock.

Who takes a row gets a new fence. Nothing that comes under an older one changes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, ClassVar, Self

from sqlalchemy import bindparam, select, update

from holdfast.domain.agents import AGENT, Process, ProcessStatus, Wanted
from holdfast.errors import HoldfastError, NotFound
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.queries.processes import PROCESS, PROCESS_COLUMNS
from holdfast.store.statements import Conflict, Insert, Statement, fill, pieces, sized, slots
from holdfast.store.tables import agents, processes

from .held import lock

P = ProcessStatus
Key = tuple[str, str]
"""Kind and target."""

_INSERT = Insert(processes, unless=Conflict(("kind", "target")))
_BY_KEY = lock(
    select(*PROCESS_COLUMNS).where(
        processes.c.kind == bindparam("of_kind"), processes.c.target == bindparam("of")
    )
)
_HELD_BY = lock(
    select(*PROCESS_COLUMNS)
    .where(processes.c.hub == bindparam("of_hub"))
    .order_by(processes.c.kind, processes.c.target)
)
_MOVING = tuple(name for name in PROCESS.names if name not in ("kind", "target", "owner_id"))
_SAVE = Statement(
    update(processes)
    .where(processes.c.kind == bindparam("of_kind"), processes.c.target == bindparam("of"))
    .values({name: bindparam(name) for name in _MOVING})
)


@cache
def _owners(count: int) -> Statement:
    # Deleting an agent waits for this, and this for deleting: no row outlives its agent.
    return Statement(
        select(agents.c.id, agents.c.owner_id)
        .where(agents.c.id.in_(slots("id", count)))
        .order_by(agents.c.id)
        .with_for_update(read=True, key_share=True)
    )


def owners_of(tx: Writes, agent_ids: Sequence[str]) -> dict[str, str]:
    """Whose these agents are; they stay until the transaction ends, and those that are gone are
    missing.
    """
    return {
        agent_id: owner
        for piece in pieces(sorted(set(agent_ids)))
        for agent_id, owner in tx.rows(_owners(sized(piece)), fill("id", piece))
    }


def _made(kind: str, target: str, owner_id: str, wanted: Wanted = "on") -> Process:
    values: dict[str, Any] = dict.fromkeys(one.name for one in fields(Process))
    values |= {"kind": kind, "target": target, "owner_id": owner_id, "wanted": wanted}
    values |= {"status": P.STOPPED, "fence": 0, "restarts": 0, "asked": 0}
    return Process(**values)


def _held(tx: Writes, key: Key) -> Process | None:
    rows = tx.rows(_BY_KEY, {"of_kind": key[0], "of": key[1]})
    return PROCESS.item(rows[0]) if rows else None


def _save(tx: Writes, moved: Sequence[Process]) -> None:
    values: list[dict[str, Any]] = []
    for one in moved:
        row = dict(zip(PROCESS.names, PROCESS.row(one), strict=True))
        row["of_kind"], row["of"] = row.pop("kind"), row.pop("target")
        values.append(row)
    tx.change(_SAVE, values)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantProcess(Command[Process]):
    """Say whether a process shall run; who holds it hears of it with its next beat.

    One that was given up is `stopped` afterwards, its restarts counted anew. One that nobody holds
    is `starting` when a restart was asked for, so that any hub finds it (`ProcessesLeft`), and
    `stopped` when it is to be off.

    Attributes:
        ask_restart: start it, or start it anew; counts, so that who holds it sees it.

    Raises:
        NotFound: no such agent of that owner, or the row is another's.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 5
    kind: str
    target: str
    owner_id: str
    wanted: Wanted
    ask_restart: bool = False

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Process | HoldfastError]:
        """One after the other, in the order of targets."""
        places = sorted(range(len(commands)), key=lambda n: (commands[n].kind, commands[n].target))
        found = {place: _want(tx, commands[place]) for place in places}
        return [found[place] for place in range(len(commands))]


def _want(tx: Writes, command: WantProcess) -> Process | HoldfastError:
    kind, target = command.kind, command.target
    gone = NotFound(f"there is no {kind} {target}")
    if kind == AGENT and owners_of(tx, [target]).get(target) != command.owner_id:
        return gone
    made = _made(kind, target, command.owner_id, command.wanted)
    tx.insert(_INSERT, [PROCESS.row(made)])
    stored = _held(tx, (kind, target))
    if stored is None or stored.owner_id != command.owner_id:
        return gone
    wants = replace(stored, wanted=command.wanted, asked=stored.asked + command.ask_restart)
    if stored.status is P.ERROR:
        wants = replace(wants, status=P.STOPPED, restarts=0)
    if stored.hub is None and command.wanted == "off":
        wants = replace(wants, status=P.STOPPED)
    elif stored.hub is None and command.ask_restart:
        wants = replace(wants, status=P.STARTING, restarts=0, last_error=None)
    if wants != stored:
        _save(tx, [wants])
    return wants


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeProcesses(Command[list[Process]]):
    """Take what is free, or whose lease ran out, or is this hub's already; rows are made.

    What is to be off, or was given up, is not taken; nor is an agent that is gone or another
    owner's. What is taken has a new fence and is `starting`: whatever runs elsewhere ends when its
    hub hears that it lost it. What is this hub's already stays as it is.

    Attributes:
        targets: each with its owner.
        hub: boot id of the hub.
        lease_us: length of the lease.
    """

    lane: ClassVar[Lane] = "claim"
    order: ClassVar[int] = 1
    kind: str
    targets: Sequence[tuple[str, str]]
    hub: str
    host: str
    lease_us: int

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[list[Process]]:
        """One after the other: the first takes it."""
        return [_take(tx, command) for command in commands]


def _take(tx: Writes, command: TakeProcesses) -> list[Process]:
    now, kind = tx.now(), command.kind
    targets = sorted(set(command.targets))
    if kind == AGENT:
        owners = owners_of(tx, [target for target, _ in targets])
        targets = [(target, owner) for target, owner in targets if owners.get(target) == owner]
    tx.insert(_INSERT, [PROCESS.row(_made(kind, target, owner)) for target, owner in targets])
    taken: list[Process] = []
    for target, owner in targets:
        stored = _held(tx, (kind, target))
        if stored is None or stored.owner_id != owner:
            continue
        if stored.wanted != "on" or stored.status is P.ERROR:
            continue
        until = now + command.lease_us
        if stored.hub == command.hub:
            taken.append(replace(stored, lease_until=until))
        elif stored.hub is None or stored.lease_until is None or stored.lease_until < now:
            fresh = _made(kind, target, owner)
            taken.append(
                replace(
                    fresh,
                    status=P.STARTING,
                    hub=command.hub,
                    host=command.host,
                    lease_until=until,
                    fence=stored.fence + 1,
                    restarts=stored.restarts,
                    asked=stored.asked,
                    last_error=stored.last_error,
                )
            )
    _save(tx, taken)
    return taken


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatProcesses(Command[list[Process]]):
    """Keep what a hub holds for another `lease_us`, and hear what people want of it.

    The answer is what it still holds, as it stands; what is missing is lost, and its process must
    end. A lease that ran out is kept while nobody else has taken it.

    Attributes:
        held: (kind, target, fence, when its loop last answered) of each.
    """

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 6
    hub: str
    held: Sequence[tuple[str, str, int, int | None]]
    lease_us: int

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[list[Process]]:
        """One after the other."""
        now = tx.now()
        results: list[list[Process]] = []
        for command in commands:
            kept: list[Process] = []
            for kind, target, fence, heartbeat_at in sorted(command.held, key=lambda one: one[:2]):
                stored = _held(tx, (kind, target))
                if stored is None or not _is_held(stored, command.hub, fence):
                    continue
                beaten = replace(stored, lease_until=now + command.lease_us)
                if heartbeat_at is not None:
                    beaten = replace(beaten, heartbeat_at=heartbeat_at)
                kept.append(beaten)
            _save(tx, kept)
            results.append(kept)
        return results


def _is_held(stored: Process, hub: str, fence: int) -> bool:
    return stored.hub == hub and stored.fence == fence


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveProcess(Command[bool]):
    """Tell where a process stands; False when another hub has taken it: nothing is changed.

    It is told what is so now; what was between is left out.
    """

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 5
    kind: str
    target: str
    hub: str
    fence: int
    status: ProcessStatus
    pid: int | None = None
    version: int | None = None
    restarts: int = 0
    last_error: dict[str, Any] | None = None
    started_at: int | None = None
    ready_at: int | None = None

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[bool]:
        """In the order of targets, of one target as they came."""
        places = sorted(range(len(commands)), key=lambda n: (commands[n].kind, commands[n].target))
        found = {place: _move(tx, commands[place]) for place in places}
        return [found[place] for place in range(len(commands))]


def _move(tx: Writes, command: MoveProcess) -> bool:
    stored = _held(tx, (command.kind, command.target))
    if stored is None or not _is_held(stored, command.hub, command.fence):
        return False
    moved = replace(
        stored,
        status=command.status,
        pid=command.pid,
        version=command.version,
        restarts=command.restarts,
        last_error=command.last_error,
        started_at=command.started_at,
        ready_at=command.ready_at,
    )
    _save(tx, [moved])
    return True


@dataclass(frozen=True, slots=True)
class ReturnProcesses(Command[int]):
    """Let go of what a hub holds: it is `stopped`, or stays given up; how many those were.

    Attributes:
        hub: boot id of the hub; a dead one's are returned by whoever takes in its journal.
        targets: (kind, target) of each; None: all that it holds.
    """

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 7
    hub: str
    targets: Sequence[Key] | None = None

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[int]:
        """One after the other."""
        results: list[int] = []
        for command in commands:
            of = None if command.targets is None else set(command.targets)
            stored = [PROCESS.item(row) for row in tx.rows(_HELD_BY, {"of_hub": command.hub})]
            returned = [
                replace(
                    one,
                    status=one.status if one.status is P.ERROR else P.STOPPED,
                    hub=None,
                    lease_until=None,
                    pid=None,
                )
                for one in stored
                if of is None or (one.kind, one.target) in of
            ]
            _save(tx, returned)
            results.append(len(returned))
        return results
