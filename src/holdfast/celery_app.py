"""The door through which Celery starts a worker: `celery -A holdfast.celery_app worker`.

Each process of the worker is a hub of role `worker` that claims when a message rings: the first
task starts it, in a thread with an event loop of its own that all tasks of the process share.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from functools import cache
from typing import TYPE_CHECKING, Any

from holdfast.app import Parts, run_hub
from holdfast.errors import SettingsError
from holdfast.settings import Settings, load
from holdfast.telemetry import configure_logging, logger

if TYPE_CHECKING:
    from celery import Celery

log = logger("celery")

START_S = 60.0
"""How long a process that is stopping waits for its hub to have started."""


class Desk:
    """The hub of this process, started with the first task that comes.

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

    def run_next(self) -> str | None:
        """Claim the best event that may run and run it to its end.

        Returns:
            The execution; None when there was nothing to do.
        """
        loop, parts = self._open().result()
        return asyncio.run_coroutine_threadsafe(parts.hub.run_next(), loop).result()

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

    def _open(self) -> Future[tuple[asyncio.AbstractEventLoop, Parts]]:
        with self._guard:
            # A thread does not outlive a fork: each child has its own.
            ended = self._thread is None or not self._thread.is_alive()
            if ended or self._pid != os.getpid():
                self._pid = os.getpid()
                self._started = Future()
                work = self._work(self._started)
                self._thread = threading.Thread(
                    target=asyncio.run, args=(work,), name="holdfast-hub", daemon=True
                )
                self._thread.start()
            return self._started

    async def _work(self, started: Future[tuple[asyncio.AbstractEventLoop, Parts]]) -> None:
        self._stop = asyncio.Event()
        try:
            async with run_hub(self._settings, in_process=True, on_demand=True) as parts:
                await parts.hub.ready()
                started.set_result((asyncio.get_running_loop(), parts))
                await self._stop.wait()
        except BaseException as error:
            log.error("celery.hub_failed", exc_info=error)
            if not started.done():
                started.set_exception(error)


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

        from holdfast.hub.celery_bell import TASK, make_celery
    except ImportError as error:
        raise SettingsError(
            f"HOLDFAST_DISPATCH: Celery cannot be imported: {error}",
            hint="pip install 'holdfast[celery,redis]'",
        ) from error
    configure_logging(settings.log_level, form=settings.log_form)
    app: Any = make_celery(settings.celery_broker_url, settings.celery_queue)
    desk = Desk(settings)

    @app.task(name=TASK, ignore_result=True, acks_late=False)
    def run(event_id: str) -> str | None:  # noqa: ARG001 - the bell of one; the best one runs
        return desk.run_next()

    def close(**_: Any) -> None:
        desk.close()

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
