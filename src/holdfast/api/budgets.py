"""Budgets: how much may be spent, by whom and when."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from holdfast.domain.budgets import Period, Scope, Unit
from holdfast.operations import budgets as plans

from . import schemas
from .doorkeeper import Door, needs
from .fields import IdInPath, Strict
from .openapi import BODY_PROBLEMS, answers, json_request
from .parts import Caller, parts_of
from .requests import no_body, no_query, read_model
from .responses import ROOT, json

router = APIRouter(
    prefix=f"{ROOT}/budgets",
    tags=["usage"],
    route_class=Door,
    dependencies=[Depends(no_query)],
)


class BudgetBody(Strict):
    """A budget as it is to be."""

    scope: Scope = Field(description="Whose spending it counts.")
    subject: Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] = Field(
        "", description="A name or a session; `*`: each of them has its own; none for the owner."
    )
    period: Period = Field(Period.EVER, description="After what time it is fresh again, in UTC.")
    unit: Unit
    amount: Annotated[str, Field(min_length=1, max_length=30, pattern=r"^[0-9]+(\.[0-9]+)?$")] = (
        Field(description="Whole tokens or credits, or dollars, as decimal text.")
    )


@router.get(
    "",
    responses=answers({200: (schemas.BudgetList, "All of them.")}, 422),
    openapi_extra=needs("look"),
)
async def list_budgets(request: Request, caller: Caller) -> Response:
    """List budgets, with what is spent of each."""
    return json({"items": await plans.budgets(parts_of(request).kit, caller.owner_id)})


@router.put(
    "",
    responses=answers({200: (schemas.Budget, "It is set.")}, *BODY_PROBLEMS),
    openapi_extra={**json_request(BudgetBody), **needs("budgets")},
)
async def set_budget(request: Request, caller: Caller) -> Response:
    """Set a budget, or another amount for the one with the same other words.

    It holds for executions that begin from now on; another amount holds at once.
    """
    body = await read_model(request, BudgetBody)
    view = await plans.set_budget(
        parts_of(request).kit,
        owner_id=caller.owner_id,
        scope=body.scope,
        subject=body.subject,
        period=body.period,
        unit=body.unit,
        amount=body.amount,
    )
    return json(view)


@router.delete(
    "/{budget_id}",
    responses=answers({200: (schemas.Deleted, "It is gone.")}, 404, 422),
    dependencies=[Depends(no_body)],
    openapi_extra=needs("budgets"),
)
async def remove_budget(request: Request, caller: Caller, budget_id: IdInPath) -> Response:
    """Remove a budget; what was spent stays in the ledger."""
    await plans.remove_budget(parts_of(request).kit, budget_id, caller.owner_id)
    return json({"deleted": budget_id})
