"""Questions about the executions that others started and wait for."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar

from sqlalchemy import Select, bindparam, case, func, select

from holdfast.domain.events import CHILD
from holdfast.domain.executions import Execution, Totals
from holdfast.domain.status import ExecutionStatus
from holdfast.store.base import Query, Reads
from holdfast.store.rows import EXECUTION_NAMES, execution_item
from holdfast.store.statements import Statement
from holdfast.store.tables import executions
from holdfast.store.tables.base import word

from .pages import columns

MOST_CHILDREN = 1000
"""Children that are named; the sums are over all."""

_MINE = (executions.c.owner_id == bindparam("owner_id"), executions.c.origin == CHILD)
_SUMS = tuple(one.name for one in fields(Totals))
_RUNNING = executions.c.status == word(ExecutionStatus.RUNNING)


def _below() -> Select[tuple[str]]:
    """Ids of all that an execution started, directly or not."""
    tree = (
        select(executions.c.id)
        .where(executions.c.parent_id == bindparam("id"), *_MINE)
        .cte("below", recursive=True)
    )
    more = (
        select(executions.c.id)
        .join_from(executions, tree, executions.c.parent_id == tree.c.id)
        .where(executions.c.origin == CHILD)
    )
    tree = tree.union_all(more)
    return select(tree.c.id)


_CHILDREN = Statement(
    select(*columns(executions, EXECUTION_NAMES))
    .where(executions.c.parent_id == bindparam("id"), *_MINE)
    .order_by(executions.c.id)
    .limit(MOST_CHILDREN)
)
_TOTALS = Statement(
    select(
        func.count(),
        func.coalesce(
            func.sum(case((executions.c.flags.like(bindparam("estimated")), 1), else_=0)), 0
        ),
        *(func.coalesce(func.sum(executions.c[name]), 0) for name in _SUMS),
    ).where(executions.c.id.in_(_below()), ~_RUNNING)
)
_UNDER_WAY = Statement(
    select(*columns(executions, EXECUTION_NAMES)).where(executions.c.id.in_(_below()), _RUNNING)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What an execution started and waited for.

    Attributes:
        children: its own, oldest first; at most `MOST_CHILDREN`.
        rested: how many of all below it do not run now.
        totals: sums over those.
        estimated: how many of those have tokens that were estimated.
        running: the others, whose sums their hub knows.
    """

    children: tuple[Execution, ...] = ()
    rested: int = 0
    totals: Totals = field(default_factory=Totals)
    estimated: int = 0
    running: tuple[Execution, ...] = ()


@dataclass(frozen=True, slots=True)
class FamilyOf(Query[Family]):
    """The children of an execution and the sums over all below it; none of another owner's."""

    snapshot: ClassVar[bool] = True
    execution_id: str
    owner_id: str

    def run(self, db: Reads) -> Family:
        """Ask over the index of parents."""
        mine = {"id": self.execution_id, "owner_id": self.owner_id}
        children = db.rows(_CHILDREN, mine)
        if not children:
            return Family()
        ((rested, estimated, *sums),) = db.rows(
            _TOTALS, {**mine, "estimated": '%"tokens_estimated"%'}
        )
        return Family(
            children=tuple(execution_item(row) for row in children),
            rested=int(rested),
            totals=Totals(**{name: int(sum_) for name, sum_ in zip(_SUMS, sums, strict=True)}),
            estimated=int(estimated),
            running=tuple(execution_item(row) for row in db.rows(_UNDER_WAY, mine)),
        )
