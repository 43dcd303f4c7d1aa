"""What is wrong with a card, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from holdfast.errors import CardError

Path = tuple[str | int, ...]
"""A place in a card: keys and indexes from the root."""

TOLD_AT_ONCE = 20
"""Faults that one error message lists; the check lists all."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong; lines and columns count from 1."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: {self.message}{hint}"


@dataclass(slots=True)
class Faults:
    """Collects what is wrong with one card.

    Attributes:
        file: shown in each fault.
        places: line and column of each value, by path.
        keys: line and column of each key.
        found: so far.
    """

    file: str
    places: dict[Path, tuple[int, int]] = field(default_factory=dict[Path, tuple[int, int]])
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict[Path, tuple[int, int]])
    found: list[Fault] = field(default_factory=list[Fault])

    def add(
        self, path: Path, message: str, *, hint: str = "", offset: int = 0, key: bool = False
    ) -> None:
        """Note a fault.

        Args:
            path: where; the nearest place above it that is known.
            message: what is wrong.
            hint: what to do.
            offset: characters into a text that stands in one line.
            key: it is the key and not its value.
        """
        line, column = self.place(path, key=key)
        self.found.append(Fault(self.file, line, column + offset, message, hint))

    def place(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Line and column of a key or its value, or of what is around it."""
        if key and path in self.keys:
            return self.keys[path]
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))

    def sorted(self) -> list[Fault]:
        """By line, each once."""
        return sorted(set(self.found))


def raise_for(faults: Sequence[Fault]) -> None:
    """Raise if there is any.

    Raises:
        CardError: naming them.
    """
    if not faults:
        return
    told = [str(one) for one in faults[:TOLD_AT_ONCE]]
    if more := len(faults) - len(told):
        told.append(f"and {more} more")
    fields: list[dict[str, Any]] = [
        {"field": f"{one.file}:{one.line}:{one.column}", "expected": one.hint, "got": one.message}
        for one in faults
    ]
    raise CardError("; ".join(told), hint="holdfast cards check lists them all", fields=fields)


def near(name: str, known: Sequence[str] | set[str]) -> str:
    """A hint with the nearest name, or with all."""
    close = get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known)) or 'none'}"
