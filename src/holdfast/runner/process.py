"""Runners seen from their hub: what starts their processes, and one such process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from holdfast.errors import SettingsError

SpawnKind = Literal["auto", "zygote", "plain"]

STRICT = {"LANGGRAPH_STRICT_MSGPACK": "true"}
"""LangGraph reads it once, at import: its own serializers are strict as ours is."""

CLOSED = "the spawner is closed"

LOG_MODE = 0o600
"""What a process prints may be private."""


class RunnerProcess(ABC):
    """A runner that waits to be greeted at its socket.

    It leaves by itself when the socket is closed, so it never outlives its hub, however that ends.

    Attributes:
        sock: our end; whoever speaks over it takes it. It ends when the process does.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """Its process id; None until it is known, which is before it is ready."""

    @abstractmethod
    def terminate(self) -> None:
        """SIGTERM, unless it has ended."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL, unless it has ended."""

    @abstractmethod
    def wait(self) -> int | None:
        """Block until it has ended.

        Returns:
            Its exit code, or minus the signal that ended it; None when nobody can tell, or when
            there never was a process.
        """

    def close(self) -> None:
        """End it; for one that nobody has greeted."""
        self.sock.close()
        self.kill()
        self.wait()


class Spawner(ABC):
    """Starts runners."""

    @abstractmethod
    def spawn(
        self, environment: Mapping[str, str], *, log: Path | None = None, soon: bool = False
    ) -> RunnerProcess:
        """Start a runner; returns at once. One that comes to nothing shows as one that died.

        Args:
            environment: the variables it gets, and no others.
            log: file to which it appends what it prints; None: it prints where the hub does.
            soon: it is not to wait until modules are preloaded.

        Raises:
            OSError: no more processes or files, or the log cannot be opened.
            ValueError: a variable that no process can have.
        """

    @abstractmethod
    def close(self) -> None:
        """Start no more; what was started goes on."""


class PlainSpawner(Spawner):
    """Starts each runner as a Python of its own."""

    def __init__(self) -> None:
        self._closed = False

    def spawn(
        self,
        environment: Mapping[str, str],
        *,
        log: Path | None = None,
        soon: bool = False,  # noqa: ARG002 - nothing is preloaded here
    ) -> RunnerProcess:
        """See `Spawner.spawn`."""
        if self._closed:
            raise OSError(CLOSED)
        environment = checked(environment)
        ours, theirs = socket.socketpair()
        try:
            with theirs, opened(log) as out:
                return PlainProcess(ours, start(theirs, environment, out))
        except BaseException:
            ours.close()
            raise

    def close(self) -> None:
        """See `Spawner.close`."""
        self._closed = True


class PlainProcess(RunnerProcess):
    """A child of this process."""

    def __init__(self, sock: socket.socket, process: subprocess.Popen[bytes]) -> None:
        super().__init__(sock)
        self._process = process

    @property
    def pid(self) -> int:
        """See `RunnerProcess.pid`."""
        return self._process.pid

    def terminate(self) -> None:
        """See `RunnerProcess.terminate`."""
        self._process.terminate()

    def kill(self) -> None:
        """See `RunnerProcess.kill`."""
        self._process.kill()

    def wait(self) -> int:
        """See `RunnerProcess.wait`."""
        return self._process.wait()


def checked(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a runner.

    Raises:
        ValueError: one that no process can have.
    """
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise ValueError(f"no process can have the variable {name!r}")
    return {**environment, **STRICT}


def start(
    theirs: socket.socket, environment: Mapping[str, str], out: int | None
) -> subprocess.Popen[bytes]:
    """Start a Python that serves the hub at the other end of a socket pair.

    Args:
        theirs: the runner's end, which is still to be closed here.
        environment: see `checked`.
        out: descriptor of its log.
    """
    return subprocess.Popen(  # noqa: S603 - our own
        [sys.executable, "-m", "holdfast.runner", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=out,
    )


@contextmanager
def opened(log: Path | None) -> Generator[int | None]:
    """The descriptor of a log file, to be handed to a process."""
    if log is None:
        yield None
        return
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, LOG_MODE)
    try:
        yield out
    finally:
        os.close(out)


def open_spawner(
    kind: SpawnKind, preload: Sequence[str] = (), *, environment: Mapping[str, str]
) -> Spawner:
    """What starts runners from now on; a zygote begins to warm up at once.

    Args:
        kind: `zygote` forks runners from a warm process, which takes milliseconds and little
            memory each; `plain` starts a Python for each; `auto` takes the zygote where there can
            be one.
        preload: modules that the zygote imports besides what every runner does.
        environment: variables from which the zygote takes what a Python needs; a runner gets
            those of its own and no others.

    Raises:
        SettingsError: there can be no zygote here, and nothing else was wanted.
    """
    if kind != "plain":
        if can_fork():
            from .zygote_spawner import ZygoteSpawner

            return ZygoteSpawner(preload, environment, stands_in=kind == "auto")
        if kind == "zygote":
            raise SettingsError(
                "HOLDFAST_SPAWN: a zygote needs Linux 5.4 or newer",
                hint="use auto or plain",
            )
    return PlainSpawner()


def can_fork() -> bool:
    """Whether a zygote can work here: forking a warm Python is safe, processes can be held fast."""
    if sys.platform != "linux":
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # an old kernel, or one that is told to refuse it
        return False
    return True
