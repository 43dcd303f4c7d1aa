"""What a hub answers: errors by their code, the entries of a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import orjson

from holdfast.errors import HoldfastError


def _family(kind: type[HoldfastError]) -> Iterator[type[HoldfastError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _family(child)


ERRORS: Mapping[str, type[HoldfastError]] = {
    kind.code: kind
    for kind in _family(HoldfastError)
    if kind.__module__ == HoldfastError.__module__ and kind.__init__ is HoldfastError.__init__
}
"""Errors by code, those aside that are made of more than a hub tells of them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened in an execution, or in a turn of a conversation.

    Attributes:
        id: where to take the stream up again (`after`); None for streamed text.
        type: `execution.started`, `step.started`, `attempt.started`, `attempt.finished`,
            `step.finished`, `execution.waiting`, `execution.paused`, `execution.resumed`,
            `execution.finished` or `tokens`; of a turn see `Client.talk`.
        data: what happened. Of `tokens` and `token`: `step`, `text`, and `so_far` when the text
            replaces what came before.
    """

    id: str | None
    type: str
    data: dict[str, Any]


@dataclass(slots=True)
class Position:
    """Where a stream is; what broke off is taken up after it.

    Attributes:
        after: an entry's id; None: at whatever comes next.
    """

    after: str | None = None


def given(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Those filters that are not None, times as the API reads them."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in filters.items()
        if value is not None
    }


async def entries_of(response: httpx.Response) -> AsyncGenerator[Entry]:
    """The entries of a stream, each as soon as it is whole.

    httpx's own lines end at U+2028 and other characters that JSON may hold; ours end at LF.
    """
    rest = b""
    async for piece in response.aiter_bytes():
        *blocks, rest = (rest + piece).split(b"\n\n")
        for block in blocks:
            lines = [line.partition(b": ") for line in block.split(b"\n")]
            fields = {name: value for name, _, value in lines}
            if b"data" in fields:  # else a heartbeat
                number = fields.get(b"id")
                yield Entry(
                    None if number is None else number.decode(),
                    fields[b"event"].decode(),
                    orjson.loads(fields[b"data"]),
                )
