"""What the doors need of their hub, and who is asking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from holdfast.domain.events import LOCAL_OWNER
from holdfast.operations.kit import Kit
from holdfast.operations.wait import EndedEvents


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """The parts of one hub that its HTTP doors use.

    Attributes:
        kit: for the operations.
        ended: wakes requests that wait for an event.
        not_ready: reasons why the hub cannot work now; empty when it can.
        version: of Holdfast.
        host: the name or address listened on; requests must be addressed to it or to loopback.
        stopping: set by `stop`.
    """

    kit: Kit
    ended: EndedEvents
    not_ready: Callable[[], list[str]]
    version: str
    host: str = "127.0.0.1"
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        """End streams and waits; a server must call it before it waits for its connections."""
        self.stopping.set()
        self.ended.close()


def parts_of(request: Request) -> ApiParts:
    """The parts the application was made with."""
    return cast("ApiParts", request.app.state.parts)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking.

    Attributes:
        owner_id: whose things they see.
    """

    owner_id: str


_LOCAL = Principal(LOCAL_OWNER)


async def principal(request: Request) -> Principal:  # noqa: ARG001 - keys come in its headers
    """Whoever reaches a hub without keys is its local user."""
    return _LOCAL


Caller = Annotated[Principal, Depends(principal)]
