"""The store: one place to write commands and read queries, whatever the database."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping
from typing import cast

from .base import LANES, Backend, Command, Query, R
from .reader import Reader
from .writer import Writer


class Store:
    """An open database.

    Writes are committed in groups by threads that do nothing else; reads run beside them on
    connections that cannot write.
    """

    def __init__(self, backend: Backend) -> None:
        """Start the threads over `backend`; `registry.open_store` makes one."""
        self.lanes_apart = backend.lanes_apart
        self._backend = backend
        self._closed = False
        self._pauses: set[asyncio.Future[None]] = set()
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._reader = Reader(backend.open_reads, self._count)
        if backend.lanes_apart:
            self._writers = {lane: self._writer(lane) for lane in LANES}
        else:
            self._writers = dict.fromkeys(LANES, self._writer("write"))

    async def write(self, command: Command[R]) -> R:
        """Store a command; returns after the commit.

        Raises:
            StoreError: the database is away; nothing is known to be stored.
            StoreRefused: the database took everything but this command.
            HoldfastError: what the command itself says; see there.
        """
        result = await self._writers[command.lane].write(command)
        if self._pauses:
            self._has_stored()
        return cast("R", result)

    async def read(self, query: Query[R]) -> R:
        """Ask a question.

        Raises:
            StoreError: the database is away.
            HoldfastError: what the query itself says; see there.
        """
        return await self._reader.read(query)

    async def pause(self, seconds: float) -> None:
        """Wait so long before another try, or until somebody else's command has been stored.

        Not for an answer to a question: a full disk can still be read.
        """
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pauses.add(stored)
        try:
            await asyncio.wait({stored}, timeout=seconds)
        finally:
            self._pauses.discard(stored)

    def _has_stored(self) -> None:
        pauses, self._pauses = self._pauses, set()
        for stored in pauses:
            if not stored.done():
                stored.set_result(None)

    @property
    def statements(self) -> Mapping[str, int]:
        """Statements run so far, by the name of the command or query they belong to."""
        with self._counting:
            return dict(self._counts)

    async def close(self) -> None:
        """Store what is queued, then close everything; a second call does nothing."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for writer in set(self._writers.values()):
            writer.close()
        self._reader.close()
        self._backend.close()

    def _writer(self, name: str) -> Writer:
        return Writer(f"store-{name}", self._backend.open_writes, self._count)

    def _count(self, name: str, statements: int) -> None:
        with self._counting:
            self._counts[name] += statements
