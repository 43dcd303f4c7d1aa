"""Retention: what was kept long enough is deleted on request."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from holdfast.operations.prune import prune

from . import schemas
from .doorkeeper import Door, needs
from .fields import PipelineName, Strict
from .openapi import answers
from .parts import Caller, parts_of
from .requests import no_body, single_values
from .responses import ROOT, json

router = APIRouter(prefix=f"{ROOT}/executions", tags=["executions"], route_class=Door)


class PruneQuery(Strict):
    """Query of a pruning."""

    pipeline: PipelineName | None = Field(None, description="Only this pipeline's.")
    dry_run: bool = Field(default=False, description="Only count.")


@router.post(
    "/prune",
    responses=answers({200: (schemas.Pruned, "What was deleted.")}, 422),
    dependencies=[Depends(single_values), Depends(no_body)],
    openapi_extra=needs("prune"),
)
async def prune_executions(
    request: Request, caller: Caller, query: Annotated[PruneQuery, Query()]
) -> Response:
    """Delete ended events older than their pipeline's `retention`, with all that ran for them.

    What has not ended stays, and so do dead letters.
    """
    pruned = await prune(
        parts_of(request).kit, caller.owner_id, pipeline=query.pipeline, dry_run=query.dry_run
    )
    return json({"events": dict(pruned), "dry_run": query.dry_run})
