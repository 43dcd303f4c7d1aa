"""From blocking code to ports that are awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

WAIT_S = 120.0
"""How long a thread waits for an answer; the ports give up earlier."""


class Bridge:
    """Waits in a thread for what runs in the loop that was running when it was made."""

    def __init__(self) -> None:
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        self._thread = threading.get_ident()

    @property
    def usable(self) -> bool:
        """Whether the calling thread may wait: never the loop's own."""
        return (
            self._loop is not None
            and not self._loop.is_closed()
            and threading.get_ident() != self._thread
        )

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the loop and wait for it; only where `usable`."""
        assert self._loop is not None  # noqa: S101 - usable
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)
