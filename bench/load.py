"""Load over raw sockets, in a process of its own: prebuilt requests, answers only counted.

Imports nothing but the standard library, so that it costs next to nothing beside what it measures.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

CONNECTIONS = 16
PIPELINED = 8
"""Requests on the way per connection."""

_DONE = b"HTTP/1.1 202"
_TIMEOUT_S = 60.0


def request(port: int, path: str, pipeline: str) -> bytes:
    """A POST of one event."""
    body = json.dumps({"type": pipeline, "data": {"text": "x"}}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Connection:
    """One keep-alive connection: how much it may still send, what it has been answered."""

    def __init__(self, port: int, quota: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unsent = quota
        self.unanswered = 0
        self._tail = b""

    def fill(self, one: bytes) -> None:
        """Send what the pipeline has room for."""
        room = min(self.unsent, PIPELINED - self.unanswered)
        self.socket.sendall(one * room)
        self.unsent -= room
        self.unanswered += room

    def drain(self) -> None:
        """Count answers."""
        got = self.socket.recv(65536)
        if not got:
            raise ConnectionError("the hub closed a connection")
        data = self._tail + got
        self.unanswered -= data.count(_DONE)
        if b"HTTP/1.1 4" in data or b"HTTP/1.1 5" in data:
            raise RuntimeError(data[:500].decode("latin-1"))
        # No answer's first line may be counted twice, and none may be lost between two reads.
        self._tail = data[-(len(_DONE) - 1) :]


def burst(ports: list[int], pipeline: str, events: int) -> None:
    """Send `events`, to these ports in turn, and read every answer."""
    one = request(ports[0], "/api/v1/events", pipeline)
    share, more = divmod(events, CONNECTIONS)
    selector = selectors.DefaultSelector()
    busy: set[_Connection] = set()
    for number in range(CONNECTIONS):
        connection = _Connection(ports[number % len(ports)], share + (number < more))
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.fill(one)
        busy.add(connection)
    while busy:
        ready = selector.select(_TIMEOUT_S)
        if not ready:
            raise TimeoutError("the hub does not answer")
        for key, _ in ready:
            connection = key.data
            connection.drain()
            connection.fill(one)
            if not connection.unanswered:
                busy.discard(connection)
                selector.unregister(connection.socket)
                connection.socket.close()


def main() -> None:
    """Send one burst; print the seconds it took and the CPU it cost."""
    ports = [int(one) for one in sys.argv[1].split(",")]
    pipeline, events = sys.argv[2], int(sys.argv[3])
    sys.stdin.readline()  # imports are done: wait for the word
    wall, cpu = time.perf_counter(), time.process_time()
    burst(ports, pipeline, events)
    print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)


if __name__ == "__main__":
    main()
