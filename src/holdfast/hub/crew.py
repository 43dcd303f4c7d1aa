"""The crew: keeps the wanted number of workers alive, replaces the dead, gives up visibly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import count
from typing import Any

from holdfast.telemetry import Metrics, logger

from .worker import Worker, WorkerState

log = logger("hub")

BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses before the further starts of a runner that came to nothing."""

MAX_FAILED_STARTS = len(BACKOFF_S)
"""After so many starts in a row that came to nothing a place stays empty and the hub unready."""

PROVEN_S = 10.0
"""A runner that was ready for so long, or has ended an execution, started well."""


@dataclass(slots=True, eq=False)
class _Place:
    """What one worker after the other fills."""

    solo: bool
    failed_starts: int = 0  # in a row
    ready_at: float | None = None  # since when its worker is ready; the loop's time
    worked: bool = False  # its worker has ended an execution


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
        self._places: dict[Worker, _Place] = {}
        self._left = size  # places that were not given up
        self._solo_given_up = False
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
        places = [_Place(solo=False) for _ in range(self._size)]
        await asyncio.gather(*(self._start(self._add(place)) for place in places))

    def became_ready(self, worker: Worker) -> None:
        """A worker reported ready; whether it is any good remains to be seen."""
        if worker in self._places:  # it may have died with these words
            self._places[worker].ready_at = asyncio.get_running_loop().time()

    def has_worked(self, worker: Worker) -> None:
        """A worker has ended an execution: earlier failures are forgotten."""
        if worker in self._places:
            self._places[worker].worked = True

    def is_gone(self, worker: Worker, *, lost: int, died: bool) -> None:
        """A worker has ended: replace it unless the crew is closing.

        Args:
            worker: who.
            lost: executions that crashed with it.
            died: it was not told to leave.
        """
        self.workers = [one for one in self.workers if one is not worker]
        place = self._places.pop(worker)
        # Its socket has closed; the process itself may take a moment longer.
        self._run(worker.gone(), self._burials)
        if died:
            self._metrics.add("holdfast_runner_deaths_total")
        if self._closing:
            if not self.workers:
                self._all_gone.set()
            return
        if place.solo and place.ready_at is not None:
            return
        pause = self._pause_after(place, lost=lost, died=died)
        if pause is None:
            return
        place.ready_at, place.worked = None, False
        self._solo_to_come += place.solo
        self._run(self._start_after(pause, place), self._starts)

    def _pause_after(self, place: _Place, *, lost: int, died: bool) -> float | None:
        """How long to wait before the place is filled again; None to leave it empty."""
        if not died or place.worked or self._proven(place):
            place.failed_starts = 0
            return 0.0
        if lost:
            return 0.0  # the crash counts for its events, which are set aside after some
        place.failed_starts += 1
        if place.failed_starts < MAX_FAILED_STARTS:
            return BACKOFF_S[place.failed_starts]
        when = "before" if place.ready_at is None else "right after"
        self.error = f"runners died {place.failed_starts} times {when} they were ready"
        self._left -= not place.solo
        self._solo_given_up |= place.solo
        log.error("hub.runners_given_up", starts=place.failed_starts, places_left=self._left)
        return None

    def _proven(self, place: _Place) -> bool:
        now = asyncio.get_running_loop().time()
        return place.ready_at is not None and now - place.ready_at >= PROVEN_S

    def hire_solo(self) -> None:
        """Start one more worker, for an execution that must run alone; it is not replaced."""
        hopeless = self._solo_given_up or (self._left == 0 and self.error is not None)
        if not self._closing and not hopeless:
            self._run(self._start(self._add(_Place(solo=True))), self._starts)

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

    async def _start_after(self, pause: float, place: _Place) -> None:
        if pause:
            await asyncio.sleep(pause)
        self._solo_to_come -= place.solo
        await self._start(self._add(place))

    def _add(self, place: _Place) -> Worker:
        worker = self._hire(f"runner-{next(self._numbers)}")
        worker.solo = place.solo
        self.workers.append(worker)
        self._places[worker] = place
        self._metrics.add("holdfast_runner_starts_total")
        return worker

    async def _start(self, worker: Worker) -> None:
        try:
            await worker.start()
        except OSError as error:  # no more processes, no more memory
            log.error("hub.runner_start_failed", worker=worker.name, error=str(error))
            self.is_gone(worker, lost=0, died=True)

    def _run(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
