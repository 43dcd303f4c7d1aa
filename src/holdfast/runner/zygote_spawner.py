"""Runners forked from a warm zygote, seen from their hub. What the zygote does is in `zygote`."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from holdfast.telemetry import logger

from .process import CLOSED, STRICT, RunnerProcess, Spawner, checked, opened, start

log = logger("hub")

MESSAGE_BYTES = 64 * 1024
"""Longest message between hub and zygote; environments go in files of their own."""

UNANSWERED = 32
"""Requests handed over at once; more would fill the socket, and sending would wait."""

LOOK_EVERY_S = 5.0

ANSWER_WITHIN_S = 60.0
"""A zygote that says nothing for so long while it is asked for something is killed."""

MAX_FAILED_STARTS = 3
"""After so many zygotes in a row that died before they gave a runner there is no further one."""

_NEEDED = frozenset(
    {
        *("HOME", "LANG", "LANGUAGE", "LOGNAME", "NO_COLOR", "FORCE_COLOR", "PATH", "TMPDIR"),
        *("SSL_CERT_DIR", "SSL_CERT_FILE", "TZ", "USER", "VIRTUAL_ENV"),
    }
)
_NEEDED_PREFIXES = ("LC_", "LD_", "MALLOC_", "PYTHON", "GLIBC_", "OMP_", "OPENBLAS_")


def needed(environment: Mapping[str, str]) -> dict[str, str]:
    """What of the environment the zygote gets: what a Python reads at its start.

    No key, for a forked process shows its zygote's beginnings to whoever looks at `/proc`; and
    nothing that makes LangSmith send what the zygote warms up with.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name in _NEEDED or name.startswith(_NEEDED_PREFIXES)
    }
    return {**kept, **STRICT}


def packed(environment: Mapping[str, str]) -> bytes:
    """Variables in the form in which the kernel keeps them."""
    pairs = (os.fsencode(name) + b"=" + os.fsencode(value) for name, value in environment.items())
    return b"\0".join(pairs)


class ForkedProcess(RunnerProcess):
    """A child of the zygote; signalled over a pidfd, so that no other process is ever hit."""

    def __init__(self, sock: socket.socket, request: Request) -> None:
        super().__init__(sock)
        self.request = request
        self.called_off = False
        self._lock = threading.Lock()
        self._settled = threading.Event()  # it has ended, or whoever waits has to look
        self._pid: int | None = None
        self._pidfd: int | None = None
        self._code: int | None = None
        self._stand_in: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """See `RunnerProcess.pid`."""
        return self._pid

    def terminate(self) -> None:
        """See `RunnerProcess.terminate`."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """See `RunnerProcess.kill`."""
        self._signal(signal.SIGKILL)

    def wait(self) -> int | None:
        """See `RunnerProcess.wait`."""
        self._settled.wait()
        with self._lock:
            stand_in, held = self._stand_in, None if self._pidfd is None else os.dup(self._pidfd)
        if stand_in is not None:
            return stand_in.wait()
        if held is None:
            return self._code
        # Its zygote is gone: somebody else has inherited it, perhaps this very process.
        try:
            poller = select.poll()
            poller.register(held, select.POLLIN)
            poller.poll()
            with suppress(ChildProcessError):
                if (end := os.waitid(os.P_PIDFD, held, os.WEXITED)) is not None:
                    self.has_ended(end.si_status * (1 if end.si_code == os.CLD_EXITED else -1))
        finally:
            os.close(held)
        self.has_ended(self._code)
        return self._code

    def is_born(self, pid: int, pidfd: int) -> None:
        """The zygote has forked it."""
        with self._lock:
            if self.called_off:  # while it was being forked
                _send(pidfd, signal.SIGKILL)
                os.close(pidfd)
            else:
                self._pid, self._pidfd = pid, pidfd

    def stands_in(self, process: subprocess.Popen[bytes]) -> None:
        """There is no zygote: a plain process is to be the runner."""
        with self._lock:
            self._pid, self._stand_in = process.pid, process
        self._settled.set()

    def has_ended(self, code: int | None) -> None:
        """It is gone, or never was."""
        with self._lock:
            if self._pidfd is not None:
                os.close(self._pidfd)
            self._pidfd, self._code = None, code
        self._settled.set()

    def is_orphaned(self) -> None:
        """Nobody will tell of its end any more."""
        self._settled.set()

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            if self._stand_in is not None:
                self._stand_in.send_signal(number)
            elif self._pidfd is not None:
                _send(self._pidfd, number)
            elif not self._settled.is_set():
                self.called_off = True
                # Our end sees it at once, and so does whoever may yet be forked.
                self.request.call_off()
                self._settled.set()


def _send(pidfd: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


class Request:
    """What a runner is to be given; kept until it is there.

    Args:
        theirs: its end of the socket pair.
        environment: see `checked`.
        out: descriptor of its log.
        soon: see `Spawner.spawn`.
    """

    def __init__(
        self,
        theirs: socket.socket,
        environment: Mapping[str, str],
        out: int | None,
        *,
        soon: bool,
    ) -> None:
        self._theirs = theirs
        self._environment = environment
        self._out = out
        self._soon = soon

    def hand_over(self, control: socket.socket, number: int) -> None:
        """Send it to a zygote.

        Raises:
            OSError: it is gone, or there are no more files.
        """
        variables = os.memfd_create("environment", os.MFD_CLOEXEC)
        try:
            os.write(variables, packed(self._environment))
            held = [self._theirs.fileno(), variables]
            if self._out is not None:
                held.append(self._out)
            asked = {"id": number, "held": len(held), "soon": self._soon}
            socket.send_fds(control, [json.dumps(asked).encode()], held)
        finally:
            os.close(variables)

    def start_plain(self) -> subprocess.Popen[bytes]:
        """Start a plain process with it."""
        return start(self._theirs, self._environment, self._out)

    def call_off(self) -> None:
        """End the socket, whoever holds it."""
        with suppress(OSError):
            self._theirs.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of it; what was handed over is the runner's."""
        self._theirs.close()
        if self._out is not None:
            os.close(self._out)
            self._out = None


class Zygote:
    """One zygote's process, and our end of its socket.

    Attributes:
        proven: it has given a runner.
        refused: why it gives none, in its own words.
    """

    def __init__(self, preload: Sequence[str], environment: Mapping[str, str]) -> None:
        self.proven = False
        self.refused: str | None = None
        self.code: int | None = None
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - our own
                    [
                        sys.executable,
                        "-m",
                        "holdfast.runner.zygote",
                        str(theirs.fileno()),
                        *preload,
                    ],
                    pass_fds=[theirs.fileno()],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                )
        except BaseException:
            self.control.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def told(self) -> Iterator[tuple[dict[str, Any], list[int]] | None]:
        """What it says, with descriptors, until it is gone; None now and then when it is silent."""
        poller = select.poll()
        poller.register(self.control, select.POLLIN)
        while True:
            if not poller.poll(LOOK_EVERY_S * 1000):
                yield None
                continue
            try:
                body, fds, _, _ = socket.recv_fds(self.control, MESSAGE_BYTES, 1)
            except ConnectionResetError:  # told once, before its last words: it left ours unread
                continue
            if not body:
                return
            yield json.loads(body), fds

    def end(self) -> None:
        """Make sure that it is gone."""
        self._process.kill()
        self.code = self._process.wait()
        self.control.close()


class ZygoteSpawner(Spawner):
    """Hands what a runner is to be given to a zygote, and hears of births and deaths in a thread.

    A zygote that dies is followed by another, which gets the requests that were not answered; its
    runners go on.

    Args:
        preload: modules the zygote imports besides what every runner does.
        environment: see `needed`.
        stands_in: where no zygote lives, runners are plain processes.
    """

    def __init__(
        self, preload: Sequence[str], environment: Mapping[str, str], *, stands_in: bool
    ) -> None:
        self._preload = tuple(preload)
        self._environment = needed(environment)
        self._stands_in = stands_in
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._waiting: deque[ForkedProcess] = deque()
        self._asked: dict[int, ForkedProcess] = {}
        self._born: dict[int, ForkedProcess] = {}
        self._asked_at = time.monotonic()  # since when something is unanswered
        self._failed_starts = 0
        self._given_up: str | None = None
        self._closed = False
        self._zygote = Zygote(self._preload, self._environment)
        self._thread = threading.Thread(target=self._listen, name="zygote", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The zygote's process id; None when there is none."""
        return None if self._given_up is not None else self._zygote.pid

    def spawn(
        self, environment: Mapping[str, str], *, log: Path | None = None, soon: bool = False
    ) -> RunnerProcess:
        """See `Spawner.spawn`."""
        if self._closed:
            raise OSError(CLOSED)
        if self._given_up is not None and not self._stands_in:
            raise OSError(f"there is no zygote: {self._given_up}")
        environment = checked(environment)
        ours, theirs = socket.socketpair()
        try:
            with opened(log) as out:
                kept = None if out is None else os.dup(out)
                request = Request(theirs, environment, kept, soon=soon)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        process = ForkedProcess(ours, request)
        with self._lock:
            if self._given_up is not None:
                self._without_zygote(process)
            else:
                self._waiting.append(process)
                self._hand_over()
        return process

    def close(self) -> None:
        """See `Spawner.close`."""
        with self._lock:
            self._closed = True
            with suppress(OSError):  # it is gone already
                self._zygote.control.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    # -- all below holds the lock, but for the first -----------------------------------------------

    def _listen(self) -> None:
        """The thread: one zygote after the other."""
        while True:
            zygote = self._zygote
            for told in zygote.told():
                with self._lock:
                    if told is not None:
                        self._take(zygote, *told)
                    elif self._is_late():
                        log.error("zygote.silent", pid=zygote.pid, seconds=ANSWER_WITHIN_S)
                        break
            zygote.end()
            with self._lock:
                if not self._go_on_after(zygote):
                    return

    def _take(self, zygote: Zygote, told: dict[str, Any], fds: list[int]) -> None:
        self._asked_at = time.monotonic()
        if "ended" in told:
            self._born.pop(told["ended"]).has_ended(told["code"])
        elif "refused" in told:
            zygote.refused = told["refused"]
        elif "ready" in told:
            for module, error in told["left_out"].items():
                log.warning("zygote.not_preloaded", module=module, error=error)
            log.debug("zygote.ready", pid=zygote.pid)
        else:
            zygote.proven = True
            self._is_answered(told, fds)
            self._hand_over()

    def _is_answered(self, told: dict[str, Any], fds: list[int]) -> None:
        process = self._asked.pop(told["id"])
        if "pid" in told and fds:
            self._born[told["id"]] = process
            process.is_born(told["pid"], fds[0])
        else:  # without the descriptor, for there may be no more files, it could not be ended
            log.error("zygote.fork_failed", error=told.get("error", "its descriptor was lost"))
            process.request.call_off()
            process.has_ended(None)
        process.request.close()

    def _hand_over(self) -> None:
        while self._waiting and len(self._asked) < UNANSWERED:
            process = self._waiting.popleft()
            if process.called_off:
                process.request.close()
                continue
            if not self._asked:
                self._asked_at = time.monotonic()
            number = next(self._numbers)
            try:
                process.request.hand_over(self._zygote.control, number)
            except OSError as error:
                if isinstance(error, ConnectionError):  # the next one gets it
                    self._waiting.appendleft(process)
                    return
                log.error("zygote.not_asked", error=str(error))
                process.request.close()
                process.has_ended(None)
                continue
            self._asked[number] = process

    def _is_late(self) -> bool:
        return bool(self._asked) and time.monotonic() - self._asked_at > ANSWER_WITHIN_S

    def _go_on_after(self, zygote: Zygote) -> bool:
        for process in self._born.values():
            process.is_orphaned()
        self._born.clear()
        self._waiting.extendleft(reversed(self._asked.values()))
        self._asked.clear()
        if not self._closed:
            why = zygote.refused or f"the zygote died (exit code {zygote.code})"
            self._failed_starts = 0 if zygote.proven else self._failed_starts + 1
            if zygote.refused is None and self._failed_starts < MAX_FAILED_STARTS:
                log.warning("zygote.died", pid=zygote.pid, code=zygote.code, again=True)
                try:
                    self._zygote = Zygote(self._preload, self._environment)
                except OSError as error:
                    why = str(error)
                else:
                    self._hand_over()
                    return True
            self._given_up = why
            log.error("zygote.given_up", reason=why, plain=self._stands_in)
        while self._waiting:
            self._without_zygote(self._waiting.popleft())
        return False

    def _without_zygote(self, process: ForkedProcess) -> None:
        try:
            if self._stands_in and not self._closed and not process.called_off:
                process.stands_in(process.request.start_plain())
                return
        except OSError as error:
            log.error("hub.runner_start_failed", error=str(error))
        finally:
            process.request.close()
        process.has_ended(None)
