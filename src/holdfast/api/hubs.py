"""The hubs that share this database."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from holdfast.operations.hubs import all_hubs, hub_view

from . import schemas
from .doorkeeper import Door, needs
from .openapi import answers
from .parts import parts_of
from .requests import no_query
from .responses import ROOT, json

router = APIRouter(prefix=f"{ROOT}/hubs", tags=["system"], route_class=Door)


@router.get(
    "",
    responses=answers({200: (schemas.HubList, "All of them, oldest first.")}, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("hubs"),
)
async def list_hubs(request: Request) -> Response:
    """List the hubs that share this database: those that live, and those that died lately."""
    found = await all_hubs(parts_of(request).kit)
    return json({"items": [hub_view(hub) for hub in found]})
