"""The journal's files: append-only segments of checksummed entries, one locked folder per boot."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from holdfast.telemetry import logger

log = logger("journal")

ENTRY: Final = struct.Struct(">II")
"""Length and CRC-32 of the JSON that follows."""

SET_ASIDE: Final = "set-aside"
"""Folder beside the boots' for what could not be taken in."""

SEGMENT_BYTES: Final = 16 * 1024 * 1024
"""A segment that has grown to this is closed and a new one begun."""


ROOM_BYTES: Final = 128 * 1024 * 1024
REWRITTEN_BELOW: Final = 0.25
"""Once a folder takes more room than this, closed segments of which less than this share is needed
are rewritten without the rest: some run that began long ago keeps them from being removed."""


@dataclass(slots=True)
class _Segment:
    """What a segment holds, in bytes."""

    size: int = 0
    needed: int = 0
    of: dict[str, int] = field(default_factory=dict[str, int])  # by execution not yet settled


class Folder:
    """The journal folder of this boot.

    Entries are written with one unbuffered `write` each, so that they outlive a killed process.
    There is no fsync: the event's row is the promise that outlives the machine.

    Args:
        root: where boots have their folders.
        boot_id: names this one.
        whose: the execution an entry belongs to, None when it is needed in any case; without it
            segments are only ever removed as a whole.
    """

    def __init__(
        self, root: Path, boot_id: str, whose: Callable[[bytes], str | None] | None = None
    ) -> None:
        self._whose = whose
        self._segments: dict[int, _Segment] = {}
        self._lies_in: dict[str, list[int]] = {}  # execution to the segments that have of it
        self._wasteful: set[int] = set()  # segments worth rewriting
        self._total = 0  # bytes in all segments
        # Named only when it is locked: what has its name and no lock is an orphan.
        self.path = root / f".{boot_id}"
        self.path.mkdir(parents=True)
        self._lock = _lock(self.path, os.O_CREAT)
        if self._lock is None:
            raise RuntimeError(f"journal folder {self.path} of a new boot is locked")
        self._number = 0
        self._oldest = 1
        self._fd = -1
        self._size = 0
        self._first: dict[str, int] = {}  # execution to the segment it began in
        self._open_segment()
        self.path = self.path.rename(root / boot_id)

    def begin(self, execution_id: str) -> None:
        """Keep the segments from here on until `settle`."""
        self._first[execution_id] = self._number

    def append(self, body: bytes, execution_id: str | None = None) -> None:
        """Write one entry.

        Args:
            body: the entry.
            execution_id: until whose `settle` it is needed; None: as long as its segment stays.

        Raises:
            OSError: the disk is full or gone.
        """
        if self._size >= SEGMENT_BYTES:
            with suppress(OSError):  # the old segment goes on until there is room for a new one
                self._open_segment()
        entry = ENTRY.pack(len(body), zlib.crc32(body)) + body
        written = os.write(self._fd, entry)
        if written != len(entry):
            # A torn entry would hide all later ones of the segment: cut it off again.
            os.ftruncate(self._fd, self._size)
            os.lseek(self._fd, 0, os.SEEK_END)
            raise OSError(f"journal took {written} of {len(entry)} bytes")
        self._size += written
        self._count(written, execution_id)

    def settle(self, execution_id: str) -> None:
        """An execution is stored: what nobody needs any more is removed.

        Raises:
            OSError: it could not be; it only takes room.
        """
        self._first.pop(execution_id, None)
        self._forget(execution_id)
        oldest = min(self._first.values(), default=self._number)
        for number in range(self._oldest, oldest):
            self._total -= self._segments.pop(number, _Segment()).size
            self._wasteful.discard(number)
            (self.path / _name(number)).unlink(missing_ok=True)
        self._oldest = max(self._oldest, oldest)
        if self._wasteful and self._total > ROOM_BYTES:
            number = min(self._wasteful)
            self._wasteful.discard(number)
            self._rewrite(number)

    def close(self) -> None:
        """Close; remove the folder when nothing in it is needed."""
        os.close(self._fd)
        if not self._first:
            shutil.rmtree(self.path)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remove(self) -> None:
        """Close and remove the folder, whatever is in it."""
        self._first.clear()
        self.close()

    def abandon(self) -> None:
        """Close the files in a forked child; the folder stays its parent's."""
        os.close(self._fd)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _count(self, size: int, execution_id: str | None) -> None:
        segment = self._segments.setdefault(self._number, _Segment())
        self._total += size
        segment.size += size
        segment.needed += size
        if execution_id in self._first:
            if execution_id not in segment.of:
                self._lies_in.setdefault(execution_id, []).append(self._number)
            segment.of[execution_id] = segment.of.get(execution_id, 0) + size

    def _forget(self, execution_id: str) -> None:
        """Need an execution no more; note the closed segments that now hold mostly waste."""
        for number in self._lies_in.pop(execution_id, ()):
            segment = self._segments[number]
            segment.needed -= segment.of.pop(execution_id)
            if number != self._number:
                self._note_waste(number)

    def _note_waste(self, number: int) -> None:
        segment = self._segments.get(number)
        if segment is None or self._whose is None:
            return
        waste = segment.needed < REWRITTEN_BELOW * segment.size
        if waste and segment.size > SEGMENT_BYTES // 8:
            self._wasteful.add(number)

    def _rewrite(self, number: int) -> None:
        """Leave out what is not needed. In its place: the order of entries says what came when."""
        segment, path = self._segments[number], self.path / _name(number)
        data, kept, read = path.read_bytes(), bytearray(), 0
        for body in _whole_entries(data):
            read += ENTRY.size + len(body)
            of = None if self._whose is None else self._whose(body)
            if of is None or of in segment.of:
                kept += ENTRY.pack(len(body), zlib.crc32(body)) + body
        if read < len(data):  # damaged: whoever takes it in sees to that
            return
        new = path.with_suffix(".new")
        new.write_bytes(kept)
        new.replace(path)
        self._total -= segment.size - len(kept)
        segment.size = segment.needed = len(kept)

    def _open_segment(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(self.path / _name(self._number + 1), flags, 0o600)
        # Only now: a number that is closed may be another file's before the next write.
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._number += 1
        self._size = 0
        self._note_waste(self._number - 1)


def _whole_entries(data: bytes) -> Iterator[bytes]:
    """The entries of a segment up to its end or the first damage."""
    at = 0
    while len(data) - at >= ENTRY.size:
        length, checksum = ENTRY.unpack_from(data, at)
        body = data[at + ENTRY.size : at + ENTRY.size + length]
        # No entry is empty, but a stretch of zeros would look like many.
        if not length or len(body) < length or zlib.crc32(body) != checksum:
            return
        yield body
        at += ENTRY.size + length


class Orphan:
    """A folder whose boot is dead; held locked while it is taken in."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.boot_id = path.name
        self._lock = lock

    def entries(self) -> Iterator[bytes]:
        """All whole entries in order; what follows a damaged one is set aside and reported."""
        for segment in sorted(self.path.glob("*.log")):
            data = segment.read_bytes()
            at = 0
            for body in _whole_entries(data):
                yield body
                at += ENTRY.size + len(body)
            if at < len(data):
                self._set_aside(segment, at, data[at:])

    def remove(self) -> None:
        """The folder is taken in."""
        shutil.rmtree(self.path)
        os.close(self._lock)

    def release(self) -> None:
        """Leave the folder for the next try."""
        os.close(self._lock)

    def _set_aside(self, segment: Path, at: int, tail: bytes) -> None:
        aside = self.path.parent / SET_ASIDE
        aside.mkdir(exist_ok=True)
        kept = aside / f"{self.boot_id}-{segment.stem}-{at}.tail"
        kept.write_bytes(tail)
        log.warning(
            "journal.damaged_tail", segment=str(segment), at=at, size=len(tail), kept=str(kept)
        )


def orphans(root: Path, prefix: str = "") -> Iterator[Orphan]:
    """The folders under `root` whose boot no longer lives, locked one at a time.

    Args:
        root: where boots have their folders.
        prefix: of folders whose names begin so only.
    """
    if not root.is_dir():
        return
    for path in sorted(root.glob(f"{prefix}*")):
        if path.name.startswith("."):
            continue
        lock = _lock(path)
        if lock is None:
            continue
        if not (path / "lock").exists():  # taken in by somebody else in this moment
            os.close(lock)
            continue
        yield Orphan(path, lock)


def _lock(path: Path, create: int = 0) -> int | None:
    """An exclusive lock on the folder, or None while its boot lives."""
    try:
        fd = os.open(path / "lock", os.O_RDWR | create | os.O_CLOEXEC, 0o600)
    except (FileNotFoundError, NotADirectoryError):  # no boot's folder, or not any more
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _name(number: int) -> str:
    return f"{number:08d}.log"
