"""Checkpoints of running graphs: stored in the order they come, however long that takes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.domain.checkpoints import Saved
from holdfast.errors import PortError
from holdfast.journal import Running
from holdfast.runner.client_ports import STORE_TIMEOUT_S
from holdfast.store.commands import CopyThread, DropRuns, Fence, PruneThreads, SaveCheckpoints
from holdfast.store.queries import Checkpoints
from holdfast.store.store import Store

from .patience import patiently


class Keeper:
    """Answers the checkpoints port.

    Each execution has a line of its own: what gathers while its last save runs is stored as one.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lines: dict[str, deque[tuple[Sequence[Saved], asyncio.Future[None]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, running: Running, verb: str, args: Mapping[str, Any]) -> Any:
        """Answer a call for an execution that runs here.

        Raises:
            LeaseLost: it has lost the right to write.
            PortError: there is no such verb.
        """
        fence = fence_of(running)
        match verb:
            case "save":
                await self._save(fence, running.id, args["saved"])
            case "list":
                query = Checkpoints(fence.owner_id, args["wanted"])
                return await patiently(
                    self._store,
                    lambda: self._store.read(query),
                    within_s=STORE_TIMEOUT_S,
                    event_id=running.event_id,
                )
            case "drop_runs":
                await self._write(DropRuns(fence, tuple(args["run_ids"])))
            case "copy":
                await self._write(CopyThread(fence, args["source"], args["target"]))
            case "prune":
                keep = "latest" if args["keep"] == "latest" else "nothing"
                await self._write(PruneThreads(fence, tuple(args["thread_ids"]), keep))
            case _:
                raise PortError(f"no port checkpoints.{verb}")
        return None

    async def _write(self, command: DropRuns | CopyThread | PruneThreads) -> None:
        await patiently(
            self._store,
            lambda: self._store.write(command),
            within_s=STORE_TIMEOUT_S,
            event_id=command.fence.event_id,
        )

    async def _save(self, fence: Fence, execution_id: str, saved: Sequence[Saved]) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = self._lines.get(execution_id)
        if line is None:
            line = self._lines[execution_id] = deque()
            task = asyncio.create_task(self._work_off(fence, execution_id, line))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        line.append((saved, done))
        await done

    async def _work_off(
        self,
        fence: Fence,
        execution_id: str,
        line: deque[tuple[Sequence[Saved], asyncio.Future[None]]],
    ) -> None:
        while line:
            batch = list(line)
            line.clear()
            saved = tuple(one for together, _ in batch for one in together)
            error = await self._store_all(fence, saved)
            for _, done in batch:
                if not done.done():
                    done.set_result(None) if error is None else done.set_exception(error)
        del self._lines[execution_id]

    async def _store_all(self, fence: Fence, saved: tuple[Saved, ...]) -> Exception | None:
        try:
            await patiently(
                self._store,
                lambda: self._store.write(SaveCheckpoints(fence, saved)),
                within_s=STORE_TIMEOUT_S,
                event_id=fence.event_id,
            )
        except Exception as error:  # noqa: BLE001 - handed to the run it concerns
            return error
        return None

    async def close(self) -> None:
        """Give up what could not be stored; its executions are handed back."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))


def fence_of(running: Running) -> Fence:
    """The lease an execution of this hub writes under."""
    claimed = running.start.claimed
    return Fence(
        event_id=running.event_id,
        owner_id=running.owner_id,
        lease_owner=running.start.lease_owner,
        number=claimed.fence,
        version=running.start.graph_version,
    )
