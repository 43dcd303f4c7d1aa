"""What agents remember for long: items under namespaces, as LangGraph's stores have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from holdfast.errors import InvalidInput

Namespace = tuple[str, ...]

SEPARATOR = "\x1f"
"""Between the labels of a namespace as it is stored: ASCII's own unit separator."""

AFTER_SEPARATOR = "\x20"
"""The character that follows it: where all under a prefix ends."""

MAX_DEPTH = 20
MAX_LABEL_CHARS = 200
MAX_KEY_CHARS = 500
MAX_VALUE_BYTES = 1024 * 1024

OPERATORS = frozenset({"$eq", "$ne", "$gt", "$gte", "$lt", "$lte"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """An item before it is stored; it takes the place of the one with its namespace and key.

    Attributes:
        value: anything JSON.
        ttl_s: seconds that it is kept; None: for good.
        vector: its embedding, float32, little-endian, of length 1; None: it is not found by
            likeness.
        embedded_by: what made the vector, `str(Embedding)`; vectors of two kinds are never
            compared.
    """

    namespace: Namespace
    key: str
    value: Mapping[str, Any]
    ttl_s: float | None = None
    vector: bytes | None = field(default=None, repr=False)
    embedded_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A stored item.

    Attributes:
        expires_at: not there any more from then on, microseconds; None: stays.
        ttl_s: by how much a reading puts that off.
        score: likeness to what was searched for, at most 1; None: nobody asked for it.
        vector: its embedding; None: it has none, or nobody asked for it.
        embedded_by: what made it.
    """

    namespace: Namespace
    key: str
    value: Mapping[str, Any]
    created_at: int
    updated_at: int
    expires_at: int | None
    ttl_s: float | None
    score: float | None = None
    vector: bytes | None = field(default=None, repr=False)
    embedded_by: str | None = None


def joined(namespace: Sequence[str]) -> str:
    """A namespace as it is stored; the empty one, above all others, as an empty text.

    Raises:
        InvalidInput: too deep, or a label that is empty, too long or has control characters.
    """
    if len(namespace) > MAX_DEPTH:
        raise _refusal("namespace", f"at most {MAX_DEPTH} labels", len(namespace))
    for label in namespace:
        if not label or len(label) > MAX_LABEL_CHARS or not _clean(label):
            expected = f"labels of 1 to {MAX_LABEL_CHARS} characters, none of them for control"
            raise _refusal("namespace", expected, ascii(label)[:100])
    return SEPARATOR.join(namespace)


def apart(stored: str) -> Namespace:
    """The inverse of `joined`."""
    return tuple(stored.split(SEPARATOR)) if stored else ()


def check_item(item: NewItem) -> None:
    """Refuse what cannot be stored as it is.

    Raises:
        InvalidInput: names the place.
    """
    if not item.namespace:
        raise _refusal("namespace", "at least one label", "none")
    joined(item.namespace)
    if not item.key or len(item.key) > MAX_KEY_CHARS or not _clean(item.key):
        raise _refusal("key", f"1 to {MAX_KEY_CHARS} characters", ascii(item.key)[:100])
    if item.ttl_s is not None and item.ttl_s <= 0:
        raise _refusal("ttl", "more than 0", item.ttl_s)
    if (item.vector is None) != (item.embedded_by is None):
        raise _refusal("vector", "a vector together with what made it", item.embedded_by)


def fits(value: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether an item's value has what a filter wants.

    A plain value must be equal, a mapping must have at least what is wanted of it; `{"$gt": 3, …}`
    compares, all of it must hold. What cannot be compared does not fit; what is not there is null.

    Raises:
        InvalidInput: an operator that there is not.
    """
    return all(_meets(value.get(key), asked) for key, asked in wanted.items())


def _meets(found: Any, asked: Any) -> bool:
    if isinstance(asked, Mapping):
        inside = cast("Mapping[str, Any]", asked)
        if any(name.startswith("$") for name in inside):
            return all(_holds(name, found, other) for name, other in inside.items())
        return isinstance(found, Mapping) and fits(cast("Mapping[str, Any]", found), inside)
    if isinstance(asked, list | tuple):
        ones = cast("Sequence[Any]", found if isinstance(found, list | tuple) else (found,))
        others = cast("Sequence[Any]", asked)
        same = ones is found and len(ones) == len(others)
        return same and all(map(_meets, ones, others))
    return _same(found, asked)


def _same(found: Any, other: Any) -> bool:
    # Python takes true for 1, JSON does not.
    return isinstance(found, bool) == isinstance(other, bool) and found == other


def _holds(operator: str, found: Any, other: Any) -> bool:
    if operator not in OPERATORS:
        raise _refusal("filter", f"one of {', '.join(sorted(OPERATORS))}", operator)
    if operator == "$eq":
        return _same(found, other)
    if operator == "$ne":
        return not _same(found, other)
    try:
        match operator:
            case "$gt":
                return found > other
            case "$gte":
                return found >= other
            case "$lt":
                return found < other
            case _:
                return found <= other
    except TypeError:  # of two kinds, or not there
        return False


def _clean(text: str) -> bool:
    return not any(char < " " or "\ud800" <= char <= "\udfff" for char in text)


def _refusal(name: str, expected: str, got: Any) -> InvalidInput:
    return InvalidInput(
        f"a memory item's {name} is refused: expected {expected}",
        fields=[{"field": name, "expected": expected, "got": got}],
    )
