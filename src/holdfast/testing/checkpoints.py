"""Checkpoints straight over a store: for tests of graphs without a hub."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.domain.checkpoints import (
    Checkpoint,
    CheckpointsWanted,
    Saved,
    saved_from_json,
    saved_to_json,
)
from holdfast.store.commands import CopyThread, DropRuns, Fence, PruneThreads, SaveCheckpoints
from holdfast.store.queries import Checkpoints
from holdfast.store.store import Store


class StoredCheckpoints:
    """A `CheckpointsPort` that writes to a store under one lease, as a hub does.

    Args:
        store: migrated.
        fence: the lease.
    """

    def __init__(self, store: Store, fence: Fence) -> None:
        self._store = store
        self._fence = fence

    async def save(self, *, execution_id: str, saved: Sequence[Saved]) -> None:  # noqa: ARG002
        """See `CheckpointsPort.save`; through JSON, as it would cross the socket."""
        crossed = tuple(saved_from_json(saved_to_json(one)) for one in saved)
        await self._store.write(SaveCheckpoints(self._fence, crossed))

    async def list(
        self,
        *,
        execution_id: str,  # noqa: ARG002
        wanted: CheckpointsWanted,
    ) -> Sequence[Checkpoint]:
        """See `CheckpointsPort.list`."""
        return await self._store.read(Checkpoints(self._fence.owner_id, wanted))

    async def drop_runs(self, *, execution_id: str, run_ids: Sequence[str]) -> None:  # noqa: ARG002
        """See `CheckpointsPort.drop_runs`."""
        await self._store.write(DropRuns(self._fence, tuple(run_ids)))

    async def copy(self, *, execution_id: str, source: str, target: str) -> None:  # noqa: ARG002
        """See `CheckpointsPort.copy`."""
        await self._store.write(CopyThread(self._fence, source, target))

    async def prune(self, *, execution_id: str, thread_ids: Sequence[str], keep: str) -> None:  # noqa: ARG002
        """See `CheckpointsPort.prune`."""
        kept = "latest" if keep == "latest" else "nothing"
        await self._store.write(PruneThreads(self._fence, tuple(thread_ids), kept))
