"""Budgets: what one execution may spend before its next step is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from holdfast.errors import BudgetExceeded, DeclarationError


class Spent(Protocol):
    """What an execution has spent so far."""

    tokens: int
    credits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one execution may spend; None: as much as it takes.

    Attributes:
        tokens: input and output of its model calls, refused and repeated answers included. A call
            whose provider reports no tokens counts nothing.
        credits: charged by its model nodes.
    """

    tokens: int | None = None
    credits: int | None = None

    def check(self, spent: Spent, where: str, *, asks: bool) -> None:
        """Refuse a step when there is nothing left for it.

        Args:
            spent: so far; a call under way is not torn down, so it may be over the limit.
            where: names the step in the error.
            asks: it is about to ask a model, for which something must be left.

        Raises:
            BudgetExceeded: of class `budget`, not tried again.
        """
        for what, most in (("tokens", self.tokens), ("credits", self.credits)):
            used: int = getattr(spent, what)
            if most is not None and (used >= most if asks else used > most):
                raise BudgetExceeded(
                    f"{where} is not begun: {used} of {most} {what} are spent",
                    hint="allow more with budget=, or look where they went: executions show",
                )


def check_budget(budget: Budget, where: str, *, halts: bool) -> None:
    """Refuse a budget that cannot be kept.

    Raises:
        DeclarationError: a number has no sense, or executions would go on with a fresh one.
    """
    for what in ("tokens", "credits"):
        most = getattr(budget, what)
        if most is not None and most < 1:
            raise DeclarationError(f"{where}: a budget of {most} {what} lets nothing run")
    if halts:
        raise DeclarationError(
            f"{where}: its budget cannot be kept: it may halt, and what it spent before that would "
            "not be counted when it goes on",
            hint="leave out the budget, or what waits and durable=True",
        )
