"""The spool: where a recorder writes what it is told, on the caller's path and on local disk."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.domain.ids import new_id
from holdfast.domain.recordings import FOLDER_PREFIX, Begun
from holdfast.journal.folder import Folder
from holdfast.journal.replay import change_entry, recording_entry, settled_entry
from holdfast.telemetry import logger

log = logger("recorder")

MAX_ALONE = 64
"""Executions with a folder of their own at once; it takes two file descriptors."""


@dataclass(slots=True)
class _Held:
    """A folder of ours and the executions in it that have not ended."""

    folder: Folder
    open: dict[str, list[bytes]] = field(default_factory=dict[str, list[bytes]])  # their entries
    any_ended: bool = False
    alone: bool = False  # made for one execution; its entries are not kept in memory


class Spool:
    """Writes executions into locked journal folders; a `RecordSink`.

    A folder is handed over by letting go of its lock: whoever stores recordings takes it whole,
    and so it is never stored by two. An execution that goes on when another of its folder has
    ended is moved to a folder of its own first, so that nobody waits for a long one.

    For any thread.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._newest: _Held | None = None
        self._older: list[_Held] = []
        self._of: dict[str, _Held] = {}

    @property
    def open(self) -> int:
        """Executions that have not ended."""
        return len(self._of)

    def begin(self, begun: Begun) -> None:
        """Write the beginning of an execution.

        Raises:
            OSError: the disk is full or gone.
        """
        entry = recording_entry(begun)
        with self._lock:
            held = self._newest
            if held is None:
                held = self._newest = _Held(Folder(self._root, FOLDER_PREFIX + new_id()))
            held.folder.begin(begun.execution_id)
            held.folder.append(entry)
            held.open[begun.execution_id] = [entry]
            self._of[begun.execution_id] = held

    def change(self, execution_id: str, raw: bytes) -> None:
        """See `RecordSink.change`.

        Raises:
            OSError: the disk is full or gone.
        """
        entry = change_entry(execution_id, raw)
        with self._lock:
            held = self._of.get(execution_id)
            if held is not None:
                if not held.alone:
                    held.open[execution_id].append(entry)
                held.folder.append(entry)

    def tokens(self, execution_id: str, step: int, text: str) -> None:
        """See `RecordSink.tokens`; nobody follows a recording live."""

    def end(self, execution_id: str) -> None:
        """An execution has told its end."""
        with self._lock:
            held = self._of.pop(execution_id, None)
            if held is not None:
                del held.open[execution_id]
                held.any_ended = True

    def hand_over(self) -> None:
        """Let go of every folder in which something has ended."""
        with self._lock:
            if self._newest is not None and self._newest.any_ended:
                self._older.append(self._newest)
                self._newest = None
            shared = [held for held in self._older if not held.alone]
        for held in shared:
            for execution_id in list(held.open):
                with self._lock:  # not for all of them at once: the caller may be waiting
                    self._move(execution_id, held)
        with self._lock:
            done = [held for held in self._older if not held.open]
            self._older = [held for held in self._older if held.open]
            for held in done:
                held.folder.close()

    def _move(self, execution_id: str, held: _Held) -> None:
        """Give an open execution a folder of its own, unless there are too many."""
        if execution_id not in held.open or sum(one.alone for one in self._older) >= MAX_ALONE:
            return
        own = _Held(Folder(self._root, FOLDER_PREFIX + new_id()), alone=True)
        try:
            own.folder.begin(execution_id)
            for entry in held.open[execution_id]:
                own.folder.append(entry)
            # Last: if we die before, it stands in both and is stored once.
            held.folder.append(settled_entry(execution_id))
        except OSError as error:
            own.folder.remove()
            log.error("recorder.move_failed", execution_id=execution_id, error=str(error))
            return
        del held.open[execution_id]
        own.open[execution_id] = []
        self._of[execution_id] = own
        self._older.append(own)

    def close(self) -> None:
        """Let go of everything; what has not ended will be stored as `crashed`."""
        with self._lock:
            for held in self._all():
                held.folder.close()
            self._drop()

    def abandon(self) -> None:
        """In a forked child: forget what is the parent's, and leave it as it is."""
        # Without the lock: a thread that the child does not have may hold it.
        for held in self._all():
            held.folder.abandon()
        self._drop()

    def _all(self) -> list[_Held]:
        return [*self._older, *([self._newest] if self._newest else [])]

    def _drop(self) -> None:
        self._newest, self._older, self._of = None, [], {}
