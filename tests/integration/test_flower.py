"""Flower shows Celery's side: the workers, and each task."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from holdfast.testing.postgres import PostgresForTests

from .conftest import until_true
from .several_hubs import Process, Shared


@pytest.fixture
def shared(postgres: PostgresForTests, redis_url: str, tmp_path: Path) -> Iterator[Shared]:
    database = postgres.migrated()
    made = Shared(tmp_path, database, redis_url)
    made.environ |= {
        "HOLDFAST_DISPATCH": "celery",
        "HOLDFAST_CELERY_BROKER_URL": redis_url,
        "HOLDFAST_CELERY_QUEUE": f"holdfast-test-{uuid4().hex}",
    }
    yield made
    postgres.drop(database)


async def test_flower_sees_the_workers_and_the_tasks(shared: Shared, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = shared.environ_of("home", FLOWER_UNAUTHENTICATED_API="true")
    command = ["celery", "-A", "holdfast.celery_app", "flower"]
    flower = Process([*command, "--address=127.0.0.1", f"--port={port}"], environ, tmp_path)
    try:
        with shared.celery("home", "--concurrency=1") as worker:
            async with (
                shared.hub("home") as hub,
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
            ):

                async def seen() -> bool:
                    try:
                        return worker.name in (await http.get("/api/workers?refresh=1")).text
                    except httpx.TransportError:
                        return False

                await worker.ready()
                await until_true(seen)
                body = {"type": "test.noop", "data": {"text": "x"}}
                answer = await hub.http.post("/api/v1/events?wait=60", json=body)
                assert answer.json()["status"] == "succeeded"

                async def told() -> bool:
                    tasks = (await http.get("/api/tasks")).json().values()
                    return any(
                        task["state"] == "SUCCESS"
                        and answer.json()["execution_id"] in task["result"]
                        for task in tasks
                        if task["name"] == "holdfast.run" and task["result"]
                    )

                await until_true(told)
    finally:
        flower.end()
