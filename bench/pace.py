"""Load at a steady rate, in a process of its own: distinct events, answers only counted.

`python bench/pace.py PORT,… RATE EVENTS`; a rate of 0 is as fast as answers come. Every tenth event
is for a second pipeline. Prints one line of JSON when all are answered or one is refused. Imports
nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque

PIPELINES = ("bench.kept", *["bench.soaked"] * 9)
CONNECTIONS = 16
MOST_WAITING = 32
"""Unanswered requests per connection; with more the load falls behind, and says so."""

TICK_S = 0.01
PATIENCE_S = 60.0


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.waiting = 0
        self.refused = ""
        self.answered = asyncio.Event()
        self._transport: asyncio.Transport
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.refused = self.refused or f"the hub closed a connection: {exc}"
        self.answered.set()

    def send(self, request: bytes) -> None:
        """One more request."""
        self.waiting += 1
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        whole = self._tail + data
        self.waiting -= whole.count(b"HTTP/1.1 202")
        if b"HTTP/1.1 4" in whole or b"HTTP/1.1 5" in whole:
            self.refused = whole[:500].decode("latin-1")
        self._tail = whole[-11:]
        self.answered.set()


def request(number: int) -> bytes:
    """A POST of one event, like no other."""
    data = {"text": f"{number} {hash(number * 7919):x} " + "a few words " * 8}
    body = json.dumps({"type": PIPELINES[number % len(PIPELINES)], "data": data})
    return (
        "POST /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def run(ports: list[int], rate: float, events: int, first: int) -> dict[str, float | str]:
    """Send events and wait for the answers.

    Returns:
        sent, seconds, behind_s (how late the worst event went out), refused (the first refusal).
    """
    loop = asyncio.get_running_loop()
    most = MOST_WAITING if rate else 8
    open_: deque[Connection] = deque()
    for number in range(CONNECTIONS):
        port = ports[number % len(ports)]
        _, one = await loop.create_connection(lambda: Connection(most), "127.0.0.1", port)
        open_.append(one)
    began, sent, behind, refused = time.perf_counter(), 0, 0.0, ""
    while sent < events and not refused:
        passed = time.perf_counter() - began
        due = min(events, int(passed * rate)) if rate else events
        for _ in range(CONNECTIONS):
            if sent >= due:
                break
            one = open_[0]
            open_.rotate(-1)  # in turn, or the hub would close the idle ones
            while sent < due and one.waiting < one.most:
                one.send(request(first + sent))
                sent += 1
                if rate:
                    break
        if rate:
            behind = max(behind, passed - sent / rate)
        if sent < due and all(one.waiting >= one.most for one in open_):
            waits = [loop.create_task(one.answered.wait()) for one in open_]
            await asyncio.wait(waits, timeout=1, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        else:
            await asyncio.sleep(TICK_S if sent >= due else 0)
        for one in open_:
            one.answered.clear()
        refused = next((one.refused for one in open_ if one.refused), "")
    until = time.perf_counter() + PATIENCE_S
    while any(one.waiting for one in open_) and not refused and time.perf_counter() < until:
        await asyncio.sleep(TICK_S)
        refused = next((one.refused for one in open_ if one.refused), "")
    if not refused and any(one.waiting for one in open_):
        refused = f"{sum(one.waiting for one in open_)} requests had no answer"
    seconds = time.perf_counter() - began
    return {"sent": sent, "seconds": seconds, "behind_s": behind, "refused": refused}


def main() -> None:
    """See above."""
    ports = [int(one) for one in sys.argv[1].split(",")]
    rate, events = float(sys.argv[2]), int(sys.argv[3])
    first = int(time.time() * 1000) * 1000  # distinct from one run to the next
    print(json.dumps(asyncio.run(run(ports, rate, events, first))), flush=True)


if __name__ == "__main__":
    main()
