"""Budgets: listed with what is left of them, set and removed."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from holdfast.bus import Notice
from holdfast.bus.base import BUDGETS
from holdfast.domain.budgets import (
    EACH,
    MAX_AMOUNT,
    NewBudget,
    Period,
    Scope,
    StoredBudget,
    Unit,
    pico_of,
    title,
)
from holdfast.errors import InvalidInput
from holdfast.store.commands import PutBudget, RemoveBudget
from holdfast.store.queries import BudgetsNow

from .kit import Kit
from .views import View, iso, money


async def budgets(kit: Kit, owner_id: str) -> list[View]:
    """An owner's budgets, with what was spent of each and is set aside for calls under way."""
    found = await kit.store.read(BudgetsNow(owner_id))
    return [budget_view(one.budget, one.spent, one.set_aside) for one in found]


async def set_budget(
    kit: Kit,
    *,
    owner_id: str,
    scope: Scope,
    unit: Unit,
    amount: str,
    subject: str = "",
    period: Period = Period.EVER,
) -> View:
    """Set a budget, or another amount for the one with the same other words.

    It holds for executions that begin from now on; another amount holds at once.

    Args:
        kit: the hub's parts.
        owner_id: whose.
        scope: whose spending it counts.
        unit: what it counts.
        amount: whole tokens or credits, or dollars.
        subject: a name or a session; `*`: each of them has its own.
        period: after what time it is fresh again.

    Raises:
        InvalidInput: the words do not go together.
    """
    if scope is Scope.OWNER and subject:
        raise _wrong("subject", "nothing, for the scope owner", subject)
    if scope is not Scope.OWNER and not subject:
        raise _wrong("subject", f"a name, or {EACH}, for the scope {scope}", subject)
    if scope is Scope.EXECUTION and period is not Period.EVER:
        raise _wrong("period", "ever, for the scope execution", period)
    new = NewBudget(
        owner_id=owner_id,
        scope=scope,
        subject=subject,
        period=period,
        unit=unit,
        amount=amount_of(unit, amount),
    )
    stored = await kit.store.write(PutBudget(new))
    kit.bus.publish(Notice(BUDGETS))
    return budget_view(stored, None, None)


async def remove_budget(kit: Kit, budget_id: str, owner_id: str) -> None:
    """Remove a budget.

    Raises:
        NotFound: no such budget of that owner.
    """
    await kit.store.write(RemoveBudget(budget_id, owner_id))
    kit.bus.publish(Notice(BUDGETS))


def amount_of(unit: Unit, given: str) -> int:
    """An amount in its smallest unit.

    Raises:
        InvalidInput: it is none.
    """
    try:
        number = Decimal(given)
    except InvalidOperation:
        raise _wrong("amount", "a number", given) from None
    if not number.is_finite() or number < 0:
        raise _wrong("amount", "a number that is not below 0", given)
    if number > MAX_AMOUNT:
        raise _wrong("amount", "a smaller number", given)
    amount = pico_of(number) if unit is Unit.USD else int(number)
    if unit is not Unit.USD and number != amount:
        raise _wrong("amount", f"whole {unit}", given)
    if amount > MAX_AMOUNT:
        raise _wrong("amount", "a smaller number", given)
    return amount


def budget_view(budget: StoredBudget, spent: int | None, set_aside: int | None) -> View:
    """A budget as the doors show it.

    Args:
        budget: the budget.
        spent: in its period; None where each session, say, has its own.
        set_aside: for calls under way.
    """
    return {
        "id": budget.id,
        "title": title(budget),
        "scope": budget.scope.value,
        "subject": budget.subject,
        "period": budget.period.value,
        "unit": budget.unit.value,
        "amount": _amount(budget.unit, budget.amount),
        "spent": _amount(budget.unit, spent),
        "set_aside": _amount(budget.unit, set_aside),
        "created_at": iso(budget.created_at),
        "updated_at": iso(budget.updated_at),
    }


def _amount(unit: Unit, amount: int | None) -> str | None:
    return money(amount) if unit is Unit.USD else None if amount is None else str(amount)


def _wrong(field: str, expected: str, got: Any) -> InvalidInput:
    return InvalidInput(
        f"{field} must be {expected}",
        fields=[{"field": field, "expected": expected, "got": str(got)[:100]}],
    )
