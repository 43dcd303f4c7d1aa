"""The door through which Celery starts a worker: `celery -A holdfast.celery_app worker`.

The worker is a hub of role `worker` that claims when a message rings. Celery's pool is threads that
only wait: the hub has a thread with an event loop of its own, and runners as any other has. A
worker told to stop tells its hub, which drains and hands back.
"""

from __future__ import annotations

import asyncio
import math
import threading
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from holdfast.domain.hubs import Role
from holdfast.errors import SettingsError
from holdfast.imports import kept_imports
from holdfast.runner.process import RunnerProcess, Spawner, open_spawner
from holdfast.settings import Settings, load
from holdfast.telemetry import configure_logging, logger

if TYPE_CHECKING:
    from celery import Celery

    from holdfast.app import Parts

log = logger("celery")

START_S = 60.0
"""How long a worker that is stopping waits for its hub to have started."""


class Desk:
    """The hub of this worker, started with it, and again by a task if that came to nothing.

    Args:
        settings: see `settings.Settings`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._started: Future[tuple[asyncio.AbstractEventLoop, Parts]] = Future()
        self._stop: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._closed = False  # nothing more is put to the hub's loop
        self._leaving = False

    def make_room(self, tasks: int) -> None:
        """Let the runners work on as many executions at once as there are tasks, or more."""
        slots = max(self._settings.runner_slots, math.ceil(tasks / self._settings.runners))
        self._settings = self._settings.model_copy(update={"runner_slots": slots})

    def open(self) -> Future[tuple[asyncio.AbstractEventLoop, Parts]]:
        """Start the hub: what an earlier one died over waits for no message."""
        with self._guard:
            if self._thread is None or not self._thread.is_alive():
                self._started = Future()
                self._closed = False
                self._thread = threading.Thread(
                    target=self._run, args=(self._started,), name="holdfast-hub", daemon=True
                )
                self._thread.start()
            return self._started

    def run_next(self) -> str | None:
        """Claim the best event that may run and run it to its end.

        Returns:
            The execution; None when there was nothing to do, or the worker is to stop.
        """
        if self._leaving:
            return None  # what this bell rang for stays queued, for others
        loop, parts = self.open().result()
        with self._guard:
            if self._closed:
                return None
            running = asyncio.run_coroutine_threadsafe(parts.hub.run_next(), loop)
        try:
            return running.result()
        except CancelledError:  # the hub has left; what could not be stored is in its journal
            return None

    def leave(self) -> None:
        """Tell the hub to stop. Celery itself would wait for what runs for ever.

        Safe in a signal handler: no lock is taken.
        """
        self._leaving = True
        if self._stop is not None:
            loop, stop = self._stop
            with suppress(RuntimeError):  # it has ended meanwhile
                loop.call_soon_threadsafe(stop.set)

    def close(self) -> None:
        """Stop the hub and wait for that; what runs is handed back."""
        self.leave()
        if self._thread is None:
            return
        try:
            self._started.result(START_S)
        except Exception as error:  # noqa: BLE001 - told when it happened; there is nothing to stop
            log.warning("celery.hub_not_stopped", reason=str(error))
            return
        self._thread.join()

    def _run(self, started: Future[tuple[asyncio.AbstractEventLoop, Parts]]) -> None:
        environment = self._settings.runner_environment()
        try:
            with ExitStack() as stack:
                spawner = open_spawner(
                    self._settings.spawn, self._settings.preload(), environment=environment
                )
                stack.callback(spawner.close)
                # It imports beside the hub, which would otherwise wait for it after a crash.
                runner = spawner.spawn(environment, soon=True)
                stack.callback(runner.close)
                asyncio.run(self._work(started, spawner, runner))
        except BaseException as error:
            log.error("celery.hub_failed", exc_info=error)
            if not started.done():
                started.set_exception(error)

    async def _work(
        self,
        started: Future[tuple[asyncio.AbstractEventLoop, Parts]],
        spawner: Spawner,
        runner: RunnerProcess,
    ) -> None:
        with kept_imports():
            from holdfast.app import run_hub
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        self._stop = (loop, stop)
        if self._leaving:  # told before there was anything to tell
            stop.set()
        try:
            async with run_hub(
                self._settings, on_demand=True, spawner=spawner, runner=runner
            ) as parts:
                started.set_result((loop, parts))
                await stop.wait()
        finally:
            with self._guard:
                self._closed = True
            await asyncio.sleep(0)  # what was put to the loop before begins, to be cancelled


@cache
def make_worker() -> Celery:
    """The Celery application of a worker, out of the environment.

    Raises:
        SettingsError: the settings do not speak of Celery, or it is not installed.
    """
    settings = load()
    if settings.dispatch != "celery" or settings.celery_broker_url is None:
        raise SettingsError(
            "HOLDFAST_DISPATCH: a Celery worker needs it to be celery",
            hint="set it for the hubs, too, or they run everything themselves",
        )
    try:
        from celery import signals

        from holdfast.bus.celery_broker import TASK, make_celery
    except ImportError as error:
        raise SettingsError(
            f"HOLDFAST_DISPATCH: Celery cannot be imported: {error}",
            hint="pip install 'holdfast[celery,redis]'",
        ) from error
    configure_logging(settings.log_level, form=settings.log_form)
    app: Any = make_celery(settings.celery_broker_url, settings.celery_queue, confirms=False)
    app.conf.worker_concurrency = settings.runners * settings.runner_slots
    desk = Desk(settings.model_copy(update={"roles": (Role.WORKER,)}))

    @app.task(name=TASK, ignore_result=True, acks_late=False)
    def run(event_id: str) -> str | None:  # noqa: ARG001 - the bell of one; the best one runs
        return desk.run_next()

    def begin(sender: Any, **_: Any) -> None:
        desk.make_room(sender.concurrency)
        desk.open()

    def leave(**_: Any) -> None:
        desk.leave()

    def close(**_: Any) -> None:
        desk.close()

    signals.worker_init.connect(begin, weak=False)
    signals.worker_shutting_down.connect(leave, weak=False)
    signals.worker_shutdown.connect(close, weak=False)
    app.finalize()
    del run
    return app


def __getattr__(name: str) -> Any:
    # Found by name only when Celery asks: importing this module connects to nothing.
    if name in ("app", "celery"):
        return make_worker()
    raise AttributeError(name)
