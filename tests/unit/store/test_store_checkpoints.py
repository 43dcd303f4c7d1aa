"""The write-ahead log stays short, and no checkpoint runs that has nothing to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from holdfast.store import checkpoints
from holdfast.store.checkpoints import Checkpointer

PAGE = checkpoints.PAGE


class Log:
    """A database whose log grows on request."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "x.db"
        self.writer = self.connect()
        self.writer.execute("CREATE TABLE t (x BLOB)")
        self.ran: list[str] = []
        self.checkpointer = Checkpointer(self.file, self.watched)

    def connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {checkpoints.KEEP_BYTES}")
        return connection

    def watched(self) -> sqlite3.Connection:
        connection = self.connect()
        connection.set_trace_callback(self.trace)
        return connection

    def trace(self, sql: str) -> None:
        self.ran.append(sql)

    def size(self) -> int:
        return Path(f"{self.file}-wal").stat().st_size

    def commit(self, pages: int) -> None:
        began_in = self.checkpointer.generation
        self.write(pages)
        self.checkpointer.committed(began_in)

    def write(self, pages: int) -> None:
        self.writer.execute("INSERT INTO t VALUES (zeroblob(?))", (pages * PAGE,))

    def close(self) -> None:
        self.checkpointer.close()
        self.writer.close()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setattr(checkpoints, "WAKE_BYTES", 100 * PAGE)
    monkeypatch.setattr(checkpoints, "KEEP_BYTES", 50 * PAGE)
    monkeypatch.setattr(checkpoints, "LIMIT_BYTES", 400 * PAGE)
    return Log(tmp_path)


def test_a_quiet_database_is_left_alone(log: Log) -> None:
    for _ in range(5):
        log.commit(1)
    log.close()
    assert log.ran == []


def test_a_log_past_the_limit_is_taken_in_by_the_writer(log: Log) -> None:
    log.commit(500)
    assert len(log.ran) == 1
    log.commit(1)  # starts the log afresh
    assert log.size() <= checkpoints.KEEP_BYTES + 20 * PAGE
    log.close()


def test_steady_writing_does_not_let_the_log_grow(log: Log) -> None:
    largest = 0
    for _ in range(300):
        log.commit(20)
        largest = max(largest, log.size())
    log.close()
    assert len(log.ran) > 1
    assert largest < checkpoints.LIMIT_BYTES + checkpoints.WAKE_BYTES


def test_a_reader_that_holds_the_log_does_not_stop_every_commit(log: Log) -> None:
    reader = log.connect()
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM t").fetchone()
    for _ in range(100):
        log.commit(20)
    assert 0 < len(log.ran) <= log.size() // checkpoints.WAKE_BYTES + 1
    reader.close()
    log.close()


def test_no_checkpoint_for_a_transaction_that_an_earlier_one_may_have_seen(log: Log) -> None:
    """With nothing left to do it could meet a commit that starts the log afresh (WAL-reset bug)."""
    began_in = log.checkpointer.generation
    log.commit(500)
    assert len(log.ran) == 1
    log.write(900)  # past every limit again
    log.checkpointer.committed(began_in)
    log.close()
    assert len(log.ran) == 1
