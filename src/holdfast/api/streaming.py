"""Server-sent events: an execution's entries as they happen, resumed where they broke off."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from holdfast.domain.payload import encode
from holdfast.errors import InvalidInput
from holdfast.operations.progress import Entry

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
        return b": heartbeat\n\n"
    number = b"" if entry.seq is None else f"id: {execution_id}:{entry.seq}\n".encode()
    return b"%bevent: %b\ndata: %b\n\n" % (number, entry.type.encode(), encode(entry.data))


class EventStream(Response):
    """Sends entries until they end, the client leaves or one of the `ends` is set."""

    media_type = "text/event-stream"

    def __init__(
        self, execution_id: str, entries: AsyncGenerator[Entry], *ends: asyncio.Event
    ) -> None:
        # Caches must not keep it and proxies not collect it.
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._execution_id = execution_id
        self._entries = entries
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
                while (entry := await self._next(leaving)) is not None:
                    body = frame(self._execution_id, entry)
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            for task in leaving:
                task.cancel()

    async def _next(self, leaving: set[asyncio.Task[Any]]) -> Entry | None:
        """The next entry; None when there is none or it is time to leave."""
        step = asyncio.ensure_future(anext(self._entries, None))
        try:
            await asyncio.wait({step, *leaving}, return_when=asyncio.FIRST_COMPLETED)
            if step.done():
                return step.result()
        finally:
            if not step.done():
                # The generator must have stopped before it is closed.
                step.cancel()
                await asyncio.wait({step})
        return None


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
