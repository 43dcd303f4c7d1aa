"""Who comes in: every path but the two for probes asks for a key once there are keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, cast

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from typing_extensions import override

from holdfast.domain.keys import NEEDS, Principal
from holdfast.errors import Forbidden, NotAuthenticated
from holdfast.operations.keyring import Keyring

from .problems import refuse

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""What supervisors ask, who have no key; it tells nothing about anybody's things."""

_PRINCIPAL = "holdfast.principal"

Extra = dict[str, Any]


def needs(verb: str) -> Extra:
    """Declares which scope a route needs: part of its `openapi_extra`.

    Args:
        verb: of `domain.keys.NEEDS`.
    """
    scope = [NEEDS[verb].value]
    return {"security": [{"bearer": scope}, {"header": scope}]}


OPEN: Extra = {"security": []}
"""Declares a route that anybody may ask."""

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`hf_…`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "`hf_…`"},
}
"""The two ways to show a key, as OpenAPI names them."""


class KeyCheck:
    """Refuses requests of nobody, before anything else is looked at.

    Outside of the routes, so that no door can be forgotten: not the document, not a path that
    does not exist, not a room that is added later.
    """

    def __init__(self, app: ASGIApp, *, keyring: Keyring, trusted: bool) -> None:
        self._app = app
        self._keyring = keyring
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, as ASGI has it."""
        if scope["type"] in ("http", "websocket") and scope["path"] not in OPEN_PATHS:
            try:
                key = shown_key(scope["headers"])
                scope[_PRINCIPAL] = self._keyring.admit(key, trusted=self._trusted)
            except NotAuthenticated as error:
                await refuse(error, scope, receive, send)
                return
        await self._app(scope, receive, send)


def shown_key(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key that a request shows; None when it shows none.

    Raises:
        NotAuthenticated: it shows several, or in a way that is not ours.
    """
    keys: list[bytes] = []
    for name, value in headers:
        if name == b"x-api-key":
            keys.append(value)
        elif name == b"authorization":
            scheme, _, key = value.partition(b" ")
            if scheme.lower() != b"bearer":
                raise NotAuthenticated("Authorization is not of the form: Bearer hf_…")
            keys.append(key.strip())
    if not keys:
        return None
    if len(keys) > 1:
        raise NotAuthenticated("the request shows more than one API key", hint="show one")
    return keys[0].decode("latin-1")


def principal(request: HTTPConnection) -> Principal:
    """Who is asking; their scopes were checked at the route's door."""
    return cast("Principal", request.scope[_PRINCIPAL])


def require(caller: Principal, wanted: str) -> None:
    """Make sure that the caller has a scope.

    Raises:
        Forbidden: they have not.
    """
    if wanted not in caller.scopes:
        raise Forbidden(
            f"this needs the scope {wanted}, which the API key does not have",
            hint=f"use a key made with --scope {wanted}",
        )


class Door(APIRoute):
    """A route nobody passes without the scope it declares.

    Not a dependency: FastAPI would take longer to solve it than the check itself.
    """

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, behind the check."""
        handle, wanted = super().get_route_handler(), needed(self)

        async def checked(request: Request) -> Response:
            if wanted is not None:
                require(principal(request), wanted)
            return await handle(request)

        return checked


class SocketDoor(WebSocketRoute):
    """A WebSocket nobody opens without the scope of its verb.

    Args:
        path: with parameters, as routes have it.
        endpoint: called with each WebSocket, not accepted yet.
        verb: of `domain.keys.NEEDS`.
    """

    def __init__(
        self, path: str, endpoint: Callable[[WebSocket], Awaitable[None]], *, verb: str
    ) -> None:
        wanted = NEEDS[verb].value

        async def checked(socket: WebSocket) -> None:
            require(principal(socket), wanted)
            await endpoint(socket)

        super().__init__(path, checked, name=getattr(endpoint, "__name__", None))


def needed(route: APIRoute) -> str | None:
    """The scope a route declares with `needs`; None when it is `OPEN`.

    Raises:
        TypeError: it declares neither.
    """
    extra = route.openapi_extra or {}
    if "security" not in extra:
        raise TypeError(f"{route.path} declares no scope: openapi_extra=needs(VERB)")
    if extra["security"]:
        return extra["security"][0]["bearer"][0]
    if route.path not in OPEN_PATHS:
        raise TypeError(f"{route.path} is open, but not one of {sorted(OPEN_PATHS)}")
    return None


def guarded(routes: Iterable[BaseRoute]) -> None:
    """Make sure that every route is a `Door`.

    Raises:
        TypeError: one is not; the message names it.
    """
    for route in routes:
        if not isinstance(route, Door | SocketDoor):
            raise TypeError(f"{route} is no Door: APIRouter(route_class=Door)")
