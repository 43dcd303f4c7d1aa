"""Which classes a checkpoint may hold: found by following type hints from a few beginnings."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, cast, get_args, get_type_hints

from pydantic import BaseModel


def kept_types(hints: Iterable[Any]) -> set[type[Any]]:
    """The pydantic models, dataclasses and enums that values of these types may consist of."""
    found: set[type[Any]] = set()
    left = list(hints)
    while left:
        hint = left.pop()
        left += [part for part in get_args(hint) if part is not hint]
        if not inspect.isclass(hint) or hint in found:
            continue
        if issubclass(hint, BaseModel | Enum) or is_dataclass(hint):
            found.add(hint)
        if issubclass(hint, BaseModel):
            left += [field.annotation for field in hint.model_fields.values()]
        elif not issubclass(hint, Enum):
            left += members_of(hint)
    return found


def members_of(kind: Any) -> list[Any]:
    """Type hints of a class's or a function's members; none where they cannot be told."""
    try:
        return list(get_type_hints(kind).values())
    except (NameError, TypeError, AttributeError):  # types that exist only for type checkers
        return []


def result_hints(functions: Iterable[object]) -> Iterator[Any]:
    """What functions say they return."""
    for fn in functions:
        target: Any = fn if inspect.isroutine(fn) else cast("Any", type(fn)).__call__
        try:
            yield get_type_hints(inspect.unwrap(target)).get("return")
        except (NameError, TypeError, ValueError):
            continue
