"""The door through which Celery starts a worker: `celery -A holdfast.celery_app worker`.

Each process that runs tasks is a hub of role `worker` that claims when a message rings. It starts
with the process, in a thread with an event loop of its own that all tasks of the process share. A
worker told to stop tells its processes, whose hubs drain and hand back as any other does.
"""

from __future__ import annotations

import asyncio
import gc
import os
import select
import threading
from concurrent.futures import CancelledError, Future
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from holdfast.bus.registry import backend_of
from holdfast.errors import SettingsError
from holdfast.settings import Settings, load
from holdfast.telemetry import configure_logging, logger

if TYPE_CHECKING:
    from celery import Celery

    from holdfast.app import Parts

log = logger("celery")

NEEDED = (
    "holdfast.app",
    "holdfast.hub.local_worker",
    "holdfast.store.postgres",
    "holdfast.store.migrations",
)
"""Modules that the hub of each child imports: they are imported once, before the children are
made. Settings see to it that work is dispatched to Celery on PostgreSQL only."""

START_S = 60.0
"""How long a process that is stopping waits for its hub to have started."""


class Desk:
    """The hub of this process, started with it, and again by a task if that came to nothing.

    Celery itself would wait for what runs for ever, and its children hear nothing of the end
    before all of it is over: a byte in a pipe that the children inherit, and nobody reads, tells
    them.

    Args:
        settings: see `settings.Settings`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._guard = threading.Lock()
        self._pid = 0
        self._thread: threading.Thread | None = None
        self._started: Future[tuple[asyncio.AbstractEventLoop, Parts]] = Future()
        self._stop: asyncio.Event | None = None
        self._closed = False  # nothing more is put to the hub's loop
        self._leaving, self._leave = os.pipe()
        os.set_blocking(self._leave, False)

    def open(self) -> None:
        """Start the hub: what an earlier process died over waits for no further message."""
        self._open()

    def run_next(self) -> str | None:
        """Claim the best event that may run and run it to its end.

        Returns:
            The execution; None when there was nothing to do, or the worker is to stop.
        """
        if self._is_leaving():
            return None  # what this bell rang for stays queued, for others
        loop, parts = self._open().result()
        with self._guard:
            if self._closed:
                return None
            running = asyncio.run_coroutine_threadsafe(parts.hub.run_next(), loop)
        try:
            return running.result()
        except CancelledError:  # the hub has left; what could not be stored is in its journal
            return None

    def leave(self) -> None:
        """Tell the hubs of all processes of this worker to stop; safe in a signal handler."""
        os.write(self._leave, b".")

    def close(self) -> None:
        """Stop the hub, if it was started in this process; what runs is handed back."""
        if self._thread is None or self._pid != os.getpid():
            return
        try:
            loop, _ = self._started.result(START_S)
        except Exception as error:  # noqa: BLE001 - told when it happened; there is nothing to stop
            log.warning("celery.hub_not_stopped", reason=str(error))
            return
        if self._stop is not None and self._thread.is_alive():
            loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _is_leaving(self) -> bool:
        return bool(select.select([self._leaving], [], [], 0)[0])

    def _open(self) -> Future[tuple[asyncio.AbstractEventLoop, Parts]]:
        with self._guard:
            # A thread does not outlive a fork: each child has its own.
            ended = self._thread is None or not self._thread.is_alive()
            if ended or self._pid != os.getpid():
                self._pid = os.getpid()
                self._started = Future()
                self._closed = False
                work = self._work(self._started)
                self._thread = threading.Thread(
                    target=asyncio.run, args=(work,), name="holdfast-hub", daemon=True
                )
                self._thread.start()
            return self._started

    async def _work(self, started: Future[tuple[asyncio.AbstractEventLoop, Parts]]) -> None:
        from holdfast.app import run_hub

        stop = self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def told() -> None:
            loop.remove_reader(self._leaving)  # the byte stays, for the other processes
            stop.set()

        loop.add_reader(self._leaving, told)
        try:
            async with run_hub(self._settings, in_process=True, on_demand=True) as parts:
                await parts.hub.ready()
                started.set_result((loop, parts))
                await stop.wait()
        except BaseException as error:
            log.error("celery.hub_failed", exc_info=error)
            if not started.done():
                started.set_exception(error)
        finally:
            loop.remove_reader(self._leaving)
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
        from celery.concurrency.prefork import TaskPool as Prefork

        from holdfast.hub.celery_bell import TASK, make_celery
    except ImportError as error:
        raise SettingsError(
            f"HOLDFAST_DISPATCH: Celery cannot be imported: {error}",
            hint="pip install 'holdfast[celery,redis]'",
        ) from error
    configure_logging(settings.log_level, form=settings.log_form)
    gc.disable()  # what is imported stays: looking for garbage costs a fifth of the start
    for module in NEEDED:
        import_module(module)
    if settings.bus_url is not None:
        backend_of(settings.bus_url)
    gc.freeze()  # children share it as long as nobody looks it through for garbage
    gc.enable()
    app: Any = make_celery(settings.celery_broker_url, settings.celery_queue)
    desk = Desk(settings)

    @app.task(name=TASK, ignore_result=True, acks_late=False)
    def run(event_id: str) -> str | None:  # noqa: ARG001 - the bell of one; the best one runs
        return desk.run_next()

    def begin(**_: Any) -> None:
        desk.open()

    def leave(**_: Any) -> None:
        desk.leave()

    def close(**_: Any) -> None:
        desk.close()

    def begin_unless_forked(sender: Any, **_: Any) -> None:
        if not isinstance(sender.pool, Prefork):
            desk.open()

    signals.worker_process_init.connect(begin, weak=False)  # prefork: each child
    signals.worker_ready.connect(begin_unless_forked, weak=False)  # threads, solo: the one process
    signals.worker_shutting_down.connect(leave, weak=False)
    signals.worker_process_shutdown.connect(close, weak=False)  # prefork: each child
    signals.worker_shutdown.connect(close, weak=False)  # threads, solo: the one process
    app.finalize()
    del run
    return app


def __getattr__(name: str) -> Any:
    # Found by name only when Celery asks: importing this module connects to nothing.
    if name in ("app", "celery"):
        return make_worker()
    raise AttributeError(name)
