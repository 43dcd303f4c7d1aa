"""Frames: how a hub and its runner talk over their socket pair.

A frame is at most 64 KB. Longer messages go in parts on one of two lanes; the parts of one lane
keep their order, and a waiting `URGENT` frame goes before the next `BULK` one, so that a cancel
overtakes a megabyte of record. Header, big-endian: body length (u32), lane and more-parts flag
(u8), kind (u8).

    hub → runner    HELLO RUN CANCEL ANSWER PING STOP
    runner → hub    READY CHANGE TOKENS ASK PONG ENDED ABANDONED
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import fields
from enum import IntEnum
from typing import Final, cast

import orjson

from holdfast.ports import RunSpec

HEADER: Final = struct.Struct(">IBB")

MAX_BODY: Final = 64 * 1024 - HEADER.size
"""Bytes of a message that fit in one frame."""

MAX_MESSAGE: Final = 64 * 1024 * 1024
"""Longest message taken; a longer one means the peer is broken."""

WINDOW: Final = 64 * 1024
"""Bytes handed to the transport at once: what an urgent frame can never overtake."""

MORE: Final = 0x80
"""Flag: further parts of this message follow on the lane."""


class Kind(IntEnum):
    """What a message is."""

    HELLO = 1  # apps, models, slots
    READY = 2  # the runner's apps are loaded and warm
    RUN = 3  # start an execution
    CHANGE = 4  # execution id (36 bytes) + a change
    TOKENS = 5  # streamed text, may be dropped
    ENDED = 6  # an execution has sent its last change
    CANCEL = 7
    ASK = 8  # a port call
    ANSWER = 9  # … and what came of it
    PING = 10
    PONG = 11
    STOP = 12  # take no new work; leave when done
    ABANDONED = 13  # code was left running that could not be stopped


class Lane(IntEnum):
    """Which queue a message waits in."""

    BULK = 0
    URGENT = 1


_LANES = {
    Kind.CANCEL: Lane.URGENT,
    Kind.ASK: Lane.URGENT,
    Kind.ANSWER: Lane.URGENT,
    Kind.PING: Lane.URGENT,
    Kind.PONG: Lane.URGENT,
}


_RUN: Final = struct.Struct(">I")
_RUN_FIELDS: Final = tuple(field.name for field in fields(RunSpec) if field.name != "data")


def write_run(spec: RunSpec) -> bytes:
    """Body of a RUN: length of the fields, the fields as JSON, then the event's data as it is."""
    head = orjson.dumps({name: getattr(spec, name) for name in _RUN_FIELDS})
    return _RUN.pack(len(head)) + head + spec.data


def read_run(body: bytes) -> RunSpec:
    """The inverse of `write_run`."""
    (length,) = _RUN.unpack_from(body)
    end = _RUN.size + length
    return RunSpec(**orjson.loads(body[_RUN.size : end]), data=body[end:])


class FrameError(Exception):
    """The peer sent something that is no frame."""


class Wire(asyncio.Protocol):
    """One end of the socket pair.

    Messages sent within one turn of the loop leave in one write. All methods belong to the
    loop's thread.

    Args:
        on_message: called with each whole message.
        on_closed: called once when the other side is gone.
    """

    def __init__(
        self,
        on_message: Callable[[Kind, bytes], None],
        on_closed: Callable[[Exception | None], None],
    ) -> None:
        self._on_message = on_message
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._queues: tuple[deque[bytes], deque[bytes]] = (deque(), deque())
        self._queued = 0
        self._flush_due = False
        self._paused = False
        self._received = bytearray()
        self._parts: tuple[bytearray, bytearray] = (bytearray(), bytearray())

    @property
    def queued(self) -> int:
        """Bytes that wait to be handed to the transport."""
        return self._queued

    def send(self, kind: Kind, body: bytes) -> None:
        """Queue a message; nothing is sent on a closed wire."""
        if self._transport is None or self._transport.is_closing():
            return
        lane = _LANES.get(kind, Lane.BULK)
        queue = self._queues[lane]
        for start in range(0, max(len(body), 1), MAX_BODY):
            part = body[start : start + MAX_BODY]
            more = MORE if start + MAX_BODY < len(body) else 0
            frame = HEADER.pack(len(part), lane | more, kind) + part
            queue.append(frame)
            self._queued += len(frame)
        if not self._flush_due and not self._paused:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Send what the socket takes and close."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start; called by the loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WINDOW, low=WINDOW // 4)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that the other side is gone; called by the loop."""
        self._transport = None
        self._on_closed(exc)

    def pause_writing(self) -> None:
        """The socket is full; called by the transport."""
        self._paused = True

    def resume_writing(self) -> None:
        """The socket takes more; called by the transport."""
        self._paused = False
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Cut the stream into messages; called by the loop."""
        received = self._received
        received += data
        at = 0
        while len(received) - at >= HEADER.size:
            length, flags, kind = HEADER.unpack_from(received, at)
            if length > MAX_BODY:
                self._broken(f"frame of {length} bytes")
                return
            end = at + HEADER.size + length
            if len(received) < end:
                break
            if not self._take(flags, kind, bytes(received[at + HEADER.size : end])):
                return
            at = end
        del received[:at]

    def _take(self, flags: int, kind: int, body: bytes) -> bool:
        lane = flags & ~MORE
        if lane not in (Lane.BULK, Lane.URGENT) or kind not in Kind._value2member_map_:
            self._broken(f"lane {lane}, kind {kind}")
            return False
        parts = self._parts[lane]
        if flags & MORE or parts:
            parts += body
            if len(parts) > MAX_MESSAGE:
                self._broken(f"message of more than {MAX_MESSAGE} bytes")
                return False
            if flags & MORE:
                return True
            body = bytes(parts)
            parts.clear()
        self._on_message(Kind(kind), body)
        return True

    def _flush(self) -> None:
        self._flush_due = False
        bulk, urgent = self._queues
        while not self._paused and (urgent or bulk) and self._transport is not None:
            batch: list[bytes] = []
            size = 0
            while size < WINDOW and (urgent or bulk):
                frame = (urgent or bulk).popleft()
                batch.append(frame)
                size += len(frame)
            self._queued -= size
            self._transport.write(b"".join(batch))  # may call pause_writing

    def _broken(self, why: str) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._parts[0].clear()
        self._received.clear()
        self._on_message = _ignore
        self._loop.call_exception_handler({"message": "broken frame", "exception": FrameError(why)})


def _ignore(_kind: Kind, _body: bytes) -> None:
    """What a broken wire does with the rest."""
