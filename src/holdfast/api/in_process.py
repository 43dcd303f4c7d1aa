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
    """Calls an ASGI application directly."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as soon as the application has sent its status."""
        exchange = _Exchange(await request.aread())
        exchange.begin(self._app, _scope(request))
        try:
            start = await exchange.start
        except BaseException:
            await exchange.aclose()
            raise
        return httpx.Response(start["status"], headers=start["headers"], stream=exchange)


class _Exchange(httpx.AsyncByteStream):
    """One request under way: the application's side as a task, the answer's body as a stream."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=16)
        self._closed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.start: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    def begin(self, app: ASGIApp, scope: Scope) -> None:
        """Let the application work on the request."""
        self._task = asyncio.create_task(self._run(app, scope))

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            yield piece
        if self._task is not None:
            await self._task  # raises what the application raised

    async def aclose(self) -> None:
        """The client has what it wants: the application is told that nobody listens."""
        self._closed.set()
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:
            if self.start.done():
                raise
            self.start.set_exception(error)
        finally:
            if not self.start.done():
                self.start.cancel()
            if not self._closed.is_set():
                await self._pieces.put(None)

    async def _receive(self) -> Message:
        if self._body is None:
            await self._closed.wait()
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start.set_result(message)
        elif message.get("body"):
            await self._pieces.put(message["body"])


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
