"""Questions about budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from sqlalchemy import ScalarSelect, Table, bindparam, func, select

from holdfast.domain.budgets import Account, Period, Scope, StoredBudget, Unit, account_for
from holdfast.domain.events import CHILD
from holdfast.domain.hubs import ALIVE_US
from holdfast.domain.ids import now_us
from holdfast.store.base import Query, Reads
from holdfast.store.statements import Statement
from holdfast.store.tables import allowances, budgets, events, executions, hubs, usage, usage_days
from holdfast.store.tables.base import word

from .usage import LOOSE

NAMES = tuple(one.name for one in fields(StoredBudget))

COLUMNS = tuple(budgets.c[name] for name in NAMES)

_ORDER = (
    *(budgets.c.owner_id, budgets.c.scope, budgets.c.subject, budgets.c.period, budgets.c.unit),
)
_ALL = Statement(select(*COLUMNS).order_by(*_ORDER))
_OF_OWNER = Statement(
    select(*COLUMNS).where(budgets.c.owner_id == bindparam("owner_id")).order_by(*_ORDER)
)

_ABOVE = Statement(
    select(executions.c.event_id, executions.c.name, executions.c.session_id)
    .add_columns(events.c.parent_id, events.c.origin)
    .join_from(executions, events, events.c.id == executions.c.event_id)
    .where(executions.c.id == bindparam("of"), executions.c.owner_id == bindparam("owner_id"))
)


def budget_item(row: Sequence[Any]) -> StoredBudget:
    """A budget out of a row of `COLUMNS`."""
    values = dict(zip(NAMES, row, strict=True))
    values["scope"] = Scope(values["scope"])
    values["period"] = Period(values["period"])
    values["unit"] = Unit(values["unit"])
    return StoredBudget(**values)


@dataclass(frozen=True, slots=True)
class AllBudgets(Query[list[StoredBudget]]):
    """Everybody's budgets, for the hub that keeps them."""

    def run(self, db: Reads) -> list[StoredBudget]:
        """Ask for all; they are few."""
        return [budget_item(row) for row in db.rows(_ALL, {})]


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetNow:
    """A budget as it stands in its present period.

    Attributes:
        spent: in the ledger; None where each session, say, has its own.
        set_aside: by hubs, for calls under way and what is not stored yet.
    """

    budget: StoredBudget
    spent: int | None
    set_aside: int | None


@dataclass(frozen=True, slots=True)
class BudgetsNow(Query[list[BudgetNow]]):
    """The budgets of an owner, with how they stand."""

    owner_id: str

    def run(self, db: Reads) -> list[BudgetNow]:
        """Ask for all, then for each."""
        now = now_us()
        found: list[BudgetNow] = []
        for row in db.rows(_OF_OWNER, {"owner_id": self.owner_id}):
            one = budget_item(row)
            account = account_for(one, now)
            if account is None:
                found.append(BudgetNow(budget=one, spent=None, set_aside=None))
                continue
            spent, set_aside, _ = standing(db, account, "", now)
            found.append(BudgetNow(budget=one, spent=spent, set_aside=set_aside))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An execution that waits for another one, directly or not."""

    event_id: str
    name: str
    session_id: str | None


@dataclass(frozen=True, slots=True)
class WaitingFor(Query[list[Waiting]]):
    """The executions that wait for a child execution, its own parent first.

    Attributes:
        parent_id: execution that started it.
    """

    parent_id: str
    owner_id: str

    def run(self, db: Reads) -> list[Waiting]:
        """Ask upwards; a chain has an end, see `MAX_CHILD_DEPTH`."""
        found: list[Waiting] = []
        above: str | None = self.parent_id
        while above is not None:
            rows = db.rows(_ABOVE, {"of": above, "owner_id": self.owner_id})
            if not rows:
                break  # it was pruned
            event_id, name, session_id, parent_id, origin = rows[0]
            found.append(Waiting(event_id=event_id, name=name, session_id=session_id))
            above = parent_id if origin == CHILD else None
        return found


def standing(db: Reads, account: Account, hub_id: str, now: int) -> tuple[int, int, int]:
    """What is in the ledger, set aside for other hubs that live, and for this one.

    One statement: between two, a record that is stored would count twice, or not at all.
    """
    values: dict[str, Any] = {"account": account.key, "hub": hub_id, "alive": now - ALIVE_US}
    match account.scope:
        case Scope.EXECUTION:
            values["event"] = account.subject
        case Scope.SESSION:
            values |= {"session": account.subject, "since": account.since}
        case Scope.OWNER:
            values["since"] = account.since
        case _:
            values |= {"name": account.subject, "since": account.since}
    values["owner"] = account.owner_id
    ((spent, elsewhere, mine),) = db.rows(_standing(account.scope, account.unit), values)
    return int(spent), int(elsewhere), int(mine)


@cache
def _standing(scope: Scope, unit: Unit) -> Statement:
    living = select(hubs.c.id).where(hubs.c.seen_at >= bindparam("alive"))
    set_aside = select(func.coalesce(func.sum(allowances.c.amount), 0)).where(
        allowances.c.account == bindparam("account")
    )
    elsewhere = set_aside.where(
        allowances.c.hub_id != bindparam("hub"), allowances.c.hub_id.in_(living)
    )
    mine = set_aside.where(allowances.c.hub_id == bindparam("hub"))
    spent: Any = sum(_spent(scope, unit)[1:], start=_spent(scope, unit)[0])
    return Statement(
        select(
            spent.label("spent"),
            elsewhere.scalar_subquery().label("elsewhere"),
            mine.scalar_subquery().label("mine"),
        )
    )


def _spent(scope: Scope, unit: Unit) -> list[ScalarSelect[Any]]:
    if scope is Scope.EXECUTION:
        return [_sum(usage, unit, usage.c.execution_id.in_(_tree()))]
    if scope is Scope.SESSION:
        return [
            _sum(
                usage,
                unit,
                usage.c.session_id == bindparam("session"),
                usage.c.day >= bindparam("since"),
            )
        ]
    sums: list[ScalarSelect[Any]] = []
    for table in (usage_days, usage):
        rules = [table.c.day >= bindparam("since")]
        if scope is not Scope.OWNER:
            rules += [table.c.kind == word(scope), table.c.name == bindparam("name")]
        if table is usage:
            rules.append(LOOSE)
        sums.append(_sum(table, unit, *rules))
    return sums


def _sum(table: Table, unit: Unit, *rules: Any) -> ScalarSelect[Any]:
    match unit:
        case Unit.TOKENS:
            amount = table.c.tokens_input + table.c.tokens_output + table.c.held_tokens
        case Unit.USD:
            amount = table.c.cost_pico + table.c.held_pico
        case Unit.CREDITS:
            amount = table.c.credits
    return (
        select(func.coalesce(func.sum(amount), 0))
        .where(table.c.owner_id == bindparam("owner"), *rules)
        .scalar_subquery()
    )


def _tree() -> Any:
    """The executions of an event, and those that they have started and waited for."""
    tree = (
        select(executions.c.id.label("id"))
        .where(executions.c.event_id == bindparam("event"))
        .cte("tree", recursive=True)
    )
    below = (
        select(executions.c.id)
        .join(tree, executions.c.parent_id == tree.c.id)
        .where(executions.c.origin == CHILD)
    )
    return select(tree.union(below).c.id)
