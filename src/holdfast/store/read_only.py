"""A database for somebody who only looks."""

from __future__ import annotations

from collections.abc import Callable

from typing_extensions import override

from holdfast.errors import StoreError

from .base import Backend, ReadConnection, WriteConnection


class ReadOnlyBackend(Backend):
    """Takes no lock and refuses every write."""

    lanes_apart = False

    def __init__(
        self, open_reads: Callable[[], ReadConnection], close: Callable[[], None] = lambda: None
    ) -> None:
        """Look through connections that `open_reads` opens; `close` gives back the rest."""
        self._open_reads = open_reads
        self._close = close

    @override
    def open_reads(self) -> ReadConnection:
        return self._open_reads()

    @override
    def open_writes(self) -> WriteConnection:
        raise StoreError("the store was opened for reading only", hint="run `holdfast up`")

    @override
    def close(self) -> None:
        self._close()
