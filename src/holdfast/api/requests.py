"""Reading a request: its query, and its body counted while it comes, as JSON that can be kept."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from holdfast.domain.events import MAX_EVENT_BYTES
from holdfast.errors import BodyTooLarge, InvalidInput, MalformedBody, UnsupportedMedia

from .problems import refusal

M = TypeVar("M", bound=BaseModel)

UTF8 = frozenset({"utf-8", "utf8"})


async def read_body(request: Request, limit: int = MAX_EVENT_BYTES) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: over `limit` bytes, whatever `Content-Length` says.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        pieces.append(piece)
    return b"".join(pieces)


async def no_body(request: Request) -> None:
    """Refuse a body where none means anything.

    Raises:
        InvalidInput: there is one.
    """
    async for piece in request.stream():
        if piece:
            raise InvalidInput(
                f"{request.method} {request.url.path} takes no body",
                fields=[{"field": "body", "expected": "nothing", "got": "a body"}],
            )


async def no_query(request: Request) -> None:
    """Refuse query parameters where none means anything.

    Raises:
        InvalidInput: there are some.
    """
    if request.url.query:
        fields = [
            {"field": name, "expected": "no query parameter", "got": value}
            for name, value in request.query_params.multi_items()
        ]
        raise InvalidInput(f"{request.url.path} takes no query parameters", fields=fields)


async def single_values(request: Request) -> None:
    """Refuse a query parameter that is given twice; only one of its values would count.

    Raises:
        InvalidInput: one is.
    """
    for name in request.query_params:
        values = request.query_params.getlist(name)
        if len(values) > 1:
            raise InvalidInput(
                f"the query parameter {name} is given {len(values)} times",
                fields=[{"field": name, "expected": "one value", "got": ", ".join(values)}],
            )


async def read_query(request: Request, model: type[M]) -> M:
    """The query parameters, checked.

    Raises:
        InvalidInput: one is unknown, wrong or given twice.
    """
    if not request.scope["query_string"]:
        return model()
    await single_values(request)
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise refusal(error.errors(include_url=False), known=list(model.model_fields)) from error


async def read_model(request: Request, model: type[M], *, may_be_empty: bool = False) -> M:
    """The JSON body, checked.

    Args:
        request: whose body.
        model: what it must be.
        may_be_empty: no body is an empty object.

    Raises:
        MalformedBody: it is no JSON object.
        InvalidInput: a field is unknown, missing or wrong.
    """
    body = await read_body(request)
    if may_be_empty and not body:
        return model()
    media_type(request, "application/json")
    decoded = decode(body)
    if not isinstance(decoded, dict):
        raise _unread("the body is no JSON object", "a JSON object", type(decoded).__name__)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        known = [field.alias or name for name, field in model.model_fields.items()]
        raise refusal(error.errors(include_url=False), known=known) from error


def media_type(request: Request, *known: str) -> str:
    """Which of the known types the body has.

    Raises:
        UnsupportedMedia: none of them, or not in UTF-8.
    """
    given = request.headers.get("content-type", "")
    if given in known:
        return given
    main, *parameters = (part.strip().lower() for part in given.split(";"))
    charsets = [value.strip('"') for part in parameters for value in _charset(part)]
    if main in known and UTF8.issuperset(charsets):
        return main
    expected = " or ".join(known)
    raise UnsupportedMedia(
        f"the body is {given or 'of no declared type'}; send {expected} in UTF-8",
        fields=[{"field": "Content-Type", "expected": expected, "got": given or "nothing"}],
    )


def decode(body: bytes) -> Any:
    """JSON out of bytes.

    Raises:
        MalformedBody: empty, not UTF-8 or not JSON; the message says where.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _malformed(body, error) from error


def _charset(parameter: str) -> list[str]:
    name, _, value = parameter.partition("=")
    return [value.strip()] if name.strip() == "charset" else []


def _malformed(body: bytes, error: orjson.JSONDecodeError) -> MalformedBody:
    if not body.strip():
        return _unread("the body is empty", "a JSON object", "nothing")
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        got = f"byte 0x{body[wrong.start]:02x} at offset {wrong.start}"
        return _unread(f"the body is not UTF-8: {got}", "UTF-8", got)
    where = f"line {error.lineno}, column {error.colno}"
    return _unread(
        f"the body is not JSON: {error.msg} at {where}", "JSON", f"{error.msg} ({where})"
    )


def _unread(message: str, expected: str, got: str) -> MalformedBody:
    return MalformedBody(message, fields=[{"field": "body", "expected": expected, "got": got}])


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body is larger than {limit} bytes",
        hint="store large inputs elsewhere and send a reference",
        fields=[{"field": "body", "expected": f"at most {limit} bytes", "got": "more"}],
    )
