"""A card's values held against its shapes, each complaint at its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError

from .faults import Faults, near
from .model import EMPTY_KEY, CardShape, Shape
from .reader import Reader


def read_card(text: str, faults: Faults) -> CardShape | None:
    """A card's text as its shape; None when that cannot be had, the faults say why."""
    values = Reader(faults).read(text)
    if faults.found:
        return None
    if not isinstance(values, dict):
        faults.add((), "a card is a mapping: name, version, event, steps")
        return None
    try:
        return CardShape.model_validate(values)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            _shape_fault(item, faults)
        return None


def _shape_fault(item: Any, faults: Faults) -> None:
    path: tuple[str | int, ...] = ()
    for part in item["loc"]:  # parts that stand for a choice between shapes are no keys
        if (*path, part) in faults.places:
            path = (*path, part)
    last = item["loc"][-1] if item["loc"] else ""
    message: str = item["msg"].removeprefix("Value error, ")
    match item["type"]:
        case "missing":
            faults.add(path, f'"{last}" is missing')
        case "extra_forbidden":
            known = _known_keys(item["loc"][:-1])
            hint = near(str(last), known)
            faults.add(path, f'there is no key "{last}" here', hint=hint, key=True)
        case kind if kind == EMPTY_KEY:
            faults.add((*path, item["ctx"]["key"]), message, key=True)
        case "string_type" if isinstance(item["input"], int | float):
            faults.add(path, "this must be a text", hint="put it in quotes")
        case _:
            faults.add(path, message[:1].lower() + message[1:])


def _known_keys(path: Sequence[str | int]) -> set[str]:
    """The keys that the shape at a place of a card has."""
    kind: Any = CardShape
    for part in path:
        kind = _below(kind, part)
    return {
        field.alias or name
        for shape in _choices(kind)
        if isinstance(shape, type) and issubclass(shape, Shape)
        for name, field in shape.model_fields.items()
    }


def _below(kind: Any, part: str | int) -> Any:
    choices = list(_choices(kind))
    if str in choices and part in ("name", "fields"):  # which of the choices was meant
        return kind
    for one in choices:
        if get_origin(one) in (dict, list):
            return get_args(one)[-1]
        if isinstance(one, type) and issubclass(one, Shape):
            for name, field in one.model_fields.items():
                if part in (name, field.alias):
                    return field.annotation
    return None


def _choices(kind: Any) -> Iterator[Any]:
    if get_origin(kind) is Annotated:
        yield from _choices(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for one in get_args(kind):
            yield from _choices(one)
    else:
        yield kind
