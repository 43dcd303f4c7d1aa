"""DBOS's side: a durable workflow of five steps that do nothing.

Not through a queue: that was slower than each of these ways, and its polling takes time from
whoever is measured beside it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy
from dbos import DBOS, DBOSConfig
from side import obey

STEPS = 5

CONFIG: DBOSConfig = {"name": "bench", "log_level": "ERROR", "run_admin_server": False}


@DBOS.step()
def idle(_number: int) -> None:
    return None


@DBOS.workflow()
def five(_number: int) -> None:
    for number in range(STEPS):
        idle(number)


@DBOS.step()
async def idle_async(_number: int) -> None:
    return None


@DBOS.workflow()
async def five_async(_number: int) -> None:
    for number in range(STEPS):
        await idle_async(number)


def in_threads(runs: int, in_flight: int) -> None:
    with ThreadPoolExecutor(in_flight) as pool:
        list(pool.map(five, range(runs)))


def started_in_threads(runs: int, in_flight: int) -> None:
    with ThreadPoolExecutor(in_flight) as pool:
        list(pool.map(lambda n: DBOS.start_workflow(five, n).get_result(), range(runs)))


def in_tasks(runs: int, in_flight: int) -> None:
    numbers = iter(range(runs))

    async def some() -> None:
        for number in numbers:
            await five_async(number)

    async def all_of_them() -> None:
        await asyncio.gather(*(some() for _ in range(in_flight)))

    asyncio.run(all_of_them())


def started_in_tasks(runs: int, in_flight: int) -> None:
    numbers = iter(range(runs))

    async def some() -> None:
        for number in numbers:
            await (await DBOS.start_workflow_async(five_async, number)).get_result()

    async def all_of_them() -> None:
        await asyncio.gather(*(some() for _ in range(in_flight)))

    asyncio.run(all_of_them())


WAYS: dict[str, tuple[Callable[[int, int], None], int]] = {
    f"{what}, {in_flight} at once": (way, in_flight)
    for what, way, flights in (
        ("called in threads", in_threads, (1, 8, 32)),
        ("start_workflow in threads", started_in_threads, (1, 8, 32)),
        ("called in tasks", in_tasks, (1, 8, 32)),
        ("start_workflow_async in tasks", started_in_tasks, (1, 8, 32)),
    )
    for in_flight in flights
}


def run(way: str, runs: int) -> float:
    """Seconds for so many runs."""
    function, in_flight = WAYS[way]
    began = time.perf_counter()
    function(runs, in_flight)
    return time.perf_counter() - began


def setting() -> str:
    """What stands for durability."""
    with dbos._sys_db.engine.connect() as connection:  # noqa: SLF001
        if connection.dialect.name != "sqlite":
            return f"synchronous_commit={_one(connection, 'SHOW synchronous_commit')}"
        level, mode = (_one(connection, f"PRAGMA {it}") for it in ("synchronous", "journal_mode"))
        return f"synchronous={level}, journal_mode={mode}"


def _one(connection: sqlalchemy.Connection, statement: str) -> object:
    return connection.execute(sqlalchemy.text(statement)).scalar()


def wal_engine(url: str) -> sqlalchemy.Engine:
    """What DBOS makes for itself, but with a write-ahead log."""
    engine = sqlalchemy.create_engine(url)

    @sqlalchemy.event.listens_for(engine, "connect")
    def connected(connection, _record) -> None:
        connection.isolation_level = "IMMEDIATE"
        for pragma in (
            "busy_timeout=30000",
            "foreign_keys=ON",
            "journal_mode=WAL",
            "synchronous=FULL",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


url = sys.argv[1]
if "wal" in sys.argv[2:]:
    CONFIG["system_database_engine"] = wal_engine(url)
else:
    CONFIG["system_database_url"] = url
dbos = DBOS(config=CONFIG)
DBOS.launch()
obey({"run": run, "ways": lambda: list(WAYS), "setting": setting})
os._exit(0)  # it would wait for its threads
