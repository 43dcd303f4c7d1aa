"""Hubs and Celery workers on one database, one bus and one broker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from holdfast.bus.celery_broker import make_celery
from holdfast.testing.postgres import PostgresForTests

from .several_hubs import Shared

BROKERS = ("redis", "rabbitmq")


class Stand(Shared):
    """What the hubs and Celery workers of a test have in common."""

    def __init__(self, folder: Path, database: str, bus: str, broker: str) -> None:
        super().__init__(folder, database, bus)
        self.broker = broker
        self.queues: list[str] = []
        self.environ |= {
            "HOLDFAST_DISPATCH": "celery",
            "HOLDFAST_CELERY_BROKER_URL": broker,
            "HOLDFAST_CELERY_QUEUE": self.queue(),
        }

    def queue(self) -> str:
        """A name for a queue, which is removed in the end."""
        self.queues.append(f"holdfast-test-{uuid4().hex}")
        return self.queues[-1]

    def remove_queues(self) -> None:
        app: Any = make_celery(self.broker, "")
        with app.connection_for_write() as connection:
            for queue in self.queues:
                connection.default_channel.queue_delete(queue)
        app.close()


@contextmanager
def standing(folder: Path, postgres: PostgresForTests, bus: str, broker: str) -> Iterator[Stand]:
    """A stand with a database of its own; nothing of it is left in the end."""
    url = postgres.migrated()
    stand = Stand(folder, url, bus, broker)
    yield stand
    stand.remove_queues()
    postgres.drop(url)
