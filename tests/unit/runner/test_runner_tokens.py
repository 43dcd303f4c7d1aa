"""What a runner does with streamed text and with a hub that is behind, without a process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from holdfast.runner import main
from holdfast.runner.frames import Kind, Wire
from holdfast.runner.main import Runner

X1, X2 = "1" * 36, "2" * 36


class Hub:
    """The other end: reads, or does not."""

    def __init__(self) -> None:
        self.taken: list[tuple[Kind, Any]] = []
        self.changed = asyncio.Event()
        self.wire = Wire(self._on_message, lambda _: None)

    def _on_message(self, kind: Kind, body: bytes) -> None:
        self.taken.append((kind, orjson.loads(body) if kind is Kind.TOKENS else body))
        self.changed.set()

    @property
    def tokens(self) -> list[Any]:
        return [body for kind, body in self.taken if kind is Kind.TOKENS]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.taken) < count:
                self.changed.clear()
                await self.changed.wait()

    def pause(self) -> None:
        assert self.wire._transport is not None
        self.wire._transport.pause_reading()

    def resume(self) -> None:
        assert self.wire._transport is not None
        self.wire._transport.resume_reading()


class Joined:
    def __init__(self) -> None:
        self.runner, self.hub = Runner(), Hub()


@pytest.fixture
async def joined() -> AsyncIterator[Joined]:
    pair = Joined()
    loop = asyncio.get_running_loop()
    for wire, sock in zip((pair.runner._wire, pair.hub.wire), socket.socketpair(), strict=True):
        sock.setblocking(False)
        await loop.create_unix_connection(lambda wire=wire: wire, sock=sock)
    yield pair
    for wire in (pair.runner._wire, pair.hub.wire):
        if wire._transport is not None:
            wire._transport.abort()
    await pair.runner.gone.wait()
    await asyncio.sleep(0)


async def test_pieces_of_one_step_travel_as_one(joined: Joined) -> None:
    for n in range(100):
        joined.runner.tokens(X1, 1, f"{n} ")
        joined.runner.tokens(X1, 2, "b")
        joined.runner.tokens(X2, 1, "c")
    await joined.hub.until(3)
    assert sorted(joined.hub.tokens) == [
        [X1, 1, "".join(f"{n} " for n in range(100))],
        [X1, 2, "b" * 100],
        [X2, 1, "c" * 100],
    ]
    assert joined.runner._texts == {}


async def test_text_goes_before_the_next_change_of_its_execution(joined: Joined) -> None:
    joined.runner.tokens(X1, 1, "so ")
    joined.runner.tokens(X1, 1, "far")
    joined.runner.tokens(X2, 1, "waits")
    joined.runner.change(X1, b"{}")
    joined.runner.tokens(X1, 2, "next")
    await joined.hub.until(4)
    assert joined.hub.taken[:2] == [
        (Kind.TOKENS, [X1, 1, "so far"]),
        (Kind.CHANGE, X1.encode() + b"{}"),
    ]
    assert sorted(joined.hub.tokens[1:]) == [[X1, 2, "next"], [X2, 1, "waits"]]


async def test_text_from_threads_is_merged_and_sent_too(joined: Joined) -> None:
    def work() -> None:
        for _ in range(500):
            joined.runner.tokens(X1, 1, "x")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    async with asyncio.timeout(10):
        while sum(len(text) for _, _, text in joined.hub.tokens) < 2000:
            await joined.hub.until(len(joined.hub.taken) + 1)
    assert len(joined.hub.tokens) < 100


async def test_text_a_terminal_could_not_show_is_sent_all_the_same(joined: Joined) -> None:
    joined.runner.tokens(X1, 1, "half a pair: \ud83d")
    await joined.hub.until(1)
    assert joined.hub.tokens == [[X1, 1, "half a pair: \\ud83d"]]


async def test_text_is_dropped_first_when_the_hub_is_behind(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined.hub.pause()
    while joined.runner._wire.queued <= main.TOKENS_LIMIT:
        joined.runner.change(X1, bytes(100_000))
        await asyncio.sleep(0)
    joined.runner.tokens(X1, 1, "dropped")
    joined.runner.change(X1, b'"kept"')
    joined.hub.resume()
    async with asyncio.timeout(10):
        while (Kind.CHANGE, X1.encode() + b'"kept"') not in joined.hub.taken:
            await joined.hub.until(len(joined.hub.taken) + 1)
    assert joined.hub.tokens == []
    joined.runner.tokens(X1, 1, "shown again")
    joined.runner.change(X1, b"{}")
    await joined.hub.until(len(joined.hub.taken) + 2)
    assert joined.hub.tokens == [[X1, 1, "shown again"]]


@pytest.mark.parametrize("where", ["in a thread", "in the loop"])
async def test_a_run_waits_for_the_record_when_far_too_much_is_unread(
    joined: Joined, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    limit = 2_000_000
    monkeypatch.setattr(main, "CHANGES_LIMIT", limit)
    joined.hub.pause()
    most = 0
    sent = 60

    def work() -> None:
        nonlocal most
        for n in range(sent):
            joined.runner.change(X1, bytes([n]) * 100_000)
            most = max(most, joined.runner._wire.queued)

    assert joined.hub.wire._transport is not None
    far_end = joined.hub.wire._transport.get_extra_info("socket")
    if where == "in a thread":
        thread = threading.Thread(target=work)
        thread.start()
        async with asyncio.timeout(10):
            while joined.runner._wire.queued < limit - 200_000:
                await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert thread.is_alive(), "it waits as long as nobody reads"
        joined.hub.resume()
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()
        await joined.hub.until(sent)
        assert [body[36] for _, body in joined.hub.taken] == list(range(sent))
    else:
        # Nothing can be read in this loop while it is blocked: another thread reads.
        taken = 0

        def read() -> None:
            nonlocal taken
            with socket.socket(fileno=far_end.dup().detach()) as sock:
                sock.setblocking(True)
                while taken < sent * 100_000 - limit:
                    taken += len(sock.recv(1 << 20))

        reader = threading.Thread(target=read)
        reader.start()
        work()
        reader.join(10)
        assert taken >= sent * 100_000 - limit
    assert most <= limit
