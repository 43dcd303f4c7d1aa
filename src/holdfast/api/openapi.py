"""What OpenAPI says beyond what FastAPI finds by itself: problems, streams, the bodies we read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .doorkeeper import SCHEMES
from .problems import MEDIA_TYPE
from .schemas import Problem

EVERYWHERE = (421, 503)
"""Problems every request can meet: sent to another host, the hub unable to work."""

BODY_PROBLEMS = (400, 404, 409, 413, 415, 422)
"""Problems of routes that read a body."""

TITLES = {
    204: "Nothing follows.",
    400: "The body cannot be read.",
    401: "No API key that is accepted.",
    403: "The API key lacks the scope.",
    404: "There is no such thing.",
    409: "It contradicts what is there.",
    413: "The body is too large.",
    415: "The body is of another type.",
    421: "The request is for another host.",
    422: "A field is wrong.",
    502: "A model's provider failed.",
    503: "The hub cannot work now.",
}

_COMPONENTS = "#/components/schemas/{model}"

Answers = dict[int | str, dict[str, Any]]


def answers(good: Mapping[int, tuple[type[BaseModel], str]], *others: int) -> Answers:
    """The documented answers of a route.

    Args:
        good: model and meaning by status.
        others: further statuses, whose answers are problem details, or empty for 204.
    """
    found: Answers = {status: _other(status) for status in (*others, *EVERYWHERE)}
    for status, (model, description) in good.items():
        found[status] = {"model": model, "description": description}
    return found


def text_answer(media_type: str, description: str, *others: int) -> Answers:
    """The documented answers of a route that gives text."""
    text = {"content": {media_type: {"schema": {"type": "string"}}}, "description": description}
    return {200: text, **answers({}, *others)}


def stream_answer(description: str, *others: int) -> Answers:
    """The documented answers of a route that gives server-sent events, each an object."""
    entry = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
        "required": ["event", "data"],
    }
    stream = {"content": {"text/event-stream": {"schema": entry}}, "description": description}
    return {200: stream, **answers({}, *others)}


def event_request(bodies: Mapping[str, type[BaseModel]], query: type[BaseModel]) -> dict[str, Any]:
    """The documented request for sending an event: bodies by media type, query and headers."""
    content = {
        media_type: {"schema": model.model_json_schema()} for media_type, model in bodies.items()
    }
    headers = [
        KEY_HEADER,
        _header("traceparent", "W3C trace context; goes through to the provider's call."),
    ]
    parameters = headers + query_parameters(query)
    return {"requestBody": {"required": True, "content": content}, "parameters": parameters}


def query_parameters(query: type[BaseModel]) -> list[dict[str, Any]]:
    """The documented query of a route that reads it by itself."""
    return [
        {"name": name, "in": "query", "schema": schema}
        for name, schema in query.model_json_schema()["properties"].items()
    ]


def json_request(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The documented request of a route that reads its own JSON body."""
    content = {"application/json": {"schema": _flat(model)}}
    return {"requestBody": {"required": required, "content": content}}


def _flat(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema without references, which would point outside of it."""
    schema = model.model_json_schema()
    known = schema.pop("$defs", {})

    def resolved(part: Any) -> Any:
        if isinstance(part, list):
            return [resolved(one) for one in cast("list[Any]", part)]
        if not isinstance(part, dict):
            return part
        members = cast("dict[str, Any]", part)
        if "$ref" in members:
            return resolved(known[members["$ref"].rpartition("/")[2]])
        return {name: resolved(member) for name, member in members.items()}

    return cast("dict[str, Any]", resolved(schema))


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI document with what routes speak of by reference only: problems, API keys."""
    _, found = models_json_schema([(Problem, "serialization")], ref_template=_COMPONENTS)
    document["components"]["schemas"].update(found["$defs"])
    document["components"]["securitySchemes"] = SCHEMES
    for path in document["paths"].values():
        for operation in path.values():
            if operation["security"]:
                operation["responses"] |= {str(status): _other(status) for status in (401, 403)}
    return document


def _other(status: int) -> dict[str, Any]:
    if status == 204:
        return {"description": TITLES[status]}
    schema = {"$ref": _COMPONENTS.format(model=Problem.__name__)}
    return {"description": TITLES[status], "content": {MEDIA_TYPE: {"schema": schema}}}


def _header(name: str, description: str, pattern: str | None = None) -> dict[str, Any]:
    schema = {"type": "string"} if pattern is None else {"type": "string", "pattern": pattern}
    return {"name": name, "in": "header", "description": description, "schema": schema}


KEY_HEADER = _header(
    "Idempotency-Key", "The same key and body give the same event.", r"^[!-~]{1,255}$"
)
"""The documented header of routes that send events."""
