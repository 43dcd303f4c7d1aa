"""Circuit breakers: how they stand, and opened or closed by hand."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import Field

from holdfast.domain.breakers import NAME
from holdfast.operations.breakers import all_breakers, close_breaker, open_breaker

from . import schemas
from .doorkeeper import Door, needs
from .fields import Strict
from .openapi import BODY_PROBLEMS, answers, json_request
from .parts import parts_of
from .requests import no_body, no_query, read_model
from .responses import ROOT, json

router = APIRouter(prefix=f"{ROOT}/breakers", tags=["breakers"], route_class=Door)

LONGEST_S = 30 * 86400

Name = Annotated[
    str, Path(pattern=f"^{NAME.pattern}$", description="A breaker's name; slashes may stand.")
]


class OpenBody(Strict):
    """Body that opens a breaker."""

    seconds: float | None = Field(
        None, ge=0, le=LONGEST_S, description="After which one call may try; none: never."
    )
    reason: str | None = Field(
        None, min_length=1, max_length=300, description="Shown to who meets it."
    )


@router.get(
    "",
    responses=answers({200: (schemas.BreakerList, "All that were ever used, by name.")}, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def list_breakers(request: Request) -> Response:
    """List the breakers, and how many events wait for each."""
    return json({"items": await all_breakers(parts_of(request).kit)})


# Names hold slashes: the last part of the path is the verb.
@router.post(
    "/{name:path}/open",
    responses=answers({200: (schemas.Breaker, "No call is made now.")}, *BODY_PROBLEMS),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(OpenBody, required=False), **needs("breakers")},
)
async def open_by_hand(request: Request, name: Name) -> Response:
    """Let no calls be made: runs that meet it are postponed, whoever owns them."""
    body = await read_model(request, OpenBody, may_be_empty=True)
    view = await open_breaker(parts_of(request).kit, name, seconds=body.seconds, reason=body.reason)
    return json(view)


@router.post(
    "/{name:path}/close",
    responses=answers({200: (schemas.Breaker, "Calls are made.")}, 404, 422),
    dependencies=[Depends(no_query), Depends(no_body)],
    openapi_extra=needs("breakers"),
)
async def close_by_hand(request: Request, name: Name) -> Response:
    """Let calls be made again; what waited for it runs."""
    return json(await close_breaker(parts_of(request).kit, name))
