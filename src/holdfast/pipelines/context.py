"""The run a piece of user code is part of: its ids, its models, its ports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from holdfast.errors import OutsideRun
from holdfast.llm.factory import Models
from holdfast.ports import Ports

T = TypeVar("T")

_current: ContextVar[RunContext] = ContextVar("holdfast_run")


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
    """

    execution_id: str
    event_id: str
    owner_id: str
    delivery: int
    models: Models
    ports: Ports
    threads: Executor | None = None

    async def submit(
        self,
        type: str,  # noqa: A002 - CloudEvents' name
        data: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
    ) -> str:
        """Send a further event for the same owner.

        Args:
            type: the pipeline's name.
            data: checked against that pipeline's schema.
            idempotency_key: give one, for this step may run again: `f"{run.event_id}:invoice"`.

        Returns:
            The new event's id.

        Raises:
            PortError: the hub refused or did not answer in time.
        """
        return await self.ports.events.submit(
            execution_id=self.execution_id, type=type, data=data, idempotency_key=idempotency_key
        )


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

    def call() -> T:
        try:
            return context.run(fn, *args)
        except StopIteration as error:
            # A future refuses StopIteration and would never be done.
            raise RuntimeError(f"{fn!r} raised StopIteration") from error

    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(run.threads if run else None, call)
