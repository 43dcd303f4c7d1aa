"""An httpx transport to an application in the same event loop, with answers that stream.

httpx's own `ASGITransport` hands out an answer only when it is complete: following an execution
through it would show nothing until the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import httpx
from starlette.types import ASGIApp, Message, Scope


class InProcessTransport(httpx.AsyncBaseTransport):
    """Calls an ASGI application directly.

    As behind a server, the application's side of a request goes on when the client has left, and
    is told so; closing the transport ends what is left.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as soon as the application has sent its status."""
        exchange = _Exchange(await request.aread())
        task = asyncio.create_task(exchange.run(self._app, _scope(request)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            start = await exchange.start
        except asyncio.CancelledError:
            await exchange.aclose()
            raise
        return httpx.Response(start["status"], headers=start["headers"], stream=exchange)

    async def aclose(self) -> None:
        """Cancel what still works on a request."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


class _Exchange(httpx.AsyncByteStream):
    """One request under way; the answer's body as a stream.

    Attributes:
        start: the application's first message, or what it raised before.
    """

    def __init__(self, body: bytes) -> None:
        self.start: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._body: bytes | None = body
        self._pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(maxsize=16)
        self._closed = asyncio.Event()

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """The application's side."""
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - raised where the answer is read
            if self.start.done():
                await self._put(error)
            else:
                self.start.set_exception(error)
        else:
            await self._put(None)
        finally:
            self.start.cancel()  # does nothing once it is done

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        """The client has left: what comes now goes nowhere."""
        self._closed.set()
        while not self._pieces.empty():  # who waits for room must not wait for ever
            self._pieces.get_nowait()

    async def _receive(self) -> Message:
        if self._body is None:
            await self._closed.wait()
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if not self.start.done():  # the client may have been cancelled
                self.start.set_result(message)
        elif message.get("body"):
            await self._put(message["body"])

    async def _put(self, piece: bytes | Exception | None) -> None:
        if not self._closed.is_set():
            await self._pieces.put(piece)


def _scope(request: httpx.Request) -> Scope:
    path, _, query = request.url.raw_path.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "server": (request.url.host, request.url.port),
        "client": ("127.0.0.1", 0),
    }
