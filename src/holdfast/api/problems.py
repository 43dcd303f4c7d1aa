"""Errors as problem details (RFC 9457): one table from our errors to HTTP status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.domain.payload import encode
from holdfast.errors import (
    BodyTooLarge,
    Forbidden,
    HoldfastError,
    HubFault,
    IdempotencyConflict,
    IllegalMove,
    InvalidInput,
    MalformedBody,
    NotAuthenticated,
    NotFound,
    NotReady,
    ProviderAway,
    ProviderFailed,
    SettingsError,
    StoreError,
    StoreRefused,
    UnsupportedMedia,
    WrongHost,
)
from holdfast.telemetry import logger

log = logger("api")

MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[type[HoldfastError], int] = {
    MalformedBody: 400,
    NotAuthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    IdempotencyConflict: 409,
    IllegalMove: 409,
    BodyTooLarge: 413,
    UnsupportedMedia: 415,
    WrongHost: 421,
    InvalidInput: 422,
    HubFault: 500,
    StoreRefused: 500,
    ProviderFailed: 502,
    NotReady: 503,
    ProviderAway: 503,
    SettingsError: 503,  # something asked for needs what this hub is not set up for
    StoreError: 503,
}
"""The status of each error; a class that is not listed has its nearest base's."""

RETRY_AFTER_S = 5
"""What a client is asked to wait while the hub cannot work."""

_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"www-authenticate": 'Bearer realm="holdfast"'},
    503: {"retry-after": str(RETRY_AFTER_S)},
}

DENIAL = "websocket.http.response"
"""Extension of ASGI by which a WebSocket that is not opened gets an HTTP answer."""

POLICY_VIOLATION = 1008
"""Close code of a WebSocket that shows no accepted key (RFC 6455, 7.4.1)."""

MAX_SHOWN_CHARS = 80
"""Characters of a refused value that an error repeats."""


def status_of(error: HoldfastError) -> int:
    """The HTTP status of an error."""
    return next((STATUS[base] for base in type(error).__mro__ if base in STATUS), 500)


def outward(error: HoldfastError) -> HoldfastError:
    """An error as others may see it: of one that is the hub's own, nothing but that."""
    if status_of(error) != HTTPStatus.INTERNAL_SERVER_ERROR:
        return error
    log.error("api.failed", code=error.code, error=str(error))
    return HubFault("the hub met a fault of its own", hint="its log has the details")


def problem(error: HoldfastError) -> Response:
    """The answer that tells of an error."""
    status, error = status_of(error), outward(error)
    return _answer(
        status, error.code, error.message, error.hint, error.fields, _HEADERS.get(status)
    )


async def refuse(error: HoldfastError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request with an error; of a WebSocket, instead of opening it."""
    if scope["type"] == "websocket" and DENIAL not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": POLICY_VIOLATION})  # all the server can tell
    else:
        await problem(error)(scope, receive, send)


def _answer(
    status: int,
    code: str,
    detail: str,
    hint: str,
    fields: Sequence[Mapping[str, Any]],
    headers: Mapping[str, str] | None = None,
) -> Response:
    body: dict[str, Any] = {
        "type": f"urn:holdfast:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if hint:
        body["hint"] = hint
    if fields:
        body["errors"] = fields
    return Response(encode(body), status, headers, MEDIA_TYPE)


def refusal(errors: Sequence[Any], *, known: Sequence[str] = ()) -> InvalidInput:
    """What pydantic found wrong, as an error that names each field and what was expected.

    Args:
        errors: of one validation; their locations are the fields' names.
        known: the names that do exist, for those that do not.
    """
    fields = [_place(item, known) for item in errors]
    first = fields[0]
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return InvalidInput(
        f"{first['field']}: expected {first['expected']}, got {first['got']}{more}", fields=fields
    )


def _place(item: Any, known: Sequence[str]) -> dict[str, Any]:
    kind = item["type"]
    expected = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if kind == "missing":
        expected = "a value"
    elif kind == "extra_forbidden":
        expected = f"one of: {', '.join(known)}" if known else "no such field"
    return {
        "field": ".".join(str(part) for part in item["loc"]) or "body",
        "expected": expected,
        "got": "nothing" if kind == "missing" else shown(item["input"]),
    }


def shown(value: Any) -> str:
    """A refused value as an error repeats it: JSON, cut."""
    text = encode(value).decode()
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 1] + "…"


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Let every error that reaches the application leave it as problem details.

    Args:
        app: the application.
        routes: all it has, to tell which methods a path allows.
    """

    async def http(request: Request, error: Exception) -> Response:
        return _http(request, error, routes)

    app.add_exception_handler(HoldfastError, _ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, _query)


async def _ours(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HoldfastError):
        raise error
    return problem(error)


def _http(request: Request, error: Exception, routes: Sequence[BaseRoute]) -> Response:
    """Starlette's own: no such path, no such method."""
    if not isinstance(error, HTTPException):
        raise error
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.NOT_FOUND:
        return problem(
            NotFound(f"there is nothing at {request.url.path}", hint="see /openapi.json")
        )
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"allow": ", ".join(_allowed(request, routes))}
    detail = f"{request.method} {request.url.path}: {status.phrase.lower()}"
    return _answer(status, status.name.lower(), detail, "", [], headers)


def _allowed(request: Request, routes: Sequence[BaseRoute]) -> list[str]:
    """The methods of all routes at a path; Starlette names those of the first one only."""
    methods: set[str] = set()
    for route in routes:
        if isinstance(route, Route) and route.path_regex.match(request.url.path):
            methods |= route.methods or set()
    return sorted(methods)


async def _query(request: Request, error: Exception) -> Response:
    """Query parameters and headers that FastAPI checked."""
    if not isinstance(error, RequestValidationError):
        raise error
    found = [{**item, "loc": item["loc"][1:]} for item in error.errors()]
    route: Any = request.scope["route"]
    known = [
        name
        for parameter in route.dependant.query_params
        for name in getattr(parameter.field_info.annotation, "model_fields", ())
    ]
    return problem(refusal(found, known=known))


class Faults:
    """Outermost: an error nobody foresaw becomes a 500 without internals, and a log record."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, as ASGI has it."""
        started = False

        async def noticed(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noticed)
        except ClientDisconnect:
            log.debug("api.client_left", path=scope.get("path"))
        except Exception:
            if scope["type"] != "http":
                raise
            log.exception("api.failed", method=scope["method"], path=scope["path"])
            if not started:
                fault = HubFault("the hub met a fault of its own", hint="its log has the details")
                status = STATUS[HubFault]
                response = _answer(status, fault.code, fault.message, fault.hint, [])
                await response(scope, receive, send)
