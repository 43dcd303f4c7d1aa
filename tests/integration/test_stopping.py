"""SIGTERM while fifty events run: drained or handed back in the grace time, nothing done twice."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, text

from holdfast.store import migrations
from holdfast.store.registry import address
from holdfast.testing.postgres import PostgresForTests

from .conftest import until_true
from .several_hubs import Shared

RUNNING, DRAINED = 50, 25
GRACE_S = "5"


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(
    request: pytest.FixtureRequest, postgres: PostgresForTests, tmp_path: Path
) -> Iterator[Shared]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/holdfast.db"
        migrations.upgrade(url)
        yield Shared(tmp_path, url, None)
        return
    url = postgres.migrated()
    yield Shared(tmp_path, url, None)
    postgres.drop(url)


async def test_what_runs_when_a_hub_is_told_to_stop_is_done_once(
    shared: Shared, tmp_path: Path
) -> None:
    own = {"HOLDFAST_RUNNER_SLOTS": str(RUNNING), "HOLDFAST_STOP_GRACE": GRACE_S}

    async def all_begun() -> bool:
        return len(list(tmp_path.glob("begun-*"))) == RUNNING

    async def stopping() -> bool:
        with closing(engine.connect()) as db:
            return bool(db.execute(text("SELECT count(*) FROM hubs WHERE stopping = 1")).scalar())

    engine = create_engine(address(shared.environ["HOLDFAST_DATABASE_URL"]).sqlalchemy_url)
    with shared.process("home", **own) as hub:
        async with httpx.AsyncClient(base_url=await hub.url(), trust_env=False) as http:
            ids: list[str] = []
            for number in range(RUNNING):
                data = {"text": str(number), "folder": str(tmp_path)}
                body = {"type": "test.counted", "data": data}
                answer = await http.post("/api/v1/events", json=body)
                assert answer.status_code == 202, answer.text
                ids.append(answer.json()["id"])
        await until_true(all_begun)
        hub.send(signal.SIGTERM)
        await until_true(stopping)  # only the grace lets any of them end now
        for number in range(DRAINED):
            (tmp_path / f"open-{number}").touch()
        assert await hub.ended() == 0, hub.log
    engine.dispose()
    done = (tmp_path / "effects").read_text().split()
    assert sorted(done, key=int) == [str(number) for number in range(DRAINED)]
    for number in range(DRAINED, RUNNING):
        (tmp_path / f"open-{number}").touch()
    with shared.process("home", **own) as hub:
        async with httpx.AsyncClient(base_url=await hub.url(), trust_env=False, timeout=90) as http:
            asked = [http.get(f"/api/v1/events/{id_}?wait=60") for id_ in ids]
            events = [answer.json() for answer in await asyncio.gather(*asked)]
    assert {event["status"] for event in events} == {"succeeded"}
    assert {event["crashes"] for event in events} == {0}
    runs = [[one["status"] for one in event["executions"]] for event in events]
    assert runs[:DRAINED] == [["succeeded"]] * DRAINED
    assert runs[DRAINED:] == [["crashed", "succeeded"]] * (RUNNING - DRAINED)
    done = (tmp_path / "effects").read_text().split()
    assert sorted(done, key=int) == [str(number) for number in range(RUNNING)], "each once"
