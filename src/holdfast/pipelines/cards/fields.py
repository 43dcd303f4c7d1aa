"""Fields declared in a card, as pydantic models; and what a type has inside."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields as fields_of
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from .model import FieldShape

_TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list[Any],
    "object": dict[str, Any],
    "any": Any,
}

_LIMITS = {
    "minimum": "ge",
    "maximum": "le",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
}


class BadField(Exception):
    """A field that cannot be meant.

    Attributes:
        path: where in the declaration.
    """

    def __init__(self, path: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.path = path


def model_of(
    name: str, declared: Mapping[str, FieldShape], module: str, place: str
) -> type[BaseModel]:
    """A pydantic model with these fields; values are taken strictly, others refused.

    Args:
        name: of the class, shown in errors and schemas.
        declared: the fields.
        module: where it is said to come from, and
        place: … where in there: a checkpoint tells its classes apart by these two.

    Raises:
        BadField: a name, limit or default cannot be meant.
    """
    made: dict[str, Any] = {}
    for field, shape in declared.items():
        if not field.isidentifier() or field.startswith(("_", "model_")):
            raise BadField((field,), f'"{field}" is no name for a field')
        if field in dir(BaseModel):
            raise BadField((field,), f'the name "{field}" is taken')
        inner = f"{name}{field.title().replace('_', '')}"
        kind = _type(inner, shape, module, f"{place}.{field}", (field,))
        required = shape.required if shape.required is not None else not _has_default(shape)
        default: Any = ... if required else shape.default
        if not required and default is None:
            kind = kind | None
        if _has_default(shape):
            _check_default(kind, shape, field)
        made[field] = (kind, Field(default, description=shape.description or None))
    config = ConfigDict(extra="forbid", strict=True)
    model = create_model(name, __config__=config, __module__=module, **made)
    model.__qualname__ = place
    return model


def _has_default(shape: FieldShape) -> bool:
    return "default" in shape.model_fields_set


def _check_default(kind: Any, shape: FieldShape, field: str) -> None:
    try:
        TypeAdapter(kind).validate_python(shape.default, strict=True)
    except ValidationError as error:
        told = error.errors(include_url=False)[0]["msg"]
        raise BadField((field, "default"), f"the default does not fit: {told}") from error


def _type(name: str, shape: FieldShape, module: str, place: str, path: tuple[str, ...]) -> Any:
    kind = _TYPES[shape.type]
    if shape.items is not None:
        kind = list[_type(name, shape.items, module, f"{place}.items", (*path, "items"))]
    if shape.properties is not None:
        try:
            kind = model_of(name, shape.properties, module, place)
        except BadField as error:
            raise BadField((*path, "properties", *error.path), str(error)) from error
    if shape.enum is not None:
        for value in shape.enum:
            try:
                TypeAdapter(kind).validate_python(value, strict=True)
            except ValidationError:
                raise BadField((*path, "enum"), f"{value!r} is no {shape.type}") from None
        kind = Literal[tuple(shape.enum)]
    limits = {
        key: getattr(shape, name)
        for name, key in _LIMITS.items()
        if getattr(shape, name) is not None
    }
    return Annotated[kind, Field(**limits)] if limits else kind


UNKNOWN: Any = Any
"""The type of a value that nothing is known of before the run."""


def inside(kind: Any, part: str | int) -> tuple[bool, Any, list[str]]:
    """What a field or an item of a type is.

    Returns:
        Whether there is, or may be, such a part; its type; and the names there are.
    """
    kind = _bare(kind)
    if kind in (UNKNOWN, inspect.Parameter.empty, object):
        return True, UNKNOWN, []
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        found = [inside(one, part) for one in arguments if one is not NoneType]
        good = [one for one in found if one[0]]
        names = sorted({name for one in found for name in one[2]})
        known = good[0][1] if len(good) == 1 else UNKNOWN
        return bool(good), known, names
    if isinstance(part, int):
        return _item(kind, origin, arguments, part)
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return True, arguments[1] if len(arguments) == 2 else UNKNOWN, []
    known = named_parts(kind)
    if known is None:
        return False, UNKNOWN, []
    if part in known:
        return True, known[part], list(known)
    return _open(kind), UNKNOWN, list(known)


def _item(kind: Any, origin: Any, arguments: tuple[Any, ...], part: int) -> tuple[bool, Any, Any]:
    holder = origin or kind
    if not inspect.isclass(holder) or not issubclass(holder, list | tuple):
        return False, UNKNOWN, []
    if issubclass(holder, tuple) and arguments and arguments[-1] is not ...:
        return part < len(arguments), (arguments[part] if part < len(arguments) else UNKNOWN), []
    return True, arguments[0] if arguments else UNKNOWN, []


def named_parts(kind: Any) -> dict[str, Any] | None:
    """The types of a model's or a dictionary's fields; None for a type that has none."""
    kind = _bare(kind)
    if is_typeddict(kind):
        return _hints(kind)
    if not inspect.isclass(kind):
        return None
    if issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if is_dataclass(kind):
        hints = _hints(kind) or {}
        return {field.name: hints.get(field.name, UNKNOWN) for field in fields_of(kind)}
    if issubclass(kind, Mapping):
        return {}
    return None


def _hints(kind: Any) -> dict[str, Any] | None:
    try:
        return get_type_hints(kind)
    except (NameError, TypeError):  # types that exist only for type checkers
        return None


def _open(kind: Any) -> bool:
    """Whether there may be more parts than are named."""
    if inspect.isclass(kind) and issubclass(kind, BaseModel):
        return kind.model_config.get("extra") == "allow"
    return not is_typeddict(kind) and inspect.isclass(kind) and issubclass(kind, Mapping)


def _bare(kind: Any) -> Any:
    return _bare(get_args(kind)[0]) if get_origin(kind) is Annotated else kind
