"""Reads on a few threads, over connections that cannot write."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from holdfast.errors import HoldfastError, StoreError

from .base import Query, R, ReadConnection

THREADS = 4
"""Reads at the same time; on SQLite more of them only take turns."""

ANSWER_S = 35.0
"""How long a caller waits: longer than the database lets a statement run, for when it hangs."""

CLOSE_S = 10.0
"""How long a closing store waits for running queries."""


class _Lost(StoreError):
    """The connection broke under a query."""


class Reader:
    """Runs queries; each takes an idle connection or opens one."""

    def __init__(
        self, connect: Callable[[], ReadConnection], count: Callable[[str, int], None]
    ) -> None:
        """Open nothing yet.

        Args:
            connect: opens a connection that any one thread at a time may use.
            count: told the number of statements each kind of query took.
        """
        self._connect = connect
        self._count = count
        self._idle: deque[ReadConnection] = deque()
        self._busy: dict[ReadConnection, float] = {}  # since when
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="store-read")

    async def read(self, query: Query[R]) -> R:
        """Run a query on a thread."""
        loop = asyncio.get_running_loop()
        try:
            running = loop.run_in_executor(self._pool, self._run, query)
        except RuntimeError as error:
            raise StoreError("the store is closed") from error
        try:
            async with asyncio.timeout(ANSWER_S):
                return await running
        except TimeoutError:
            self._cut_stuck(ANSWER_S)
            raise StoreError(f"the database did not answer within {ANSWER_S:g} s") from None

    def close(self) -> None:
        """Wait for running queries, but not for ever, and close the connections."""
        self._pool.shutdown(wait=False)
        until = time.monotonic() + CLOSE_S
        while self._busy and time.monotonic() < until:
            time.sleep(0.01)
        self._cut_stuck(0.0)
        self._pool.shutdown(wait=True)
        while self._idle:
            self._idle.pop().close()

    def _cut_stuck(self, seconds: float) -> None:
        """Break the connections that were asked so long ago, so that their threads are free."""
        for connection, since in list(self._busy.items()):
            if time.monotonic() - since >= seconds:
                connection.cut()

    def _run(self, query: Query[Any]) -> Any:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break  # another thread was quicker
            try:
                return self._ask(connection, query)
            except _Lost:
                # The database may have been restarted since this connection was last used. Asking
                # again changes nothing, so another connection may try.
                continue
        try:
            connection = self._connect()
        except HoldfastError:
            raise
        except Exception as error:
            raise StoreError(f"the database cannot be reached: {error}") from error
        return self._ask(connection, query)

    def _ask(self, connection: ReadConnection, query: Query[Any]) -> Any:
        name = type(query).__name__
        before = connection.count
        self._busy[connection] = time.monotonic()
        try:
            if query.snapshot:
                with connection.snapshot():
                    answer = query.run(connection)
            else:
                answer = query.run(connection)
        except HoldfastError:
            self._idle.append(connection)
            raise
        except Exception as error:
            kind = _Lost if connection.lost() else StoreError
            connection.close()
            raise kind(f"{name} failed: {type(error).__name__}: {error}") from error
        finally:
            del self._busy[connection]
            self._count(name, connection.count - before)
        self._idle.append(connection)
        return answer
