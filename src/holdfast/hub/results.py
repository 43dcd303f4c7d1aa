"""Results of steps kept for the same input: in the hub's memory, bounded, each owner's apart."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from holdfast.ports import CachedResult

KEPT_BYTES = 64 * 1024 * 1024
"""What all results together may take; the one that was not used for longest goes first."""

RESULT_BYTES = 1024 * 1024
"""A larger result is not kept."""

ENTRY_BYTES = 500
"""What an entry takes beside its result."""


class _Entry(NamedTuple):
    result: CachedResult
    until: float
    size: int


class ResultCache:
    """Answers `ports.CachePort`; forgets everything when the hub ends.

    Args:
        limit: bytes that all results may take together.
        clock: seconds, from wherever it starts.
    """

    def __init__(
        self, limit: int = KEPT_BYTES, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.size = 0
        self._limit = limit
        self._clock = clock
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()

    def get(self, owner_id: str, key: str) -> CachedResult | None:
        """What was kept for that owner; None when nothing, or when its time is over."""
        entry = self._entries.get((owner_id, key))
        if entry is None:
            return None
        if entry.until <= self._clock():
            self._forget((owner_id, key))
            return None
        self._entries.move_to_end((owner_id, key))
        return entry.result

    def put(self, owner_id: str, key: str, result: CachedResult, ttl_s: float) -> None:
        """Keep a result for so many seconds, unless it is too large."""
        size = len(result.value) + ENTRY_BYTES
        self._forget((owner_id, key))
        if size > min(RESULT_BYTES, self._limit):
            return
        self._entries[owner_id, key] = _Entry(result, self._clock() + ttl_s, size)
        self.size += size
        while self.size > self._limit:
            self._forget(next(iter(self._entries)))

    def _forget(self, place: tuple[str, str]) -> None:
        entry = self._entries.pop(place, None)
        if entry is not None:
            self.size -= entry.size
