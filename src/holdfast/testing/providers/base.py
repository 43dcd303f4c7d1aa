"""A small HTTP server on a thread of its own, and what every fake provider shares."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import math
import re
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, cast

import orjson

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_WORDS = re.compile(r"\s*\S+\s*?")
DIMENSIONS = 64
"""Of an embedding, where the request does not say."""

_WAIT_S = 10.0  # how long a test waits for what should happen at once


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeAnswer:
    """What a fake provider says to one request, and how well the line holds."""

    text: str = ""
    status: int = 200  # from 400 on: an error in the vendor's format
    error_code: str | None = None  # the vendor's word for the error
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    latency_s: float = 0.0  # seconds before the first byte
    chunks: tuple[str, ...] | None = None  # pieces of a stream; None: by words
    finish_reason: str = "stop"
    tokens_cached: int = 0
    tokens_reasoning: int = 0
    report_usage: bool = True  # False: as servers that ignore the wish for usage
    repetitive: bool = False  # running totals in every piece, the end said twice
    send_request_id: bool = True  # as a header
    cut_after: int | None = None  # the connection breaks after so many pieces
    close_after: int | None = None  # the stream ends politely, but too early
    garble_after: int | None = None  # after so many pieces comes one that is not JSON
    hold_after: int | None = None  # after so many pieces the answer waits for `release`
    error_after: int | None = None  # after so many pieces the stream tells of an error and ends
    body: bytes | None = None  # sent as the whole body of an unstreamed answer
    tool_calls: tuple[Mapping[str, Any], ...] = ()  # {"name": …, "args": {…}}, after the text


Answers = (
    Callable[["FakeRequest"], "FakeAnswer | str | Mapping[str, Any]"]
    | Iterable["FakeAnswer | str | Mapping[str, Any]"]
)
"""A function of the request, or answers in order, the last one for ever."""


@dataclass(slots=True, kw_only=True)
class FakeRequest:
    """One request as it arrived, and what was billed for it."""

    path: str
    query: str = ""
    headers: dict[str, str]  # names in lower case
    body: dict[str, Any]
    request_id: str
    status: int = 0  # as answered
    tokens_input: int = 0  # all input, cached and written to a cache included
    tokens_cached: int = 0
    tokens_cache_write: int = 0
    tokens_cache_write_1h: int = 0  # of those written
    tokens_output: int = 0  # all output, reasoning included
    tokens_reasoning: int = 0
    complete: bool = False  # the answer went out to its end, its usage with it


Say = Callable[[int, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Broken:
    """How a vendor's stream looks when it goes wrong."""

    garble: Callable[[], Awaitable[None]]
    error: Callable[[FakeAnswer], Awaitable[None]]


class Cut(Exception):
    """The connection is to break now."""


class FakeServer(ABC):
    """Serves until the `with` block ends; works from any thread, loop or process.

    Attributes:
        requests: every request that asked for an answer, oldest first.
    """

    def __init__(self, answers: Answers = ()) -> None:
        self.requests: list[FakeRequest] = []
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._connections: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self._port = 0
        self.answer(answers)

    @property
    @abstractmethod
    def url(self) -> str:
        """The base URL a client needs."""

    @abstractmethod
    async def handle(self, request: FakeRequest, method: str, reply: Reply) -> None:
        """Answer one request in the vendor's format."""

    def listen(self, port: int) -> Self:
        """Choose the port before the server starts; otherwise it is any free one."""
        self._port = port
        return self

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self._port}"

    def answer(self, answers: Answers) -> None:
        """Set what is answered from now on; what is to hold holds until the next `release`."""
        self._released = asyncio.Event()
        self._answers = answers if callable(answers) else None
        self._queue = deque(() if callable(answers) else answers)

    def release(self) -> None:
        """Let answers go on that were told to hold, and those still to come."""
        self._loop.call_soon_threadsafe(self._released.set)

    async def arrived(self, count: int) -> FakeRequest:
        """Wait until `count` requests have come in and return the newest of them.

        Raises:
            TimeoutError: they did not come.
        """
        return await asyncio.to_thread(self._await_requests, count)

    def _await_requests(self, count: int) -> FakeRequest:
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, _WAIT_S):
                raise TimeoutError(f"{len(self.requests)} of {count} requests came")
            return self.requests[count - 1]

    def next_answer(self, request: FakeRequest) -> FakeAnswer:
        """What the test wants said to `request`."""
        if self._answers is not None:
            said = self._answers(request)
        elif len(self._queue) > 1:
            said = self._queue.popleft()
        else:
            said = self._queue[0] if self._queue else "This is a fake answer."
        if isinstance(said, FakeAnswer):
            return said
        if isinstance(said, str):
            return FakeAnswer(text=said)
        return FakeAnswer(text=orjson.dumps(dict(said)).decode())

    async def pause(self, answer: FakeAnswer, piece: int) -> None:
        """Do to the line what the answer asks for before piece number `piece`, from 0."""
        if answer.hold_after == piece:
            await self._released.wait()
        if answer.cut_after == piece:
            raise Cut

    async def stream(self, answer: FakeAnswer, reply: Reply, say: Say, broken: Broken) -> bool:
        """Say the pieces of an answer one by one, or as many of them as the line holds.

        Args:
            answer: what is said.
            reply: a stream that has begun.
            say: sends piece number n.
            broken: what a piece that is not JSON and one that tells of an error look like.

        Returns:
            Whether all were said; else the stream has ended.
        """
        pieces = pieces_of(answer)
        for at in range(len(pieces) + 1):
            await self.pause(answer, at)
            if answer.error_after == at:
                await broken.error(answer)
            if at in {answer.close_after, answer.error_after}:
                await reply.end()
                return False
            if answer.garble_after == at:
                await broken.garble()
            if at < len(pieces):
                await say(at, pieces[at])
        return True

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(_WAIT_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(_WAIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_WAIT_S)
        self._loop.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - start_server runs callbacks as tasks
        self._connections.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (Cut, ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()  # a client that left and a cut line end alike
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; False when the client has closed."""
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines if line)
        }
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        body: object = orjson.loads(raw) if raw else {}
        request = FakeRequest(
            path=path.partition("?")[0],
            query=path.partition("?")[2],
            headers=headers,
            body=cast("dict[str, Any]", body) if isinstance(body, dict) else {},
            request_id=f"req_fake_{next(self._numbers)}",
        )
        if method == "POST":
            with self._changed:
                self.requests.append(request)
                self._changed.notify_all()
        await self.handle(request, method, Reply(writer, request))
        return headers.get("connection", "").lower() != "close"


class Reply:
    """The answer to one request on the wire: whole, or as server-sent events."""

    def __init__(self, writer: asyncio.StreamWriter, request: FakeRequest) -> None:
        self._writer = writer
        self._request = request

    async def json(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """Send one JSON value; bytes go out as they are."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        sized = {"content-length": str(len(raw)), **(headers or {})}
        self._head(status, "application/json", sized)
        self._writer.write(raw)
        await self._writer.drain()

    def events(self, headers: Mapping[str, str] | None = None) -> None:
        """Begin a stream of server-sent events."""
        chunked = {"transfer-encoding": "chunked", **(headers or {})}
        self._head(200, "text/event-stream", chunked)

    async def event(self, data: Any, name: str | None = None) -> None:
        """Send one event; bytes go out as they are."""
        raw = data if isinstance(data, bytes) else orjson.dumps(data)
        named = b"" if name is None else f"event: {name}\n".encode()
        self._chunk(named + b"data: " + raw + b"\n\n")
        await self._writer.drain()

    def lines(self, headers: Mapping[str, str] | None = None) -> None:
        """Begin a stream of JSON values, one a line."""
        chunked = {"transfer-encoding": "chunked", **(headers or {})}
        self._head(200, "application/x-ndjson", chunked)

    async def line(self, data: Any) -> None:
        """Send one line; bytes go out as they are."""
        raw = data if isinstance(data, bytes) else orjson.dumps(data)
        self._chunk(raw + b"\n")
        await self._writer.drain()

    async def end(self) -> None:
        """End the stream politely."""
        self._chunk(b"")
        await self._writer.drain()

    def _head(self, status: int, content_type: str, headers: Mapping[str, str]) -> None:
        self._request.status = status
        lines = [
            f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}",
            f"content-type: {content_type}",
            "x-fake-provider: holdfast",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def _chunk(self, raw: bytes) -> None:
        self._writer.write(b"%x\r\n%b\r\n" % (len(raw), raw))


def pieces_of(answer: FakeAnswer) -> tuple[str, ...]:
    """The pieces of an answer's text."""
    return tuple(_WORDS.findall(answer.text)) if answer.chunks is None else answer.chunks


def count_tokens(text: str) -> int:
    """The fakes' own count: words. Unlike any estimate, so that a test can tell them apart."""
    return len(text.split())


def hashed_vector(text: str, size: int) -> list[float]:
    """An embedding by the hash of a text: the same for the same text, and of length 1."""
    raw = hashlib.shake_256(text.encode()).digest(size)
    length = math.sqrt(sum((byte - 127.5) ** 2 for byte in raw))
    return [(byte - 127.5) / length for byte in raw]


def texts_in(given: Any) -> list[str] | None:
    """The texts of an embedding request; None when they cannot be embedded."""
    items = cast("list[Any]", given) if isinstance(given, list) else [given]
    texts = [text for text in items if isinstance(text, str) and text]
    return texts if texts and len(texts) == len(items) else None
