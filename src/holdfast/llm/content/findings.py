"""What a content check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place in a text.

    Attributes:
        kind: what it is (`e-mail`), never what it says.
        start: its first character; None when the check cannot say where it stands.
        end: one past its last character.
        reason: what a flag may quote of it; empty where it must not be repeated.
    """

    kind: str
    start: int | None = None
    end: int | None = None
    reason: str = ""


Look = Callable[[str], Iterable[Finding]]
"""Looks at a text and tells what it finds: pure, and linear in the text's length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentCheck:
    """A named check.

    Attributes:
        name: by which rules ask for it.
        look: finds; spans may overlap and come in any order.
        spans: whether each finding says where it stands, so that it can be taken out.
    """

    name: str
    look: Look
    spans: bool = True
