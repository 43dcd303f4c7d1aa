"""What a hub answers: errors by their code, the entries of a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from holdfast.errors import (
    AlreadyAnswered,
    BodyTooLarge,
    Forbidden,
    HoldfastError,
    HubFault,
    IdempotencyConflict,
    IllegalMove,
    InvalidInput,
    MalformedBody,
    NobodyWaits,
    NotAuthenticated,
    NotFound,
    NotReady,
    SingletonBusy,
    StoreError,
    StoreLocked,
    StoreOutdated,
    UnknownPipeline,
    UnsupportedMedia,
    VersionGone,
    WrongHost,
)

ERRORS: Mapping[str, type[HoldfastError]] = {
    kind.code: kind
    for kind in (
        AlreadyAnswered,
        BodyTooLarge,
        Forbidden,
        HubFault,
        IdempotencyConflict,
        IllegalMove,
        InvalidInput,
        MalformedBody,
        NobodyWaits,
        SingletonBusy,
        NotAuthenticated,
        NotFound,
        NotReady,
        StoreError,
        StoreLocked,
        StoreOutdated,
        UnknownPipeline,
        UnsupportedMedia,
        VersionGone,
        WrongHost,
    )
}
"""What a hub may answer, by code."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened in an execution.

    Attributes:
        id: where to take the stream up again (`after`); None for streamed text.
        type: `execution.started`, `step.started`, `attempt.started`, `attempt.finished`,
            `step.finished`, `execution.waiting`, `execution.paused`, `execution.resumed`,
            `execution.finished` or `tokens`.
        data: what happened. Of `tokens`: `step`, `text`, and `so_far` when the text replaces what
            came before.
    """

    id: str | None
    type: str
    data: dict[str, Any]


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
