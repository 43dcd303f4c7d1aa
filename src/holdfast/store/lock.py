"""One hub per SQLite file: an exclusive lock on a file in the home folder."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from holdfast.errors import StoreLocked

LOCK_FILE = "hub.lock"

MOMENT = " for a moment"
"""What stands behind the pid of a holder who is no hub."""

MOMENT_S = 10.0
"""How long a hub waits for such a holder."""


class HubLock:
    """Holds `<home>/hub.lock` from construction until `release`.

    The kernel drops the lock with the process, so a killed hub leaves none behind.
    """

    def __init__(self, home: Path, *, moment: bool = False) -> None:
        """Take the lock, or say who has it.

        Args:
            home: the folder.
            moment: held for a moment only, by somebody who is no hub; a hub waits for its end.

        Raises:
            StoreLocked: another process holds it.
        """
        home.mkdir(parents=True, exist_ok=True)
        path = home / LOCK_FILE
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        until = time.monotonic() + MOMENT_S
        while not self._try():
            holder = os.pread(self._fd, 64, 0).decode("ascii", "replace").strip()
            if holder.endswith(MOMENT) and not moment and time.monotonic() < until:
                time.sleep(0.01)
                continue
            os.close(self._fd)
            raise StoreLocked(
                f"{home} is in use by another hub" + (f" (pid {holder})" if holder else ""),
                hint="stop that hub, talk to it over HTTP, or choose another HOLDFAST_HOME",
            )
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}{MOMENT if moment else ''}\n".encode())

    def _try(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
