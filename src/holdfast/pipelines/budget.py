"""Budgets: what one execution may spend before its next call is refused."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from holdfast.domain.budgets import MAX_AMOUNT, Unit, pico_of
from holdfast.errors import DeclarationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one execution may spend; None: as much as it takes.

    It holds for all deliveries of its event together, over halts, and for the child executions
    that it waits for.

    Attributes:
        tokens: input and output of its model calls, refused and repeated answers included.
        usd: what they cost, in dollars; text or Decimal is exact.
        credits: charged by its model nodes.
    """

    tokens: int | None = None
    usd: Decimal | str | int | float | None = None
    credits: int | None = None

    def amounts(self) -> dict[Unit, int]:
        """What is limited, in the smallest unit.

        Raises:
            InvalidOperation: the dollars are no number.
        """
        pico = None if self.usd is None else pico_of(Decimal(str(self.usd)))
        given = {Unit.TOKENS: self.tokens, Unit.USD: pico, Unit.CREDITS: self.credits}
        return {unit: amount for unit, amount in given.items() if amount is not None}


def check_budget(budget: Budget, where: str) -> None:
    """Refuse a budget that has no sense.

    Raises:
        DeclarationError: an amount is no number, or lets nothing run.
    """
    try:
        amounts = budget.amounts()
    except (InvalidOperation, ValueError, OverflowError):
        raise DeclarationError(f"{where}: a budget of {budget.usd!r} dollars is none") from None
    for unit, amount in amounts.items():
        if amount < 1:
            raise DeclarationError(f"{where}: a budget of {amount} {unit} lets nothing run")
        if amount > MAX_AMOUNT:
            raise DeclarationError(f"{where}: a budget of {amount} {unit} is none")
