"""Requests to the web: public addresses only, checked where the connection is made.

A name is resolved once a hop, every address it stands for is checked, and the connection goes to a
checked one: a name that stands for another address a moment later reaches nothing. Redirects are
followed here, so that each hop is checked like the first.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import cached_property
from ssl import SSLContext
from typing import Any, Literal, cast
from urllib.parse import urljoin

import httpx
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field, create_model

from holdfast.agents.config import WebSettings, WebTool
from holdfast.errors import ToolFailed
from holdfast.ports import running_execution

from .base import AgentTool, as_text

NAME = "web_request"

MAX_REDIRECTS = 5

MAX_URL_CHARS = 2_000

MAX_BODY_CHARS = 100_000
"""Of what the model sends."""

WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")

_TEXTS = ("json", "xml", "javascript", "x-www-form-urlencoded", "yaml", "csv")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host's name."""


def is_public(address: Address) -> bool:
    """Whether an address is one of the open internet, whatever it is written as."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        # Both can lead into a private network behind what looks like a public address.
        if address.teredo is not None or address in _NAT64_LOCAL:
            return False
    return address.is_global and not (
        address.is_multicast
        or address.is_private
        or address.is_reserved
        or address.is_loopback
        or address.is_link_local
        or address.is_unspecified
    )


async def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system, in a thread that is on no execution's account: nobody can stop it."""
    loop, context = asyncio.get_running_loop(), copy_context()
    context.run(running_execution.set, None)
    asked = loop.create_task(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), context=context)
    found = await asked
    found.sort(key=lambda one: one[0] != socket.AF_INET)  # many networks have no way for IPv6
    return list(dict.fromkeys(str(one[4][0]) for one in found))


@dataclass(frozen=True, slots=True)
class Page:
    """What a server answered.

    Attributes:
        url: the last one, after redirects.
        text: as much of the body as is allowed.
        cut: whether there was more.
    """

    status: int
    url: str
    content_type: str
    text: str
    cut: bool


class Web:
    """Makes requests within the limits of an agent's settings.

    Args:
        settings: of the agent's tool.
        resolver: how names become addresses.
        allowed: which addresses may be connected to.
    """

    def __init__(
        self,
        settings: WebSettings,
        *,
        resolver: Resolver = resolve,
        allowed: Callable[[Address], bool] = is_public,
    ) -> None:
        self._settings = settings
        self._resolve = resolver
        self._allowed = allowed

    @cached_property
    def _tls(self) -> SSLContext:
        """Made once: reading the certificates takes longer than many a request."""
        return httpx.create_ssl_context(trust_env=False)

    async def fetch(
        self, url: str, *, method: str = "GET", body: str | None = None, content_type: str = ""
    ) -> Page:
        """Ask, and follow redirects.

        Raises:
            ToolFailed: it may not be asked, did not answer in time, or answered with no text.
        """
        if method not in self._settings.methods:
            raise ToolFailed(
                f"method {method} is not allowed", hint=f"use {', '.join(self._settings.methods)}"
            )
        limit = self._settings.timeout_s
        try:
            async with (
                asyncio.timeout(limit),
                # No proxy of the environment: it would be what resolves the name.
                httpx.AsyncClient(trust_env=False, timeout=limit, verify=self._tls) as client,
            ):
                return await self._hops(client, url, method, body, content_type)
        except TimeoutError:
            raise ToolFailed(f"{_short(url)} did not answer within {limit:g} s") from None
        except httpx.TimeoutException:
            raise ToolFailed(f"{_short(url)} did not answer within {limit:g} s") from None
        except httpx.HTTPError as error:
            raise ToolFailed(
                f"{_short(url)} cannot be asked: {type(error).__name__}: {error}"
            ) from error

    async def _hops(
        self,
        client: httpx.AsyncClient,
        url: str,
        method: str,
        body: str | None,
        content_type: str,
    ) -> Page:
        for _ in range(MAX_REDIRECTS + 1):
            target = self._target(url)
            headers = {"Content-Type": content_type} if body is not None and content_type else {}
            response = await self._ask(client, target, method, headers, body)
            try:
                if response.is_redirect and response.headers.get("location"):
                    url = urljoin(str(target), response.headers["location"])
                    if response.status_code == 303 or (
                        response.status_code in (301, 302) and method == "POST"
                    ):
                        method, body = "GET", None
                    continue
                return await self._page(response, str(target))
            finally:
                await response.aclose()
        raise ToolFailed(f"{_short(url)} was redirected more than {MAX_REDIRECTS} times")

    def _target(self, url: str) -> httpx.URL:
        """A URL that may be asked, as the client itself reads it."""
        if len(url) > MAX_URL_CHARS:
            raise ToolFailed(f"the URL has {len(url)} characters, more than {MAX_URL_CHARS}")
        try:
            target = httpx.URL(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise ToolFailed(f"{_short(url)} is no URL: {error}") from None
        if target.scheme not in ("http", "https") or not target.host:
            raise ToolFailed(f"{_short(url)} is no http or https URL with a host")
        if target.userinfo:
            raise ToolFailed("the URL holds a password", hint="leave it out")
        host = target.raw_host.decode("ascii").rstrip(".").lower()
        if self._settings.hosts is not None and not any(
            _fits(host, one.lower()) for one in self._settings.hosts
        ):
            raise ToolFailed(
                f"host {host} is not allowed", hint=f"allowed: {', '.join(self._settings.hosts)}"
            )
        return target

    async def _addresses(self, target: httpx.URL) -> list[str]:
        """All addresses of a host, each of them checked.

        Raises:
            ToolFailed: there is none, or one is not allowed.
        """
        host = target.raw_host.decode("ascii").strip("[]")
        port = target.port or (443 if target.scheme == "https" else 80)
        try:
            found = [str(ipaddress.ip_address(host))]
        except ValueError:
            try:
                found = list(await self._resolve(host, port))
            except (OSError, UnicodeError) as error:
                raise ToolFailed(f"host {host} cannot be found: {error}") from None
        if not found:
            raise ToolFailed(f"host {host} cannot be found")
        for one in found:
            if not self._allowed(ipaddress.ip_address(one.partition("%")[0])):
                raise ToolFailed(
                    f"{_short(str(target))} leads to a private address",
                    hint="only addresses of the public internet are asked",
                )
        return found

    async def _ask(
        self,
        client: httpx.AsyncClient,
        target: httpx.URL,
        method: str,
        headers: dict[str, str],
        body: str | None,
    ) -> httpx.Response:
        """Ask one hop at one of its checked addresses; the body is not read yet."""
        last: httpx.ConnectError | None = None
        for address in await self._addresses(target):
            request = client.build_request(
                method,
                target.copy_with(host=address),
                content=body,
                headers={
                    **headers,
                    "Host": target.netloc.decode("ascii"),
                    "User-Agent": "holdfast-agent",
                    "Accept-Encoding": "identity",  # a small packed body may be a huge one
                },
                # The certificate must be that of the name.
                extensions={"sni_hostname": target.raw_host.decode("ascii")},
            )
            try:
                return await client.send(request, stream=True, follow_redirects=False)
            except httpx.ConnectError as error:
                last = error
        assert last is not None  # noqa: S101 - there was an address
        raise last

    async def _page(self, response: httpx.Response, url: str) -> Page:
        kind = str(response.headers.get("content-type", ""))
        if not _is_text(kind):
            raise ToolFailed(f"{_short(url)} is {kind.partition(';')[0]} and no text")
        packed = response.headers.get("content-encoding", "identity")
        if packed != "identity":
            raise ToolFailed(f"{_short(url)} is packed with {packed}, which was not asked for")
        most = self._settings.max_bytes
        read = bytearray()
        async for piece in response.aiter_raw():
            read += piece
            if len(read) > most:
                break
        text = bytes(read[:most]).decode(_charset(response), "replace")
        return Page(response.status_code, url, kind, text, len(read) > most)


def make(config: WebTool, where: str) -> AgentTool:  # noqa: ARG001 - as the others
    """The tool."""
    return AgentTool(tool=tool_of(Web(config.settings), config.settings))


def tool_of(web: Web, settings: WebSettings) -> BaseTool:
    """A LangChain tool over `web`; the model is shown only what it may use."""

    async def web_request(
        url: str, method: str = settings.methods[0], body: str | None = None, content_type: str = ""
    ) -> str:
        page = await web.fetch(url, method=method, body=body, content_type=content_type)
        told: dict[str, Any] = {
            "status": page.status,
            "url": page.url,
            "content_type": page.content_type,
            "text": page.text,
        }
        if page.cut:
            told["cut"] = f"only the first {settings.max_bytes} bytes"
        return as_text(told)

    where = (
        "public hosts" if settings.hosts is None else f"these hosts: {', '.join(settings.hosts)}"
    )
    return StructuredTool(
        name=NAME,
        description=f"Request a web page or an API by its URL, from {where}. Gives back the "
        "status, the content type and the text.",
        args_schema=_parameters(settings),
        coroutine=web_request,
    )


def _parameters(settings: WebSettings) -> type[BaseModel]:
    fields: dict[str, Any] = {"url": (str, Field(description="http or https, in full"))}
    if settings.methods != ["GET"]:
        allowed = cast("Any", Literal)[tuple(settings.methods)]
        fields["method"] = (allowed, settings.methods[0])
    if WITH_BODY.intersection(settings.methods):
        body = Field(default=None, max_length=MAX_BODY_CHARS, description="what to send")
        fields["body"] = (str | None, body)
        fields["content_type"] = (str, Field(default="application/json", description="of body"))
    return create_model("WebRequest", **fields)


def _fits(host: str, allowed: str) -> bool:
    if allowed.startswith("*."):
        return host.endswith(allowed[1:])
    return host == allowed


def _is_text(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return not kind or kind.startswith("text/") or any(word in kind for word in _TEXTS)


def _charset(response: httpx.Response) -> str:
    name = response.charset_encoding or "utf-8"
    try:
        "".encode(name)
    except (LookupError, UnicodeError, ValueError):
        return "utf-8"
    return name


def _short(url: str) -> str:
    return url if len(url) <= 120 else url[:119] + "…"
