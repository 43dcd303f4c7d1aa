"""Context caches: what providers keep of prompts, and what it saved."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from holdfast.operations.context_cache import FIRST_DAY, LAST_DAY, all_caches, savings

from . import schemas
from .doorkeeper import Door, needs
from .fields import Strict
from .openapi import answers
from .parts import Caller, parts_of
from .requests import no_query, single_values
from .responses import ROOT, json

router = APIRouter(prefix=f"{ROOT}/context-cache", tags=["context cache"], route_class=Door)

Day = Annotated[date, Field(json_schema_extra={"format": "date"})]


class SavingsQuery(Strict):
    """Query of the savings."""

    since: Day = Field(FIRST_DAY, description="First day, UTC.")
    until: Day = Field(LAST_DAY, description="Last day.")


@router.get(
    "",
    responses=answers({200: (schemas.CacheList, "Those made or refused lately, by prompt.")}, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def list_caches(request: Request) -> Response:
    """List the beginnings of prompts that providers keep, and those that are too small."""
    return json(await all_caches(parts_of(request).kit))


@router.get(
    "/savings",
    responses=answers({200: (schemas.SavingList, "By day, prompt and model.")}, 422),
    dependencies=[Depends(single_values)],
    openapi_extra=needs("look"),
)
async def list_savings(
    request: Request, caller: Caller, query: Annotated[SavingsQuery, Query()]
) -> Response:
    """Tell what was saved by what providers keep, and what keeping it cost."""
    kit = parts_of(request).kit
    return json(await savings(kit, caller.owner_id, since=query.since, until=query.until))
