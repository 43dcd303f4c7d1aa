"""Points at which a hub can be stopped exactly: around its commits, around its doorbell.

Inside the hub under test. A hit of the armed point calls the driver over a socket and stands still
until the driver answers, which it does unless it kills the hub there.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from holdfast.bus import MemoryBus, Notice
from holdfast.store.base import Command, WriteConnection
from holdfast.store.unit_of_work import Outcome, UnitOfWork

from . import VARIABLE

COMMITS = {"accept": "Submit", "claim": "Claim", "step": "SaveCheckpoints", "finish": "Finish"}
"""The command whose commit a point lies around."""

DOORBELL = "doorbell"

POINTS = tuple(f"{name}.{side}" for name in (*COMMITS, DOORBELL) for side in ("before", "after"))


def arm(environ: dict[str, str]) -> None:
    """Arm the point that the environment names, if it names one."""
    if VARIABLE not in environ:
        return
    control, point, hit = environ[VARIABLE].split()
    numbers = count(1)

    def reached() -> None:
        if next(numbers) == int(hit):
            _stand_still(control)

    name, side = point.split(".")
    if name == DOORBELL:
        _around_the_doorbell(reached, before=side == "before")
    else:
        _around_commits(COMMITS[name], reached, before=side == "before")


def _stand_still(control: str) -> None:
    with socket.socket(socket.AF_UNIX) as driver:
        driver.connect(control)
        driver.sendall(f"{os.getpid()}\n".encode())
        driver.recv(1)


def _around_the_doorbell(reached: Callable[[], None], *, before: bool) -> None:
    """Each way to ring: within the process, over Redis, through Celery."""

    def stopped(self: MemoryBus, notice: Notice) -> None:
        if before:
            reached()
        publish(self, notice)
        if not before:
            reached()

    publish, MemoryBus.publish = MemoryBus.publish, stopped
    if "HOLDFAST_BUS_URL" in os.environ:
        _around_redis(reached, before=before)
    if "HOLDFAST_CELERY_BROKER_URL" in os.environ:
        _around_celery(reached, before=before)


def _around_redis(reached: Callable[[], None], *, before: bool) -> None:
    from holdfast.bus.redis import RedisBus

    async def stopped(self: RedisBus) -> None:
        rings = bool(self._rings)
        if rings and before:
            reached()
        await flush(self)
        if rings and not before:
            reached()

    flush, RedisBus._send_waiting = RedisBus._send_waiting, stopped


def _around_celery(reached: Callable[[], None], *, before: bool) -> None:
    from holdfast.hub.celery_bell import CeleryBell

    def stopped(self: CeleryBell, event_ids: Sequence[str]) -> None:
        if before:
            reached()
        send(self, event_ids)
        if not before:
            reached()

    send, CeleryBell._send = CeleryBell._send, stopped


def _around_commits(kind: str, reached: Callable[[], None], *, before: bool) -> None:
    run = UnitOfWork.run

    def stopped(self: UnitOfWork, commands: Sequence[Command[Any]]) -> list[Outcome]:
        if all(type(command).__name__ != kind for command in commands):
            return run(self, commands)
        unit = UnitOfWork(_Stopping(self._connection, reached, before=before), self._count)  # type: ignore[arg-type]
        return run(unit, commands)

    UnitOfWork.run = stopped


class _Stopping:
    """A connection whose commits are points; a transaction that wrote nothing is none."""

    def __init__(
        self, connection: WriteConnection, reached: Callable[[], None], *, before: bool
    ) -> None:
        self._connection = connection
        self._reached = reached
        self._before = before
        self._wrote = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def insert(self, insert: Any, rows: Sequence[Sequence[Any]]) -> None:
        self._wrote = self._wrote or bool(rows)
        self._connection.insert(insert, rows)

    def change(self, statement: Any, values: Sequence[Any]) -> None:
        self._wrote = self._wrote or bool(values)
        self._connection.change(statement, values)

    def commit(self) -> None:
        if self._wrote and self._before:
            self._reached()
        self._connection.commit()
        if self._wrote and not self._before:
            self._reached()
