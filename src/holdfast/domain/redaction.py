"""What stands in a record for what was not to be kept, and how two such records are compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

MAX_KIND_CHARS = 40

_PLACEHOLDER = re.compile(r"⟦[^⟦⟧\n]{1,60} \d+(?:\.\d+)?⟧")


def placeholder(kind: str, number: str) -> str:
    """What stands for a text of a kind: `⟦e-mail 1⟧`; nothing that people write."""
    return f"⟦{kind[:MAX_KIND_CHARS]} {number}⟧"


def between(text: str) -> list[tuple[bool, str]]:
    """The pieces of a text in order, and of each whether it is a placeholder."""
    pieces: list[tuple[bool, str]] = []
    at = 0
    for found in _PLACEHOLDER.finditer(text):
        pieces += [(False, text[at : found.start()]), (True, found[0])]
        at = found.end()
    return [*pieces, (False, text[at:])]


def is_redacted(value: Any) -> bool:
    """Whether anything was taken out of a value of JSON before it was recorded."""
    if isinstance(value, str):
        return "⟦" in value and _PLACEHOLDER.search(value) is not None
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        return any(is_redacted(name) or is_redacted(one) for name, one in members.items())
    if isinstance(value, list | tuple):
        return any(is_redacted(one) for one in cast("list[Any]", value))
    return False


def same(a: Any, b: Any) -> bool:
    """Whether two recorded values say the same, as far as both were kept.

    A placeholder is the same as any text: numbers are given in the order of meeting, which may be
    another the next time, and one of the two may have been recorded by other rules.
    """
    if a == b:
        return True
    if isinstance(a, str) and isinstance(b, str):
        return _fits(a, b) or _fits(b, a)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        old, new = cast("Mapping[str, Any]", a), cast("Mapping[str, Any]", b)
        return len(old) == len(new) and all(
            same(name, other) and same(one, two)
            for (name, one), (other, two) in zip(
                _ordered(old, new), _ordered(new, old), strict=True
            )
        )
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        items, others = cast("list[Any]", a), cast("list[Any]", b)
        return len(items) == len(others) and all(map(same, items, others))
    # A long number gives way to a text.
    if isinstance(a, str) and isinstance(b, int):
        return _fits(a, str(b))
    return isinstance(b, str) and isinstance(a, int) and _fits(b, str(a))


def _ordered(members: Mapping[str, Any], others: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Members by name; those of redacted names, which others do not have, last and as they come."""
    known = sorted(name for name in members if name in others)
    return [(name, members[name]) for name in (*known, *(n for n in members if n not in others))]


def _fits(kept: str, text: str) -> bool:
    """Whether a text may be what was redacted: it has what was kept of it, in order."""
    if "⟦" not in kept:
        return False
    first, *rest = _PLACEHOLDER.split(kept)
    if not rest or not text.startswith(first):
        return False
    last = rest.pop()
    at = len(first)
    for piece in rest:
        found = text.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return len(text) - at >= len(last) and text.endswith(last)
