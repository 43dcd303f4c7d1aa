"""Only requests addressed to this machine: a page in a browser must not reach the hub by DNS.

A name of the attacker's that resolves to 127.0.0.1 (DNS rebinding) would make the browser treat
the hub as the page's own server; its requests still carry that name in `Host`.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from holdfast.errors import WrongHost

from .problems import problem

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class HostCheck:
    """Refuses requests whose `Host` is neither loopback nor one of the hub's own names."""

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str]) -> None:
        self._app = app
        self._names = LOOPBACK | {host.lower() for host in hosts}
        self._known: set[bytes] = set()  # whole headers that were found good

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, as ASGI has it."""
        if scope["type"] == "http":
            given = [value for name, value in scope["headers"] if name == b"host"]
            if len(given) != 1 or not self._good(given[0]):
                refused = problem(
                    WrongHost(
                        f"this hub is not {b', '.join(given).decode('latin-1')!a}",
                        hint=f"address it as {' or '.join(sorted(self._names))}; "
                        "further names go into HOLDFAST_ALLOWED_HOSTS",
                    )
                )
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _good(self, header: bytes) -> bool:
        if header in self._known:
            return True
        if host_name(header.decode("latin-1")) not in self._names:
            return False
        if len(self._known) < 100:
            self._known.add(header)
        return True


def host_name(header: str) -> str:
    """The host of a `Host` header without its port: lower case, IPv6 without brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()
