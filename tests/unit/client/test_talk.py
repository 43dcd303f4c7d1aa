"""A turn over a stream that breaks: the message is sent once, the answer comes once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import orjson
import pytest

from holdfast.client import Client
from holdfast.client import client as module
from holdfast.errors import HubUnreachable, InvalidInput

ACCEPTED = {"id": "e1", "message_id": "m1", "session_id": "s1", "agent_status": "running"}


def frame(kind: str, number: str | None = None, **data: object) -> bytes:
    line = b"" if number is None else f"id: {number}\n".encode()
    return b"%bevent: %b\ndata: %b\n\n" % (line, kind.encode(), orjson.dumps(data))


CONNECTED = frame("connected", session_id="s1")
TOKEN = frame("token", event_id="e1", step=1, text="Hi", so_far=0)
ANSWER = frame("message", "m2", event_id="e1", response="Hi")


class Body(httpx.AsyncByteStream):
    def __init__(self, pieces: list[bytes | Exception]) -> None:
        self.pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


class Hub:
    """Answers each connection with the next stream; notes what it was asked."""

    def __init__(self, *streams: list[bytes | Exception], refuse: bool = False) -> None:
        self.streams = list(streams)
        self.refuse = refuse
        self.asked: list[tuple[str, str | None]] = []
        self.sent: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.sent.append(request)
            if self.refuse:
                return httpx.Response(422, json={"code": "invalid_input", "detail": "too long"})
            return httpx.Response(202, json=ACCEPTED)
        self.asked.append((request.url.path, request.headers.get("last-event-id")))
        if not self.streams:
            raise httpx.ConnectError("gone")
        return httpx.Response(200, stream=Body(self.streams.pop(0)))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECONNECT_S", (0.0, 0.0))


async def heard(hub: Hub) -> list[str]:
    async with Client("http://hub", transport=httpx.MockTransport(hub)) as client:
        return [entry.type async for entry in client.talk("desk", "hi", session_id="s1")]


async def test_it_listens_before_it_speaks() -> None:
    hub = Hub([CONNECTED, TOKEN, ANSWER, b"never read"])

    assert await heard(hub) == ["accepted", "token", "message"]
    assert hub.asked == [("/api/v1/agents/desk/sse", None)]
    (sent,) = hub.sent
    assert orjson.loads(sent.content) == {"text": "hi", "session_id": "s1"}
    assert sent.headers["idempotency-key"]


async def test_a_broken_stream_goes_on_after_the_question() -> None:
    broken = httpx.ReadError("broken")
    hub = Hub([CONNECTED, TOKEN, broken], [CONNECTED], [CONNECTED, ANSWER])

    assert await heard(hub) == ["accepted", "token", "message"]
    assert [after for _, after in hub.asked] == [None, "m1", "m1"]
    assert len(hub.sent) == 1


async def test_what_others_say_in_the_session_is_not_told() -> None:
    other = frame("message", "m0", event_id="e0", response="Other")
    down = frame("status", agent_status="error")
    hub = Hub([CONNECTED, other, down, ANSWER])
    assert await heard(hub) == ["accepted", "status", "message"]


async def test_a_hub_that_stays_away_is_told() -> None:
    with pytest.raises(HubUnreachable):
        await heard(Hub([CONNECTED, TOKEN]))


async def test_a_refused_message_is_told_as_the_hub_does() -> None:
    with pytest.raises(InvalidInput, match="too long"):
        await heard(Hub([CONNECTED, ANSWER], refuse=True))
