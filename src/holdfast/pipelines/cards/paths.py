"""References: `${step.field}`, `${input.field}`, `${variables.name}`, and what they point to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast

from pydantic import BaseModel

from holdfast.domain.payload import encode
from holdfast.errors import ExpressionError, MissingValue, NoResult
from holdfast.pipelines.state import Branches, Failure, State, result_of

REFERENCE = r"\$\{\s*[A-Za-z_]\w*(?:\.[A-Za-z_]\w*|\[\d{1,9}\])*\s*\}"

_WHOLE = re.compile(REFERENCE)

_PIECE = re.compile(rf"\$\$\{{|{REFERENCE}|\$\{{")

INPUT, VARIABLES, ITEM, INDEX = "input", "variables", "item", "index"

HEADS = (INPUT, VARIABLES, ITEM, INDEX)
"""What a reference may begin with besides a step's name."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A way to a value: the first part says whose, the others lead into it."""

    head: str
    path: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Out of `${…}`, which must be well formed."""
        parts = re.findall(r"[A-Za-z_]\w*|\[\d+\]", text)
        path = tuple(int(part[1:-1]) if part.startswith("[") else part for part in parts[1:])
        return cls(parts[0], path)

    def __str__(self) -> str:
        return f"${{{self.upto(len(self.path))}}}"

    def upto(self, n: int) -> str:
        """Head and the first parts of the path, as they are written."""
        parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path[:n])
        return self.head + "".join(parts)

    def value(self, state: State, variables: Mapping[str, Any]) -> Any:
        """What it points to in a run.

        Raises:
            MissingValue: it leads nowhere; the message names how far it goes.
            NoResult: the step has no result.
        """
        match self.head:
            case "input":
                value = state.event
            case "variables":
                value = variables
            case "item":
                value = state.item
            case "index":
                value = state.index
            case step:
                value = result_of(state.results, step, step)
        for n, part in enumerate(self.path):
            value = self._into(value, part, n)
        return value

    def _into(self, value: Any, part: str | int, n: int) -> Any:
        whole, before = self.upto(n + 1), self.upto(n)
        if isinstance(part, int):
            if isinstance(value, list | tuple):
                items = cast("Sequence[Any]", value)
                if part < len(items):
                    return self._good(items[part], whole)
                raise MissingValue(f"{self}: {before} has {len(items)} items, no [{part}]")
            raise MissingValue(f"{self}: {before} is {_kind(value)}, no list")
        known = members(value)
        if known is None:
            raise MissingValue(f"{self}: {before} is {_kind(value)} and has no fields")
        if part not in known:
            told = ", ".join(map(str, list(known)[:20])) or "none"
            raise MissingValue(f"{self}: {before} has no {part}", hint=f"it has: {told}")
        return self._good(known[part], whole)

    def _good(self, value: Any, whole: str) -> Any:
        if isinstance(value, Failure):
            raise NoResult(f"{self}: {whole} failed with {value.message}")
        return value


def members(value: Any) -> Mapping[str, Any] | None:
    """The data that a value is made of, by name; attributes and methods are none of it."""
    if isinstance(value, Branches | Mapping):
        return cast("Mapping[str, Any]", value)
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields} | (
            value.model_extra or {}
        )
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return None


def _kind(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


def pieces(text: str) -> Iterator[tuple[str | Reference | None, int]]:
    """The parts of a text with their offsets: plain text, references, None for a broken one."""
    at = 0
    for found in _PIECE.finditer(text):
        if found.start() > at:
            yield text[at : found.start()], at
        whole = found.group()
        if whole == "$${":
            yield "${", found.start()
        elif whole == "${":
            yield None, found.start()
        else:
            yield Reference.parse(whole), found.start()
        at = found.end()
    if at < len(text):
        yield text[at:], at


def is_reference(text: str) -> bool:
    """Whether a text is one reference and nothing else."""
    return _WHOLE.fullmatch(text) is not None


def references_in(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[Any]:
    """Every `(path, reference or None, offset)` in a value of the card."""
    if isinstance(value, str):
        for piece, offset in pieces(value):
            if not isinstance(piece, str):
                yield path, piece, offset
    elif isinstance(value, Mapping):
        for key, item in cast("Mapping[str, Any]", value).items():
            yield from references_in(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[Any]", value)):
            yield from references_in(item, (*path, index))


def filled(value: Any, state: State, variables: Mapping[str, Any]) -> Any:
    """A value of the card with its references replaced by what they point to.

    A text that is one reference gives the value itself; in a longer one it becomes text.

    Raises:
        MissingValue: a reference leads nowhere.
        NoResult: a step has no result.
        ExpressionError: null would have to become text.
    """
    if isinstance(value, str):
        if is_reference(value):
            return Reference.parse(value).value(state, variables)
        return "".join(
            _as_text(piece, piece.value(state, variables))
            if isinstance(piece, Reference)
            else piece or ""
            for piece, _ in pieces(value)
        )
    if isinstance(value, Mapping):
        given = cast("Mapping[str, Any]", value)
        return {key: filled(item, state, variables) for key, item in given.items()}
    if isinstance(value, list):
        return [filled(item, state, variables) for item in cast("list[Any]", value)]
    return value


def _as_text(reference: Reference, value: Any) -> str:
    if value is None:
        raise ExpressionError(f"{reference} is null and cannot become part of a text")
    if isinstance(value, str):
        return str(value)
    return encode(value).decode()
