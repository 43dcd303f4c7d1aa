"""Checkpoints of SQLite's write-ahead log, on a thread of their own.

Left to itself SQLite checkpoints inside an unlucky commit (p99 of 5 to 15 ms). Switched off, the
log grows without end. Here the writer reports each commit; past `WAKE_BYTES` of log the thread runs
a passive checkpoint, past `LIMIT_BYTES` the writer itself does and so makes the others wait.

SQLite before 3.51.3 can corrupt a database when a checkpoint that finds nothing to do runs beside a
commit that starts the log afresh (sqlite.org/wal.html, "the WAL-reset bug"). So only this class
checkpoints, one at a time, and only for a transaction that began after the last checkpoint ended:
its pages are then in the log and not yet in the file, and no commit can start the log afresh.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from holdfast.telemetry import logger

PAGE = 4096
WAKE_BYTES = 2_000 * PAGE
"""Size of the log from which the thread works, and by which it must grow to be woken again."""

KEEP_BYTES = WAKE_BYTES // 2
"""What is left of the log file when it starts afresh, so that its size tells how full it is."""

LIMIT_BYTES = 8_000 * PAGE
"""Size of the log from which the writer waits for a checkpoint."""

log = logger("store")


class Checkpointer:
    """Keeps the log of one SQLite file short."""

    def __init__(self, file: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        """Start the thread.

        Args:
            file: the database.
            connect: opens a connection that any thread may use.
        """
        self._log_file = Path(f"{file}-wal")
        self._connection = connect()
        self._one = threading.Lock()
        self._wishes: SimpleQueue[int | None] = SimpleQueue()
        self._size = 0
        self._wake = WAKE_BYTES
        self._limit = LIMIT_BYTES
        self.generation = 0  # checkpoints that have ended
        self._thread = threading.Thread(target=self._run, name="store-checkpoints", daemon=True)
        self._thread.start()

    def committed(self, began_in: int) -> None:
        """Told by the writer after a commit, between two transactions.

        Args:
            began_in: the `generation` when the transaction began.
        """
        # Never open this file here: closing it would drop the locks SQLite holds in this process.
        size = self._log_file.stat().st_size
        if size < self._size:  # the log started afresh
            self._wake, self._limit = WAKE_BYTES, LIMIT_BYTES
        self._size = size
        if size >= self._limit:
            if self._checkpoint(began_in):
                # Where a reader holds the log it stays long: do not stop for every commit.
                self._wake = self._limit = size + WAKE_BYTES
        elif size >= self._wake:
            self._wake = size + WAKE_BYTES
            self._wishes.put(began_in)

    def close(self) -> None:
        """Stop the thread; the last connection to close takes the log in."""
        self._wishes.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while (began_in := self._wishes.get()) is not None:
            self._checkpoint(began_in)

    def _checkpoint(self, began_in: int) -> bool:
        """Run one, unless one has ended since; then a later commit will ask again."""
        with self._one:
            if began_in != self.generation:
                return False
            try:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            except sqlite3.Error:
                log.exception("store.checkpoint_failed")
            self.generation += 1
            return True
