"""What the doors need of their hub, and who is asking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from holdfast.domain.keys import Principal
from holdfast.operations.keyring import Keyring
from holdfast.operations.kit import Kit
from holdfast.operations.talks import Talks
from holdfast.operations.wait import EndedEvents

from .doorkeeper import principal


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """The parts of one hub that its HTTP doors use.

    Attributes:
        kit: for the operations.
        keyring: knows who is asking.
        ended: wakes requests that wait for an event.
        talks: wakes who follows a conversation.
        not_ready: reasons why the hub cannot work now; empty when it can.
        version: of Holdfast.
        doors: whether others' requests are taken; else only what supervisors ask.
        host: the name or address listened on; requests must be addressed to it or to loopback.
        allowed_hosts: further names requests may be addressed to.
        trusted: requests come from inside the process that holds the store; they need no key.
        stopping: set by `stop`.
    """

    kit: Kit
    keyring: Keyring
    ended: EndedEvents
    talks: Talks
    not_ready: Callable[[], list[str]]
    version: str
    doors: bool = True
    host: str = "127.0.0.1"
    allowed_hosts: tuple[str, ...] = ()
    trusted: bool = False
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        """End streams and waits; a server must call it before it waits for its connections."""
        self.stopping.set()
        self.ended.close()


def parts_of(request: HTTPConnection) -> ApiParts:
    """The parts the application was made with."""
    return cast("ApiParts", request.app.state.parts)


async def _caller(request: Request) -> Principal:
    return principal(request)  # async, or FastAPI would run it in a thread


Caller = Annotated[Principal, Depends(_caller)]
