"""One hub per SQLite file: an exclusive lock on a file in the home folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from holdfast.errors import StoreLocked

LOCK_FILE = "hub.lock"


class HubLock:
    """Holds `<home>/hub.lock` from construction until `release`.

    The kernel drops the lock with the process, so a killed hub leaves none behind.
    """

    def __init__(self, home: Path) -> None:
        """Take the lock, or say who has it.

        Raises:
            StoreLocked: another process holds it.
        """
        home.mkdir(parents=True, exist_ok=True)
        path = home / LOCK_FILE
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._fd, 32).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise StoreLocked(
                f"{home} is in use by another hub" + (f" (pid {holder})" if holder else ""),
                hint="stop that hub, talk to it over HTTP, or choose another HOLDFAST_HOME",
            ) from None
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
