"""A hub with agents behind real HTTP, for tests of the doors to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from websockets.asyncio.client import ClientConnection, connect

from holdfast.api import create_api

from .api_server import api_parts, serving
from .conftest import TIMEOUT_S, HubForTests

MODELS = '{"fast": "scripted:fast", "other": "scripted:other"}'


TOOLS = [{"type": "function", "path": "talking_app:wait_for"}, {"type": "ask_human"}]


def config(**settings: Any) -> dict[str, Any]:
    """A simple agent that answers by the rules of the tests' app."""
    usual = {"model": "fast", "rules": "talking_app:answer"}
    return {"simple": {"settings": usual | settings}}


class Stand:
    """A hub, its address, and short words for what tests do with it."""

    def __init__(
        self, hub: HubForTests, url: str, http: httpx.AsyncClient, stop: Callable[[], None]
    ) -> None:
        self.hub = hub
        self.url = url
        self.http = http
        self.stop = stop  # as a server does that is about to end

    async def make(self, name: str = "helper", **settings: Any) -> dict[str, Any]:
        """An agent; its view."""
        body = {"name": name, "config": config(**settings)}
        answer = await self.http.post("/api/v1/agents", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def off(self, name: str = "helper") -> None:
        """From now on its messages wait."""
        answer = await self.http.post(f"/api/v1/agents/{name}/stop")
        assert answer.status_code == 202, answer.text

    async def say(
        self, agent: str, text: str, *, wait: float | None = None, key: str = "", **fields: Any
    ) -> httpx.Response:
        """A message; the answer of the door."""
        return await self.http.post(
            f"/api/v1/agents/{agent}/messages",
            params={} if wait is None else {"wait": wait},
            headers={"idempotency-key": key} if key else {},
            json={"text": text, **fields},
        )

    def speaks(self, text: str) -> None:
        """Let the one turn under way stream that: what a model says is soon over in a test."""
        (running,) = self.hub.kit.journal.all()
        (asked,) = [one for one in running.steps() if one.kind == "model"]
        self.hub.kit.journal.tokens(running.id, asked.step, text)

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.http.get(f"/api/v1{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def messages(self, session_id: str) -> list[tuple[str, str]]:
        """Role and text of what was said, the oldest first."""
        page = await self.get(f"/sessions/{session_id}/messages", limit=200)
        return [(one["role"], one["content"]) for one in reversed(page["items"])]


@asynccontextmanager
async def stand(hub: HubForTests) -> AsyncIterator[Stand]:
    """The doors of a hub."""
    api = create_api(api_parts(hub.parts))
    async with (
        serving(api) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http,
    ):
        yield Stand(hub, url, http, api.state.parts.stop)


@asynccontextmanager
async def following(
    at: Stand, agent: str, session_id: str, last: str | None = None, **query: Any
) -> AsyncIterator[Stream]:
    """A conversation as server-sent events."""
    headers = {} if last is None else {"last-event-id": last}
    path = f"/api/v1/agents/{agent}/sse"
    params = {"session_id": session_id, **query}
    async with at.http.stream("GET", path, headers=headers, params=params) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        async with aclosing(events(answer)) as sent:
            yield Stream(sent)


class Stream:
    """What comes as server-sent events."""

    def __init__(self, sent: AsyncIterator[Sent]) -> None:
        self._sent = sent
        self.heard: list[Sent] = []

    async def next(self, event: str, **fields: Any) -> Sent:
        """The next one of that name and with these fields; others are passed over."""
        async with asyncio.timeout(TIMEOUT_S):
            async for one in self._sent:
                self.heard.append(one)
                if one.event == event and fields.items() <= one.data.items():
                    return one
        raise AssertionError(f"the stream ended without {event}")

    async def rest(self) -> list[Sent]:
        """All until it ends."""
        async with asyncio.timeout(TIMEOUT_S):
            return [one async for one in self._sent]


@dataclass
class Sent:
    """A server-sent event."""

    id: str | None
    event: str
    data: Any


async def events(answer: httpx.Response) -> AsyncIterator[Sent]:
    """The events of a stream; heartbeats are left out."""
    assert answer.status_code == 200, await answer.aread()
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Sent(fields.get("id"), fields["event"], orjson.loads(fields["data"]))
            fields = {}


class Line:
    """A WebSocket to an agent, and what came over it."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.heard: list[dict[str, Any]] = []

    async def send(self, type: str, **fields: Any) -> None:
        await self.socket.send(orjson.dumps({"type": type, **fields}).decode())

    async def frame(self) -> dict[str, Any]:
        """The next frame."""
        async with asyncio.timeout(TIMEOUT_S):
            frame = orjson.loads(await self.socket.recv())
        self.heard.append(frame)
        return frame

    async def next(self, type: str, **fields: Any) -> dict[str, Any]:
        """The next frame of that type and with these fields; others are passed over."""
        while True:
            frame = await self.frame()
            if frame["type"] == type and fields.items() <= frame.items():
                return frame

    async def closed(self) -> int:
        """The code it is closed with."""
        async with asyncio.timeout(TIMEOUT_S):
            await self.socket.wait_closed()
        return self.socket.close_code or 0


@asynccontextmanager
async def line(url: str, agent: str, **headers: str) -> AsyncIterator[Line]:
    """A WebSocket to an agent."""
    address = f"{url.replace('http', 'ws', 1)}/ws/agents/{agent}"
    async with connect(
        address, additional_headers=headers, max_size=None, proxy=None, compression=None
    ) as socket:
        yield Line(socket)
