"""Only requests addressed to this machine: a page in a browser must not reach the hub by DNS.

A name of the attacker's that resolves to 127.0.0.1 (DNS rebinding) would make the browser treat
the hub as the page's own server; its requests still carry that name in `Host`. A WebSocket may be
opened by any page to any server: there the page's own name stands in `Origin`, which programs
other than browsers do not send.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from holdfast.errors import WrongHost

from .problems import refuse

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class HostCheck:
    """Refuses requests whose `Host` is neither loopback nor one of the hub's own names.

    And WebSockets that pages from elsewhere open.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str]) -> None:
        self._app = app
        self._names = LOOPBACK | {host.lower() for host in hosts}
        self._known: set[bytes] = set()  # whole headers that were found good

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, as ASGI has it."""
        if scope["type"] in ("http", "websocket"):
            wrong = self._wrong(scope)
            if wrong is not None:
                await refuse(wrong, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _wrong(self, scope: Scope) -> WrongHost | None:
        given = [value for name, value in scope["headers"] if name == b"host"]
        if len(given) != 1 or not self._good(given[0]):
            return WrongHost(
                f"this hub is not {b', '.join(given).decode('latin-1')!a}",
                hint=f"address it as {' or '.join(sorted(self._names))}; "
                "further names go into HOLDFAST_ALLOWED_HOSTS",
            )
        if scope["type"] == "websocket":
            for name, value in scope["headers"]:
                origin = value.decode("latin-1")
                if name == b"origin" and not self._ours(origin):
                    return WrongHost(
                        f"pages of {origin!a} may not open a WebSocket here",
                        hint="further names go into HOLDFAST_ALLOWED_HOSTS",
                    )
        return None

    def _good(self, header: bytes) -> bool:
        if header in self._known:
            return True
        if host_name(header.decode("latin-1")) not in self._names:
            return False
        if len(self._known) < 100:
            self._known.add(header)
        return True

    def _ours(self, origin: str) -> bool:
        try:
            return urlsplit(origin).hostname in self._names
        except ValueError:
            return False


def host_name(header: str) -> str:
    """The host of a `Host` header without its port: lower case, IPv6 without brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()
