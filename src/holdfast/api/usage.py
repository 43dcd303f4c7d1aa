"""What was used, by whom and of what."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from holdfast.domain.keys import Scope
from holdfast.operations.usage import usage

from . import schemas
from .doorkeeper import Door, needs
from .fields import Strict
from .openapi import answers
from .parts import Caller, parts_of
from .requests import single_values
from .responses import ROOT, json

router = APIRouter(prefix=f"{ROOT}/usage", tags=["usage"], route_class=Door)


class By(StrEnum):
    """What there is a sum of."""

    OWNER = "owner"
    PIPELINE = "pipeline"
    AGENT = "agent"
    MODEL = "model"
    DAY = "day"
    ALIAS = "alias"


class UsageQuery(Strict):
    """Query of the ledger; days are those of UTC."""

    by: By = Field(By.DAY, description="What there is a sum of.")
    since: date | None = Field(None, description="First day.")
    until: date | None = Field(None, description="Last day.")


@router.get(
    "",
    responses=answers({200: (schemas.Usage, "The sums.")}, 422),
    dependencies=[Depends(single_values)],
    openapi_extra=needs("look"),
)
async def get_usage(
    request: Request, caller: Caller, query: Annotated[UsageQuery, Query()]
) -> Response:
    """Sum up tokens, dollars and credits of what has been stored.

    By `owner`, a key with the scope `admin` sees everybody; others see their own sums.
    """
    everybody = query.by is By.OWNER and Scope.ADMIN in caller.scopes
    view = await usage(
        parts_of(request).kit,
        owner_id=None if everybody else caller.owner_id,
        by=query.by.value,
        since=query.since,
        until=query.until,
    )
    return json(view)
