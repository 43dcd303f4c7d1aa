"""`python -m holdfast.runner.zygote FD MODULE…`: a warm process from which runners are forked.

It imports what every runner imports, runs a graph once and then waits at its socket. It stays
single-threaded, keeps no file, connection or loop open, and tells of each child's birth, with a
pidfd, and end. Who asks is in `zygote_spawner`. Messages are JSON, one a packet:

    hub → zygote    {id, held, soon} + the socket, a memfd with the variables and perhaps the log
    zygote → hub    {ready, left_out} {refused} {id, pid} + pidfd {id, error} {ended, code}
"""

from __future__ import annotations

import gc
import signal

if __name__ == "__main__":
    gc.disable()  # what is imported stays: no use looking through it for garbage
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the hub's to handle

import asyncio
import json
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from holdfast.telemetry import configure_logging

from .main import name_process, serve_hub
from .warming import WarmUpError, warm_up, warm_up_agent

MESSAGE_BYTES = 64 * 1024

MOST_HELD = 3
"""Descriptors that come with a request."""

AGENTS = "holdfast.agents.build"
"""Preloaded where agents are to be run."""

SMALL = (48, 513, 16)
"""Sizes in which Python's allocator keeps small objects, in bytes."""

HOLES = 400
"""So many of each size are free at most, or nearly so, once all is imported."""

_HEADER = sys.getsizeof(b"")
_filled: list[list[bytes]] = []

REMEMBERED = (("langsmith.utils", "get_env_var"), ("langsmith.utils", "get_tracer_project"))
"""What remembers the environment it has seen: a child has another."""


class CrowdedError(Exception):
    """Something is going on in this process that no child could inherit."""


@dataclass(frozen=True, slots=True)
class Birth:
    """What a child is forked with.

    Attributes:
        sock: descriptor of its end of the socket pair.
        variables: its environment, as the kernel would keep it.
        out: descriptor of its log.
    """

    sock: int
    variables: bytes
    out: int | None


class Nursery:
    """Forks a child for each request and buries it.

    Args:
        control: where the hub's requests come from.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, int] = {}  # number of the request by pidfd
        self._poller = select.poll()
        self._poller.register(control, select.POLLIN)

    def serve_soon(self) -> Birth | None:
        """Serve requests that have come and do not want to wait; a birth in a child."""
        alone()
        while self._wants_one_soon():
            if (birth := self._take()) is not None:
                return birth
        return None

    def _wants_one_soon(self) -> bool:
        flags = socket.MSG_PEEK | socket.MSG_DONTWAIT
        try:
            body = self._control.recv(MESSAGE_BYTES, flags)
        except BlockingIOError:
            return False
        except ConnectionError:
            body = b""
        return not body or json.loads(body)["soon"]  # without a hub there is an end to serve

    def serve(self) -> Birth:
        """Serve requests until the hub is gone; returns in children only."""
        while True:
            for fd, _ in self._poller.poll():
                if fd in self._children:
                    self._bury(fd)
                elif (birth := self._take()) is not None:
                    return birth

    def check(self) -> None:
        """See to it that children can be forked, and that they lose nothing of a module's.

        Raises:
            CrowdedError: somebody is at work here, or keeps a file or a connection.
        """
        alone()
        own = {0, 1, 2, self._control.fileno(), *self._children}
        if held := [f"{fd} ({what})" for fd, what in descriptors() if fd not in own]:
            raise CrowdedError(f"the zygote's modules keep files open: {', '.join(held)}")

    def _take(self) -> Birth | None:
        """Serve one request; a birth in the child."""
        try:
            body, fds, _, _ = socket.recv_fds(
                self._control, MESSAGE_BYTES, MOST_HELD, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError:
            body, fds = b"", []
        if not body:
            os._exit(0)  # the hub is gone
        asked = json.loads(body)
        try:
            if len(fds) != asked["held"]:
                raise OSError("too many open files")
            birth = _birth(fds)
            alone()
            pid = os.fork()
        except (OSError, CrowdedError) as error:
            tell(self._control, {"id": asked["id"], "error": str(error)})
        else:
            if pid == 0:
                return birth
            self._raise(asked["id"], pid)
        for fd in fds:
            os.close(fd)
        return None

    def _raise(self, number: int, pid: int) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:  # who cannot be held could not be ended
            os.kill(pid, signal.SIGKILL)  # its id is its own until it is waited for
            os.waitpid(pid, 0)
            tell(self._control, {"id": number, "error": str(error)})
            return
        self._children[pidfd] = number
        self._poller.register(pidfd, select.POLLIN)
        tell(self._control, {"id": number, "pid": pid}, [pidfd])

    def _bury(self, pidfd: int) -> None:
        end = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        assert end is not None  # noqa: S101 - without WNOHANG there is one
        code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        self._poller.unregister(pidfd)
        os.close(pidfd)
        tell(self._control, {"ended": self._children.pop(pidfd), "code": code})


def tell(control: socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Tell the hub; without one there is nothing left to do."""
    try:
        socket.send_fds(control, [json.dumps(message).encode()], fds)
    except ConnectionError:
        os._exit(0)


def _birth(fds: Sequence[int]) -> Birth:
    sock, variables, *out = fds
    size = os.fstat(variables).st_size
    return Birth(sock, os.pread(variables, size, 0), out[0] if out else None)


def alone() -> None:
    """See to it that a child can be forked: it gets one thread, and nobody else's locks.

    Raises:
        CrowdedError: there are further threads, or a loop runs.
    """
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate()[1:])
        raise CrowdedError(f"further threads run in the zygote: {names}")
    if (threads := len(os.listdir("/proc/self/task"))) > 1:  # noqa: PTH208 - only their number
        raise CrowdedError(f"{threads - 1} threads that Python did not start run in the zygote")
    if asyncio._get_running_loop() is not None:  # noqa: SLF001
        raise CrowdedError("a loop runs in the zygote")


def descriptors() -> Iterator[tuple[int, str]]:
    """The open descriptors of this process, and what they lead to."""
    folder = Path("/proc/self/fd")
    for fd in sorted(int(entry.name) for entry in folder.iterdir()):
        try:
            yield fd, str((folder / str(fd)).readlink())
        except FileNotFoundError:
            continue  # by which the folder itself was read


def become_runner(birth: Birth) -> None:
    """In a child: keep nothing of the zygote but what is imported, then serve the hub."""
    if birth.out is not None:
        for standard in (1, 2):
            os.dup2(birth.out, standard)
    for fd, _ in list(descriptors()):
        if fd not in (0, 1, 2, birth.sock):
            os.close(fd)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):  # of an imported module
            signal.signal(number, signal.SIG_DFL)
    os.environ.clear()  # noqa: TID251 - written and not read
    for variable in birth.variables.split(b"\0"):
        name, _, value = variable.partition(b"=")
        os.environb[name] = value
    time.tzset()
    for module, name in REMEMBERED:
        if module in sys.modules:
            getattr(sys.modules[module], name).cache_clear()
    if "numpy.random" in sys.modules:  # the others see to it themselves
        sys.modules["numpy.random"].seed()
    gc.enable()
    serve_hub(socket.socket(fileno=birth.sock))


def preload(modules: Sequence[str]) -> dict[str, str]:
    """Import modules; which cannot be, and why: a runner that needs one will say so again."""
    left_out: dict[str, str] = {}
    for module in modules:
        try:
            import_module(module)
        except Exception as error:  # noqa: BLE001 - a module may raise anything
            left_out[module] = f"{type(error).__name__}: {error}"
    return left_out


def fill_holes() -> None:
    """Use up what is free between the objects: a child's go to pages of their own, side by side.

    A child that put them there would copy a page for each; this saves it a megabyte.
    """
    for size in range(*SMALL):
        _filled.append([bytes(size - _HEADER) for _ in range(HOLES)])


def main() -> None:
    """Become warm, say so and serve the hub at the socket whose descriptor comes first."""
    control = socket.socket(fileno=int(sys.argv[1]))
    name_process("holdfast-zygote")
    configure_logging("warning")
    nursery = Nursery(control)
    with suppress(ImportError):
        import_module("uvloop")  # an extra; no loop of its may be made here, it keeps files open
    try:
        asyncio.run(warm_up())
        gc.freeze()  # a child's collections do not write to what they share
        birth = nursery.serve_soon()
        if birth is None:
            left_out = preload(sys.argv[2:])
            if AGENTS in sys.modules:
                asyncio.run(warm_up_agent())
            gc.unfreeze()
            gc.collect()
            fill_holes()
            gc.freeze()
            nursery.check()
            tell(control, {"ready": True, "left_out": left_out})
            birth = nursery.serve()
    except (CrowdedError, WarmUpError) as error:
        tell(control, {"refused": str(error)})
        sys.exit(1)
    control.detach()  # closed below, with all else
    become_runner(birth)


if __name__ == "__main__":
    main()
