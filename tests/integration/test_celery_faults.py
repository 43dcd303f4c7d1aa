"""Celery's messages mangled on their way, its workers told to stop: one result, one effect each."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any

import pytest

from holdfast.bus.celery_broker import make_celery
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.hub import celery_bell
from holdfast.testing.postgres import PostgresForTests

from .celery_stand import BROKERS, Stand, standing
from .conftest import until_true
from .several_hubs import CeleryProcess, HubHere

EVENTS = 20


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


class Mangler:
    """Takes messages out of the queue that hubs send to, and puts them, mangled, into the one
    that workers read."""

    def __init__(self, stand: Stand, fate: str) -> None:
        self.seen: list[str] = []  # the events rung for, in order
        self.passed = 0
        self._fate = fate
        self._stand = stand
        self._held: list[Any] = []
        self._let_go = threading.Event()
        self._stop = threading.Event()
        self._failed: BaseException | None = None

    def let_go(self) -> None:
        """Pass on what was delayed."""
        self._let_go.set()

    @contextmanager
    def between(self, rung: str, heard: str) -> Iterator[Mangler]:
        """Work between two queues."""
        thread = threading.Thread(target=self._work, args=(rung, heard), name="mangler")
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()
        assert self._failed is None, self._failed

    def _work(self, rung: str, heard: str) -> None:
        source: Any = make_celery(self._stand.broker, rung)
        target: Any = make_celery(self._stand.broker, heard)
        try:
            with source.connection_for_read() as taken, target.connection_for_write() as given:
                queue = taken.SimpleQueue(source.amqp.queues[rung])
                out = given.SimpleQueue(target.amqp.queues[heard])
                while not self._stop.is_set():
                    if self._let_go.is_set():
                        self._pass(out, *self._held)
                        self._held.clear()
                    try:
                        message = queue.get(timeout=0.05)
                    except Empty:
                        continue
                    message.ack()
                    self._mangle(out, message)
        except Exception as error:  # noqa: BLE001 - the test raises it
            self._failed = error
        finally:
            source.close()
            target.close()

    def _mangle(self, out: Any, message: Any) -> None:
        (event_id,) = message.payload[0]
        first = event_id not in self.seen
        self.seen.append(event_id)
        match self._fate:
            case "duplicated":
                self._pass(out, message, message)
            case "dropped":
                self._pass(out, *[] if first else [message])
            case "delayed":
                if first:
                    self._held.append(message)
                else:
                    self._pass(out, message)
            case "reordered":
                self._held.append(message)
                if len(set(self.seen)) == EVENTS:
                    self._pass(out, *reversed(self._held))
                    self._held.clear()
            case _:
                raise AssertionError(self._fate)

    def _pass(self, out: Any, *messages: Any) -> None:
        for message in messages:
            known = message.properties
            out.put(
                message.payload,
                headers=message.headers,
                serializer="json",
                correlation_id=known["correlation_id"],
                reply_to=known.get("reply_to"),
            )
            self.passed += 1


@pytest.fixture(scope="module")
def worker(stand: Stand) -> Iterator[CeleryProcess]:
    with stand.celery("mangled", "--concurrency=2") as worker:
        yield worker


@pytest.fixture
async def hub(
    stand: Stand, worker: CeleryProcess, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[HubHere]:
    monkeypatch.setattr(celery_bell, "AGAIN_S", 0.2)
    monkeypatch.setattr(celery_bell, "LOOK_S", 0.1)
    await worker.ready()
    async with stand.hub("hub", HOLDFAST_CELERY_QUEUE=stand.queue()) as hub:
        yield hub


@pytest.mark.parametrize("fate", ["duplicated", "dropped", "delayed", "reordered"])
async def test_whatever_becomes_of_its_messages_each_event_runs_once(
    stand: Stand, worker: CeleryProcess, hub: HubHere, tmp_path: Path, fate: str
) -> None:
    before = answered(worker)
    rung, heard = stand.queues[-1], stand.environ["HOLDFAST_CELERY_QUEUE"]
    with Mangler(stand, fate).between(rung, heard) as mangler:
        for number in range(EVENTS):
            (tmp_path / f"open-{number}").touch()
        wanted = [
            hub.post("test.counted", folder=str(tmp_path), text=str(number))
            for number in range(EVENTS)
        ]
        ids = await asyncio.gather(*wanted)
        events = [await hub.ended(event_id) for event_id in ids]
        mangler.let_go()

        async def all_answered() -> bool:
            # Those that come when all has been done are answered, too, before anything is counted.
            return answered(worker) - before >= mangler.passed >= EVENTS

        await until_true(all_answered)
    assert set(mangler.seen) == set(ids)
    assert {(one.status, one.deliveries, one.crashes) for one in events} == {
        (EventStatus.SUCCEEDED, 1, 0)
    }
    for event_id in ids:
        runs = await hub.executions(event_id)
        assert [run.status for run in runs] == [ExecutionStatus.SUCCEEDED]
    assert sorted(effects(tmp_path)) == list(range(EVENTS))


def answered(worker: CeleryProcess) -> int:
    """How many messages it has seen to."""
    return worker.log.count("] succeeded in ")


def effects(folder: Path) -> list[int]:
    done = folder / "effects"
    return [int(line) for line in done.read_text().split()] if done.exists() else []


@pytest.fixture
def alone(
    broker: str, redis_url: str, postgres: PostgresForTests, tmp_path: Path
) -> Iterator[Stand]:
    """A stand that no worker of other tests has a part in."""
    with standing(tmp_path, postgres, redis_url, broker) as alone:
        yield alone


@pytest.mark.parametrize(
    ("broker", "running"), [("redis", 50), ("rabbitmq", 4)], indirect=["broker"]
)
async def test_what_a_worker_runs_when_it_is_told_to_stop_is_done_once(
    alone: Stand, tmp_path: Path, running: int
) -> None:
    """What ends in the grace time is drained, the rest is handed back to another worker."""
    own = {"HOLDFAST_STOP_GRACE": "4"}
    drained = running // 2

    def let(numbers: range) -> None:
        for number in numbers:
            (tmp_path / f"open-{number}").touch()

    async def all_begun() -> bool:
        return len(list(tmp_path.glob("begun-*"))) == running

    async with alone.hub("elsewhere", **own) as hub:
        with alone.celery("leaving", f"--concurrency={running}", **own) as leaving:
            await leaving.ready()
            ids = [
                await hub.post("test.counted", folder=str(tmp_path), text=str(number))
                for number in range(running)
            ]
            await until_true(all_begun)
            leaving.send(signal.SIGTERM)

            async def stopping() -> bool:  # only the grace lets any of them end now
                listed = (await hub.http.get("/api/v1/hubs")).json()["items"]
                mine = [one for one in listed if one["kind"] == "celery" and one["stopping"]]
                return len(mine) == 1

            await until_true(stopping)
            let(range(drained))
            assert await leaving.ended() == 0, leaving.log
        assert sorted(effects(tmp_path)) == list(range(drained))
        let(range(drained, running))
        with alone.celery("next", f"--concurrency={running}", **own):
            events = [await hub.ended(event_id) for event_id in ids]
        assert {(event.status, event.crashes) for event in events} == {(EventStatus.SUCCEEDED, 0)}
        runs = [[run.status.value for run in await hub.executions(id_)] for id_ in ids]
        assert runs[:drained] == [["succeeded"]] * drained
        assert runs[drained:] == [["crashed", "succeeded"]] * (running - drained)
        assert sorted(effects(tmp_path)) == list(range(running)), "each once"
