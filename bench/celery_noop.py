"""Celery alone: a task that does nothing, and the messages for it.

Worker and publisher have the broker, the queue and a file from the environment; each task adds one
byte to the file, which is how its end is seen without a result backend.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

from celery import Celery

TASK = "bench.noop"


@cache
def _ends() -> int:
    return os.open(os.environ["BENCH_ENDS"], os.O_WRONLY | os.O_APPEND)


def _made() -> Celery:
    made = Celery("bench", broker=os.environ["BENCH_BROKER"], set_as_current=False)
    made.conf.update(
        task_default_queue=os.environ["BENCH_QUEUE"],
        task_default_delivery_mode="transient",
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
    )

    @made.task(name=TASK)
    def noop(_number: int) -> None:
        os.write(_ends(), b".")

    del noop
    return made


def publish(count: int) -> None:
    """Send messages, one after the other over one connection."""
    made: Any = app
    with made.producer_or_acquire() as producer:
        for number in range(count):
            made.send_task(TASK, args=[number], producer=producer, ignore_result=True)


def __getattr__(name: str) -> Any:
    if name in ("app", "celery"):  # made when Celery asks for it
        globals()["app"] = _made()
        return globals()["app"]
    raise AttributeError(name)


if __name__ == "__main__":
    app = _made()
    for line in sys.stdin:
        publish(int(line))
        print("sent", flush=True)
