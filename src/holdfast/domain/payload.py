"""The texts of one execution: each distinct value once, pointed to by index.

A step's input is mostly what earlier steps produced, and a model call's messages are mostly the
previous call's. `Texts` takes values apart at their top levels, keeps each part once and hands
out small indexes; `Payload` puts a value together again. An entry is one of:

    ["v", value]                    a plain value
    ["d", {key: v}, [key, …]]       an object; the values of the listed keys are indexes
    ["l", [index, …]]               a list
    ["p", index, [index, …]]        the list at `index` plus these (a growing message list)
    ["s", text]                     a text likely to come again (system prompt): becomes "b"
    ["b", hash]                     a shared text, kept once per owner in `blobs`
    ["e"]                           the event's own data

Entries are JSON; indexes start at 0 and only point backwards, so a cut-off tail leaves the rest
readable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import orjson

Entry = list[Any]

SPLIT_DEPTH = 3
"""Levels of objects and lists that are taken apart; deeper ones are kept whole."""

INLINE_BYTES = 48
"""Members whose JSON is no longer than this stay inside their object."""

EVENT_ENTRY: Entry = ["e"]


def jsonable(value: Any) -> Any:
    """Fallback for what JSON has no form for; the result says what it was.

    Pydantic models become objects, sets lists, LangChain messages their fields; anything else
    becomes `{"repr": …, "type": …}` so that a record never silently loses a value.
    """
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        try:
            return dump(mode="json")
        except Exception:  # noqa: BLE001 - a model that cannot dump itself is shown as it prints
            return _repr(value)
    if isinstance(value, set | frozenset | tuple):
        return list(cast("Sequence[Any]", value))
    if isinstance(value, bytes | bytearray):
        return {"bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, BaseException):
        return {"type": type(value).__name__, "message": str(value)}
    if isinstance(value, Mapping):
        return {str(k): v for k, v in cast("Mapping[Any, Any]", value).items()}
    return _repr(value)


def _repr(value: Any) -> dict[str, str]:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - even a broken __repr__ must not end a run
        text = f"<no repr: {type(error).__name__}>"
    return {"repr": text[:2000], "type": f"{type(value).__module__}.{type(value).__qualname__}"}


_OPTIONS = orjson.OPT_NON_STR_KEYS


def encode(value: Any) -> bytes:
    """JSON bytes of any value; what JSON cannot express is replaced by a description of it."""
    try:
        return orjson.dumps(value, default=jsonable, option=_OPTIONS)
    except TypeError:
        # Too deep, an integer beyond 64 bits, a lone surrogate: keep what it looks like.
        return orjson.dumps(_repr_safe(value))


def _repr_safe(value: Any) -> dict[str, str]:
    described = _repr(value)
    described["repr"] = described["repr"].encode("utf-8", "backslashreplace").decode("utf-8")
    return described


class Texts:
    """The growing pool of one execution, on the side that runs it."""

    __slots__ = ("_entries", "_index", "_lists", "_taken")

    def __init__(self, *event_forms: bytes) -> None:
        """Start a pool whose index 0 stands for the event's data.

        Args:
            event_forms: JSON spellings of the data; a value that encodes to one of them is index 0.
        """
        self._index: dict[bytes, int] = {}
        self._entries: list[bytes] = []
        self._lists: list[tuple[int, list[int]]] = []  # lists that later ones may extend
        self._taken = 0
        for form in event_forms:
            self._index[b"v" + form] = 0
        self._entries.append(orjson.dumps(EVENT_ENTRY))

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, value: Any, depth: int = SPLIT_DEPTH) -> int:
        """Keep `value` and return its index; a value seen before gets the index it had."""
        if depth and isinstance(value, dict):
            return self._add_object(cast("dict[Any, Any]", value), depth)
        if depth and isinstance(value, list | tuple) and value:
            items = [self.add(item, depth - 1) for item in cast("Sequence[Any]", value)]
            return self._keep(b'["l",' + orjson.dumps(items) + b"]")
        return self._add_plain(encode(value))

    def add_shared(self, text: str) -> int:
        """Keep a text that many executions share (a system prompt, a tool's schema)."""
        return self._keep(b'["s",' + encode(text) + b"]")

    def add_object(self, plain: Mapping[str, Any], pointed: Mapping[str, int]) -> int:
        """Keep an object some of whose members were kept before and are given by index."""
        return self._keep(encode(["d", {**plain, **pointed}, list(pointed)]))

    def add_growing_list(self, items: list[int]) -> int:
        """Keep a list of indexes as what it adds to an earlier one it begins with.

        A model call's messages are the previous call's plus a few: kept so, a conversation of n
        turns costs n entries and not n squared.
        """
        best: tuple[int, list[int]] | None = None
        for index, known in reversed(self._lists):
            if (best is None or len(known) > len(best[1])) and items[: len(known)] == known:
                best = (index, known)
        if best is not None and len(best[1]) == len(items):
            return best[0]
        if best is not None and len(best[1]) > 1:
            index = self._keep(encode(["p", best[0], items[len(best[1]) :]]))
        else:
            index = self._keep(encode(["l", items]))
        self._lists.append((index, items))
        return index

    def take_new(self) -> list[orjson.Fragment]:
        """The entries added since the last call, ready to be placed in a larger JSON value."""
        if self._taken == len(self._entries):
            return []
        new = [orjson.Fragment(entry) for entry in self._entries[self._taken :]]
        self._taken = len(self._entries)
        return new

    def _add_object(self, value: dict[Any, Any], depth: int) -> int:
        members: dict[str, int | orjson.Fragment] = {}
        pointed: list[str] = []
        for key, member in value.items():
            name = str(key)
            if isinstance(member, dict | list | tuple) and member and depth > 1:
                members[name] = self.add(member, depth - 1)
                pointed.append(name)
                continue
            body = encode(member)
            if len(body) <= INLINE_BYTES:
                members[name] = orjson.Fragment(body)
            else:
                members[name] = self._add_plain(body)
                pointed.append(name)
        return self._keep(encode(["d", members, pointed]))

    def _add_plain(self, body: bytes) -> int:
        index = self._index.get(b"v" + body)
        if index is None:
            index = self._index[b"v" + body] = len(self._entries)
            self._entries.append(b'["v",' + body + b"]")
        return index

    def _keep(self, entry: bytes) -> int:
        index = self._index.get(entry)
        if index is None:
            index = self._index[entry] = len(self._entries)
            self._entries.append(entry)
        return index


class Payload:
    """The texts of one execution on the side that reads them."""

    __slots__ = ("_blobs", "_entries", "_event_data", "_known")

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        event_data: Any = None,
        blobs: Callable[[str], str] | None = None,
    ) -> None:
        """Wrap decoded entries.

        Args:
            entries: in index order.
            event_data: what an "e" entry stands for.
            blobs: text of a shared hash; needed only where "b" entries occur.
        """
        self._entries = entries
        self._event_data = event_data
        self._blobs = blobs
        self._known: dict[int, Any] = {}

    def get(self, index: int | None) -> Any:
        """The value at `index`; None for None.

        Raises:
            LookupError: the index or the shared text does not exist.
        """
        if index is None:
            return None
        if index not in self._known:
            self._known[index] = self._build(self._entries[index])
        return self._known[index]

    def _build(self, entry: Entry) -> Any:
        match entry:
            case ["v", value] | ["s", value]:
                return value
            case ["d", members, pointed]:
                return {**members, **{key: self.get(members[key]) for key in pointed}}
            case ["l", items]:
                return [self.get(i) for i in items]
            case ["p", base, items]:
                return [*self.get(base), *(self.get(i) for i in items)]
            case ["e"]:
                return self._event_data
            case ["b", digest]:
                if self._blobs is None:
                    raise LookupError(f"shared text {digest} is not at hand")
                return self._blobs(digest)
            case _:
                raise LookupError(f"unknown payload entry {entry[:1]!r}")


def text_hash(text: str) -> str:
    """Identity of a shared text: BLAKE2b-128 as 32 hex digits."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
