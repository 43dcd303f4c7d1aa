"""Frames: how a hub and its runner talk over their socket pair.

A frame is at most 64 KB. Longer messages go in parts on one of two lanes; the parts of one lane
keep their order, and a waiting `URGENT` frame goes before the next `BULK` one, so that a cancel
overtakes a megabyte of record. Header, big-endian: body length (u32), lane and more-parts flag
(u8), kind (u8).

    hub → runner    HELLO RUN CANCEL PAUSE ANSWER PING STOP BREAKERS
    runner → hub    READY CHANGE TOKENS ASK STORE PONG ENDED ABANDONED OUTCOMES SPENT
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
import threading
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
"""Bytes handed to the socket at once: what an urgent frame can never overtake."""

POLL_MS: Final = 1000
"""How long to wait for a peer before looking whether the wire has been closed."""

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
    STORE = 14  # a port call that must not overtake the record
    PAUSE = 15  # stop an execution before its next step
    BREAKERS = 40  # how breakers stand; the first one tells of all that are not closed
    OUTCOMES = 41  # how calls under a breaker ended; no answer follows
    SPENT = 60  # what a call used of a budget; no answer follows, and none of it overtakes its run


class Lane(IntEnum):
    """Which queue a message waits in."""

    BULK = 0
    URGENT = 1


_LANES = {
    Kind.CANCEL: Lane.URGENT,
    Kind.PAUSE: Lane.URGENT,
    Kind.ASK: Lane.URGENT,
    Kind.ANSWER: Lane.URGENT,
    Kind.PING: Lane.URGENT,
    Kind.PONG: Lane.URGENT,
    Kind.BREAKERS: Lane.URGENT,
    Kind.OUTCOMES: Lane.URGENT,
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

    Messages sent within one turn of the loop leave in one write. `send` and `relieve` may be
    called from any thread, all else belongs to the loop's. The transport only reads: whoever has
    to wait for the peer writes by itself, also while the loop stands still.

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
        self._loop_thread = threading.get_ident()
        self._transport: asyncio.Transport | None = None
        self._lock = threading.Lock()  # around all below that sending uses
        self._out: socket.socket | None = None
        self._queues: tuple[deque[bytes], deque[bytes]] = (deque(), deque())
        self._queued = 0
        self._leaving = memoryview(b"")  # begun to be written, so nothing overtakes it
        self._flush_due = False
        self._full = False  # the loop tells when the socket takes more
        self._closing = False
        self._error: FrameError | None = None
        self._received = bytearray()
        self._parts: tuple[bytearray, bytearray] = (bytearray(), bytearray())

    @property
    def queued(self) -> int:
        """Bytes that the socket has not taken yet."""
        return self._queued + len(self._leaving)

    def send(self, kind: Kind, body: bytes) -> None:
        """Queue a message; nothing is sent on a closed wire.

        Raises:
            FrameError: it is longer than a peer takes.
        """
        if len(body) > MAX_MESSAGE:
            raise FrameError(f"{kind.name} of {len(body)} bytes; {MAX_MESSAGE} are taken at most")
        lane = _LANES.get(kind, Lane.BULK)
        with self._lock:
            if self._out is None or self._closing:
                return
            queue = self._queues[lane]
            for start in range(0, max(len(body), 1), MAX_BODY):
                part = body[start : start + MAX_BODY]
                more = MORE if start + MAX_BODY < len(body) else 0
                frame = HEADER.pack(len(part), lane | more, kind) + part
                queue.append(frame)
                self._queued += len(frame)
            if self._flush_due or self._full:
                return
            self._flush_due = True
        if threading.get_ident() == self._loop_thread:
            self._loop.call_soon(self._flush)
        else:
            self._loop.call_soon_threadsafe(self._flush)

    def relieve(self, limit: int) -> None:
        """Block until at most `limit` bytes wait for a peer that does not read."""
        while self.queued > limit:
            with self._lock:
                if self._out is None:
                    return
                self._push(self._out)
                out = self._out.fileno()
            if self.queued > limit:
                poller = select.poll()
                poller.register(out, select.POLLOUT)
                poller.poll(POLL_MS)

    def close(self) -> None:
        """Close once the peer has taken what was sent."""
        with self._lock:
            self._closing = True
        self._flush()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start; called by the loop."""
        self._transport = cast("asyncio.Transport", transport)
        # The loop watches the transport's descriptor for reading; ours is watched for writing.
        self._out = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        self._out.settimeout(0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that the other side is gone; called by the loop."""
        self._transport = None
        with self._lock:
            self._forget()
            if self._out is not None:
                self._loop.remove_writer(self._out)
                self._out.close()
                self._out = None
        self._on_closed(exc or self._error)

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
        with self._lock:
            self._flush_due = False
            if self._out is None:
                return
            done = self._push(self._out)
            if not done and not self._full:
                self._full = True
                self._loop.add_writer(self._out, self._flush)
            elif done and self._full:
                self._full = False
                self._loop.remove_writer(self._out)
        if done and self._closing and self._transport is not None:
            self._transport.close()

    def _push(self, out: socket.socket) -> bool:
        """Write until nothing is left or the socket takes no more; whether nothing is left."""
        bulk, urgent = self._queues
        while True:
            if not self._leaving:
                self._leaving = memoryview(self._batch(urgent, bulk))
                if not self._leaving:
                    return True
            try:
                sent = out.send(self._leaving)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:  # the peer is gone, as the transport is about to learn
                self._closing = True
                self._forget()
                return True
            self._leaving = self._leaving[sent:]

    def _batch(self, urgent: deque[bytes], bulk: deque[bytes]) -> bytes:
        batch: list[bytes] = []
        size = 0
        while size < WINDOW and (urgent or bulk):
            frame = (urgent or bulk).popleft()
            batch.append(frame)
            size += len(frame)
        self._queued -= size
        return b"".join(batch)

    def _forget(self) -> None:
        for queue in self._queues:
            queue.clear()
        self._queued = 0
        self._leaving = memoryview(b"")

    def _broken(self, why: str) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._parts[0].clear()
        self._received.clear()
        self._on_message = _ignore
        self._error = FrameError(why)
        self._loop.call_exception_handler({"message": "broken frame", "exception": self._error})


def _ignore(_kind: Kind, _body: bytes) -> None:
    """What a broken wire does with the rest."""
