"""Finds markup that would run, load or hide something where a text is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .findings import Finding

_PATTERNS = (
    (
        "active tag",
        re.compile(
            r"(?i)</?\s{0,5}(?:script|iframe|object|embed|applet|base|form)\b[^<>]{0,500}>?"
        ),
    ),
    (
        "event attribute",
        re.compile(r"(?i)\bon[a-z]{3,20}\s{0,5}=\s{0,5}[\"'][^\"'<>]{0,500}[\"']?"),
    ),
    (
        "script address",
        re.compile(r"(?i)\b(?:javascript|vbscript)\s{0,3}:[^\s\"'<>]{0,500}|\bdata:text/html\b"),
    ),
    (
        "image that carries data",
        re.compile(r"!\[[^\[\]\n]{0,200}\]\(https?://[^\s()?]{1,300}\?[^\s()]{1,500}\)"),
    ),
    (
        "hidden letters",
        re.compile("(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0020-\U000e007f]+"),
    ),
    ("reversed reading order", re.compile("[\u202d\u202e]")),
    ("invisible letters", re.compile("(?<=\\w)[\u200b\u2060\u2062-\u2064]+(?=\\w)")),
)


def look(text: str) -> Iterator[Finding]:
    """Find harmful markup in a text."""
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            yield Finding(kind=kind, start=match.start(), end=match.end())
