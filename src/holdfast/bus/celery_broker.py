"""The broker of Celery: the application that hubs ring with and workers are, and its deadlines."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.exceptions import CeleryError
from kombu.exceptions import KombuError

TASK = "holdfast.run"

CALL_S = 5.0
"""How long any one call to the broker may take."""

FAULTS = (CeleryError, KombuError, OSError, TimeoutError)
"""How a broker that is away shows."""


def make_celery(broker_url: str, queue: str, *, confirms: bool = True) -> Celery:
    """A Celery application that connects to nothing yet.

    Args:
        broker_url: of Redis or RabbitMQ.
        queue: the name of the queue, the same for hubs and workers.
        confirms: whether RabbitMQ confirms what is sent. A worker must not want that: its threads
            tell of their tasks over a connection that its loop reads, and whoever waits there for
            a confirmation that the other has read waits for ever.
    """
    app = Celery("holdfast", broker=broker_url, set_as_current=False)
    deadlines: dict[str, Any] = {"socket_timeout": CALL_S, "socket_connect_timeout": CALL_S}
    if broker_url.startswith("amqp"):
        deadlines = {"read_timeout": CALL_S, "write_timeout": CALL_S, "confirm_publish": confirms}
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_default_queue=queue,
        task_default_delivery_mode="transient",  # the row outlives the broker, not the bell
        task_ignore_result=True,
        task_acks_late=False,
        task_publish_retry=False,
        task_send_sent_event=True,
        worker_send_task_events=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_pool="threads",  # they only wait: the worker's hub has runners
        broker_connection_timeout=CALL_S,
        broker_connection_retry_on_startup=True,
        broker_transport_options=deadlines,
    )
    return app


def broker_away(broker_url: str) -> str | None:
    """Why the broker does not answer; None when it does."""
    app: Any = make_celery(broker_url, "")
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=CALL_S)
    except FAULTS as error:
        return f"{type(error).__name__}: {error}"
    finally:
        app.close()
    return None
