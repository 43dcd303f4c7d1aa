"""Events out of a JSONL file or standard input, read as a stream."""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from holdfast.errors import InvalidInput

STDIN = "-"

TEXT_FIELDS = (
    "type",
    "source",
    "subject",
    "time",
    "target",
    "idempotency_key",
    "session_id",
    "deliver_at",
)
FIELDS = ("type", "data", *TEXT_FIELDS[1:], "priority", "delay")
"""What a line may hold."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of input.

    Attributes:
        number: counted from 1, blank lines included; 0 for an event given by options.
        raw: as it came, without the line end.
    """

    number: int
    raw: bytes

    def event(self) -> dict[str, Any]:
        """The keyword arguments of `Client.submit`; `type` and `data` are always there.

        Raises:
            InvalidInput: not JSON, not an object, or a field is wrong; `fields` names it.
        """
        import orjson

        try:
            body: Any = orjson.loads(self.raw)
        except orjson.JSONDecodeError as error:
            at = f"column {error.colno}"
            raise InvalidInput(f"not JSON: {error.msg} at {at}") from None
        if not isinstance(body, dict):
            raise InvalidInput("not a JSON object", hint=f"an event has {', '.join(FIELDS[:2])}")
        return _checked(cast("dict[str, Any]", body))


def given(type: str, data: str, **more: Any) -> bytes:  # noqa: A002 - CloudEvents' name
    """One event from the command line's options, as a line.

    Args:
        type: its type.
        data: its data, as JSON.
        more: further fields; those that are None are left out.

    Raises:
        InvalidInput: the data is not JSON.
    """
    import orjson

    try:
        body = {"type": type, "data": orjson.loads(data)}
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"--data is not JSON: {error}") from None
    return orjson.dumps(body | {name: one for name, one in more.items() if one is not None})


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    wrong: list[dict[str, Any]] = [
        {"field": name, "expected": f"one of {', '.join(FIELDS)}", "got": "an unknown field"}
        for name in body
        if name not in FIELDS
    ]
    wrong += [
        {"field": name, "expected": "a value", "got": "nothing"}
        for name in ("type", "data")
        if name not in body
    ]
    wrong += [
        {"field": name, "expected": "text", "got": type(body[name]).__name__}
        for name in TEXT_FIELDS
        if body.get(name) is not None and not isinstance(body[name], str)
    ]
    priority = body.get("priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int):
        got = type(priority).__name__
        wrong.append({"field": "priority", "expected": "a whole number", "got": got})
    delay = body.get("delay", 0)
    if isinstance(delay, bool) or not isinstance(delay, int | float):
        wrong.append({"field": "delay", "expected": "seconds", "got": type(delay).__name__})
    if wrong:
        names = ", ".join(str(field["field"]) for field in wrong)
        raise InvalidInput(f"not an event: {names}", fields=wrong)
    return body


@contextmanager
def open_lines(path: str) -> Generator[Iterator[Line]]:
    """The lines of a file, or of standard input for `-`; blank ones are left out.

    Raises:
        InvalidInput: the file cannot be read.
    """
    if path == STDIN:
        # A reader of our own, and never closed: after Ctrl-C a thread still waits for input in
        # it, holds its lock, and both closing it and Python's exit would wait for that lock.
        yield _lines(os.fdopen(os.dup(sys.stdin.fileno()), "rb"))
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    with file:
        yield _lines(file)


def count_lines(path: str) -> int | None:
    """How many events a file holds; None where that cannot be known beforehand."""
    if path == STDIN or not Path(path).is_file():
        return None
    with open_lines(path) as lines:
        return sum(1 for _ in lines)


class Feed:
    """Hands out lines to tasks, read on a thread of its own: standard input may keep us waiting."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._loop = asyncio.get_running_loop()
        self._wanted: queue.SimpleQueue[asyncio.Future[Line | None]] = queue.SimpleQueue()
        # A daemon, so that Ctrl-C need not wait for the next line.
        threading.Thread(target=self._read, name="lines", daemon=True).start()

    async def next(self) -> Line | None:
        """The next line; None when there are no more.

        Raises:
            OSError: the file cannot be read on.
        """
        future: asyncio.Future[Line | None] = self._loop.create_future()
        self._wanted.put(future)
        return await future

    def _read(self) -> None:
        while True:
            future = self._wanted.get()
            try:
                settle, value = future.set_result, next(self._lines, None)
            except OSError as error:
                settle, value = future.set_exception, error
            try:
                self._loop.call_soon_threadsafe(_unless_done, future, settle, value)
            except RuntimeError:  # the loop was closed while we waited for input
                return


def _unless_done(future: asyncio.Future[Any], settle: Callable[[Any], None], value: Any) -> None:
    if not future.done():
        settle(value)


def _lines(file: IO[bytes]) -> Iterator[Line]:
    for number, raw in enumerate(file, 1):
        if raw.strip():
            yield Line(number, raw.rstrip(b"\r\n"))
