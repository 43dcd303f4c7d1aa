"""Identifiers and time: UUIDv7 as text, microseconds since the epoch as integers."""

from __future__ import annotations

import re
import time

from uuid_utils import uuid7

MICROS = 1_000_000
"""Microseconds in a second: the unit of every stored time and duration."""

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def new_id() -> str:
    """A new UUIDv7 (RFC 9562) as 36 lower-case characters; later ids sort after earlier ones."""
    return str(uuid7())


def is_id(text: str) -> bool:
    """Whether `text` has the form of an id made by `new_id`."""
    return _ID.fullmatch(text) is not None


def now_us() -> int:
    """The wall clock in microseconds since the epoch, UTC."""
    return time.time_ns() // 1000
