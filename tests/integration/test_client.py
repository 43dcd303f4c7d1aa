"""The client against a hub over real HTTP, its synchronous face, and in one process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from holdfast.api import create_api
from holdfast.api.in_process import InProcessTransport
from holdfast.client import Client, Entry, SyncClient
from holdfast.domain.ids import new_id
from holdfast.errors import (
    BodyTooLarge,
    HoldfastError,
    HubUnreachable,
    IdempotencyConflict,
    IllegalMove,
    InvalidInput,
    NotFound,
    NotReady,
    StoreError,
    UnknownPipeline,
)

from .api_server import api_parts, serving
from .conftest import HubForTests, OpenHub, until


@pytest.fixture
async def hub(open_hub: OpenHub) -> AsyncIterator[HubForTests]:
    async with open_hub(in_process=True) as opened:
        yield opened


@pytest.fixture
async def url(hub: HubForTests) -> AsyncIterator[str]:
    async with serving(create_api(api_parts(hub.parts))) as served:
        yield served


@pytest.fixture(params=["http", "in process"])
async def client(
    hub: HubForTests, url: str, request: pytest.FixtureRequest
) -> AsyncIterator[Client]:
    transport = None
    if request.param == "in process":
        transport = InProcessTransport(create_api(api_parts(hub.parts)))
    async with Client(url, transport=transport) as made:
        yield made


async def running(client: Client, folder: Path) -> str:
    """A run that waits in its second step until `folder / "open"` is there; its id."""
    sent = await client.submit("test.gated", {"folder": str(folder)})
    await until(folder / "pid-1")
    return (await client.event(sent["id"]))["execution_id"]


async def test_an_event_from_start_to_end(client: Client) -> None:
    time = datetime(2026, 11, 20, 10, 0, 0, 123457, UTC)
    sent = await client.submit(
        "a kind of mail",
        {"text": "Ada"},
        target="test.talking",
        idempotency_key="k",
        source="/mail",
        subject="Grüße",
        time=time,
        priority=3,
    )
    assert sent["created"]
    event = await client.wait(sent["id"], timeout=20)
    assert event["status"] == "succeeded"
    assert (event["subject"], event["priority"], event["idempotency_key"]) == ("Grüße", 3, "k")
    assert datetime.fromisoformat(event["time"]) == time
    execution = await client.execution(event["execution_id"])
    assert execution["output"] == event["result"]["output"] == {"score": 0.5}
    assert (await client.export(execution["id"]))["event"]["id"] == event["id"]
    done = await client.submit("test.noop", {}, wait=20)
    assert done["result"]["status"] == "succeeded"
    assert [one["id"] async for one in client.events(limit=1)] == [done["id"], event["id"]]
    assert [one["event_id"] async for one in client.executions(limit=1)] == [
        done["id"],
        event["id"],
    ]
    assert [one["id"] async for one in client.events(since=datetime.now(UTC))] == []
    page = await client.events_page(limit=1)
    assert len(page["items"]) == 1
    assert page["next"]
    assert (await client.executions_page(pipeline="test.noop"))["next"] is None


async def test_a_wait_that_is_too_short_says_where_the_event_stands(
    client: Client, tmp_path: Path
) -> None:
    sent = await client.submit("test.gated", {"folder": str(tmp_path)}, wait=0.01)
    await until(tmp_path / "pid-1")
    with pytest.raises(TimeoutError, match=f"event {sent['id']} is running after 0.05 s"):
        await client.wait(sent["id"], timeout=0.05)
    waiting = asyncio.create_task(client.wait(sent["id"]))
    (tmp_path / "open").touch()
    assert (await waiting)["result"]["output"] == "opened"


async def test_cancel(client: Client, tmp_path: Path) -> None:
    execution_id = await running(client, tmp_path)
    told = await client.cancel_execution(execution_id)
    assert told["status"] == "running"
    entries = [entry async for entry in client.follow(execution_id)]
    assert entries[-1].data["status"] == "cancelled"
    with pytest.raises(IllegalMove, match="is cancelled"):
        await client.cancel_event(entries[-1].data["event_id"])


async def test_what_the_hub_refuses_is_raised_as_the_hub_would(client: Client) -> None:
    await client.submit("test.noop", {}, idempotency_key="k")
    asked: list[tuple[Any, type[HoldfastError], str]] = [
        (client.submit("test.nop", {}), UnknownPipeline, "type"),
        (client.submit("test.noop", {"txet": 1}), InvalidInput, "data.txet"),
        (client.submit("test.noop", {}, source="a b"), InvalidInput, "source"),
        (client.submit("test.noop", {}, time=datetime(2026, 1, 1)), InvalidInput, "time"),  # noqa: DTZ001
        (client.submit("test.noop", {"text": 1 << 20 << 3}, wait=99), InvalidInput, "wait"),
        (client.submit("test.noop", {"text": "x" * (1 << 20)}), BodyTooLarge, "body"),
        (client.submit("test.noop", {"text": "1"}, idempotency_key="k"), IdempotencyConflict, ""),
        (client.event(new_id()), NotFound, ""),
        (client.execution("../events"), NotFound, ""),
        (client.pipeline("test.nop"), NotFound, ""),
        (client.events_page(limit=0), InvalidInput, "limit"),
    ]
    for call, kind, field in asked:
        with pytest.raises(kind) as refused:
            await call
        assert type(refused.value) is kind
        assert [place["field"] for place in refused.value.fields] == ([field] if field else [])
    with pytest.raises(UnknownPipeline, match=r"did you mean test\.noop"):
        await client.submit("test.nop", {})


async def test_pipelines_and_the_hub_itself(client: Client) -> None:
    listed = await client.pipelines()
    assert "test.noop" in [one["name"] for one in listed["items"]]
    assert listed["failures"] == []
    shown = await client.pipeline("test.talking")
    assert shown["event_schema"]["properties"].keys() == {"text", "folder", "seconds"}
    assert {"from": "say", "to": "judge"} in shown["graph"]["edges"]
    assert (await client.health())["status"] == "ok"
    assert (await client.ready())["ready"] is True


async def test_a_hub_that_cannot_work_says_why(client: Client, hub: HubForTests) -> None:
    hub.crew.error = "runners died 6 times before they were ready"
    with pytest.raises(NotReady, match="runners died 6 times"):
        await client.ready()
    await hub.kit.store.close()
    with pytest.raises(NotReady, match="database"):
        await client.ready()
    with pytest.raises(StoreError):
        await client.events_page()
    with pytest.raises(StoreError):
        await client.submit("test.noop", {})


async def test_follow_live(client: Client, tmp_path: Path) -> None:
    execution_id = await running(client, tmp_path)
    seen: list[Entry] = []
    async for entry in client.follow(execution_id):
        seen.append(entry)
        if entry.type == "step.finished":
            (tmp_path / "open").touch()
    assert [entry.id for entry in seen] == [f"{execution_id}:{n}" for n in range(6)]
    assert [entry async for entry in client.follow(execution_id, after=seen[2].id)] == seen[3:]
    assert [entry async for entry in client.follow(execution_id, after=2)] == seen[3:]
    assert [entry async for entry in client.follow(execution_id, after=seen[-1].id)] == []
    with pytest.raises(NotFound):
        await anext(client.follow(new_id()))


class Cable:
    """A TCP line to a hub that can be cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self.connections = 0

    async def joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, back]
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while piece := await source.read(65536):
                target.write(piece)
        except ConnectionError:
            pass
        target.close()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


async def test_follow_takes_up_a_broken_connection(url: str, tmp_path: Path) -> None:
    cable = Cable(int(url.rsplit(":", 1)[1]))
    server = await asyncio.start_server(cable.joined, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Client(url) as direct, Client(f"http://127.0.0.1:{port}") as client:
        execution_id = await running(direct, tmp_path)
        seen: list[Entry] = []
        async for entry in client.follow(execution_id):
            seen.append(entry)
            if len(seen) in (1, 3):
                cable.cut()
            if len(seen) == 4:
                (tmp_path / "open").touch()
        assert [entry.id for entry in seen] == [f"{execution_id}:{n}" for n in range(6)]
        assert cable.connections >= 2
    server.close()


async def test_follow_gives_up_when_the_hub_stays_away(
    hub: HubForTests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.client.client.RECONNECT_S", (0.0, 0.01))
    async with aclosing(_served_once(hub)) as urls:
        url = await anext(urls)
        async with Client(url) as client:
            execution_id = await running(client, tmp_path)
            entries = client.follow(execution_id)
            await anext(entries)
            await anext(urls, None)
            with pytest.raises(HubUnreachable, match="holdfast up"):
                async for _ in entries:
                    pass
    (tmp_path / "open").touch()


async def _served_once(hub: HubForTests) -> AsyncIterator[str]:
    async with serving(create_api(api_parts(hub.parts))) as url:
        yield url


async def test_no_hub_at_the_address() -> None:
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(HubUnreachable) as unreachable:
            await client.health()
        assert "http://127.0.0.1:1" in unreachable.value.message
        assert "holdfast up" in unreachable.value.hint
        with pytest.raises(HubUnreachable):
            await anext(client.follow(new_id()))


async def test_another_program_at_the_address() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(HubUnreachable, match="not as a hub does"):
                await client.health()


async def test_the_synchronous_face(url: str, tmp_path: Path) -> None:
    def work(client: SyncClient) -> None:
        done = client.submit("test.noop", {}, wait=20, idempotency_key="k")
        assert done["result"]["status"] == "succeeded"
        gated = client.submit("test.gated", {"folder": str(tmp_path)})
        (tmp_path / "open").touch()
        event = client.wait(gated["id"], timeout=20)
        entries = list(client.follow(event["execution_id"]))
        assert [entry.type for entry in entries][-1] == "execution.finished"
        for entry in client.follow(event["execution_id"]):
            assert entry.type == "execution.started"
            break
        assert [one["id"] for one in client.events(limit=1)] == [event["id"], done["id"]]
        assert len(list(client.executions())) == 2
        assert client.event(event["id"])["id"] == event["id"]
        assert client.events_page(limit=1)["next"]
        assert client.executions_page(event_id=event["id"])["items"]
        assert client.execution(event["execution_id"])["output"] == "opened"
        assert client.export(event["execution_id"])["event"]["id"] == event["id"]
        assert client.pipelines()["items"]
        assert client.pipeline("test.noop")["version"] == "1"
        assert client.health()["status"] == "ok"
        assert client.ready()["ready"]
        with pytest.raises(IllegalMove):
            client.cancel_event(event["id"])
        with pytest.raises(IllegalMove):
            client.cancel_execution(event["execution_id"])
        (tmp_path / "shut").mkdir()
        held = client.submit("test.gated", {"folder": str(tmp_path / "shut")})
        with pytest.raises(TimeoutError):
            client.wait(held["id"], timeout=0)
        client.cancel_event(held["id"])

    def several() -> None:
        with SyncClient(url) as client:
            assert not portals()
            work(client)
            assert len(portals()) == 1
        assert not portals()
        client.close()  # a second time
        with pytest.raises(RuntimeError, match="closed"):
            client.health()

    await in_thread(several)


async def test_threads_share_a_synchronous_client(url: str) -> None:
    def work() -> list[str]:
        with SyncClient(url) as client:
            found: list[str] = []

            def one() -> None:
                found.append(client.submit("test.noop", {}, wait=20)["id"])

            threads = [threading.Thread(target=one) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return found

    assert len(set(await in_thread(work))) == 8


async def test_closing_gives_up_what_is_under_way(url: str, tmp_path: Path) -> None:
    client, given_up = SyncClient(url), threading.Event()

    def work() -> None:
        held = client.submit("test.gated", {"folder": str(tmp_path)})
        with pytest.raises(RuntimeError, match="closed"):
            client.wait(held["id"])
        given_up.set()

    waiting = threading.Thread(target=work)
    waiting.start()
    await until(tmp_path / "pid-1")
    await in_thread(client.close)
    assert given_up.wait(10)
    waiting.join()
    (tmp_path / "open").touch()


def portals() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if "portal" in one.name]


async def in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.wait_for(asyncio.to_thread(work), 30)


def test_importing_the_client_starts_nothing_and_loads_no_server() -> None:
    code = (
        "import sys, threading, holdfast.client\n"
        "assert threading.active_count() == 1\n"
        "heavy = {'fastapi', 'sqlalchemy', 'langgraph', 'langchain_core', 'pydantic'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
