"""Celery as the dispatcher: its messages are a doorbell, over real brokers and real workers."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast.bus.celery_broker import make_celery
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.errors import SettingsError
from holdfast.hub import celery_bell
from holdfast.hub.celery_bell import CeleryBell
from holdfast.operations import read
from holdfast.settings import load
from holdfast.testing.postgres import PostgresForTests
from holdfast.testing.providers import FakeAnswer, FakeOpenAI
from holdfast.testing.valkey import Valkey

from .celery_stand import BROKERS, Stand, standing
from .conftest import until, until_true
from .several_hubs import CeleryProcess, HubHere


@pytest.fixture(scope="module", params=BROKERS)
def broker(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("redis_url" if request.param == "redis" else "amqp_url")


@pytest.fixture(scope="module")
def stand(
    broker: str,
    redis_url: str,
    postgres: PostgresForTests,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stand]:
    with standing(tmp_path_factory.mktemp("stand"), postgres, redis_url, broker) as stand:
        yield stand


@pytest.fixture(scope="module")
def worker(stand: Stand) -> Iterator[CeleryProcess]:
    """One worker with two tasks at once, for the tests that leave it as it was."""
    with stand.celery("shared", "--pool=prefork", "--concurrency=2") as worker:
        yield worker


@pytest.fixture
async def hub(stand: Stand, worker: CeleryProcess) -> AsyncIterator[HubHere]:
    await worker.ready()
    assert "concurrency: 2 (thread)" in worker.log, "whatever pool is asked for"
    async with stand.hub("shared") as hub:
        yield hub


async def test_a_worker_of_celerys_runs_what_a_hub_takes_in(hub: HubHere) -> None:
    body = {"type": "test.talking", "data": {"text": "Ada"}}
    answer = (await hub.http.post("/api/v1/events?wait=60", json=body)).json()
    assert (answer["status"], answer["deliveries"]) == ("succeeded", 1)
    assert hub.kit.metrics.get("holdfast_claims_total") == 0
    assert hub.kit.metrics.get("holdfast_celery_rings_total") >= 1
    listed = (await hub.http.get("/api/v1/hubs")).json()["items"]
    assert {(one["kind"], *one["roles"]) for one in listed if one["alive"]} == {
        ("hub", "api", "worker"),
        ("celery", "worker"),
    }
    shown = (await hub.http.get(f"/api/v1/executions/{answer['execution_id']}")).json()
    assert [step["operation"] for step in shown["steps"]] == ["say", "judge"]


@pytest.fixture
def nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody rings for is not found either."""
    monkeypatch.setattr(celery_bell, "AGAIN_S", 3600.0)


async def test_the_next_turn_of_a_session_is_rung_for(
    nobody_looks: None, hub: HubHere, tmp_path: Path
) -> None:
    """Its own message came while the one before it ran, and brought nothing."""

    async def send(type: str, **data: str) -> str:
        body = {"type": type, "data": data, "session_id": tmp_path.name}
        return (await hub.http.post("/api/v1/events", json=body)).json()["id"]

    first = await send("test.gated", folder=str(tmp_path))
    await until(tmp_path / "pid-1")
    second = await send("test.noop", text="next")
    await hub.run("test.noop", text="of no session")  # the message has come by now
    (tmp_path / "open").touch()
    for event_id in (first, second):
        assert (await hub.ended(event_id)).status is EventStatus.SUCCEEDED


async def test_a_killed_runner_is_found_out_and_its_event_runs_again(
    nobody_looks: None, hub: HubHere, tmp_path: Path
) -> None:
    event_id = await hub.post("test.gated", folder=str(tmp_path))
    victim = int(await until(tmp_path / "pid-1"))
    os.kill(victim, signal.SIGKILL)
    assert int(await until(tmp_path / "pid-2")) != victim
    (tmp_path / "open").touch()
    event = await hub.ended(event_id)
    assert (event.status, event.deliveries, event.crashes) == (EventStatus.SUCCEEDED, 2, 1)
    crashed, succeeded = await hub.executions(event_id)
    assert crashed.status is ExecutionStatus.CRASHED
    assert succeeded.status is ExecutionStatus.SUCCEEDED
    assert [step.operation for step in (await hub.whole(crashed.id)).steps] == ["before", "gate"]


async def test_what_kills_every_runner_becomes_a_dead_letter(hub: HubHere) -> None:
    event = await hub.ended(await hub.post("test.poison"))
    assert (event.status, event.crashes) == (EventStatus.DEAD, 3)
    body = {"type": "test.noop", "data": {"text": "still there"}}
    answer = await hub.http.post("/api/v1/events?wait=60", json=body)
    assert answer.json()["status"] == "succeeded"


async def test_a_cancel_reaches_a_worker_of_celerys(hub: HubHere, tmp_path: Path) -> None:
    event_id = await hub.post("test.gated", folder=str(tmp_path))
    await until(tmp_path / "pid-1")
    assert (await hub.http.post(f"/api/v1/events/{event_id}/cancel")).status_code == 202
    event = await hub.ended(event_id)
    assert event.status is EventStatus.CANCELLED


async def test_lost_doubled_and_reordered_messages_change_nothing(
    hub: HubHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery_bell, "AGAIN_S", 0.1)
    monkeypatch.setattr(celery_bell, "LOOK_S", 0.1)
    send, luck = CeleryBell._send, random.Random(1)
    fates = {"lost": 0, "sent": 0, "doubled": 0}

    def unreliable(self: CeleryBell, event_ids: Sequence[str]) -> None:
        sent: list[str] = []
        for event_id in event_ids:
            fate = luck.choice(list(fates))
            fates[fate] += 1
            sent += [event_id] * ("lost", "sent", "doubled").index(fate)
        luck.shuffle(sent)
        send(self, sent)

    monkeypatch.setattr(CeleryBell, "_send", unreliable)
    ids = await asyncio.gather(*(hub.post("test.noop", text=str(n)) for n in range(40)))
    events = [await hub.ended(event_id) for event_id in ids]
    assert {event.status for event in events} == {EventStatus.SUCCEEDED}
    assert {event.deliveries for event in events} == {1}
    for event_id in ids:
        assert len(await hub.executions(event_id)) == 1
    assert all(fates.values()), fates


async def test_an_event_nobody_rang_for_is_found(
    hub: HubHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    rang: list[str] = []
    send = CeleryBell._send

    def late(self: CeleryBell, event_ids: Sequence[str]) -> None:
        if not rang:
            rang.extend(event_ids)
            raise OSError("planted: the broker is away")
        send(self, event_ids)

    monkeypatch.setattr(CeleryBell, "_send", late)
    event_id = await hub.post("test.noop")
    assert (await hub.ended(event_id)).status is EventStatus.SUCCEEDED
    assert rang == [event_id]
    assert hub.kit.metrics.get("holdfast_celery_failed_total") == 1


@pytest.fixture
def alone(
    broker: str, redis_url: str, postgres: PostgresForTests, tmp_path: Path
) -> Iterator[Stand]:
    """A stand that no worker of other tests has a part in."""
    with standing(tmp_path, postgres, redis_url, broker) as alone:
        yield alone


async def test_a_worker_that_is_told_to_stop_ends_what_it_runs(
    alone: Stand, tmp_path: Path
) -> None:
    """Celery's warm shutdown."""
    with alone.celery("stopping", "--concurrency=1") as leaving:
        await leaving.ready()
        async with alone.hub("elsewhere") as hub:
            event_id = await hub.post("test.gated", folder=str(tmp_path))
            await until(tmp_path / "pid-1")
            leaving.send(signal.SIGTERM)
            await leaving.says("Warm shutdown")
            (tmp_path / "open").touch()
            assert await leaving.ended() == 0
            event = await hub.ended(event_id)
            assert (event.status, event.deliveries) == (EventStatus.SUCCEEDED, 1)
            listed = (await hub.http.get("/api/v1/hubs")).json()["items"]
            assert leaving.pid not in [one["pid"] for one in listed]


async def test_a_killed_worker_costs_its_events_no_crash(alone: Stand, tmp_path: Path) -> None:
    """The next one on its journal knows that they did not kill it: they ran in a runner."""
    async with alone.hub("elsewhere") as hub:
        with alone.celery("killed", "--concurrency=1") as killed:
            event_id = await hub.post("test.gated", folder=str(tmp_path))
            await until(tmp_path / "pid-1")
            killed.end()
        (tmp_path / "open").touch()
        with alone.celery("killed", "--concurrency=1"):
            event = await hub.ended(event_id, within_s=60.0)
        assert (event.status, event.deliveries, event.crashes) == (EventStatus.SUCCEEDED, 2, 0)


CALLS = 50


@asynccontextmanager
async def threads(alone: Stand, fake: FakeOpenAI) -> AsyncIterator[HubHere]:
    """A hub, and a worker with room for so many tasks in its one runner."""
    own = {
        "HOLDFAST_MODELS": '{"fast": "openai:fake"}',
        "OPENAI_API_KEY": "sk-test",
        "OPENAI_BASE_URL": fake.url,
    }
    with alone.celery("threads", f"--concurrency={CALLS + 10}", **own) as worker:
        await worker.ready()
        async with alone.hub("threads", **own) as hub:
            yield hub


async def test_one_process_keeps_many_model_calls_in_flight(alone: Stand) -> None:
    with FakeOpenAI([FakeAnswer(text="hello", hold_after=0)]) as fake:
        async with threads(alone, fake) as hub:
            ids = [await hub.post("test.other", text=str(n)) for n in range(CALLS)]

            async def all_asked() -> bool:
                return len(fake.requests) >= CALLS

            await until_true(all_asked)
            listed = (await hub.http.get("/api/v1/hubs")).json()["items"]
            mine = {e.lease_owner for e in [await hub_event(hub, one) for one in ids]}
            assert len(mine) == 1
            assert {one["id"] for one in listed} >= mine
            fake.release()
            for event_id in ids:
                assert (await hub.ended(event_id)).status is EventStatus.SUCCEEDED
    assert len(fake.requests) == CALLS


async def hub_event(hub: HubHere, event_id: str) -> Any:
    return await read.event(hub.kit, event_id, LOCAL_OWNER)


async def test_while_the_broker_is_away_events_are_taken_in_and_run_later(
    postgres: PostgresForTests, redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "valkey").mkdir()
    valkey = Valkey(tmp_path / "valkey")
    database = postgres.migrated()
    try:
        stand = Stand(tmp_path, database, redis_url, valkey.url)
        with stand.celery("one", "--concurrency=1") as worker:
            await worker.ready()
            async with stand.hub("one") as hub:
                valkey.kill()
                event_id = await hub.post("test.noop")

                async def failed() -> bool:
                    return hub.kit.metrics.get("holdfast_celery_failed_total") > 0

                await until_true(failed)
                assert (await hub_event(hub, event_id)).status is EventStatus.QUEUED
                valkey.start()
                assert (await hub.ended(event_id)).status is EventStatus.SUCCEEDED
    finally:
        valkey.kill()
        postgres.drop(database)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"HOLDFAST_DISPATCH": "celery"}, "HOLDFAST_DISPATCH: celery needs a broker"),
        (
            {"HOLDFAST_DISPATCH": "celery", "HOLDFAST_CELERY_BROKER_URL": "amqp://x"},
            "HOLDFAST_DISPATCH: SQLite allows exactly one hub",
        ),
        ({"HOLDFAST_CELERY_BROKER_URL": "memory://"}, "memory is no broker we know"),
        ({"HOLDFAST_CELERY_BROKER_URL": "nonsense"}, "nonsense is no broker we know"),
        ({"HOLDFAST_DISPATCH": "rq"}, "HOLDFAST_DISPATCH"),
    ],
)
def test_settings_that_cannot_be_are_refused(environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(environ=environ)


def test_a_worker_without_its_settings_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from holdfast import celery_app

    monkeypatch.setenv("HOLDFAST_DISPATCH", "direct")
    monkeypatch.setenv("HOLDFAST_DATABASE_URL", "postgresql://a/b")
    with pytest.raises(SettingsError, match="a Celery worker needs it"):
        celery_app.make_worker()


def test_a_worker_has_threads_that_wait_for_no_confirmation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RabbitMQ's would be read by the loop, and the thread that waits for it would stand still."""
    from holdfast import celery_app

    for name, value in {
        "DISPATCH": "celery",
        "CELERY_BROKER_URL": "amqp://guest:guest@127.0.0.1:1//",
        "DATABASE_URL": "postgresql://a/b",
        "RUNNERS": "3",
        "RUNNER_SLOTS": "5",
    }.items():
        monkeypatch.setenv(f"HOLDFAST_{name}", value)
    worker: Any = celery_app.make_worker.__wrapped__()
    assert (worker.conf.worker_pool, worker.conf.worker_concurrency) == ("threads", 15)
    assert worker.conf.broker_transport_options["confirm_publish"] is False
    rings: Any = make_celery("amqp://guest:guest@127.0.0.1:1//", "q")
    assert rings.conf.broker_transport_options["confirm_publish"] is True
