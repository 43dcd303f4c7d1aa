"""How values and texts lie in columns: JSON that no text can break, zstd for the bulk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import orjson
import zstandard

from holdfast.domain.payload import jsonable

LEVEL = 3
"""zstd level: higher ones cost time and gain nothing on texts of a few KB."""


def to_json(value: Any) -> str:
    """JSON in which every text is safe to store: NUL and lone surrogates are escaped."""
    return _json_bytes(value).decode()


def _json_bytes(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=jsonable)
    except TypeError:  # a lone surrogate, an integer beyond 64 bits, a key that is no string
        return json.dumps(value, ensure_ascii=True, default=jsonable).encode()


def from_json(text: str | bytes) -> Any:
    """The inverse of `to_json`."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # escaped lone surrogates, which orjson refuses
        return json.loads(text)


def plain(text: str) -> str:
    """`text` as every database takes it: NUL and lone surrogates become visible escapes."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


class Frames:
    """Packs and unpacks texts, with a compressor it reuses; for one thread at a time."""

    def __init__(self) -> None:
        self._pack = zstandard.ZstdCompressor(level=LEVEL)
        self._unpack = zstandard.ZstdDecompressor()

    def pack_entries(self, entries: Sequence[Any]) -> tuple[bytes, int]:
        """One frame of all entries, and its size before compression in bytes."""
        raw = _json_bytes(list(entries))
        return self._pack.compress(raw), len(raw)

    def unpack_entries(self, frame: bytes) -> tuple[Any, ...]:
        """The entries of a frame."""
        return tuple(cast("list[Any]", from_json(self._unpack.decompress(frame))))

    def pack_text(self, text: str) -> bytes:
        """One text, whatever characters it has."""
        return self._pack.compress(text.encode("utf-8", "surrogatepass"))

    def unpack_text(self, packed: bytes) -> str:
        """The inverse of `pack_text`."""
        return self._unpack.decompress(packed).decode("utf-8", "surrogatepass")
