"""Answers for a fake that nobody scripted: JSON that fits the schema which was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import orjson

from .base import FakeAnswer, FakeRequest

TEXT = "This is a fake answer."

_DEEP = 8  # levels after which a schema that refers to itself gets no more
_PATHS = (
    ("response_format", "json_schema", "schema"),  # OpenAI
    ("output_config", "format", "schema"),  # Anthropic
    ("generationConfig", "responseJsonSchema"),  # Google
    ("format",),  # Ollama
)


def fitting(request: FakeRequest) -> FakeAnswer:
    """The smallest answer that fits a request's schema, or one fixed sentence."""
    for path in _PATHS:
        found: Any = request.body
        for name in path:
            found = cast("dict[str, Any]", found).get(name) if isinstance(found, dict) else None
        if isinstance(found, dict):
            schema = cast("dict[str, Any]", found)
            return FakeAnswer(text=orjson.dumps(sample(schema, schema)).decode())
    return FakeAnswer(text=TEXT)


def sample(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> Any:
    """A value that fits a JSON schema, as small as it may be; patterns and formats are not kept.

    Args:
        schema: of the value.
        root: where its references lead.
        depth: how many schemas it lies within.
    """
    if depth > _DEEP:
        return None
    if "$ref" in schema:
        found: Any = root
        for name in str(schema["$ref"]).removeprefix("#/").split("/"):
            found = found[name]
        return sample(found, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return sample(schema[name][0], root, depth + 1)
    return _of_type(schema, root, depth)


def _of_type(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = cast("list[str]", kind)[0]
    match kind:
        case "object":
            properties: Mapping[str, Any] = schema.get("properties") or {}
            wanted = cast("list[str]", schema.get("required") or [])
            return {n: sample(properties.get(n, {}), root, depth + 1) for n in wanted}
        case "array":
            items: Mapping[str, Any] = schema.get("items") or {}
            return [sample(items, root, depth + 1)] * int(schema.get("minItems", 0))
        case "string":
            text = "fake".ljust(int(schema.get("minLength", 0)), ".")
            return text[: int(schema.get("maxLength", len(text)))]
        case "number" | "integer":
            return _number(schema, 1 if kind == "integer" else 0.5)
        case "boolean":
            return False
        case _:
            return None


def _number(schema: Mapping[str, Any], step: float) -> float:
    if "minimum" in schema:
        return schema["minimum"]
    if "exclusiveMinimum" in schema:
        return schema["exclusiveMinimum"] + step
    if "exclusiveMaximum" in schema:
        return min(0, schema["exclusiveMaximum"] - step)
    return min(0, schema.get("maximum", 0))
