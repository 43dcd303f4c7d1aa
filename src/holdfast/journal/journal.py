"""The journal of one hub boot: numbers changes, writes them down, wakes watchers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from holdfast.domain.changes import change_from
from holdfast.domain.ids import now_us
from holdfast.domain.payload import encode
from holdfast.domain.status import ExecutionStatus
from holdfast.telemetry import Metrics, logger

from .folder import SET_ASIDE, Folder, Orphan, orphans
from .replay import begin_entry, change_entry, execution_of, replay, settled_entry
from .running import Assessor, Running, Start

log = logger("journal")

BACKLOG_BYTES = 256 * 1024 * 1024
"""With so much journalled of executions that have ended and are not stored yet, no further work is
begun: while the database is away what has been done is kept, and nothing is dropped for it."""

TOKENS_KEPT = 1000
"""Pieces of streamed text a slow watcher may fall behind before the oldest are dropped."""


class Watcher:
    """Somebody who follows one execution."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.tokens: deque[tuple[int, str]] = deque(maxlen=TOKENS_KEPT)  # (step, text)
        self.ended = False


class Journal:
    """What runs now. Belongs to the hub's loop.

    Args:
        root: folder that holds one folder per boot.
        boot_id: this boot.
        assessor: prices and warnings, added as changes arrive.
        metrics: counts changes and faults.
    """

    def __init__(self, root: Path, boot_id: str, assessor: Assessor, metrics: Metrics) -> None:
        self.root = root
        self._folder = Folder(root, boot_id, execution_of)
        self._assessor = assessor
        self._metrics = metrics
        self._running: dict[str, Running] = {}
        self._sizes: dict[str, int] = {}  # bytes journalled, by execution
        self._ended: set[str] = set()  # … that have ended and are not stored
        self.backlog = 0  # bytes of those
        self._watchers: dict[str, set[Watcher]] = {}
        metrics.describe("holdfast_journal_changes_total", "counter", "Changes journalled.")
        metrics.describe(
            "holdfast_journal_backlog_bytes",
            "gauge",
            "Journalled of executions that have ended and wait for the database.",
        )
        metrics.describe(
            "holdfast_journal_faults_total", "counter", "Entries the disk or the reader refused."
        )

    @property
    def full(self) -> bool:
        """Whether so much waits for the database that nothing further is to be begun."""
        return self.backlog >= BACKLOG_BYTES

    @property
    def waiting(self) -> int:
        """Executions that have ended and are not stored yet."""
        return len(self._ended)

    def get(self, execution_id: str) -> Running | None:
        """The live state of an execution; None when it is not under way here."""
        return self._running.get(execution_id)

    def all(self) -> list[Running]:
        """Everything under way."""
        return list(self._running.values())

    def begin(self, start: Start) -> Running:
        """An execution was claimed and is about to run."""
        running = Running(start, self._assessor)
        self._running[running.id] = running
        self._folder.begin(running.id)
        self._append(running.id, begin_entry(start))
        self.wake(running.id)  # who followed it into its halt follows it out again
        return running

    def change(self, execution_id: str, raw: bytes) -> Running | None:
        """Take a change as the runner wrote it; None when it fits no execution under way."""
        running = self._running.get(execution_id)
        if running is None:
            self._fault("journal.unknown_execution", execution_id=execution_id)
            return None
        try:
            change = change_from(orjson.loads(raw))
            # Only what can be read again is written down.
            self._append(execution_id, change_entry(execution_id, raw))
            running.apply(change)
        except ValueError as error:
            self._fault("journal.bad_change", execution_id=execution_id, error=str(error))
            return None
        self._metrics.add("holdfast_journal_changes_total")
        if running.finished is not None:
            self._has_ended(execution_id)
        self.wake(execution_id)
        return running

    def tokens(self, execution_id: str, step: int, text: str) -> None:
        """Take streamed text: shown to watchers, not written down."""
        running = self._running.get(execution_id)
        if running is None:
            return  # it ended meanwhile; its answer is in the record
        running.stream(step, text)
        for watcher in self._watchers.get(execution_id, ()):
            watcher.tokens.append((step, text))
            watcher.changed.set()

    def break_off(
        self, execution_id: str, status: ExecutionStatus, error: dict[str, Any] | None
    ) -> Running | None:
        """End an execution from outside; None when it has told its own end, or never was here."""
        running = self._running.get(execution_id)
        if running is None or running.finished is not None:
            return None
        running.break_off(status, now_us(), error)
        self._has_ended(execution_id)
        self.wake(execution_id)
        return running

    def settle(self, execution_id: str) -> None:
        """The record is in the database: forget the live state."""
        if self._running.pop(execution_id, None) is None:
            return
        if execution_id in self._ended:
            self._ended.discard(execution_id)
            self._grow(-self._sizes.get(execution_id, 0))
        self._append(execution_id, settled_entry(execution_id))
        del self._sizes[execution_id]
        try:
            self._folder.settle(execution_id)
        except OSError as error:  # what stays behind only takes room
            self._fault("journal.remove_failed", error=str(error))
        for watcher in self._watchers.get(execution_id, ()):
            watcher.ended = True
            watcher.changed.set()

    @contextmanager
    def watch(self, execution_id: str) -> Generator[Watcher]:
        """Follow an execution; nothing that happens from here on is missed."""
        watcher = Watcher()
        watchers = self._watchers.setdefault(execution_id, set())
        watchers.add(watcher)
        try:
            yield watcher
        finally:
            watchers.discard(watcher)
            if not watchers:
                self._watchers.pop(execution_id, None)

    def wake(self, execution_id: str) -> None:
        """Let who follows an execution look again."""
        for watcher in self._watchers.get(execution_id, ()):
            watcher.changed.set()

    def wake_all(self) -> None:
        """Let everybody who follows anything look again."""
        for execution_id in list(self._watchers):
            self.wake(execution_id)

    def orphans(self, prefix: str = "") -> Iterator[tuple[Orphan, list[Running]]]:
        """What dead boots left: their folders, with the executions that were not stored.

        Args:
            prefix: of folders whose names begin so only.
        """
        for orphan in orphans(self.root, prefix):
            yield orphan, self._replay(orphan)

    def recordings(self, entries: Iterable[bytes], owner_id: str) -> tuple[list[Running], int]:
        """Executions that a recorder sent as entries, and how many entries make no sense.

        Args:
            entries: as `replay.recording_entry` and `replay.change_entry` write them.
            owner_id: whose they are, whatever they say themselves.
        """
        faults: list[Exception] = []
        found = replay(entries, self._assessor, faults.append, owner_id=owner_id)
        return [one for one in found if one.start.begun is not None], len(faults)

    def set_aside(self, execution_id: str, record: dict[str, Any]) -> str | None:
        """Keep a record that the database refuses as a JSON file.

        Returns:
            Its path; None when the disk refuses it too.
        """
        path = self.root / SET_ASIDE / f"{execution_id}.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(record))
        except OSError as error:
            self._fault("journal.set_aside_failed", execution_id=execution_id, error=str(error))
            return None
        return str(path)

    def close(self) -> None:
        """Close the files; a folder with unsettled executions stays for the next boot."""
        self._folder.close()

    def _replay(self, orphan: Orphan) -> list[Running]:
        def fault(error: Exception) -> None:
            self._fault("journal.bad_entry", boot_id=orphan.boot_id, error=repr(error))

        return replay(orphan.entries(), self._assessor, fault)

    def _has_ended(self, execution_id: str) -> None:
        self._ended.add(execution_id)
        self._grow(self._sizes.get(execution_id, 0))

    def _grow(self, by: int) -> None:
        self.backlog += by
        self._metrics.put("holdfast_journal_backlog_bytes", self.backlog)

    def _append(self, execution_id: str, entry: bytes) -> None:
        self._sizes[execution_id] = self._sizes.get(execution_id, 0) + len(entry)
        try:
            self._folder.append(entry, execution_id)
        except OSError as error:
            # The run goes on: its record is still in memory, only a crash would cost it.
            self._fault("journal.write_failed", error=str(error))

    def _fault(self, action: str, **facts: Any) -> None:
        self._metrics.add("holdfast_journal_faults_total", action=action)
        log.error(action, **facts)
