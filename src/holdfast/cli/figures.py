"""Numbers, times and foreign text in the form a person reads them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

MISSING = "–"

SHORT = 12
"""Digits of a hash that are shown."""

_CONTROLS = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
_CONTROLS[0x7F] = "␡"
_UNSAFE = re.compile("[\x80-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_SECOND_MS = 1000.0
_MINUTE_MS = 60_000.0
_AGES = ((86_400, "d"), (3600, "h"), (60, "min"), (0, "s"))


def plain(value: object) -> str:
    """Text from outside, made harmless for a terminal.

    A control character is shown as its picture (`␛`), so that nobody can move the cursor, set
    colours or rename the window; what turns the reading order around and lone surrogates become
    `�`. Line ends and tabs stay.
    """
    text = str(value).replace("\r\n", "\n").translate(_CONTROLS)
    return _UNSAFE.sub("�", text)


def one_line(value: object, limit: int = 0) -> str:
    """`plain` on one line, cut to `limit` characters (0: not cut)."""
    text = " ".join(plain(value).split())
    return f"{text[: limit - 1].rstrip()}…" if limit and len(text) > limit else text


def called(view: dict[str, Any]) -> str:
    """What people call what ran: a pipeline by its name, an agent by its own and not by its id."""
    agent: dict[str, Any] | None = view.get("agent")
    return one_line(agent["name"] if agent and agent["name"] else view["name"])


def milliseconds(value: float | None) -> str:
    """A duration: `4.2 ms`, `412 ms`, `1.24 s`, `2 min 05 s`."""
    if value is None:
        return MISSING
    if value < 9.95:
        return f"{value:.1f} ms"
    if value < _SECOND_MS - 0.5:
        return f"{value:.0f} ms"
    if value < _MINUTE_MS - 5:
        return f"{value / 1000:.2f} s"
    minutes, seconds = divmod(round(value / 1000), 60)
    return f"{minutes} min {seconds:02d} s"


def dollars(value: str | Decimal | None, *, unknown: int = 0) -> str:
    """An amount with two digits that mean something: `$0.00026`, `$0.0031`, `$1.27`.

    Args:
        value: exact decimal text; None is unknown.
        unknown: parts of the sum that nobody knows the price of.
    """
    if value is None:
        return "$?"
    amount = Decimal(value)
    digits = 2
    if amount and abs(amount) < 1:
        digits = max(2, 1 - amount.adjusted())
    text = f"${amount:.{digits}f}" if amount else "$0"
    if not unknown:
        return text
    return f"{text} + ?" if amount else "$?"


def count(value: int, noun: str) -> str:
    """`1 step`, `1,204 tokens`."""
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def moment(text: str | None) -> str:
    """A time of the API in the local time zone: `2026-11-02 14:03:22`."""
    if text is None:
        return MISSING
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def age(text: str | None, now: datetime | None = None) -> str:
    """How long ago a time of the API was: `12 s`, `3 min`, `5 h`, `2 d`."""
    if text is None:
        return MISSING
    since = (now or datetime.now(UTC)) - datetime.fromisoformat(text)
    seconds = max(0, int(since.total_seconds()))
    size, unit = next(pair for pair in _AGES if seconds >= pair[0])
    return f"{seconds // max(size, 1)} {unit}"


def tokens(value: int, *, unknown: int = 0, estimated: bool = False) -> str:
    """Tokens, what nobody knows marked with `?` and estimates with `~`: `~1,204 + ?`."""
    known = f"{'~' if estimated else ''}{value:,}"
    if not unknown:
        return known
    return f"{known} + ?" if value else "?"


def all_tokens(view: dict[str, Any]) -> str:
    """All tokens an execution's view sums up; cached and reasoning ones are among them."""
    return tokens(
        view["tokens"]["input"] + view["tokens"]["output"],
        unknown=view["unknown"]["usage"],
        estimated=bool(view["flags"].get("tokens_estimated")),
    )
