"""Live progress over HTTP: in order, taken up again anywhere, the same after the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from holdfast.api import create_api
from holdfast.domain.events import LOCAL_OWNER
from holdfast.journal import Running
from holdfast.operations import progress, read
from holdfast.store.commands import Finish

from .api_server import api_parts, serving
from .conftest import HubForTests, OpenHub, until, until_true


@dataclass
class Message:
    id: str | None
    event: str
    data: Any


@pytest.fixture
async def hub(open_hub: OpenHub) -> AsyncIterator[HubForTests]:
    async with open_hub(in_process=True) as opened:
        yield opened


@pytest.fixture
async def http(hub: HubForTests) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(create_api(api_parts(hub.parts))) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client,
    ):
        yield client


async def stream(
    http: httpx.AsyncClient, execution_id: str, last: str | None = None, **query: Any
) -> AsyncIterator[Message]:
    headers = {"last-event-id": last} if last else {}
    path = f"/api/v1/executions/{execution_id}/stream"
    async with http.stream("GET", path, headers=headers, params=query) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
        fields: dict[str, str] = {}
        async for line in answer.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                yield Message(fields.get("id"), fields["event"], orjson.loads(fields["data"]))
                fields = {}


async def whole(http: httpx.AsyncClient, execution_id: str, **rest: Any) -> list[Message]:
    return [message async for message in stream(http, execution_id, **rest)]


async def running(http: httpx.AsyncClient, folder: Path) -> str:
    """A run that waits in its second step until `folder / "open"` is there; its id."""
    body = {"type": "test.gated", "data": {"folder": str(folder)}}
    sent = (await http.post("/api/v1/events", json=body)).json()
    await until(folder / "pid-1")
    return (await http.get(sent["links"]["event"])).json()["execution_id"]


async def finished(http: httpx.AsyncClient, name: str = "test.talking") -> str:
    body = {"type": name, "data": {"text": "Ada"}}
    return (await http.post("/api/v1/events?wait=20", json=body)).json()["execution_id"]


async def test_a_live_stream_is_what_a_later_one_shows(
    http: httpx.AsyncClient, tmp_path: Path
) -> None:
    execution_id = await running(http, tmp_path)
    live: list[Message] = []
    async for message in stream(http, execution_id):
        live.append(message)
        if len(live) == 4:
            (tmp_path / "open").touch()
    assert [message.event for message in live] == [
        "execution.started",
        "step.started",
        "step.finished",
        "step.started",
        "step.finished",
        "execution.finished",
    ]
    assert [message.id for message in live] == [f"{execution_id}:{n}" for n in range(6)]
    assert live[2].data["output"] == "done before"
    assert live[-1].data["status"] == "succeeded"
    assert live[-1].data["output"] == "opened"
    assert await whole(http, execution_id) == live


async def test_the_end_is_told_once_it_is_stored(
    http: httpx.AsyncClient, hub: HubForTests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = asyncio.Event()
    write = hub.kit.store.write

    async def slow(command: Any) -> Any:
        if isinstance(command, Finish):
            await held.wait()
        return await write(command)

    monkeypatch.setattr(hub.kit.store, "write", slow)
    execution_id = await running(http, tmp_path)
    (tmp_path / "open").touch()
    async with aclosing(stream(http, execution_id, after=3)) as messages:
        assert (await anext(messages)).event == "step.finished"
        now = hub.kit.journal.get(execution_id)
        assert now is not None
        await until_true(lambda: _told(now))
        hub.kit.journal.tokens(execution_id, 2, "a sign that comes after the end")
        assert (await anext(messages)).event == "tokens"
        held.set()
        last = await anext(messages)
    assert last.event == "execution.finished"
    event = (await http.get(f"/api/v1/events/{last.data['event_id']}")).json()
    assert event["status"] == "succeeded"


async def _told(now: Running) -> bool:
    return now.finished is not None


async def test_any_break_gives_exactly_the_rest(http: httpx.AsyncClient) -> None:
    execution_id = await finished(http)
    everything = await whole(http, execution_id)
    assert len(everything) > 8
    for at, message in enumerate(everything[:-1]):
        rest = everything[at + 1 :]
        assert await whole(http, execution_id, last=message.id) == rest
        assert await whole(http, execution_id, after=str(message.id).split(":")[1]) == rest
        assert await whole(http, execution_id, last=message.id, after="0") == rest


async def test_a_break_in_mid_run_gives_exactly_the_rest(
    http: httpx.AsyncClient, tmp_path: Path
) -> None:
    execution_id = await running(http, tmp_path)
    first: list[Message] = []
    async with aclosing(stream(http, execution_id)) as messages:
        async for message in messages:
            first.append(message)
            if len(first) == 3:
                break
    (tmp_path / "open").touch()
    second = await whole(http, execution_id, last=first[-1].id)
    assert first + second == await whole(http, execution_id)


async def test_after_the_end_nothing_follows(http: httpx.AsyncClient) -> None:
    execution_id = await finished(http, "test.noop")
    last = (await whole(http, execution_id))[-1]
    path = f"/api/v1/executions/{execution_id}/stream"
    answer = await http.get(path, headers={"last-event-id": str(last.id)})
    assert (answer.status_code, answer.content) == (204, b"")


async def test_another_execution_is_no_place_to_resume(http: httpx.AsyncClient) -> None:
    one, other = await finished(http, "test.noop"), await finished(http, "test.noop")
    for wrong in (f"{other}:1", "1x", "-1", "9" * 30):
        answer = await http.get(
            f"/api/v1/executions/{one}/stream", headers={"last-event-id": wrong}
        )
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "Last-Event-ID"


async def test_streamed_text_has_no_id_and_a_late_follower_gets_it_so_far(
    http: httpx.AsyncClient, hub: HubForTests, tmp_path: Path
) -> None:
    execution_id = await running(http, tmp_path)
    hub.kit.journal.tokens(execution_id, 2, "Dear ")
    hub.kit.journal.tokens(execution_id, 2, "Ada")
    async with (
        aclosing(stream(http, execution_id)) as early,
        aclosing(stream(http, execution_id, last=f"{execution_id}:3")) as late,
    ):
        seen = [await anext(early) for _ in range(5)]
        assert seen[-1] == Message(None, "tokens", {"step": 2, "text": "Dear Ada", "so_far": True})
        hub.kit.journal.tokens(execution_id, 2, ", hello")
        assert await anext(early) == Message(
            None, "tokens", {"step": 2, "text": ", hello", "so_far": False}
        )
        assert await anext(late) == Message(
            None, "tokens", {"step": 2, "text": "Dear Ada, hello", "so_far": True}
        )
        (tmp_path / "open").touch()
        assert [message.event async for message in late] == ["step.finished", "execution.finished"]
        assert [message.event async for message in early] == ["step.finished", "execution.finished"]


async def test_a_follower_that_leaves_is_forgotten(
    http: httpx.AsyncClient, hub: HubForTests, tmp_path: Path
) -> None:
    execution_id = await running(http, tmp_path)
    async with aclosing(stream(http, execution_id)) as messages:
        await anext(messages)
        assert hub.kit.journal._watchers
    await until_true(lambda: _is_forgotten(hub))
    (tmp_path / "open").touch()
    await until_true(lambda: _has_ended(hub, execution_id))


async def _is_forgotten(hub: HubForTests) -> bool:
    return not hub.kit.journal._watchers


async def _has_ended(hub: HubForTests, execution_id: str) -> bool:
    return (await read.summary(hub.kit, execution_id, LOCAL_OWNER)).finished_at is not None


async def test_streams_end_when_the_hub_stops(hub: HubForTests, tmp_path: Path) -> None:
    parts = api_parts(hub.parts)
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        async with serving(create_api(parts)) as url:
            http.base_url = url
            execution_id = await running(http, tmp_path)
            messages = stream(http, execution_id)
            await anext(messages)
            parts.stop()
            rest = [message.event async for message in messages]
            # Nor does anything wait for an event any more.
            sent = await http.get("/api/v1/events?limit=1")
            event = sent.json()["items"][0]["links"]["event"]
            answer = await http.get(event, params={"wait": 60})
            assert answer.json()["status"] == "running"
        assert "execution.finished" not in rest
        (tmp_path / "open").touch()
        await until_true(lambda: _has_ended(hub, execution_id))


async def test_silence_is_broken_by_heartbeats(
    http: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "HEARTBEAT_S", 0.01)
    execution_id = await running(http, tmp_path)
    path = f"/api/v1/executions/{execution_id}/stream?after=3"
    async with http.stream("GET", path) as answer:
        pieces = answer.aiter_bytes()
        assert await anext(pieces) == b": heartbeat\n\n"
        assert (await anext(pieces)).startswith(b": heartbeat\n\n")
    (tmp_path / "open").touch()


async def test_many_followers_see_the_same(http: httpx.AsyncClient, tmp_path: Path) -> None:
    execution_id = await running(http, tmp_path)
    following = [asyncio.create_task(whole(http, execution_id)) for _ in range(20)]
    (tmp_path / "open").touch()
    seen = await asyncio.gather(*following)
    assert all(one == seen[0] for one in seen)
    assert seen[0][-1].event == "execution.finished"
