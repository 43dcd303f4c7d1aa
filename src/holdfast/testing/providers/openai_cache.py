"""How the fake of OpenAI keeps beginnings of prompts: by itself, or up to a mark."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import orjson

from .base import count_tokens

MINIMUM = 1024
STEP = 128

_MARKED = re.compile(r"(?:openai/)?gpt-(?:5\.(?:[6-9]|\d\d)|[6-9])(?![0-9])")


class PrefixCache:
    """Beginnings of chat prompts, each known by its hash, apart for each `prompt_cache_key`.

    Models before GPT-5.6 keep every beginning of 1,024 tokens and on in steps of 128, and writing
    costs nothing. Later ones keep it up to breakpoints only: explicit ones, and unless the mode
    is explicit the end of the latest message; what is written is counted.
    """

    def __init__(self) -> None:
        self._kept: set[str] = set()

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    def fault(self, body: Mapping[str, Any]) -> str | None:
        """What the real server would refuse."""
        if _MARKED.match(str(body.get("model"))):
            return None
        if "prompt_cache_options" in body or any(marked for *_, marked in _parts(body)):
            return "Prompt cache breakpoints are not supported by this model."
        return None

    def take(self, body: Mapping[str, Any]) -> tuple[int, int]:
        """Tokens read of what is kept, and tokens written to it."""
        if _MARKED.match(str(body.get("model"))):
            return self._take_marked(body)
        prefixes = [(n, digest) for n, digest in _steps(body) if n >= MINIMUM]
        read = max((n for n, digest in prefixes if digest in self._kept), default=0)
        self._kept.update(digest for _, digest in prefixes)
        return read, 0

    def _take_marked(self, body: Mapping[str, Any]) -> tuple[int, int]:
        options: Mapping[str, Any] = body.get("prompt_cache_options") or {}
        total, hashed = 0, _begun(body)
        marks: list[tuple[int, str]] = []
        for text, tokens, marked in _parts(body):
            total += tokens
            hashed.update(orjson.dumps(text))
            if marked and total >= MINIMUM:
                marks.append((total, hashed.hexdigest()))
        if options.get("mode", "implicit") == "implicit" and total >= MINIMUM:
            marks.append((total, hashed.hexdigest()))
        read = max((n for n, digest in marks if digest in self._kept), default=0)
        written = max((n for n, digest in marks if digest not in self._kept), default=read)
        self._kept.update(digest for _, digest in marks)
        return read, max(0, written - read)


def _begun(body: Mapping[str, Any]) -> Any:
    """A hash of what lies before the messages."""
    before = [body.get(name) for name in ("model", "prompt_cache_key", "tools", "response_format")]
    return hashlib.sha256(orjson.dumps(before))


def _steps(body: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """The prompt up to every 128th token, by hash; what a message costs stands before its words."""
    hashed, count = _begun(body), 0
    for (role, text), tokens, _ in _parts(body):
        words = text.split()
        for word in [*[role] * (tokens - len(words)), *words]:
            hashed.update(orjson.dumps(word))
            count += 1
            if count % STEP == 0:
                yield count, hashed.hexdigest()


def _parts(body: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], int, bool]]:
    """The prompt's parts: role and text, tokens, whether it ends with a breakpoint."""
    for message in cast("list[dict[str, Any]]", body.get("messages") or []):
        role, content = str(message.get("role")), message.get("content")
        parts = [{"text": content or ""}]
        if isinstance(content, list):
            parts = cast("list[dict[str, Any]]", content)
        for at, part in enumerate(parts):
            text = str(part.get("text", ""))
            marked = "prompt_cache_breakpoint" in part
            yield (role, text), count_tokens(text) + (3 if at == 0 else 0), marked
