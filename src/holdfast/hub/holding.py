"""Holding: which supervised processes are this hub's, by rows with a lease and a fence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from holdfast.bus import Notice
from holdfast.bus.base import PROCESS
from holdfast.domain.agents import Process, ProcessStatus
from holdfast.domain.ids import MICROS
from holdfast.operations.kit import Kit
from holdfast.store.commands.processes import (
    BeatProcesses,
    MoveProcess,
    ReturnProcesses,
    TakeProcesses,
)

LEASE_S = 15.0
"""How long a process stays with a hub that is not heard of; longer where it beats less often."""


class Holding:
    """Takes, keeps and returns the rows of one kind of process.

    Args:
        kit: the hub's parts.
        kind: of process.
        host: name of this machine.
        beat_s: seconds between two beats.
        now: seconds, from wherever they start.
    """

    def __init__(
        self, kit: Kit, kind: str, *, host: str, beat_s: float, now: Callable[[], float]
    ) -> None:
        self._kit = kit
        self._kind = kind
        self._host = host
        self._lease_s = max(LEASE_S, 3 * beat_s)
        self._now = now
        self._until = float("-inf")

    @property
    def fresh(self) -> bool:
        """Whether what is held is still this hub's, as far as it can know without asking."""
        return self._now() < self._until

    async def take(self, targets: Iterable[tuple[str, str]]) -> list[Process]:
        """Take what nobody holds of these; each with its owner.

        Raises:
            StoreError: the database is away.
        """
        taken = await self._kit.store.write(
            TakeProcesses(
                kind=self._kind,
                targets=sorted(targets),
                hub=self._kit.boot_id,
                host=self._host,
                lease_us=int(self._lease_s * MICROS),
            )
        )
        for row in taken:
            self._ring(row.target, row.status)
        return taken

    async def beat(self, held: Sequence[tuple[Process, int | None]]) -> list[Process]:
        """Keep what is held; each with the time its loop last answered.

        Returns:
            What is still held, as its row is now; what is missing is lost.

        Raises:
            StoreError: the database is away.
        """
        until = self._now() + self._lease_s
        kept: list[Process] = []
        if held:
            beats = [(self._kind, row.target, row.fence, heard_at) for row, heard_at in held]
            kept = await self._kit.store.write(
                BeatProcesses(
                    hub=self._kit.boot_id, held=beats, lease_us=int(self._lease_s * MICROS)
                )
            )
        self._until = until
        return kept

    async def tell(self, row: Process, what: dict[str, Any]) -> bool:
        """Write into a row what is so; False when another hub has taken it.

        Raises:
            StoreError: the database is away.
        """
        told = await self._kit.store.write(
            MoveProcess(
                kind=self._kind,
                target=row.target,
                hub=self._kit.boot_id,
                fence=row.fence,
                **what,
            )
        )
        if told:
            self._ring(row.target, what["status"])
        return told

    async def give_back(self, target: str) -> None:
        """Let go of one.

        Raises:
            StoreError: the database is away.
        """
        await self._kit.store.write(ReturnProcesses(self._kit.boot_id, [(self._kind, target)]))
        self._ring(target)

    def _ring(self, target: str, status: ProcessStatus | None = None) -> None:
        """Tell who watches it."""
        self._kit.bus.publish(Notice(PROCESS, status=status, target=target))

    async def give_all_back(self) -> int:
        """Let go of all that this hub holds, of whatever kind; how many those were.

        Raises:
            StoreError: the database is away.
        """
        return await self._kit.store.write(ReturnProcesses(self._kit.boot_id))
