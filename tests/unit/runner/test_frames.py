"""Frames between hub and runner: whole, in the order of their lane, and bounded."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.ports import RunSpec
from holdfast.runner import frames
from holdfast.runner.frames import (
    HEADER,
    MAX_BODY,
    MORE,
    WINDOW,
    FrameError,
    Kind,
    Lane,
    Wire,
    read_run,
    write_run,
)

BULK = [Kind.RUN, Kind.CHANGE, Kind.TOKENS, Kind.ENDED, Kind.HELLO]
URGENT = [Kind.CANCEL, Kind.ASK, Kind.ANSWER, Kind.PING, Kind.PONG]


class End:
    """One end of a pair, with all that it took in."""

    def __init__(self) -> None:
        self.taken: list[tuple[Kind, bytes]] = []
        self.closed: list[Exception | None] = []
        self.changed = asyncio.Event()
        self.wire = Wire(self._on_message, self._on_closed)

    def _on_message(self, kind: Kind, body: bytes) -> None:
        self.taken.append((kind, body))
        self.changed.set()

    def _on_closed(self, error: Exception | None) -> None:
        self.closed.append(error)
        self.changed.set()

    async def until(self, test: Any) -> None:
        async with asyncio.timeout(10):
            while not test():
                self.changed.clear()
                await self.changed.wait()


class Pair:
    def __init__(self) -> None:
        self.left, self.right = End(), End()

    async def join(self) -> Pair:
        loop = asyncio.get_running_loop()
        for end, sock in zip((self.left, self.right), socket.socketpair(), strict=True):
            sock.setblocking(False)
            wire = end.wire
            await loop.create_unix_connection(lambda wire=wire: wire, sock=sock)
        return self

    async def part(self) -> None:
        for end in (self.left, self.right):
            if not end.closed:
                assert end.wire._transport is not None
                end.wire._transport.abort()
        for end in (self.left, self.right):
            await end.until(lambda end=end: end.closed)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    joined = await Pair().join()
    yield joined
    await joined.part()


class Reader:
    """A wire that is fed bytes by hand."""

    def __init__(self) -> None:
        self.taken: list[tuple[Kind, bytes]] = []
        self.reports: list[dict[str, Any]] = []
        self.aborted = False
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda _, context: self.reports.append(context))

        async def make() -> Wire:
            return Wire(lambda kind, body: self.taken.append((kind, body)), lambda _: None)

        self.wire = loop.run_until_complete(make())
        self.wire._transport = self  # type: ignore[assignment]
        loop.close()

    def abort(self) -> None:
        self.aborted = True


def framed(kind: Kind, body: bytes, lane: Lane) -> list[bytes]:
    """The frames of one message, made by hand."""
    parts = [body[at : at + MAX_BODY] for at in range(0, max(len(body), 1), MAX_BODY)]
    return [
        HEADER.pack(len(part), lane | (MORE if n < len(parts) - 1 else 0), kind) + part
        for n, part in enumerate(parts)
    ]


SIZES = st.one_of(
    st.integers(0, 300),
    st.sampled_from([MAX_BODY - 1, MAX_BODY, MAX_BODY + 1, 2 * MAX_BODY, 2 * MAX_BODY + 7]),
)
MESSAGES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(BULK), SIZES, st.just(Lane.BULK)),
        st.tuples(st.sampled_from(URGENT), SIZES, st.just(Lane.URGENT)),
    ),
    max_size=10,
)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck), database=None)
@given(MESSAGES, st.data())
def test_messages_cut_anywhere_come_out_whole_and_in_the_order_of_their_lane(
    messages: list[tuple[Kind, int, Lane]], data: st.DataObject
) -> None:
    bodies = [
        (kind, bytes([n % 256]) * size, lane) for n, (kind, size, lane) in enumerate(messages)
    ]
    lanes: dict[Lane, list[bytes]] = {lane: [] for lane in Lane}
    for kind, body, lane in bodies:
        lanes[lane] += framed(kind, body, lane)
    stream = bytearray()
    while any(lanes.values()):  # the lanes' parts in any mixture
        lane = data.draw(st.sampled_from([lane for lane in Lane if lanes[lane]]))
        stream += lanes[lane].pop(0)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    reader = Reader()
    for at, end in pairwise([0, *sorted(cuts), len(stream)]):
        reader.wire.data_received(bytes(stream[at:end]))
    for lane, kinds in ((Lane.BULK, BULK), (Lane.URGENT, URGENT)):
        expected = [(kind, body) for kind, body, own in bodies if own is lane]
        assert [one for one in reader.taken if one[0] in kinds] == expected
    assert not reader.reports


def test_messages_that_come_byte_by_byte_come_out_whole() -> None:
    reader = Reader()
    stream = b"".join(
        framed(Kind.CHANGE, b"one", Lane.BULK)
        + framed(Kind.PING, b"", Lane.URGENT)
        + framed(Kind.CHANGE, b"two", Lane.BULK)
    )
    for at in range(len(stream)):
        reader.wire.data_received(stream[at : at + 1])
    assert reader.taken == [(Kind.CHANGE, b"one"), (Kind.PING, b""), (Kind.CHANGE, b"two")]


@pytest.mark.parametrize(
    ("garbage", "why"),
    [
        (HEADER.pack(MAX_BODY + 1, 0, Kind.CHANGE), "frame of"),
        (HEADER.pack(2**32 - 1, 0, Kind.CHANGE), "frame of"),
        (HEADER.pack(1, 0, 99) + b"x", "kind 99"),
        (HEADER.pack(1, 5, Kind.CHANGE) + b"x", "lane 5"),
        (b"GET / HTTP/1.1\r\n\r\n", "frame of"),
    ],
)
def test_what_is_no_frame_breaks_the_wire_and_is_reported(garbage: bytes, why: str) -> None:
    reader = Reader()
    reader.wire.data_received(framed(Kind.CHANGE, b"good", Lane.BULK)[0] + garbage)
    assert reader.taken == [(Kind.CHANGE, b"good")]
    assert reader.aborted
    (report,) = reader.reports
    assert isinstance(report["exception"], FrameError)
    assert why in str(report["exception"])
    reader.wire.data_received(framed(Kind.CHANGE, b"more", Lane.BULK)[0])
    assert len(reader.taken) == 1, "nothing is taken from a broken wire"


def test_a_message_without_end_breaks_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_MESSAGE", 3 * MAX_BODY)
    reader = Reader()
    part = HEADER.pack(MAX_BODY, MORE, Kind.CHANGE) + bytes(MAX_BODY)
    for _ in range(3):
        reader.wire.data_received(part)
    assert not reader.aborted
    reader.wire.data_received(part)
    assert reader.aborted
    assert "message of more than" in str(reader.reports[0]["exception"])


def test_a_run_reads_as_it_was_written() -> None:
    spec = RunSpec(
        execution_id="x",
        event_id="e",
        owner_id="o",
        kind="pipeline",
        name="p",
        version="1",
        data='{"text":"é\\u0000"}'.encode(),
        delivery=2,
        deadline_s=1.5,
        traceparent="00-a-b-01",
    )
    found = read_run(write_run(spec))
    assert (found.execution_id, found.data, found.deadline_s) == ("x", spec.data, 1.5)
    assert write_run(found) == write_run(spec)


# -- over a socket pair ----------------------------------------------------------------------------


async def test_messages_of_all_sizes_cross(pair: Pair) -> None:
    bodies = [bytes([n]) * size for n, size in enumerate([0, 1, MAX_BODY, MAX_BODY + 1, 500_000])]
    for body in bodies:
        pair.left.wire.send(Kind.CHANGE, body)
    await pair.right.until(lambda: len(pair.right.taken) == len(bodies))
    assert pair.right.taken == [(Kind.CHANGE, body) for body in bodies]
    assert pair.left.wire.queued == 0


async def test_an_urgent_message_overtakes_what_is_queued(pair: Pair) -> None:
    pair.left.wire.send(Kind.CHANGE, bytes(1_000_000))
    pair.left.wire.send(Kind.CHANGE, b"last")
    pair.left.wire.send(Kind.CANCEL, b"x1")
    await pair.right.until(lambda: len(pair.right.taken) == 3)
    assert [kind for kind, _ in pair.right.taken] == [Kind.CANCEL, Kind.CHANGE, Kind.CHANGE]


@pytest.mark.parametrize("kind", [Kind.STORE, Kind.ENDED])
async def test_what_speaks_of_the_record_does_not_overtake_it(pair: Pair, kind: Kind) -> None:
    """A step whose checkpoint is stored is on record, and nothing comes after the end."""
    for _ in range(2):
        pair.left.wire.send(Kind.CHANGE, bytes(1_000_000))
    pair.left.wire.send(kind, b"x1")
    await pair.right.until(lambda: len(pair.right.taken) == 3)
    assert [kind for kind, _ in pair.right.taken] == [Kind.CHANGE, Kind.CHANGE, kind]


async def test_a_peer_that_does_not_read_gets_no_more_than_its_socket_holds(pair: Pair) -> None:
    reading = pair.right.wire._transport
    assert reading is not None
    reading.pause_reading()
    for _ in range(100):
        pair.left.wire.send(Kind.CHANGE, bytes(50_000))
    for _ in range(5):
        await asyncio.sleep(0)
    transport = pair.left.wire._transport
    assert transport is not None
    assert transport.get_write_buffer_size() == 0, "nothing is hidden in the transport"
    # What the socket has taken is its own buffer, and no urgent message waits behind the rest.
    assert pair.left.wire.queued > 100 * 50_000 - 1_000_000
    pair.left.wire.send(Kind.CANCEL, b"x1")
    reading.resume_reading()
    await pair.right.until(lambda: len(pair.right.taken) == 101)
    before = [kind for kind, _ in pair.right.taken].index(Kind.CANCEL)
    assert before * 50_000 < 1_000_000 + 2 * WINDOW
    assert pair.left.wire.queued == 0


async def test_closing_lets_the_peer_have_everything_first(pair: Pair) -> None:
    reading = pair.right.wire._transport
    assert reading is not None
    reading.pause_reading()
    for n in range(100):
        pair.left.wire.send(Kind.CHANGE, bytes([n]) * 50_000)
    pair.left.wire.close()
    pair.left.wire.send(Kind.CHANGE, b"nothing is sent on a closed wire")
    for _ in range(5):
        await asyncio.sleep(0)
    reading.resume_reading()
    await pair.right.until(lambda: pair.right.closed)
    assert [body[:1] for _, body in pair.right.taken] == [bytes([n]) for n in range(100)]
    await pair.left.until(lambda: pair.left.closed)
    assert pair.left.closed == [None]


async def test_threads_may_send_and_each_keeps_its_order(pair: Pair) -> None:
    def work(number: int) -> None:
        for turn in range(200):
            pair.left.wire.send(Kind.CHANGE, bytes([number, turn]) * 200)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    await pair.right.until(lambda: len(pair.right.taken) == 800)
    for thread in threads:
        thread.join()
    for number in range(4):
        turns = [body[1] for _, body in pair.right.taken if body[0] == number]
        assert turns == list(range(200))


async def test_relieving_blocks_until_the_peer_has_read_enough(pair: Pair) -> None:
    """Even the loop's own thread may wait so: the writing needs no loop."""
    reading = pair.right.wire._transport
    assert reading is not None
    reading.pause_reading()
    for _ in range(100):
        pair.left.wire.send(Kind.CHANGE, bytes(50_000))
    far_end = reading.get_extra_info("socket")
    taken = 0

    def drain() -> None:
        nonlocal taken
        with socket.socket(fileno=far_end.dup().detach()) as sock:
            sock.setblocking(True)
            while taken < 3_800_000:
                taken += len(sock.recv(1 << 20))

    reader = threading.Thread(target=drain)
    reader.start()
    pair.left.wire.relieve(1_000_000)  # no await: the loop stands still
    assert pair.left.wire.queued <= 1_000_000
    reader.join(10)
    assert taken >= 3_800_000


async def test_relieving_ends_when_the_peer_is_gone(pair: Pair) -> None:
    assert pair.right.wire._transport is not None
    pair.right.wire._transport.pause_reading()
    for _ in range(100):
        pair.left.wire.send(Kind.CHANGE, bytes(50_000))
    far_end = pair.right.wire._transport.get_extra_info("socket")
    timer = threading.Timer(0.02, far_end.shutdown, [socket.SHUT_RDWR])
    timer.start()
    pair.left.wire.relieve(0)
    timer.join()
    assert pair.left.wire.queued == 0


async def test_too_long_a_message_is_refused_where_it_is_sent(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_MESSAGE", 1000)
    with pytest.raises(FrameError, match="CHANGE of 1001 bytes"):
        pair.left.wire.send(Kind.CHANGE, bytes(1001))
    pair.left.wire.send(Kind.CHANGE, bytes(1000))
    await pair.right.until(lambda: pair.right.taken)


async def test_garbage_from_the_peer_closes_the_wire_and_says_why(pair: Pair) -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, c: reports.append(c))
    assert pair.left.wire._out is not None
    pair.left.wire._out.send(b"\xff" * 100)
    await pair.right.until(lambda: pair.right.closed)
    (error,) = pair.right.closed
    assert isinstance(error, FrameError)
    assert len(reports) == 1
