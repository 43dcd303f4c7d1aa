"""Where events are run and kept: which programs there are, and which servers behind them."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

from holdfast.store import migrations

from . import servers
from .driver import CeleryWorker, Hub, Program, Stand
from .servers import Postgres, RabbitMQ, Redis, Server

ROOT = Path(__file__).parents[1]


class Place:
    """One hub on an SQLite file; each case gets an empty database.

    Attributes:
        name: what it is asked for by.
        victims: who can be killed.
        servers: those among them that are restarted, by their name there.
    """

    name = "sqlite"
    victims: tuple[str, ...] = ("runner", "hub")

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}

    @asynccontextmanager
    async def stand(self, folder: Path, **settings: str) -> AsyncIterator[Stand]:
        """Programs that are not started yet, with their files in `folder`; they end with the block.

        Args:
            folder: an empty one.
            settings: further variables.
        """
        with self._database(folder) as url:
            environ = {
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT), *sys.path]),
                "HOLDFAST_APPS": "chaos.work",
                "HOLDFAST_DATABASE_URL": url,
                "HOLDFAST_RUNNERS": "2",
                "HOLDFAST_LOG_LEVEL": "warning",
                **settings,
            }
            stand = self._programs(environ, folder)
            try:
                yield stand
            finally:
                await stand.stop()

    def _programs(self, environ: dict[str, str], folder: Path) -> Stand:
        hub = Hub("hub", own(environ, folder, "hub"), folder)
        return Stand(hub, hub)

    @contextmanager
    def _database(self, folder: Path) -> Iterator[str]:
        url = f"sqlite:///{folder / 'holdfast.db'}"
        migrations.upgrade(url)
        yield url


class OnPostgres(Place):
    """One hub on a PostgreSQL."""

    name = "postgresql"
    victims = (*Place.victims, "database")

    def __init__(self, postgres: Postgres) -> None:
        super().__init__()
        self._postgres = postgres
        self.servers["database"] = postgres

    @contextmanager
    def _database(self, folder: Path) -> Iterator[str]:  # noqa: ARG002 - the contract
        url = self._postgres.databases.migrated()
        yield url
        self._postgres.databases.drop(url)


class Several(OnPostgres):
    """A hub that takes events in and one that runs them, joined by Redis."""

    name = "hubs"
    victims = (*OnPostgres.victims, "api", "broker", "host")

    def __init__(self, postgres: Postgres, redis: Redis) -> None:
        super().__init__(postgres)
        self._redis = redis
        self.servers["broker"] = redis

    def _programs(self, environ: dict[str, str], folder: Path) -> Stand:
        environ = environ | {"HOLDFAST_BUS_URL": self._redis.url}
        door = own(environ, folder, "api") | {"HOLDFAST_ROLES": "api"}
        return Stand(Hub("api", door, folder), self._worker(environ, folder))

    def _worker(self, environ: dict[str, str], folder: Path) -> Program:
        here = own(environ, folder, "hub") | {"HOLDFAST_ROLES": "worker"}
        return Hub("hub", here, folder)


class OnCelery(Several):
    """A hub that takes events in, and Celery's worker that runs them."""

    def __init__(self, postgres: Postgres, redis: Redis, broker: Redis | RabbitMQ) -> None:
        super().__init__(postgres, redis)
        self.servers["broker"] = broker
        self.name = "celery-redis" if broker is redis else "celery-rabbitmq"
        self._broker = broker

    def _programs(self, environ: dict[str, str], folder: Path) -> Stand:
        return super()._programs(
            environ
            | {
                "HOLDFAST_DISPATCH": "celery",
                "HOLDFAST_CELERY_BROKER_URL": self._broker.url,
                "HOLDFAST_CELERY_QUEUE": f"chaos-{uuid4().hex}",
            },
            folder,
        )

    def _worker(self, environ: dict[str, str], folder: Path) -> Program:
        here = own(environ, folder, "celery") | {"HOLDFAST_ROLES": "worker"}
        return CeleryWorker("celery", here, folder)


def own(environ: dict[str, str], folder: Path, home: str) -> dict[str, str]:
    """The environment of one program."""
    return environ | {
        "HOLDFAST_HOME": str(folder / home),
        "HOLDFAST_PORT": str(servers.free_port()),
    }


def _celery_on_rabbitmq(stack: ExitStack) -> Place:
    broker = stack.enter_context(servers.rabbitmq())  # first: it may be missing
    return OnCelery(
        stack.enter_context(servers.postgres()), stack.enter_context(servers.redis()), broker
    )


def _celery_on_redis(stack: ExitStack) -> Place:
    redis = stack.enter_context(servers.redis())
    return OnCelery(stack.enter_context(servers.postgres()), redis, redis)


_MADE: dict[str, Callable[[ExitStack], Place]] = {
    "sqlite": lambda _: Place(),
    "postgresql": lambda stack: OnPostgres(stack.enter_context(servers.postgres())),
    "hubs": lambda stack: Several(
        stack.enter_context(servers.postgres()), stack.enter_context(servers.redis())
    ),
    "celery-redis": _celery_on_redis,
    "celery-rabbitmq": _celery_on_rabbitmq,
}

PLACES = tuple(_MADE)


@contextmanager
def place(name: str) -> Iterator[Place]:
    """A place by name, with servers of its own."""
    if name not in _MADE:
        raise ValueError(f"there is no place {name}; there are {', '.join(PLACES)}")
    with ExitStack() as stack:
        yield _MADE[name](stack)
