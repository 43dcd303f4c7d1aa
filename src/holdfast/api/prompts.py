"""Prompts: versions sent in and looked at, labels moved and rolled back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field

from holdfast.domain.prompts import LABEL, MAX_NAME_CHARS, NAME
from holdfast.operations import prompts as registry

from . import prompt_schemas as schemas
from .dead_letters import who
from .doorkeeper import Door, needs
from .fields import REF, Strict
from .openapi import BODY_PROBLEMS, answers, json_request
from .parts import Caller, parts_of
from .requests import no_query, read_model, single_values
from .responses import ROOT, json

router = APIRouter(prefix=f"{ROOT}/prompts", tags=["prompts"], route_class=Door)

Name = Annotated[
    str,
    Path(
        pattern=f"^{NAME.pattern}$",
        max_length=MAX_NAME_CHARS,
        description="A prompt's name; slashes may stand.",
    ),
]
Label = Annotated[str, Path(pattern=f"^{LABEL.pattern}$")]
Ref = Annotated[str, Path(pattern=REF, description="A label, or a hash or the beginning of one.")]
Reason = Annotated[str, Field(min_length=1, max_length=300)]


class PutBody(Strict):
    """A prompt's text."""

    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$", max_length=MAX_NAME_CHARS)]
    source: str = Field(description="As a file would have it, see docs/prompts.md.")


class MoveBody(Strict):
    """Where a label is to stand."""

    version: Annotated[str, Field(pattern=REF)] = Field(
        description="A hash or the beginning of one, or another label."
    )
    reason: Reason | None = None


class RollBackBody(Strict):
    """Why a label goes back."""

    reason: Reason | None = None


class DiffQuery(Strict):
    """Which two versions."""

    a: Annotated[str, Field(pattern=REF)] = "file"
    b: Annotated[str, Field(pattern=REF)] = "production"


@router.get(
    "",
    responses=answers({200: (schemas.PromptList, "All of them, by name.")}, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def list_prompts(request: Request, caller: Caller) -> Response:
    """List prompts: those of the apps and the owner's own, and where their labels stand."""
    return json({"items": await registry.all_prompts(parts_of(request).kit, caller.owner_id)})


@router.post(
    "",
    responses=answers(
        {
            200: (schemas.PromptVersion, "It was there already."),
            201: (schemas.PromptVersion, "It is a version from now on."),
        },
        *BODY_PROBLEMS,
    ),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(PutBody), **needs("prompts")},
)
async def put_prompt(request: Request, caller: Caller) -> Response:
    """Store a prompt's text as a version; no label moves by it."""
    body = await read_model(request, PutBody)
    view, new = await registry.put_prompt(
        parts_of(request).kit,
        owner_id=caller.owner_id,
        name=body.name,
        source=body.source,
        author=who(caller),
    )
    return json(view, 201 if new else 200)


# Names hold slashes: what follows them is the verb.
@router.get(
    "/{name:path}/versions",
    responses=answers({200: (schemas.PromptHistory, "The prompt.")}, 404, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def get_prompt(request: Request, caller: Caller, name: Name) -> Response:
    """Show a prompt: its versions and labels, who uses it, how its labels moved."""
    return json(await registry.prompt(parts_of(request).kit, name, caller.owner_id))


@router.get(
    "/{name:path}/versions/{version}",
    responses=answers({200: (schemas.PromptVersion, "The version.")}, 404, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def get_version(request: Request, caller: Caller, name: Name, version: Ref) -> Response:
    """Show a version with its texts and variables."""
    found = await registry.find_version(parts_of(request).kit, name, version, caller.owner_id)
    return json(registry.version_view(found))


@router.get(
    "/{name:path}/diff",
    responses=answers({200: (schemas.PromptDiff, "What differs.")}, 404, 422),
    dependencies=[Depends(single_values)],
    openapi_extra=needs("look"),
)
async def diff(
    request: Request, caller: Caller, name: Name, query: Annotated[DiffQuery, Query()]
) -> Response:
    """Compare two versions, part by part."""
    kit = parts_of(request).kit
    return json(await registry.compare(kit, name, query.a, query.b, caller.owner_id))


@router.put(
    "/{name:path}/labels/{label}",
    responses=answers({200: (schemas.LabelMoved, "It stands there.")}, *BODY_PROBLEMS),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(MoveBody), **needs("prompts")},
)
async def move_label(request: Request, caller: Caller, name: Name, label: Label) -> Response:
    """Let a label stand at a version, for the owner's runs that begin from now on."""
    body = await read_model(request, MoveBody)
    view = await registry.move_label(
        parts_of(request).kit,
        name,
        label,
        body.version,
        owner_id=caller.owner_id,
        by=who(caller),
        reason=body.reason,
    )
    return json(view)


@router.post(
    "/{name:path}/labels/{label}/rollback",
    responses=answers({200: (schemas.LabelMoved, "It stands there again.")}, *BODY_PROBLEMS),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(RollBackBody, required=False), **needs("prompts")},
)
async def roll_back(request: Request, caller: Caller, name: Name, label: Label) -> Response:
    """Let a label stand where it stood before its last move; done again, before the one before."""
    body = await read_model(request, RollBackBody, may_be_empty=True)
    view = await registry.roll_back(
        parts_of(request).kit,
        name,
        label,
        owner_id=caller.owner_id,
        by=who(caller),
        reason=body.reason,
    )
    return json(view)
