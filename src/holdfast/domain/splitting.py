"""Texts cut into chunks: at paragraphs where they fit, else at sentences, words, anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.errors import InvalidInput

SIZE_TOKENS = 300
OVERLAP_TOKENS = 40

CHARS_PER_TOKEN = 4
"""What LangChain's approximate count takes too; a tokenizer of the model's own may differ."""

_BREAKS = (
    re.compile(r"(?:\r?\n[ \t]*){2,}"),  # paragraphs
    re.compile(r"\r?\n"),  # lines
    re.compile(r"(?<=[.!?…])[\"')\]»”]*\s+|(?<=[。！？])"),  # sentences
    re.compile(r"\s+"),  # words
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text.

    Attributes:
        start: where it begins, in characters.
        end: where it ends, exclusive.
        text: what stands there.
    """

    start: int
    end: int
    text: str

    @property
    def tokens(self) -> int:
        """About how many."""
        return tokens_of(self.text)


def tokens_of(text: str) -> int:
    """About how many tokens a text has."""
    return -(-len(text) // CHARS_PER_TOKEN)


def split(text: str, *, size: int = SIZE_TOKENS, overlap: int = OVERLAP_TOKENS) -> list[Piece]:
    """Cut a text so that every character but white space around the pieces is in some piece.

    Args:
        text: what to cut.
        size: most tokens of a piece, about.
        overlap: about so many tokens a piece repeats of the one before, in whole sentences or
            words.

    Raises:
        InvalidInput: no piece could be made so.
    """
    if size < 1 or not 0 <= overlap < size:
        raise InvalidInput(
            f"chunks of {size} tokens with an overlap of {overlap} cannot be made",
            fields=[{"field": "overlap", "expected": "0 to below size", "got": str(overlap)}],
        )
    most, again = size * CHARS_PER_TOKEN, overlap * CHARS_PER_TOKEN
    units = [unit for unit in _units(text, 0, len(text), most, 0) if text[slice(*unit)].strip()]
    pieces: list[Piece] = []
    first = 0
    while first < len(units):
        last = first
        while last + 1 < len(units) and units[last + 1][1] - units[first][0] <= most:
            last += 1
        pieces.append(_piece(text, units[first][0], units[last][1]))
        first = _next(text, units, first, last, most, again)
    return pieces


def _next(
    text: str, units: list[tuple[int, int]], first: int, last: int, most: int, again: int
) -> int:
    """The unit that the next piece begins with: some of this one again, if it gets further so."""
    if last + 1 >= len(units):
        return len(units)
    begin = last + 1
    while (
        begin - 1 > first
        and units[last][1] - units[begin - 1][0] <= again
        and units[last + 1][1] - units[begin - 1][0] <= most
    ):
        begin -= 1
    if begin == last + 1 and again and units[last][1] - units[last][0] > again:
        tail = _tail(text, units[last], again)
        if tail is not None and units[last + 1][1] - tail <= most:
            units[last] = (tail, units[last][1])
            return last
    return begin


def _tail(text: str, unit: tuple[int, int], again: int) -> int | None:
    """Where the last words of a unit begin, as far as they fit."""
    found = _BREAKS[-1].search(text, unit[1] - again, unit[1])
    return found.end() if found is not None and found.end() < unit[1] else None


def _units(text: str, start: int, end: int, most: int, level: int) -> Iterator[tuple[int, int]]:
    """Parts that are not cut further: paragraphs, or smaller ones where they are too long."""
    if end - start <= most and level > 0:
        yield start, end
        return
    if level == len(_BREAKS):
        for at in range(start, end, most):
            yield at, min(at + most, end)
        return
    at = start
    for found in _BREAKS[level].finditer(text, start, end):
        if found.end() > at:
            yield from _units(text, at, found.end(), most, level + 1)
            at = found.end()
    if at < end:
        yield from _units(text, at, end, most, level + 1)


def _piece(text: str, start: int, end: int) -> Piece:
    body = text[start:end]
    start += len(body) - len(body.lstrip())
    end = start + len(body.strip())
    return Piece(start, end, text[start:end])
