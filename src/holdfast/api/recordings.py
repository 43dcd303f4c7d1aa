"""Recordings: executions of code that runs elsewhere, sent by a `holdfast.Recorder`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from holdfast.operations.recordings import keep_recordings

from . import schemas
from .doorkeeper import Door, needs
from .openapi import answers
from .parts import Caller, parts_of
from .requests import media_type, no_query, read_body
from .responses import ROOT, json

NDJSON = "application/x-ndjson"

MAX_RECORDINGS_BYTES = 64 * 1024 * 1024
"""Largest body of recordings; a recorder sends about 4 MB at once, or one larger execution."""

router = APIRouter(prefix=f"{ROOT}/recordings", tags=["recordings"], route_class=Door)

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": 'Journal entries, one JSON object a line: `{"r": …}` begins an execution, '
        '`{"x": ID, "c": …}` is a change of it.',
        "content": {NDJSON: {"schema": {"type": "string"}}},
    }
}


@router.post(
    "",
    responses=answers({200: (schemas.RecordingsKept, "What became of each.")}, 413, 415, 422),
    openapi_extra={**_BODY, **needs("record")},
    dependencies=[Depends(no_query)],
)
async def take(request: Request, caller: Caller) -> Response:
    """Store executions that ran elsewhere; answered when they are committed.

    Each execution must be whole: one whose end is missing is stored as `crashed`. Sending the
    same again changes nothing.
    """
    media_type(request, NDJSON)
    body = await read_body(request, MAX_RECORDINGS_BYTES)
    entries = [line for line in body.split(b"\n") if line.strip()]
    kept = await keep_recordings(parts_of(request).kit, caller.owner_id, entries)
    refused = [
        {"id": id_, "code": error.code, "message": error.message}
        for id_, error in kept.refused.items()
    ]
    return json({"stored": kept.stored, "refused": refused, "faults": kept.faults})
