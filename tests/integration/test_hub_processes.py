"""Hubs as processes: killed, stopped, frozen and replaced while they work."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.testing.postgres import PostgresForTests

from .conftest import until
from .several_hubs import Shared

WAIT_S = 60


@pytest.fixture
def database(postgres: PostgresForTests) -> Iterator[str]:
    url = postgres.migrated()
    yield url
    postgres.drop(url)


@pytest.fixture
def shared(database: str, redis_url: str, tmp_path: Path) -> Shared:
    return Shared(tmp_path, database, redis_url)


def client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, trust_env=False, timeout=2 * WAIT_S)


async def sent(http: httpx.AsyncClient, type: str, **data: Any) -> str:
    answer = await http.post("/api/v1/events", json={"type": type, "data": data})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


async def rested(http: httpx.AsyncClient, event_id: str) -> Any:
    event = (await http.get(f"/api/v1/events/{event_id}?wait={WAIT_S}")).json()
    assert event["finished_at"], event
    return event


async def shown(http: httpx.AsyncClient, execution_id: str) -> Any:
    """An execution with its steps and what the models were asked."""
    return (await http.get(f"/api/v1/executions/{execution_id}")).json()


async def test_what_a_killed_hub_ran_is_taken_in_by_its_neighbour(
    shared: Shared, tmp_path: Path
) -> None:
    """On one machine and in one home folder its death shows at once, with the steps it had done."""
    with shared.process("home", "api") as api:
        async with client(await api.url()) as http:
            with shared.process("home", "worker") as first:
                await first.url()
                event_id = await sent(http, "test.gated", folder=str(tmp_path))
                runner = int(await until(tmp_path / "pid-1"))
                with shared.process("home", "worker") as second:
                    await second.url()
                    first.send(signal.SIGKILL)
                    assert int(await until(tmp_path / "pid-2")) != runner
                    (tmp_path / "open").touch()
                    event = await rested(http, event_id)
            assert (event["status"], event["deliveries"], event["crashes"]) == ("succeeded", 2, 0)
            assert [one["status"] for one in event["executions"]] == ["crashed", "succeeded"]
            path = f"/api/v1/executions/{event['executions'][0]['id']}"
            lost = (await http.get(path)).json()
            assert lost["error"]["code"] == "hub_died"
            assert [step["operation"] for step in lost["steps"]] == ["before", "gate"]


async def test_a_hub_that_stops_hands_back_what_it_cannot_finish(
    shared: Shared, tmp_path: Path
) -> None:
    with shared.process("one", "api") as api:
        async with client(await api.url()) as http:
            with shared.process("two", "worker", HOLDFAST_STOP_GRACE="0.5") as first:
                await first.url()
                event_id = await sent(http, "test.gated", folder=str(tmp_path))
                await until(tmp_path / "pid-1")
                with shared.process("three", "worker") as second:
                    await second.url()
                    first.send(signal.SIGTERM)
                    assert await first.ended() == 0
                    await until(tmp_path / "pid-2")
                    listed = (await http.get("/api/v1/hubs")).json()["items"]
                    assert {one["pid"] for one in listed} == {api.pid, second.pid}
                    (tmp_path / "open").touch()
                    event = await rested(http, event_id)
            assert (event["status"], event["crashes"]) == ("succeeded", 0)
            assert [one["status"] for one in event["executions"]] == ["crashed", "succeeded"]


async def test_a_rolling_restart_refuses_nobody_and_runs_nothing_twice(shared: Shared) -> None:
    """Events are sent all the while; whoever is turned away at one hub goes to the other."""
    accepted: list[str] = []
    urls: list[str] = []
    stop = asyncio.Event()

    async def send_on() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            number = 0
            while not stop.is_set():
                number += 1
                body = {"type": "test.noop", "data": {"text": str(number)}}
                headers = {"idempotency-key": f"k{number}"}
                for url in list(urls):
                    try:
                        answer = await http.post(f"{url}/api/v1/events", json=body, headers=headers)
                    except httpx.TransportError:
                        continue
                    if answer.status_code == 202:
                        accepted.append(answer.json()["id"])
                        break
                else:
                    raise AssertionError("no hub took it")
                await asyncio.sleep(0.005)

    async def some_more() -> None:
        enough = len(accepted) + 20
        while len(accepted) < enough and not sending.done():
            await asyncio.sleep(0.01)

    with ExitStack() as stack:
        old = [stack.enter_context(shared.process(name)) for name in ("one", "two")]
        urls += [await hub.url() for hub in old]
        sending = asyncio.create_task(send_on())
        for number, hub in enumerate(old):
            new = stack.enter_context(shared.process(f"new-{number}"))
            urls.append(await new.url())
            await some_more()
            hub.send(signal.SIGTERM)
            assert await hub.ended() == 0, hub.log
            urls.remove(await hub.url())
            await some_more()
        stop.set()
        await sending
        async with client(urls[-1]) as http:
            events = [await rested(http, event_id) for event_id in accepted]
    assert [len(event["executions"]) for event in events] == [1] * len(events)
    assert {event["status"] for event in events} == {"succeeded"}
    assert len(set(accepted)) == len(accepted) >= 80


async def test_a_hub_that_stood_still_past_its_leases_changes_nothing_any_more(
    shared: Shared, tmp_path: Path
) -> None:
    """Another takes over when the leases run out; what the first says late is superseded."""
    with shared.process("one", "api") as api:
        async with client(await api.url()) as http:
            with shared.process("two", "worker") as frozen:
                await frozen.url()
                event_id = await sent(http, "test.gated", folder=str(tmp_path))
                await until(tmp_path / "pid-1")
                with shared.process("three", "worker") as second:
                    await second.url()
                    frozen.send(signal.SIGSTOP)
                    await until(tmp_path / "pid-2")
                    (tmp_path / "open").touch()
                    event = await rested(http, event_id)
                    newer = await shown(http, event["execution_id"])
                    frozen.send(signal.SIGCONT)
                    while "execution.superseded" not in frozen.log:
                        await asyncio.sleep(0.05)
                    again = await rested(http, event_id)
                    (late,) = {one["id"] for one in again["executions"]} - {newer["id"]}
                    assert await shown(http, newer["id"]) == newer
                    lost = await shown(http, late)
            assert (event["status"], event["deliveries"], event["crashes"]) == ("succeeded", 2, 1)
            assert [step["operation"] for step in lost["steps"]] == ["before", "gate"]
            for one in (event, again):
                one["executions"] = {run.pop("id"): run for run in one["executions"]}
            before, after = event["executions"].pop(late), again["executions"].pop(late)
            assert (before["status"], after["status"]) == ("crashed", "superseded")
            assert again == event, "its data, outcome, counts and the newer execution"
