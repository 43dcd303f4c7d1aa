"""Checkpoints that are kept in memory until the execution halts.

A graph that is not durable needs its state only where it stands still. Then the state travels with
the outcome and is stored in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from holdfast.domain.checkpoints import (
    Checkpoint,
    CheckpointsWanted,
    CheckpointWrites,
    PendingWrite,
    Saved,
    Value,
)
from holdfast.errors import CheckpointError
from holdfast.ports import CheckpointsPort

Place = tuple[str, str, str]
"""Thread, namespace and id of a checkpoint."""


class HeldCheckpoints:
    """A `CheckpointsPort` that writes to memory, over what another one has already.

    Args:
        stored: what was stored when the execution halted before.
        goes_on: whether there is anything.
    """

    def __init__(self, stored: CheckpointsPort, *, goes_on: bool) -> None:
        self._stored = stored
        self._goes_on = goes_on
        self._checkpoints: dict[Place, Checkpoint] = {}
        self._writes: dict[Place, dict[tuple[str, int], PendingWrite]] = {}
        self._values: dict[tuple[str, str, str, str], Value] = {}  # also by channel and version

    @property
    def saved(self) -> list[Saved]:
        """All that is held, to be stored."""
        writes = [
            CheckpointWrites(
                thread_id=thread_id, ns=ns, checkpoint_id=id_, writes=tuple(of.values())
            )
            for (thread_id, ns, id_), of in self._writes.items()
        ]
        return [*self._checkpoints.values(), *writes]

    async def save(self, *, execution_id: str, saved: Sequence[Saved]) -> None:  # noqa: ARG002
        """See `CheckpointsPort.save`."""
        for one in saved:
            self._hold(one)

    def _hold(self, saved: Saved) -> None:
        at = saved.thread_id, saved.ns
        if isinstance(saved, Checkpoint):
            self._checkpoints[*at, saved.id] = saved
            self._note_values(saved)
            return
        of = self._writes.setdefault((*at, saved.checkpoint_id), {})
        for write in saved.writes:
            if write.index < 0:
                of[write.task_id, write.index] = write
            else:
                of.setdefault((write.task_id, write.index), write)

    async def list(self, *, execution_id: str, wanted: CheckpointsWanted) -> Sequence[Checkpoint]:
        """See `CheckpointsPort.list`."""
        found = {_place(one): one for one in self._checkpoints.values() if _fits(one, wanted)}
        if self._goes_on:
            for one in await self._stored.list(execution_id=execution_id, wanted=wanted):
                self._note_values(one)
                found.setdefault(_place(one), one)
        newest = sorted(found.values(), key=lambda one: one.id, reverse=True)
        return [self._whole(one) for one in newest[: wanted.limit]]

    async def drop_runs(self, *, execution_id: str, run_ids: Sequence[str]) -> None:  # noqa: ARG002
        """See `CheckpointsPort.drop_runs`."""
        raise CheckpointError("a run cannot drop checkpoints", hint="they are pruned at its end")

    async def copy(self, *, execution_id: str, source: str, target: str) -> None:  # noqa: ARG002
        """See `CheckpointsPort.copy`."""
        raise CheckpointError("a run cannot copy its thread", hint="send an event instead")

    async def prune(self, *, execution_id: str, thread_ids: Sequence[str], keep: str) -> None:  # noqa: ARG002
        """See `CheckpointsPort.prune`."""
        raise CheckpointError("a run cannot prune threads", hint="they are pruned at its end")

    def _note_values(self, one: Checkpoint) -> None:
        for channel, value in one.values.items():
            self._values[one.thread_id, one.ns, channel, one.versions[channel]] = value

    def _whole(self, one: Checkpoint) -> Checkpoint:
        values = {
            channel: value
            for channel, version in one.versions.items()
            if (value := self._values.get((one.thread_id, one.ns, channel, version))) is not None
        }
        writes = {(write.task_id, write.index): write for write in one.writes}
        writes |= self._writes.get(_place(one), {})
        order = sorted(writes.values(), key=lambda one: (one.path, one.task_id, one.index))
        return replace(one, values=values, writes=tuple(order))


def _place(one: Checkpoint) -> Place:
    return one.thread_id, one.ns, one.id


def _fits(one: Checkpoint, wanted: CheckpointsWanted) -> bool:
    return (
        wanted.thread_id in (None, one.thread_id)
        and wanted.ns in (None, one.ns)
        and wanted.id in (None, one.id)
        and (wanted.before is None or one.id < wanted.before)
        and all(one.metadata.get(name) == value for name, value in wanted.metadata.items())
    )
