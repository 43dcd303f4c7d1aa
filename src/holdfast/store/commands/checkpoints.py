"""Checkpoints: stored only under the lease of the execution they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from sqlalchemy import Table, bindparam, delete, select

from holdfast.domain.checkpoints import Checkpoint, PendingWrite, Saved, of_one_task
from holdfast.errors import HoldfastError, LeaseLost
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.frames import from_json, plain, to_json
from holdfast.store.statements import Conflict, Insert, Statement
from holdfast.store.tables import checkpoint_blobs, checkpoint_writes, checkpoints

from .held import HeldEvent, hold, save


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """Under which lease something is written.

    Attributes:
        version: graph version of the execution; its event is pinned to it.
    """

    event_id: str
    owner_id: str
    lease_owner: str
    number: int
    version: str

    def check(self, event: HeldEvent | None) -> LeaseLost | None:
        """Why nothing may be written; None when it may."""
        if (
            event is not None
            and event.owner_id == self.owner_id
            and event.leased_to(self.lease_owner, self.number)
        ):
            return None
        return LeaseLost(
            f"event {self.event_id} is not leased to this execution any more",
            hint="another execution goes on with it; this one is to stop",
        )


_PUT = Insert(checkpoints, replaces=True)
_BLOBS = Insert(
    checkpoint_blobs, unless=Conflict(("owner_id", "thread_id", "ns", "channel", "version"))
)
_WRITES = Insert(
    checkpoint_writes,
    unless=Conflict(("owner_id", "thread_id", "ns", "checkpoint_id", "task_id", "idx")),
)

_KEYS = {
    "owner_id": "owner",
    "thread_id": "thread",
    "ns": "in_ns",
    "id": "of",
    "checkpoint_id": "of",
    "version": "of",
    "task_id": "task",
    "idx": "number",
    "channel": "in_channel",
}
"""Columns by which rows are removed, and the names of their parameters."""


def _removal(table: Table, *columns: str) -> Statement:
    keys = ("owner_id", "thread_id", "ns", *columns)
    return Statement(delete(table).where(*(table.c[key] == bindparam(_KEYS[key]) for key in keys)))


_REMOVE = _removal(checkpoints, "id")
_REMOVE_WRITES = _removal(checkpoint_writes, "checkpoint_id")
_REMOVE_WRITE = _removal(checkpoint_writes, "checkpoint_id", "task_id", "idx")
_REMOVE_BLOB = _removal(checkpoint_blobs, "channel", "version")
_TABLES = (checkpoints, checkpoint_blobs, checkpoint_writes)
_OF_THREAD = [
    (
        table,
        Statement(
            select(*table.c).where(
                table.c.owner_id == bindparam("owner"), table.c.thread_id == bindparam("thread")
            )
        ),
        Statement(
            delete(table).where(
                table.c.owner_id == bindparam("owner"), table.c.thread_id == bindparam("thread")
            )
        ),
        Insert(table),
    )
    for table in _TABLES
]
_OF_RUN = Statement(
    select(checkpoints.c.thread_id, checkpoints.c.ns, checkpoints.c.id).where(
        checkpoints.c.owner_id == bindparam("owner"), checkpoints.c.run_id == bindparam("run")
    )
)
_KEPT = Statement(
    select(
        checkpoints.c.ns, checkpoints.c.id, checkpoints.c.metadata, checkpoints.c.versions
    ).where(
        checkpoints.c.owner_id == bindparam("owner"), checkpoints.c.thread_id == bindparam("thread")
    )
)
_VERSIONS = Statement(
    select(checkpoint_blobs.c.ns, checkpoint_blobs.c.channel, checkpoint_blobs.c.version).where(
        checkpoint_blobs.c.owner_id == bindparam("owner"),
        checkpoint_blobs.c.thread_id == bindparam("thread"),
    )
)

DELTA = "counters_since_delta_snapshot"
"""LangGraph's mark of checkpoints whose values must be rebuilt from those before."""


@dataclass(frozen=True, slots=True)
class SaveCheckpoints(Command[None]):
    """Store checkpoints and writes, in their order.

    Writes and the checkpoint that supersedes them are of one kind and one lane, so that a crash
    never finds the second without the first.

    Raises:
        LeaseLost: the execution's event is leased to another one, or has ended.
    """

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 0
    fence: Fence
    saved: tuple[Saved, ...]

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[LeaseLost | None]:
        """Decide each under the events' locks, then write table by table."""
        found = hold(tx, [command.fence.event_id for command in commands])
        results: list[LeaseLost | None] = []
        pinned: dict[str, HeldEvent] = {}
        allowed: list[tuple[str, Saved]] = []
        for command in commands:
            event = found.get(command.fence.event_id)
            results.append(lost := command.fence.check(event))
            if lost is None and event is not None:
                allowed += [(event.owner_id, saved) for saved in command.saved]
                if event.pinned is None:
                    event.pinned = command.fence.version
                    pinned[event.id] = event
        store_saved(tx, allowed)
        save(tx, pinned.values())
        return results


def store_saved(tx: Writes, owned: Iterable[tuple[str, Saved]]) -> None:
    """Write checkpoints and writes of owners, whose right to do so has been checked."""
    puts: dict[tuple[str, ...], list[Any]] = {}
    blobs: list[list[Any]] = []
    writes: list[list[Any]] = []
    replaced: list[dict[str, Any]] = []
    for owner, saved in owned:
        at = [owner, saved.thread_id, saved.ns]
        checkpoint_id = saved.id if isinstance(saved, Checkpoint) else saved.checkpoint_id
        if isinstance(saved, Checkpoint):
            puts[owner, saved.thread_id, saved.ns, saved.id] = [*at, *_checkpoint_row(saved)]
            blobs += [
                [*at, channel, saved.versions[channel], value.form, value.body]
                for channel, value in saved.values.items()
            ]
        for write in saved.writes:
            writes.append([*at, checkpoint_id, *_write_row(write)])
            if write.index < 0:
                number = {"task": write.task_id, "number": write.index}
                replaced.append({**_where(*at), "of": checkpoint_id, **number})
    tx.insert(_PUT, list(puts.values()))
    tx.insert(_BLOBS, blobs)
    tx.change(_REMOVE_WRITE, replaced)
    tx.insert(_WRITES, _last_of_each(writes))


def _where(owner: str, thread: str, ns: str) -> dict[str, Any]:
    return {"owner": owner, "thread": thread, "in_ns": ns}


def _checkpoint_row(saved: Checkpoint) -> list[Any]:
    run_id = saved.metadata.get("run_id")
    return [
        saved.id,
        saved.parent_id,
        None if run_id is None else plain(str(run_id)),
        saved.value.form,
        saved.value.body,
        to_json(saved.metadata),
        to_json(saved.versions),
    ]


def _write_row(write: PendingWrite) -> list[Any]:
    return [
        write.task_id,
        write.index,
        write.path,
        write.channel,
        write.value.form,
        write.value.body,
    ]


def _last_of_each(writes: Sequence[list[Any]]) -> list[list[Any]]:
    """Of writes that replace each other the last, of others the first."""
    kept: dict[tuple[Any, ...], list[Any]] = {}
    for row in writes:
        key = tuple(row[:6])
        if row[5] < 0 or key not in kept:
            kept[key] = row
    return list(kept.values())


class _Tended(Command[None]):
    """What happens to whole threads; one command at a time."""

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 0
    fence: Fence

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[HoldfastError | None]:
        """Each in turn, under its event's lock."""
        found = hold(tx, [command.fence.event_id for command in commands])
        results: list[HoldfastError | None] = []
        for command in commands:
            results.append(lost := command.fence.check(found.get(command.fence.event_id)))
            if lost is None:
                command.tend(tx)
        return results

    def tend(self, tx: Writes) -> None:
        """Do it."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class CopyThread(_Tended):
    """Copy all checkpoints and writes of a thread to another one, which they replace."""

    fence: Fence
    source: str
    target: str

    def tend(self, tx: Writes) -> None:
        """Row by row; the hub knows only the keys."""
        owner = self.fence.owner_id
        for table, read, remove, insert in _OF_THREAD:
            place = list(table.c.keys()).index("thread_id")
            rows = tx.rows(read, {"owner": owner, "thread": self.source})
            tx.change(remove, [{"owner": owner, "thread": self.target}])
            tx.insert(insert, [(*row[:place], self.target, *row[place + 1 :]) for row in rows])


@dataclass(frozen=True, slots=True)
class DropRuns(_Tended):
    """Delete the checkpoints of LangGraph runs, with their writes."""

    fence: Fence
    run_ids: tuple[str, ...]

    def tend(self, tx: Writes) -> None:
        """Find them by what their metadata says."""
        owner = self.fence.owner_id
        for run_id in self.run_ids:
            rows = tx.rows(_OF_RUN, {"owner": owner, "run": run_id})
            gone = [{**_where(owner, thread, ns), "of": id_} for thread, ns, id_ in rows]
            tx.change(_REMOVE, gone)
            tx.change(_REMOVE_WRITES, gone)


@dataclass(frozen=True, slots=True)
class PruneThreads(_Tended):
    """Delete whole threads, or all but the newest checkpoint of each namespace."""

    fence: Fence
    thread_ids: tuple[str, ...]
    keep: Literal["nothing", "latest"]

    def tend(self, tx: Writes) -> None:
        """Thread by thread."""
        owner = self.fence.owner_id
        if self.keep == "nothing":
            drop_threads(tx, [(owner, thread) for thread in self.thread_ids])
            return
        for thread in self.thread_ids:
            keep_latest(tx, owner, thread)


def drop_threads(tx: Writes, threads: Sequence[tuple[str, str]]) -> None:
    """Delete all that is kept of (owner, thread)s, whose right to do so has been checked."""
    values = [{"owner": owner, "thread": thread} for owner, thread in threads]
    for _, _, remove, _ in _OF_THREAD:
        tx.change(remove, values)


def keep_latest(tx: Writes, owner: str, thread: str, *, rests: bool = False) -> None:
    """Delete all of a thread but the newest checkpoint of each namespace; see `drop_threads`.

    Args:
        tx: the transaction.
        owner: of the thread.
        thread: its id.
        rests: its run is over: namespaces of a subgraph's one task mean nothing any more.
    """
    rows = tx.rows(_KEPT, {"owner": owner, "thread": thread})
    latest: dict[str, tuple[str, Mapping[str, str]]] = {}
    for ns, id_, metadata, versions in sorted(rows, key=lambda row: row[1]):
        if from_json(metadata).get(DELTA):
            return  # its values are spread over those before
        if not (rests and of_one_task(ns)):
            latest[ns] = (id_, from_json(versions))
    gone = [
        {**_where(owner, thread, ns), "of": id_}
        for ns, id_, _, _ in rows
        if ns not in latest or id_ != latest[ns][0]
    ]
    tx.change(_REMOVE, gone)
    tx.change(_REMOVE_WRITES, gone)
    unused = [
        {**_where(owner, thread, ns), "in_channel": channel, "of": version}
        for ns, channel, version in tx.rows(_VERSIONS, {"owner": owner, "thread": thread})
        if ns not in latest or latest[ns][1].get(channel) != version
    ]
    tx.change(_REMOVE_BLOB, unused)
