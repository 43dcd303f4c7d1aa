"""Budgets set and removed, and what hubs set aside of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from sqlalchemy import bindparam, delete, select, update

from holdfast.domain.budgets import Account, NewBudget, StoredBudget
from holdfast.domain.executions import Record
from holdfast.domain.ids import new_id
from holdfast.errors import HoldfastError, NotFound
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.queries.budgets import COLUMNS, budget_item, standing
from holdfast.store.statements import Conflict, Insert, Statement
from holdfast.store.tables import allowances, budgets, events

from .held import lock

SLICE = 16
"""A hub that asks for more gets this part of what is left, so that it need not ask each time."""

_WHICH = ("owner_id", "scope", "subject", "period", "unit")

_INSERT = Insert(budgets, unless=Conflict(_WHICH))
_BY_WORDS = lock(
    select(*COLUMNS).where(*(budgets.c[name] == bindparam(f"of_{name}") for name in _WHICH))
)
_SET = Statement(
    update(budgets)
    .where(budgets.c.id == bindparam("of"))
    .values(amount=bindparam("most"), updated_at=bindparam("at"))
)
_OWNED = lock(
    select(budgets.c.id).where(
        budgets.c.id == bindparam("of"), budgets.c.owner_id == bindparam("owner")
    )
)
_REMOVE = Statement(delete(budgets).where(budgets.c.id == bindparam("of")))


@dataclass(frozen=True, slots=True)
class PutBudget(Command[StoredBudget]):
    """Set a budget, or change the amount of the one with the same other words."""

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 6
    budget: NewBudget

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[StoredBudget]:
        """One after the other."""
        return [_put(tx, command.budget) for command in commands]


def _put(tx: Writes, new: NewBudget) -> StoredBudget:
    now = tx.now()
    words = (*(new.owner_id, new.scope.value, new.subject, new.period.value, new.unit.value),)
    made = dict(zip(_WHICH, words, strict=True)) | {
        "id": new_id(),
        "amount": new.amount,
        "created_at": now,
        "updated_at": now,
    }
    tx.insert(_INSERT, [[made[column.name] for column in budgets.columns]])
    which = {f"of_{name}": value for name, value in zip(_WHICH, words, strict=True)}
    stored = budget_item(tx.rows(_BY_WORDS, which)[0])
    tx.change(_SET, [{"of": stored.id, "most": new.amount, "at": now}])
    return budget_item(tx.rows(_BY_WORDS, which)[0])


@dataclass(frozen=True, slots=True)
class RemoveBudget(Command[None]):
    """Remove a budget; what was spent stays in the ledger.

    Raises:
        NotFound: no such budget of that owner.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 7
    budget_id: str
    owner_id: str

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[HoldfastError | None]:
        """One after the other."""
        results: list[HoldfastError | None] = []
        for one in commands:
            if not tx.rows(_OWNED, {"of": one.budget_id, "owner": one.owner_id}):
                results.append(NotFound(f"there is no budget {one.budget_id}"))
                continue
            tx.change(_REMOVE, [{"of": one.budget_id}])
            results.append(None)
        return results


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What came of asking for more of a budget.

    Attributes:
        granted: set aside for the hub now; 0 when there is not enough.
        limit: the budget's amount now.
        spent: in the ledger.
        elsewhere: set aside for other hubs.
        gone: the budget was removed: nothing limits the call.
    """

    granted: int
    limit: int
    spent: int
    elsewhere: int
    gone: bool = False


@dataclass(frozen=True, slots=True)
class TakeAllowance(Command[Taken]):
    """Set a slice of a budget aside for one hub, if there is as much as it needs.

    Attributes:
        need: at least so much, or nothing.
    """

    lane: ClassVar[Lane] = "claim"
    order: ClassVar[int] = 1
    account: Account
    hub_id: str
    need: int

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Taken]:
        """In the order of accounts: two hubs that take several never wait for each other."""
        order = sorted(range(len(commands)), key=lambda place: _lock_key(commands[place].account))
        taken = {place: _take(tx, commands[place]) for place in order}
        return [taken[place] for place in range(len(commands))]


_BUDGET = lock(select(budgets.c.amount).where(budgets.c.id == bindparam("of")))
_EVENT = lock(select(events.c.id).where(events.c.id == bindparam("of")))
_OPEN = Insert(allowances, unless=Conflict(("account", "hub_id")))
_ADD = Statement(
    update(allowances)
    .where(allowances.c.account == bindparam("of"), allowances.c.hub_id == bindparam("hub"))
    .values(amount=allowances.c.amount + bindparam("more"), at=bindparam("now"))
)
_EMPTY = Statement(
    delete(allowances).where(
        allowances.c.account == bindparam("of"),
        allowances.c.hub_id == bindparam("hub"),
        allowances.c.amount <= 0,
    )
)


def _lock_key(account: Account) -> tuple[str, str]:
    return account.budget_id or "", account.key


def _take(tx: Writes, command: TakeAllowance) -> Taken:
    account = command.account
    limit = account.limit
    if account.budget_id is None:
        tx.rows(_EVENT, {"of": account.subject})
    else:
        rows = tx.rows(_BUDGET, {"of": account.budget_id})
        if not rows:
            return Taken(granted=0, limit=0, spent=0, elsewhere=0, gone=True)
        limit = int(rows[0][0])
    spent, elsewhere, mine = standing(tx, account, command.hub_id, tx.now())
    left = limit - spent - elsewhere - mine
    granted = min(max(command.need, left // SLICE), left) if command.need <= left else 0
    if granted:
        at = tx.now()
        tx.insert(_OPEN, [(account.key, command.hub_id, 0, at)])
        more = {"of": account.key, "hub": command.hub_id, "more": granted, "now": at}
        tx.change(_ADD, [more])
    return Taken(granted=granted, limit=limit, spent=spent, elsewhere=elsewhere)


def release(tx: Writes, records: Iterable[Record]) -> None:
    """Give back what was set aside for executions whose records are stored in this transaction."""
    back = [
        {"of": key, "hub": record.lease_owner, "more": -amount, "now": tx.now()}
        for record in records
        for key, amount in record.released
    ]
    _give_back(tx, back)


def _give_back(tx: Writes, back: list[dict[str, Any]]) -> None:
    back = sorted(back, key=lambda one: one["of"])
    tx.change(_ADD, back)
    tx.change(_EMPTY, [{"of": one["of"], "hub": one["hub"]} for one in back])


@dataclass(frozen=True, slots=True)
class GiveBackAllowances(Command[None]):
    """Give back what a hub does not need of what was set aside for it.

    Attributes:
        amounts: by account.
    """

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 6
    hub_id: str
    amounts: tuple[tuple[str, int], ...]

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[None]:
        """All at once."""
        _give_back(
            tx,
            [
                {"of": key, "hub": one.hub_id, "more": -amount, "now": tx.now()}
                for one in commands
                for key, amount in one.amounts
            ],
        )
        return [None] * len(commands)
