"""Pipelines: what is loaded, what it takes and how it is wired; and what could not be loaded."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from holdfast.errors import NotFound
from holdfast.operations.estimate import estimate
from holdfast.operations.many import whole_pipeline
from holdfast.operations.views import View
from holdfast.pipelines.base import Declaration

from . import schemas
from .doorkeeper import Door, needs
from .fields import Strict
from .openapi import BODY_PROBLEMS, answers, json_request
from .parts import Caller, parts_of
from .requests import no_query, read_model
from .responses import ROOT, json

router = APIRouter(prefix=f"{ROOT}/pipelines", tags=["pipelines"], route_class=Door)


class WholeBody(Strict):
    """Body of a verb on a whole pipeline."""

    dry_run: bool = False


class WholeVerb(StrEnum):
    """What can be done to a whole pipeline."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"


@router.get(
    "",
    responses=answers({200: (schemas.PipelineList, "All of them, by name.")}, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def list_pipelines(request: Request) -> Response:
    """List the loaded pipelines, Holdfast's own last, and the apps left out with the reason."""
    registry = parts_of(request).kit.registry
    failures = [
        {
            "app": failure.app,
            "code": failure.error.code,
            "message": failure.error.message,
            "hint": failure.error.hint,
        }
        for failure in registry.failures
    ]
    loaded = sorted([*registry, *registry.built_in], key=lambda one: (one.built_in, one.name))
    items = [_summary(one) for one in loaded]
    return json({"items": items, "failures": failures})


@router.get(
    "/{name}",
    responses=answers({200: (schemas.PipelineDetail, "The pipeline.")}, 404, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def get_pipeline(request: Request, name: str) -> Response:
    """Show a pipeline: the schema of its events, its nodes and edges."""
    registry = parts_of(request).kit.registry
    if name not in (names := {one.name for one in registry}):
        known = ", ".join(sorted(names)) or "none is loaded"
        raise NotFound(f"there is no pipeline {name!a}", hint=f"known: {known}")
    declaration = registry.get(name)
    view = _summary(declaration)
    view["event_schema"] = declaration.schema()
    view["graph"] = declaration.describe()
    return json(view)


class EstimateBody(Strict):
    """Body of an estimate."""

    data: Any = Field(description="Of the event.")


# Before the verbs of `/{name}/{verb}`, or it would be taken for one.
@router.post(
    "/{name}/estimate",
    responses=answers({200: (schemas.Estimate, "An estimate.")}, *BODY_PROBLEMS),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(EstimateBody), **needs("look")},
)
async def estimate_run(request: Request, caller: Caller, name: str) -> Response:
    """Estimate what one execution takes: from its prompts, and from past executions.

    Nothing is run or stored. What nobody can know is null.
    """
    body = await read_model(request, EstimateBody)
    kit = parts_of(request).kit
    if name not in {one.name for one in kit.registry}:
        raise NotFound(f"there is no pipeline {name!a}")
    view = await estimate(kit, owner_id=caller.owner_id, pipeline=name, data=body.data)
    return json(view)


@router.post(
    "/{name}/{verb}",
    responses=answers({200: (schemas.Done, "What came of it.")}, *BODY_PROBLEMS),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(WholeBody, required=False), **needs("cancel")},
)
async def whole(request: Request, caller: Caller, name: str, verb: WholeVerb) -> Response:
    """Cancel, pause or resume a whole pipeline.

    Cancelling ends all its unfinished events. Pausing keeps queued ones from starting and stops
    running ones that have checkpoints; the others run on and are told as refused.
    """
    body = await read_model(request, WholeBody, may_be_empty=True)
    kit = parts_of(request).kit
    if name not in {one.name for one in kit.registry}:
        raise NotFound(f"there is no pipeline {name!a}")
    done = await whole_pipeline(kit, verb.value, name, caller.owner_id, dry_run=body.dry_run)
    return json(asdict(done))


def _summary(declaration: Declaration) -> View:
    return {
        "name": declaration.name,
        "kind": declaration.kind,
        "built_in": declaration.built_in,
        "version": declaration.version,
        "code_version": declaration.code_version,
        "description": declaration.description,
        "deadline": declaration.deadline,
        "priority": declaration.priority,
        "retries": declaration.retries,
        "redeliver": declaration.redeliver,
        "max_running": declaration.max_running,
        "rate": declaration.rate and str(declaration.rate),
        "dedup": declaration.dedup and declaration.dedup.total_seconds(),
        "singleton": declaration.singleton is not False,
        "retention": declaration.retention and declaration.retention.total_seconds(),
        "links": {"pipeline": f"{ROOT}/pipelines/{declaration.name}"},
    }
