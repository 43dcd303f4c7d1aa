"""The run a piece of user code is part of: its ids, its models, its ports."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.runnables.config import ensure_config

from holdfast.domain.breakers import NAME
from holdfast.domain.replays import Plan
from holdfast.errors import OutsideRun
from holdfast.llm.calls import reported
from holdfast.llm.factory import Models
from holdfast.ports import Ports
from holdfast.recording import Replaying, step_of

if TYPE_CHECKING:
    from .wording import Wording

T = TypeVar("T")

_current: ContextVar[RunContext] = ContextVar("holdfast_run")

Sleep = Callable[[float], Awaitable[None]]
"""Waits so many seconds."""


class ThreadCall:
    """A call of blocking code; `running` while a thread is at it."""

    __slots__ = ("running",)

    def __init__(self) -> None:
        self.running = False


_last_call: ContextVar[ThreadCall | None] = ContextVar("holdfast_thread_call", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """One execution as its own code sees it.

    Attributes:
        execution_id: this run.
        event_id: what it runs on; the same over redeliveries.
        owner_id: whose event it is.
        delivery: 1 for the first try.
        models: chat models by alias.
        ports: what may be asked of the hub.
        threads: where synchronous nodes run; None for the loop's default executor.
        sleep: how pauses between tries are waited for.
        chance: numbers from 0 to 1 that spread those pauses.
        plan: how this replay is to run; None where nothing is replayed.
        replaying: the record that answers in its place; None where all runs live.
        prompts: the versions that it uses of prompts of the registry, as they are asked for.
        session_id: the conversation it is a turn of; None where it is none.
    """

    execution_id: str
    event_id: str
    owner_id: str
    delivery: int
    models: Models
    ports: Ports
    threads: Executor | None = None
    sleep: Sleep = asyncio.sleep
    chance: Callable[[], float] = random.random
    plan: Plan | None = None
    replaying: Replaying | None = None
    prompts: Mapping[str, Wording] = field(default_factory=dict[str, "Wording"])
    session_id: str | None = None

    async def submit(
        self,
        type: str,  # noqa: A002 - CloudEvents' name
        data: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
    ) -> str:
        """Send a further event for the same owner.

        A replay sends nothing where the record says what was sent then.

        Args:
            type: the pipeline's name.
            data: checked against that pipeline's schema.
            idempotency_key: give one, for this step may run again: `f"{run.event_id}:invoice"`.

        Returns:
            The new event's id.

        Raises:
            PortError: the hub refused or did not answer in time.
            ReplayMismatch: a replay of a run that sent no such event.
        """
        if self.replaying is not None:
            sent = self.replaying.submitted(step_of(ensure_config()).number, type, data)
            if sent is not None:
                return sent
        return await self.ports.events.submit(
            execution_id=self.execution_id, type=type, data=data, idempotency_key=idempotency_key
        )

    @asynccontextmanager
    async def breaker(
        self, name: str, *, failures: type[Exception] | tuple[type[Exception], ...] = ()
    ) -> AsyncGenerator[None]:
        """Call something outside only while it answers: `async with run.breaker("crm"): …`.

        Timeouts, broken connections and HTTP status 408 and from 500 on count as failures; when
        too many of the last calls failed, by whatever run, the breaker opens. A run that then ends
        with `BreakerOpen` is postponed until it has closed again. Put time limits inside: what
        cancels the block from outside says nothing of what was called.

        Args:
            name: the same for everybody who calls the same thing.
            failures: exceptions that count as failures too.

        Raises:
            BreakerOpen: no call is to be made now.
            ValueError: the name is none.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name for a breaker: it must fit {NAME.pattern}")
        breakers = self.ports.breakers
        kinds = failures if isinstance(failures, tuple) else (failures,)
        with reported(breakers, await breakers.allow(name), failures=kinds):
            yield


def current_run() -> RunContext:
    """The run the calling code is part of; works in nodes, sync or async, and what they call.

    Raises:
        OutsideRun: nothing runs here.
    """
    try:
        return _current.get()
    except LookupError:
        raise OutsideRun(
            "there is no current run here",
            hint="call current_run() inside a node; to try a node alone, enter running(…)",
        ) from None


def running_context() -> RunContext | None:
    """The current run; None where nothing runs, as in a unit test of a node."""
    return _current.get(None)


@contextmanager
def running(context: RunContext) -> Generator[RunContext]:
    """Make `context` the current run of this task and of the tasks it starts."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


async def in_thread(fn: Callable[..., T], *args: Any) -> T:
    """Call blocking code in the current run's threads, with its context variables."""
    run = _current.get(None)
    context = copy_context()
    this = ThreadCall()
    _last_call.set(this)

    def call() -> T:
        this.running = True
        try:
            return context.run(fn, *args)
        except StopIteration as error:
            # A future refuses StopIteration and would never be done.
            raise RuntimeError(f"{fn!r} raised StopIteration") from error
        finally:
            this.running = False

    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(run.threads if run else None, call)


def no_thread_yet() -> None:
    """Forget what this task has called in a thread."""
    _last_call.set(None)


def left_in_thread() -> bool:
    """Whether blocking code that this task called, and waits for no more, still runs."""
    call = _last_call.get()
    return call is not None and call.running


def waits() -> tuple[Sleep, Callable[[], float]]:
    """How to wait between tries, and by what chance, also where no run is current."""
    run = _current.get(None)
    return (run.sleep, run.chance) if run is not None else (asyncio.sleep, random.random)
