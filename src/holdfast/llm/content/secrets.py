"""Finds keys and passwords: the vendors' own formats, key blocks, and what is called a secret."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from .findings import Finding

_BLOCK_CHARS = 16_384  # a longer private key is none

_MIN_ENTROPY = 3.0  # bits per character; words and dates stay below, random tokens above

# Each begins with a fixed text and repeats one class of characters within bounds: linear.
_FORMATS = (
    ("Anthropic key", re.compile(r"\bsk-ant-[A-Za-z0-9_-]{20,200}")),
    ("OpenAI key", re.compile(r"\bsk-(?!ant-)[A-Za-z0-9_-]{20,200}")),
    ("Google key", re.compile(r"\bAIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])")),
    ("AWS key", re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")),
    ("GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{40,255})")),
    ("GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_-]{20,100}")),
    ("Slack token", re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,200}")),
    ("Stripe key", re.compile(r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,200}")),
    ("Hugging Face token", re.compile(r"\bhf_[A-Za-z0-9]{30,60}")),
    ("npm token", re.compile(r"\bnpm_[A-Za-z0-9]{36}\b")),
    (
        "JSON web token",
        re.compile(r"\beyJ[\w-]{10,2000}\.eyJ[\w-]{10,4000}\.[\w-]{10,1000}"),
    ),
)

_BLOCK = re.compile(r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----")
_BLOCK_END = re.compile(r"-----END [A-Z ]{0,20}PRIVATE KEY-----")

_NAMED = re.compile(
    r"(?i)(?:api[_ -]?key|secret|token|passwor[dt]|passwd|authorization|bearer)"
    r"[\"']?\s{0,3}(?:[:=]\s{0,3}|\s)(?:bearer\s|basic\s)?[\"']?([A-Za-z0-9_/+=.~-]{12,200})"
)


def look(text: str) -> Iterator[Finding]:
    """Find secrets in a text."""
    for kind, pattern in _FORMATS:
        for match in pattern.finditer(text):
            yield Finding(kind=kind, start=match.start(), end=match.end())
    yield from _blocks(text)
    for match in _NAMED.finditer(text):
        if _random(match[1]):
            yield Finding(kind="secret", start=match.start(1), end=match.end(1))


def _blocks(text: str) -> Iterator[Finding]:
    at = 0
    while (begin := _BLOCK.search(text, at)) is not None:
        end = _BLOCK_END.search(text, begin.end(), begin.end() + _BLOCK_CHARS)
        # One without an end was cut off; what is there of it is the key.
        at = end.end() if end else min(len(text), begin.end() + _BLOCK_CHARS)
        yield Finding(kind="private key", start=begin.start(), end=at)


def _random(token: str) -> bool:
    """Whether a token looks drawn by chance: digits and letters mixed, few repeats."""
    if not (any(c.isdigit() for c in token) and any(c.isalpha() for c in token)):
        return False
    size = len(token)
    entropy = -sum(n / size * math.log2(n / size) for n in Counter(token).values())
    return entropy >= _MIN_ENTROPY
