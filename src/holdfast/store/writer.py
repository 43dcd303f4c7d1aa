"""The group-commit writer: a thread that stores whatever queued while its last commit ran.

No timer: a lone command is committed at once, and under load groups grow by themselves. All answers
of a commit go back to an event loop in one call.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from holdfast.errors import StoreError
from holdfast.telemetry import logger

from .base import Command, WriteConnection
from .unit_of_work import Outcome, UnitOfWork

CAPACITY = 512
"""Most weight in one unit of work: 512 light commands or 64 records. More would only make the
next ones wait."""

FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 0.5
"""Between tries to reach a database that is away."""

STUCK_S = 60.0
"""After so long without an answer a connection is broken: the database's own limits
(`postgres.LIMITS`) do not reach somebody whose server hangs or whose packets are lost."""

CLOSE_S = 10.0
"""How long a closing writer waits for its last unit of work before it breaks the connection."""

_UNKNOWN = "whether it was stored is not known; look before trying again"

log = logger("store")


class _Ticket(NamedTuple):
    command: Command[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class Writer:
    """One lane: a queue, a thread and the connection that only this thread uses.

    Any event loop may call `write`. Whatever happens, every caller gets an answer.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], WriteConnection],
        count: Callable[[str, int], None],
    ) -> None:
        """Start the thread; the connection is opened with the first command.

        Args:
            name: of the thread, for people who look at stacks.
            connect: opens a connection; called on the thread, again after a failure.
            count: see `UnitOfWork`.
        """
        self._connect = connect
        self._count = count
        self._turn = threading.Condition()
        self._queue: deque[_Ticket] = deque()
        self._closing = False
        self._dead: str | None = None  # why nothing is stored any more
        self._connection: WriteConnection | None = None
        self._pause_s = 0.0
        self._since: float | None = None  # when the unit of work under way began
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def write(self, command: Command[Any]) -> Any:
        """Store a command and return its result, once it is committed.

        Cancelling the call does not take the command back, nor does giving up on its answer.

        Raises:
            StoreError: the database is away or does not answer, or the writer has stopped.
            StoreRefused: the database took everything but this command.
            HoldfastError: what the command itself says.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        with self._turn:
            if self._dead is not None:
                raise StoreError(self._dead, hint="restart the hub")
            if self._closing:
                raise StoreError("the store is closed")
            self._queue.append(_Ticket(command, loop, future))
            self._turn.notify()
        try:
            async with asyncio.timeout(command.answer_s):
                return await future
        except TimeoutError:
            self._cut_if_stuck(STUCK_S)
            raise StoreError(
                f"the database did not answer within {command.answer_s:g} s", hint=_UNKNOWN
            ) from None

    def close(self) -> None:
        """Store what is queued, then stop; blocks until that is done, but not for ever."""
        with self._turn:
            self._closing = True
            self._turn.notify()
        self._thread.join(CLOSE_S)
        while self._thread.is_alive():
            self._cut_if_stuck(0.0)
            self._thread.join(CLOSE_S)

    def _cut_if_stuck(self, seconds: float) -> None:
        """Break the connection when the unit of work under way has taken so long."""
        since, connection = self._since, self._connection
        if since is None or connection is None or time.monotonic() - since < seconds:
            return
        log.error("store.stuck", seconds=round(time.monotonic() - since))
        connection.cut()

    def _run(self) -> None:
        tickets: list[_Ticket] = []
        try:
            while tickets := self._take():
                _settle(tickets, self._store(tickets))
                tickets = []
                if self._connection is not None:
                    self._connection.rest()
        except BaseException as error:
            # Every caller is told, now and later; there is nobody above to tell.
            log.critical("store.writer_died", exc_info=error)
            self._die(tickets, error)
        finally:
            self._disconnect()

    def _take(self) -> list[_Ticket]:
        """What to store next, in the order it came; nothing when the writer shall stop."""
        with self._turn:
            while not self._queue and not self._closing:
                self._turn.wait()
            if self._pause_s and not self._closing:
                self._turn.wait_for(lambda: self._closing, self._pause_s)
            taken: list[_Ticket] = []
            room = CAPACITY
            while self._queue and room >= (weight := self._queue[0].command.weight):
                taken.append(self._queue.popleft())
                room -= weight
            return taken

    def _store(self, tickets: Sequence[_Ticket]) -> Sequence[Outcome]:
        try:
            if self._connection is None:
                self._connection = self._connect()
        except Exception as error:  # noqa: BLE001 - handed to the callers
            log.warning("store.unreachable", reason=str(error))
            self._pause_s = min(LAST_PAUSE_S, 2 * self._pause_s or FIRST_PAUSE_S)
            return [_failed("the database cannot be reached", error, "") for _ in tickets]
        self._pause_s = 0.0
        self._since = time.monotonic()
        try:
            unit = UnitOfWork(self._connection, self._count)
            return unit.run([ticket.command for ticket in tickets])
        except Exception as error:
            log.exception("store.commit_failed")
            self._disconnect()  # a fresh connection has no half-open transaction
            return [_failed("the transaction failed", error, _UNKNOWN) for _ in tickets]
        finally:
            self._since = None

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _die(self, tickets: Sequence[_Ticket], error: BaseException) -> None:
        with self._turn:
            self._dead = f"the writer stopped: {type(error).__name__}: {error}"
            left = [*tickets, *self._queue]
            self._queue.clear()
        _settle(left, [_failed("the writer stopped", error, _UNKNOWN) for _ in left])


def _failed(what: str, error: BaseException, hint: str) -> StoreError:
    failed = StoreError(f"{what}: {type(error).__name__}: {error}", hint=hint)
    failed.__cause__ = error
    return failed


def _settle(tickets: Sequence[_Ticket], outcomes: Sequence[Outcome]) -> None:
    """Hand the outcomes back, with one call for each loop."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Outcome]]]
    by_loop = defaultdict(list)
    for ticket, outcome in zip(tickets, outcomes, strict=True):
        by_loop[ticket.loop].append((ticket.future, outcome))
    for loop, answers in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: its callers are gone
            loop.call_soon_threadsafe(_answer, answers)


def _answer(answers: Sequence[tuple[asyncio.Future[Any], Outcome]]) -> None:
    for future, outcome in answers:
        if future.done():  # its caller was cancelled
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
