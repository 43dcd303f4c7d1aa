"""Dead letters: events that used up their deliveries, to be mended, run again or discarded."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from holdfast.domain.dead_letters import Action
from holdfast.domain.ids import is_id
from holdfast.domain.keys import Principal
from holdfast.errors import NotFound
from holdfast.operations import dead_letters as letters
from holdfast.operations.views import View, iso, microseconds
from holdfast.store.commands import Intervened
from holdfast.store.queries import ListDeadLetters

from . import schemas
from .doorkeeper import Door, needs
from .events import event_detail
from .fields import Id, IdInPath, Page, PipelineName, Strict, Time
from .openapi import BODY_PROBLEMS, answers, json_request
from .parts import Caller, parts_of
from .requests import no_body, no_query, read_model, single_values
from .responses import ROOT, event_body, event_links, json, page_body

router = APIRouter(prefix=f"{ROOT}/dead-letters", tags=["dead letters"], route_class=Door)

Reason = Annotated[
    str, Field(min_length=1, max_length=letters.MAX_REASON_CHARS, pattern=r"^[^\x00]+$")
]


class State(StrEnum):
    """Which dead letters a list shows."""

    DEAD = "dead"
    DISCARDED = "discarded"


class DeadLetterQuery(Page):
    """Query of the list of dead letters; `since` and `until` mean when they died."""

    pipeline: PipelineName | None = Field(None, description="Only this pipeline's.")
    state: State = Field(State.DEAD, description="Those there are, or those that were discarded.")


class EditBody(Strict):
    """Body of an edit."""

    data: Any = Field(description="Takes the place of the event's data.")


class DiscardBody(Strict):
    """Body of a discard."""

    reason: Reason


class LetterFilter(Strict):
    """Which dead letters."""

    pipeline: PipelineName | None = None
    since: Time | None = None
    until: Time | None = None


class ManyLetters(Strict):
    """Body of a replay of many: by their ids or by a filter."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=1000)] | None = None
    filter: LetterFilter | None = None
    dry_run: bool = False


class ManyDiscards(ManyLetters):
    """Body of a discard of many."""

    reason: Reason


@router.get(
    "",
    responses=answers({200: (schemas.EventPage, "A page, newest event first.")}, 422),
    dependencies=[Depends(single_values)],
    openapi_extra=needs("look"),
)
async def list_dead_letters(
    request: Request, caller: Caller, query: Annotated[DeadLetterQuery, Query()]
) -> Response:
    """List dead letters, newest event first, without their data."""
    found = await letters.dead_letters(
        parts_of(request).kit,
        ListDeadLetters(
            owner_id=caller.owner_id,
            target=query.pipeline,
            discarded=query.state is State.DISCARDED,
            since=microseconds(query.since),
            until=microseconds(query.until),
            before=query.before,
            limit=query.limit,
        ),
    )
    registry = parts_of(request).kit.registry
    items = [event_body(registry, event, with_data=False) for event in found]
    return json(page_body(items, router.prefix, request.query_params, query.limit))


@router.post(
    "/replay",
    responses=answers({200: (schemas.Done, "What came of it.")}, *BODY_PROBLEMS),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(ManyLetters), **needs("replay")},
)
async def replay_many(request: Request, caller: Caller) -> Response:
    """Queue many dead letters again; `dry_run` only counts them."""
    body = await read_model(request, ManyLetters)
    kit, by = parts_of(request).kit, who(caller)
    done = await letters.many(
        kit,
        lambda event_id: letters.replay(kit, event_id, caller.owner_id, by),
        ids=body.ids,
        wanted=_wanted(caller, body.filter),
        dry_run=body.dry_run,
    )
    return json(asdict(done))


@router.post(
    "/discard",
    responses=answers({200: (schemas.Done, "What came of it.")}, *BODY_PROBLEMS),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(ManyDiscards), **needs("cancel")},
)
async def discard_many(request: Request, caller: Caller) -> Response:
    """Cancel many dead letters for good; `dry_run` only counts them."""
    body = await read_model(request, ManyDiscards)
    kit, by = parts_of(request).kit, who(caller)
    done = await letters.many(
        kit,
        lambda event_id: letters.discard(kit, event_id, caller.owner_id, by, body.reason),
        ids=body.ids,
        wanted=_wanted(caller, body.filter),
        dry_run=body.dry_run,
    )
    return json(asdict(done))


@router.get(
    "/{event_id}",
    responses=answers({200: (schemas.DeadLetter, "The dead letter.")}, 404, 422),
    dependencies=[Depends(no_query)],
    openapi_extra=needs("look"),
)
async def get_dead_letter(request: Request, caller: Caller, event_id: IdInPath) -> Response:
    """Look a dead letter up with its whole history; also one that was replayed or discarded."""
    _check(event_id)
    found = await letters.dead_letter(parts_of(request).kit, event_id, caller.owner_id)
    body = event_detail(parts_of(request).kit.registry, found.whole)
    body["history"] = _history(found)
    return json(body)


@router.patch(
    "/{event_id}",
    responses=answers({200: (schemas.Moved, "It has that data now.")}, *BODY_PROBLEMS),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(EditBody), **needs("submit")},
)
async def edit_dead_letter(request: Request, caller: Caller, event_id: IdInPath) -> Response:
    """Replace a dead letter's data, checked as that of a new event; replayed, it begins anew."""
    _check(event_id)
    body = await read_model(request, EditBody)
    kit = parts_of(request).kit
    return _moved(await letters.edit(kit, event_id, caller.owner_id, who(caller), body.data))


@router.post(
    "/{event_id}/replay",
    status_code=202,
    responses=answers({202: (schemas.Moved, "It is queued.")}, 404, 409, 422),
    dependencies=[Depends(no_query), Depends(no_body)],
    openapi_extra=needs("replay"),
)
async def replay_one(request: Request, caller: Caller, event_id: IdInPath) -> Response:
    """Queue a dead letter again; its deliveries, crashes and errors are counted anew."""
    _check(event_id)
    kit = parts_of(request).kit
    return _moved(await letters.replay(kit, event_id, caller.owner_id, who(caller)), 202)


@router.post(
    "/{event_id}/discard",
    responses=answers({200: (schemas.Moved, "It is cancelled.")}, *BODY_PROBLEMS),
    dependencies=[Depends(no_query)],
    openapi_extra={**json_request(DiscardBody), **needs("cancel")},
)
async def discard_one(request: Request, caller: Caller, event_id: IdInPath) -> Response:
    """Cancel a dead letter for good; who did it and why is shown with the event."""
    _check(event_id)
    body = await read_model(request, DiscardBody)
    kit = parts_of(request).kit
    discarded = await letters.discard(kit, event_id, caller.owner_id, who(caller), body.reason)
    return _moved(discarded)


def who(caller: Principal) -> str:
    """How a deed's doer is written down: the key they came with, or the local user."""
    return caller.key_id or caller.owner_id


def _wanted(caller: Principal, chosen: LetterFilter | None) -> ListDeadLetters | None:
    if chosen is None:
        return None
    return ListDeadLetters(
        owner_id=caller.owner_id,
        target=chosen.pipeline,
        since=microseconds(chosen.since),
        until=microseconds(chosen.until),
    )


def _history(letter: letters.DeadLetter) -> list[View]:
    """Deliveries and what people did, in the order it happened."""
    told: list[tuple[int, View]] = [
        (
            run.finished_at or run.started_at,
            {
                "what": "delivered",
                "at": iso(run.finished_at or run.started_at),
                "delivery": run.delivery,
                "execution_id": run.id,
                "status": run.status.value,
                "error": run.error,
            },
        )
        for run in letter.whole.executions
    ]
    for one in letter.interventions:
        view: View = {
            "what": one.action.value,
            "at": iso(one.at),
            "by": one.by,
            "reason": one.reason,
        }
        view["before"] = {**one.before, "finished_at": iso(one.before["finished_at"])}
        if one.action is Action.EDITED:
            view["data"] = one.data
        told.append((one.at, view))
    return [view for _, view in sorted(told, key=lambda pair: pair[0])]


def _moved(done: Intervened, status: int = 200) -> Response:
    body = {
        "id": done.event_id,
        "status": done.status.value,
        "links": event_links(done.event_id, done.execution_id),
    }
    return json(body, status)


def _check(event_id: str) -> None:
    if not is_id(event_id):
        raise NotFound(f"there is no event {event_id!a}")
