"""The crew: keeps the wanted number of workers alive, replaces the dead, gives up visibly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

from holdfast.telemetry import Metrics, logger

from .worker import Worker, WorkerState

log = logger("hub")

BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses before the further starts of a runner that died before it was ready."""

MAX_FAILED_STARTS = len(BACKOFF_S)
"""After so many starts in a row that never became ready a place stays empty and the hub unready."""


class Crew:
    """Supervises the workers of a hub.

    Args:
        size: how many workers there are to be.
        hire: makes a new worker with the given name.
        metrics: counts starts and deaths.
    """

    def __init__(self, *, size: int, hire: Callable[[str], Worker], metrics: Metrics) -> None:
        self.workers: list[Worker] = []
        self.error: str | None = None
        self._size = size
        self._hire = hire
        self._metrics = metrics
        self._numbers = count(1)
        self._failed_starts = 0
        self._solo_to_come = 0
        self._closing = False
        self._starts: set[asyncio.Task[None]] = set()
        self._burials: set[asyncio.Task[None]] = set()
        self._all_gone = asyncio.Event()
        metrics.describe("holdfast_runner_starts_total", "counter", "Runner processes started.")
        metrics.describe("holdfast_runner_deaths_total", "counter", "Runner processes that died.")

    @property
    def ready(self) -> bool:
        """Whether somebody takes work."""
        return any(worker.state is WorkerState.READY for worker in self.workers)

    @property
    def idle_solo(self) -> int:
        """Extra workers without work, those included that are yet to be started again."""
        idle = sum(1 for worker in self.workers if worker.solo and not worker.in_flight)
        return idle + self._solo_to_come

    async def start(self) -> None:
        """Start all workers; they report ready on their own."""
        await asyncio.gather(*(self._start(self._add()) for _ in range(self._size)))

    def became_ready(self) -> None:
        """A worker reported ready: earlier failures are forgotten."""
        self._failed_starts = 0
        self.error = None

    def is_gone(self, worker: Worker, *, was_ready: bool, died: bool) -> None:
        """A worker has ended: replace it unless the crew is closing."""
        self.workers = [one for one in self.workers if one is not worker]
        # Its socket has closed; the process itself may take a moment longer.
        self._run(worker.gone(), self._burials)
        if died:
            self._metrics.add("holdfast_runner_deaths_total")
        if self._closing:
            if not self.workers:
                self._all_gone.set()
            return
        if worker.solo and was_ready:
            return
        pause = 0.0
        if not was_ready:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                self.error = f"runners died {self._failed_starts} times before they were ready"
                log.error("hub.runners_given_up", starts=self._failed_starts)
                return
            pause = BACKOFF_S[self._failed_starts]
        self._solo_to_come += worker.solo
        self._run(self._start_after(pause, solo=worker.solo), self._starts)

    def hire_solo(self) -> None:
        """Start one more worker, for an execution that must run alone; it is not replaced."""
        if not self._closing and self.error is None:
            self._run(self._start(self._add(solo=True)), self._starts)

    async def close(self, grace_s: float) -> None:
        """Retire all workers; those that do not leave within the grace are killed."""
        self._closing = True
        for task in self._starts:
            task.cancel()
        for worker in list(self.workers):
            worker.retire()
        try:
            if self.workers:
                await asyncio.wait_for(self._all_gone.wait(), grace_s)
        except TimeoutError:
            log.warning("hub.grace_over", seconds=grace_s)
        await asyncio.gather(*(worker.kill() for worker in list(self.workers)))
        await asyncio.gather(*self._burials)

    async def _start_after(self, pause: float, *, solo: bool) -> None:
        if pause:
            await asyncio.sleep(pause)
        self._solo_to_come -= solo
        await self._start(self._add(solo=solo))

    def _add(self, *, solo: bool = False) -> Worker:
        worker = self._hire(f"runner-{next(self._numbers)}")
        worker.solo = solo
        self.workers.append(worker)
        self._metrics.add("holdfast_runner_starts_total")
        return worker

    async def _start(self, worker: Worker) -> None:
        try:
            await worker.start()
        except OSError as error:  # no more processes, no more memory
            log.error("hub.runner_start_failed", worker=worker.name, error=str(error))
            self.is_gone(worker, was_ready=False, died=True)

    def _run(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
