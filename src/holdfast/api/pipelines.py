"""Pipelines: what is loaded, what it takes and how it is wired; and what could not be loaded."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from holdfast.errors import NotFound
from holdfast.operations.views import View
from holdfast.pipelines.base import Declaration

from . import schemas
from .doorkeeper import Door, needs
from .openapi import answers
from .parts import parts_of
from .requests import no_query
from .responses import ROOT, json

router = APIRouter(prefix=f"{ROOT}/pipelines", tags=["pipelines"], route_class=Door)


@router.get(
    "",
    responses=answers({200: (schemas.PipelineList, "All of them, by name.")}, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def list_pipelines(request: Request) -> Response:
    """List the loaded pipelines, and the apps that are left out with the reason."""
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
    items = [_summary(one) for one in sorted(registry, key=lambda one: one.name)]
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
    if name not in registry:
        known = ", ".join(sorted(one.name for one in registry)) or "none is loaded"
        raise NotFound(f"there is no pipeline {name!a}", hint=f"known: {known}")
    declaration = registry.get(name)
    view = _summary(declaration)
    view["event_schema"] = declaration.schema()
    view["graph"] = declaration.describe()
    return json(view)


def _summary(declaration: Declaration) -> View:
    return {
        "name": declaration.name,
        "kind": declaration.kind,
        "version": declaration.version,
        "code_version": declaration.code_version,
        "description": declaration.description,
        "deadline": declaration.deadline,
        "links": {"pipeline": f"{ROOT}/pipelines/{declaration.name}"},
    }
