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
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, cast

import orjson

Entry = list[Any]

SPLIT_DEPTH = 3
"""Levels of objects and lists that are taken apart; deeper ones are kept whole."""

INLINE_BYTES = 48
"""Members whose JSON is no longer than this stay inside their object."""

INLINE_CHARS = INLINE_BYTES - 2
"""The same for a text, without its quotes."""

EVENT_ENTRY: Entry = ["e"]


MAX_NESTING = 200
"""Levels of one kept value: a reader's JSON nests it a little deeper, and writers stop at 254."""

MAX_REPR_CHARS = 2000

LONG_NUMBER = 10**6
"""From here on a whole number may be somebody's: of a card, of a customer."""

LOST_ENTRY: Entry = ["v", {"lost": "this text did not reach the record"}]
"""Stands where an entry was lost on its way, so that the indexes after it still hold."""


def jsonable(value: Any) -> Any:
    """Fallback for what JSON has no form for; the result says what it was.

    Pydantic models become objects, sets lists, LangChain messages their fields; anything else
    becomes `{"repr": …, "type": …}` so that a record never silently loses a value.
    """
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        try:
            dumped = dump(mode="json")
            return (
                _described(dumped, MAX_NESTING, frozenset()) if _has_non_finite(dumped) else dumped
            )
        except Exception:  # noqa: BLE001 - a model that cannot dump itself is shown as it prints
            return _repr(value)
    if isinstance(value, set | frozenset | tuple):
        return list(cast("Sequence[Any]", value))
    if isinstance(value, bytes | bytearray):
        return {"bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, BaseException):
        return {"type": type(value).__name__, "message": message_of(value)}
    if isinstance(value, Mapping):
        return {str(k): v for k, v in cast("Mapping[Any, Any]", value).items()}
    return _repr(value)


def message_of(error: BaseException) -> str:
    """What an error says, even if it cannot say it."""
    try:
        return printable(str(error))
    except Exception as broken:  # noqa: BLE001 - even a broken __str__ must not end a run
        return f"<no message: {type(broken).__name__}>"


def printable(text: str) -> str:
    """The text with lone surrogates, which UTF-8 has no form for, as visible escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _repr(value: Any) -> dict[str, str]:
    try:
        text = printable(repr(value))
    except Exception as error:  # noqa: BLE001 - even a broken __repr__ must not end a run
        text = f"<no repr: {type(error).__name__}>"
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    return {"repr": text[:MAX_REPR_CHARS], "type": kind}


_OPTIONS = orjson.OPT_NON_STR_KEYS


def encode(value: Any) -> bytes:
    """JSON bytes of any value; what JSON cannot express is replaced by a description of it."""
    try:
        body = orjson.dumps(value, default=jsonable, option=_OPTIONS)
    except TypeError:
        # Too deep or circular, an integer beyond 64 bits, a lone surrogate, a key of another kind.
        return _encode_in_parts(value)
    # The writer makes null of NaN and infinities, and goes deeper than its readers' writers.
    if b"null" in body and value is not None and _has_non_finite(value):
        return _encode_in_parts(value)
    if body.count(b"[") + body.count(b"{") > MAX_NESTING and _too_deep(orjson.loads(body)):
        return _encode_in_parts(value)
    return body


def _encode_text(text: str) -> bytes:
    """`encode` of a text: the same bytes, without a look for what no text has."""
    try:
        return orjson.dumps(text)
    except TypeError:  # a lone surrogate
        return _encode_in_parts(text)


def _encode_in_parts(value: Any) -> bytes:
    """Like `encode`, but only the parts that JSON cannot express are replaced."""
    return orjson.dumps(_described(value, MAX_NESTING, frozenset()))


def _described(value: Any, room: int, above: frozenset[int]) -> Any:
    """A copy with a description in place of what JSON has no form for.

    Args:
        value: anything.
        room: levels it may still have.
        above: ids of the containers it is in, to find circles.
    """
    match value:
        case None | bool():
            return value
        case str():
            return printable(value)
        case int():
            return int(value) if -(2**63) <= value < 2**64 else _repr(value)
        case float():
            return float(value) if math.isfinite(value) else _repr(value)
        case _ if room <= 0 or id(value) in above:
            return _repr(value)
        case dict():
            given = cast("dict[Any, Any]", value)
            return _described_object(given, room, above | {id(given)})
        case list() | tuple() | set() | frozenset():
            items = cast("Sequence[Any]", value)
            inside = above | {id(items)}
            return [_described(item, room - 1, inside) for item in items]
        case _:
            return _described_other(value, room, above)


def _described_object(value: Mapping[Any, Any], room: int, above: frozenset[int]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, member in list(value.items()):
        name = printable(str.__str__(key)) if isinstance(key, str) else _repr(key)["repr"]
        while name in members:  # 1 and "1"
            name += "'"
        members[name] = _described(member, room - 1, above)
    return members


def _described_other(value: Any, room: int, above: frozenset[int]) -> Any:
    inside = above | {id(value)}
    if is_dataclass(value) and not isinstance(value, type):
        return _described(_members(value), room, inside)
    try:
        simpler = jsonable(value)
    except Exception:  # noqa: BLE001 - an object that fails whatever it is asked
        return _repr(value)
    if isinstance(simpler, dict) and simpler.keys() == {"repr", "type"}:
        try:  # a date, an identifier: the writer has a form for it
            return orjson.Fragment(orjson.dumps(value))
        except TypeError:
            return cast("Any", simpler)
    return _described(simpler, room, inside)


def _members(value: Any) -> dict[str, Any]:
    return {one.name: getattr(value, one.name, None) for one in fields(value)}


def _inside(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return cast("dict[Any, Any]", node).values()
    if is_dataclass(node) and not isinstance(node, type):
        return _members(node).values()
    return cast("Sequence[Any]", node) if isinstance(node, list | tuple) else ()


def _has_non_finite(value: Any) -> bool:
    left: list[Any] = [value]
    for one in left:  # grows as it goes; ends: the writer found no circle
        kind = cast("type[Any]", type(one))
        if kind is str or kind is int or one is None:
            continue
        if kind is dict:
            left += one.values()
        elif isinstance(one, float):
            if not math.isfinite(one):
                return True
        else:
            left += _inside(one)
    return False


def _too_deep(decoded: Any) -> bool:
    """Whether it has more than `MAX_NESTING` levels."""
    level: list[Any] = [decoded]
    for _ in range(MAX_NESTING):
        children = (one for node in level for one in _inside(node))
        level = [one for one in children if isinstance(one, dict | list)]
        if not level:
            return False
    return True


class Texts:
    """The growing pool of one execution, on the side that runs it; for any thread."""

    __slots__ = ("_entries", "_index", "_lists", "_lock", "_redact", "_shared", "_taken", "_texts")

    def __init__(
        self, *event_forms: bytes, before: int = 0, redact: Callable[[str], str] | None = None
    ) -> None:
        """Start a pool whose index 0 stands for the event's data.

        Args:
            event_forms: JSON spellings of the data; a value that encodes to one of them is index 0.
            before: entries that earlier parts of the record have; only their number counts.
            redact: what is kept of a text; None: all of it.
        """
        self._redact = redact
        self._index: dict[bytes, int] = {}
        self._texts: dict[str, int] = {}  # a text handed on from step to step is encoded once
        self._shared: dict[str, int] = {}
        self._entries: list[bytes] = []
        self._lists: list[tuple[int, list[int]]] = []  # lists that later ones may extend
        self._taken = 0
        self._lock = threading.Lock()
        for form in event_forms:
            # The event keeps its data; a step that was given it must not point there for more
            # than may be kept of it.
            if redact is None or _redacted(_plain(form), redact) == _plain(form):
                self._index[_plain(form)] = 0
        self._entries.append(orjson.dumps(EVENT_ENTRY))
        if before:
            self._entries += [b"null"] * (before - 1)
            self._taken = before

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, value: Any, depth: int = SPLIT_DEPTH) -> int:
        """Keep `value` and return its index; a value seen before gets the index it had."""
        with self._lock:
            return self._add(value, depth)

    def add_whole(self, value: Any) -> int:
        """Keep a value as it is, whatever is redacted elsewhere, and all that comes after it."""
        with self._lock:
            if self._redact is not None:
                # What was kept before stands for redacted texts.
                self._redact = None
                self._index.clear()
                self._texts.clear()
                self._shared.clear()
                self._lists.clear()
            return self._add(value, SPLIT_DEPTH)

    def add_shared(self, text: str) -> int:
        """Keep a text that many executions share (a system prompt, a tool's schema)."""
        with self._lock:
            index = self._shared.get(text)
            if index is None:
                index = self._shared[text] = self._keep(b'["s",' + _encode_text(text) + b"]")
            return index

    def add_object(self, plain: Mapping[str, Any], pointed: Mapping[str, int]) -> int:
        """Keep an object some of whose members were kept before and are given by index."""
        members = {key: orjson.Fragment(encode(value)) for key, value in plain.items()}
        with self._lock:
            return self._keep(orjson.dumps(["d", {**members, **pointed}, list(pointed)]))

    def add_growing_list(self, items: list[int]) -> int:
        """Keep a list of indexes as what it adds to an earlier one it begins with.

        A model call's messages are the previous call's plus a few: kept so, a conversation of n
        turns costs n entries and not n squared.
        """
        with self._lock:
            best: tuple[int, list[int]] | None = None
            for index, known in reversed(self._lists):
                if (best is None or len(known) > len(best[1])) and items[: len(known)] == known:
                    best = (index, known)
            if best is not None and len(best[1]) == len(items):
                return best[0]
            if best is not None and len(best[1]) > 1:
                index = self._keep(orjson.dumps(["p", best[0], items[len(best[1]) :]]))
            else:
                index = self._keep(orjson.dumps(["l", items]))
            self._lists.append((index, items))
            return index

    def take_new(self) -> tuple[int, list[orjson.Fragment]]:
        """The entries added since the last call, ready to be placed in a larger JSON value.

        Returns:
            The index of the first of them, and the entries.
        """
        with self._lock:
            first = self._taken
            new = [orjson.Fragment(entry) for entry in self._entries[first:]]
            self._taken = len(self._entries)
            return first, new

    def _add(self, value: Any, depth: int) -> int:
        if type(value) is str:
            return self._add_text(value)
        if depth and isinstance(value, dict):
            return self._add_object(cast("dict[Any, Any]", value), depth)
        if depth and isinstance(value, list | tuple) and value:
            items = [self._add(item, depth - 1) for item in cast("Sequence[Any]", value)]
            return self._keep(b'["l",' + orjson.dumps(items) + b"]")
        return self._keep(_plain(encode(value)))

    def _add_object(self, value: dict[Any, Any], depth: int) -> int:
        for key in value:
            if type(key) is not str:
                return self._keep(_plain(_encode_in_parts(value)))
        members: dict[str, Any] = {}
        pointed: list[str] = []
        for name, member in value.items():
            kind = cast("type[Any]", type(member))
            if kind is str:
                if len(member) <= INLINE_CHARS:
                    members[name] = member
                else:
                    members[name] = self._add_text(member)
                    pointed.append(name)
            elif member is None or kind is bool or kind is int:
                members[name] = member
            elif isinstance(member, dict | list | tuple) and member and depth > 1:
                members[name] = self._add(member, depth - 1)
                pointed.append(name)
            elif len(body := encode(member)) <= INLINE_BYTES:
                members[name] = orjson.Fragment(body)
            else:
                members[name] = self._keep(_plain(body))
                pointed.append(name)
        try:
            return self._keep(orjson.dumps(["d", members, pointed]))
        except TypeError:  # a lone surrogate, an integer beyond 64 bits
            return self._keep(_plain(_encode_in_parts(value)))

    def _add_text(self, text: str) -> int:
        index = self._texts.get(text)
        if index is None:
            index = self._texts[text] = self._keep(_plain(_encode_text(text)))
        return index

    def _keep(self, entry: bytes) -> int:
        index = self._index.get(entry)
        if index is None:
            kept = entry if self._redact is None else _redacted(entry, self._redact)
            index = self._index[entry] = len(self._entries)
            self._entries.append(kept)
        return index


def _redacted(entry: bytes, redact: Callable[[str], str]) -> bytes:
    """An entry with each text in it redacted; the very same when nothing was taken out."""
    if entry.startswith((b'["l"', b'["p"')):
        return entry
    given = orjson.loads(entry)
    match given:
        case ["d", members, pointed]:
            names = _redacted_names(members, redact)
            changed: Any = [
                "d",
                {
                    names[name]: one if name in pointed else redacted(one, redact)
                    for name, one in members.items()
                },
                [names[name] for name in pointed],
            ]
        case [kind, value]:
            changed = [kind, redacted(value, redact)]
        case _:
            raise ValueError(f"unknown payload entry {given[:1]!r}")
    return entry if given == changed else orjson.dumps(changed)


def redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """A value of JSON with each text in it redacted, names of members and long numbers too."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        names = _redacted_names(members, redact)
        return {names[name]: redacted(one, redact) for name, one in members.items()}
    if isinstance(value, list):
        return [redacted(one, redact) for one in cast("list[Any]", value)]
    if type(value) is int and abs(value) >= LONG_NUMBER:
        text = str(value)
        told = redact(text)
        return value if told == text else told
    return value


def _redacted_names(members: Mapping[str, Any], redact: Callable[[str], str]) -> dict[str, str]:
    names: dict[str, str] = {}
    taken: set[str] = set()
    for name in members:
        told = redact(name)
        while told in taken:  # one was called like a placeholder
            told += "'"
        taken.add(told)
        names[name] = told
    return names


def _plain(body: bytes) -> bytes:
    return b'["v",' + body + b"]"


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
                return [*self._beginning(base), *(self.get(i) for i in items)]
            case ["e"]:
                return self._event_data
            case ["b", digest]:
                if self._blobs is None:
                    raise LookupError(f"shared text {digest} is not at hand")
                return self._blobs(digest)
            case _:
                raise LookupError(f"unknown payload entry {entry[:1]!r}")

    def _beginning(self, base: int) -> Any:
        """The list another one goes on from; a long conversation is a long chain of these."""
        chain: list[int] = []
        while base not in self._known and self._entries[base][0] == "p":
            chain.append(base)
            base = self._entries[base][1]
        found = self.get(base)
        for index in reversed(chain):
            found = self.get(index)
        return found


def text_hash(text: str) -> str:
    """Identity of a shared text: BLAKE2b-128 as 32 hex digits."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
