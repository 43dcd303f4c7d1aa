"""API keys: made, listed and taken back by those whose own key is good for that."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from holdfast.bus import Notice
from holdfast.bus.base import KEYS
from holdfast.domain.keys import Scope
from holdfast.errors import Forbidden
from holdfast.operations.keys import MAX_NAME_CHARS, all_keys, create_key, key_view, revoke_key
from holdfast.operations.views import microseconds

from . import schemas
from .doorkeeper import Door, needs
from .fields import IdInPath, Strict, Time
from .openapi import BODY_PROBLEMS, answers, json_request
from .parts import parts_of
from .requests import no_body, no_query, read_model
from .responses import ROOT, json

router = APIRouter(prefix=f"{ROOT}/keys", tags=["keys"], route_class=Door)

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]


class KeyBody(Strict):
    """Body that asks for a key."""

    name: Name = Field(description="What it is for.")
    owner: Name = Field(description="Whose things it opens; made with their first key.")
    scopes: list[Scope] = Field(min_length=1, description="What it is good for.")
    expires_at: Time | None = Field(None, description="From then on it opens nothing.")


@router.post(
    "",
    status_code=201,
    responses=answers(
        {201: (schemas.CreatedKey, "The key; it is shown this once.")}, *BODY_PROBLEMS
    ),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(KeyBody), **needs("keys")},
)
async def create(request: Request) -> Response:
    """Make a key for any owner.

    Not the first one: that is made on the hub's machine, with `holdfast keys create`.
    """
    parts = parts_of(request)
    if parts.keyring.empty:
        # Else whoever reaches the open hub could lock everybody else out.
        raise Forbidden(
            "the first API key is made on the hub's machine, not over HTTP",
            hint="stop the hub, run: holdfast keys create NAME, and start it again",
        )
    body = await read_model(request, KeyBody)
    key, secret = await create_key(
        parts.kit.store,
        name=body.name,
        owner=body.owner,
        scopes=body.scopes,
        expires_at=microseconds(body.expires_at),
    )
    await parts.keyring.refresh()
    parts.kit.bus.publish(Notice(KEYS))
    return json({**key_view(key), "key": secret}, 201)


@router.get(
    "",
    responses=answers({200: (schemas.KeyList, "All of them, newest first.")}, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("keys"),
)
async def list_keys(request: Request) -> Response:
    """List the keys of all owners, revoked ones too; never their secrets."""
    found = await all_keys(parts_of(request).kit.store)
    return json({"items": [key_view(key) for key in found]})


@router.delete(
    "/{key_id}",
    responses=answers({200: (schemas.Key, "It opens nothing any more.")}, 404, 422),
    dependencies=[Depends(no_query), Depends(no_body)],
    openapi_extra=needs("keys"),
)
async def revoke(request: Request, key_id: IdInPath) -> Response:
    """Take a key back for good, by its id or prefix; streams opened with it end."""
    parts = parts_of(request)
    key = await revoke_key(parts.kit.store, key_id)
    await parts.keyring.refresh()
    parts.kit.bus.publish(Notice(KEYS))
    return json(key_view(key))
