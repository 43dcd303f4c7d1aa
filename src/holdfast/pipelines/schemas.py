"""Event data held against pydantic: unknown fields refused, every place named."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from holdfast.domain.payload import encode
from holdfast.errors import InvalidInput

M = TypeVar("M", bound=BaseModel)

MAX_SHOWN_CHARS = 80
"""Characters of a refused value that an error repeats."""


def shorten(value: Any) -> str:
    """A value as an error shows it: JSON, cut."""
    text = encode(value).decode()
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 1] + "…"


def validate_model(model: type[M], data: Any, name: str) -> M:
    """Decoded JSON as an instance of `model`; fields it does not know are refused, nested too.

    Args:
        model: the schema.
        data: decoded JSON.
        name: the pipeline's, for the message.

    Raises:
        InvalidInput: with every wrong field in `fields`.
    """
    try:
        # As JSON, so that strict models still take dates and the like from text.
        return model.model_validate_json(orjson.dumps(data), extra="forbid")
    except ValidationError as error:
        raise refused(name, error, "data") from error


def refused(name: str, error: ValidationError, root: str) -> InvalidInput:
    """The refusal that names each place pydantic complained about."""
    fields: list[dict[str, Any]] = []
    for item in error.errors(include_url=False):
        missing, extra = item["type"] == "missing", item["type"] == "extra_forbidden"
        fields.append(
            {
                "field": ".".join([root, *(str(part) for part in item["loc"])]),
                "expected": "no such field" if extra else _expected(item["msg"]),
                "got": "nothing" if missing else shorten(item["input"]),
            }
        )
    first = fields[0]
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return InvalidInput(
        f"pipeline {name}: {first['field']}: {first['expected']}, got {first['got']}{more}",
        hint=f"see the schema: holdfast pipelines show {name}",
        fields=fields,
    )


def _expected(message: str) -> str:
    return "a value for this field" if message == "Field required" else message
