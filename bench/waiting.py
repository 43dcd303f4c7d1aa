"""How long `POST /events?wait=10` takes for a no-op, one at a time."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from statistics import median

from .harness import Line, percentile
from .load import request
from .places import environment, hub_process, postgres

WARM = 50
REQUESTS = 250

_TIMEOUT_S = 20.0


async def measure() -> AsyncIterator[Line]:
    """On SQLite and on PostgreSQL, over one keep-alive connection."""
    with environment(runners=2) as environ:
        yield await _line(environ, "SQLite", bar=8.0)
    with (
        postgres() as server,
        environment(runners=2, database_url=server.empty()) as environ,
    ):
        yield await _line(environ, "PostgreSQL", bar=None)


async def _line(environ: dict[str, str], database: str, bar: float | None) -> Line:
    async with hub_process(environ) as hub:
        took = _answers(hub.port)
    return Line(
        name=f"POST /events?wait=10 of a no-op, {database}",
        value=median(took),
        unit="ms",
        bar=bar,
        note=f"p95 {percentile(took, 0.95):.1f}, p99 {percentile(took, 0.99):.1f} ms",
    )


def _answers(port: int) -> list[float]:
    """Milliseconds per request. Blocks: nothing else is to happen meanwhile."""
    one = request(port, "/api/v1/events?wait=10", "bench.noop")
    took: list[float] = []
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(WARM + REQUESTS):
            began = time.perf_counter()
            connection.sendall(one)
            _read_answer(connection)
            took.append(1000 * (time.perf_counter() - began))
    return took[WARM:]


def _read_answer(connection: socket.socket) -> None:
    """Read one whole answer, which must tell of an ended event."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode("latin-1"))
    fields = head.lower().split(b"\r\n")
    length = next(int(one.split(b":")[1]) for one in fields if one.startswith(b"content-length:"))
    while len(body) < length:
        body += _receive(connection)


def _receive(connection: socket.socket) -> bytes:
    got = connection.recv(65536)
    if not got:
        raise ConnectionError("the hub closed the connection")
    return got
