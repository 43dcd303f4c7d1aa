"""Server-sent events: what happens as it happens, resumed where it broke off."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Generic, TypeVar, cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from holdfast.domain.payload import encode
from holdfast.errors import InvalidInput
from holdfast.operations.progress import Entry

HEARTBEAT = b": heartbeat\n\n"

E = TypeVar("E")

_END = object()

_POSITION = re.compile(r"(?:(?P<execution>[0-9a-f-]{36}):)?(?P<seq>\d{1,9})", re.ASCII)


def position(field: str, text: str, execution_id: str) -> int:
    """The change number in an entry's id.

    Args:
        field: where the id was given, for the error.
        text: `EXECUTION:NUMBER`, or the number alone.
        execution_id: whose entry it must be.

    Raises:
        InvalidInput: it is not, or has another form.
    """
    found = _POSITION.fullmatch(text)
    if found is None or found["execution"] not in (None, execution_id):
        expected = f"the id of an entry of this stream: {execution_id}:NUMBER"
        raise InvalidInput(
            f"{field}: expected {expected}",
            fields=[{"field": field, "expected": expected, "got": ascii(text)[:100]}],
        )
    return int(found["seq"])


def frame(execution_id: str, entry: Entry) -> bytes:
    """An entry on the wire. Only a numbered one carries an id, for only there can one resume."""
    if entry.type == "heartbeat":
        return HEARTBEAT
    number = None if entry.seq is None else f"{execution_id}:{entry.seq}"
    return sent(entry.type, encode(entry.data), number)


def sent(type: str, data: bytes, id: str | None = None) -> bytes:  # noqa: A002 - the fields' names
    """One server-sent event on the wire."""
    number = b"" if id is None else f"id: {id}\n".encode()
    return b"%bevent: %b\ndata: %b\n\n" % (number, type.encode(), data)


class EventStream(Response, Generic[E]):
    """Sends entries until they end, the client leaves or one of the `ends` is set.

    Args:
        entries: closed at the end.
        write: an entry on the wire.
        ends: see above.
    """

    media_type = "text/event-stream"

    def __init__(
        self, entries: AsyncGenerator[E], write: Callable[[E], bytes], *ends: asyncio.Event
    ) -> None:
        # Caches must not keep it and proxies not collect it.
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._entries = entries
        self._write = write
        self._ends = ends

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Stream, as ASGI has it."""
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        leaving: set[asyncio.Task[Any]] = {
            asyncio.create_task(_disconnected(receive)),
            *(asyncio.create_task(end.wait()) for end in self._ends),
        }
        try:
            async with aclosing(self._entries):
                while (entry := await self._next(leaving)) is not _END:
                    body = self._write(cast("E", entry))
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            for task in leaving:
                task.cancel()

    async def _next(self, leaving: set[asyncio.Task[Any]]) -> object:
        """The next entry; `_END` when there is none or it is time to leave."""
        step: asyncio.Future[object] = asyncio.ensure_future(anext(self._entries, _END))
        try:
            await asyncio.wait({step, *leaving}, return_when=asyncio.FIRST_COMPLETED)
            if step.done():
                return step.result()
        finally:
            if not step.done():
                # The generator must have stopped before it is closed.
                step.cancel()
                await asyncio.wait({step})
        return _END


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
