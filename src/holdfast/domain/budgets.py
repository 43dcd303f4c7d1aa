"""Budgets: what may be spent by whom and when, and the accounts that calls are booked on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum

from holdfast.errors import BudgetExceeded

from .executions import PICO, usd
from .ids import MICROS
from .usage import day_of

EACH = "*"
"""Subject of a budget that each session, pipeline or execution has for itself."""

MAX_AMOUNT = 2**62
"""Of a budget, in its smallest unit."""


class Scope(StrEnum):
    """Whose spending a budget counts."""

    OWNER = "owner"  # all that runs for the owner
    PIPELINE = "pipeline"  # … as one pipeline
    AGENT = "agent"  # … as one agent
    SESSION = "session"  # … in one session
    EXECUTION = "execution"  # … for one event: its deliveries, halts and children together


class Period(StrEnum):
    """After what time a budget is fresh again; days and months begin in UTC."""

    DAY = "day"
    MONTH = "month"
    EVER = "ever"  # never


class Unit(StrEnum):
    """What a budget counts."""

    TOKENS = "tokens"  # input and output
    USD = "usd"  # stored as picodollars
    CREDITS = "credits"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBudget:
    """A budget as it was checked at the door; one owner has one for each of the other words."""

    owner_id: str
    scope: Scope
    subject: str  # name or session; empty for the owner; `EACH`
    period: Period
    unit: Unit
    amount: int  # tokens, picodollars or credits


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBudget(NewBudget):
    """A budget."""

    id: str
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What decides which budgets a call is booked on.

    Attributes:
        events: event and pipeline of the execution itself, then of those that wait for it.
    """

    owner_id: str
    kind: str
    name: str
    session_id: str | None
    events: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One budget as it counts for one run now.

    Attributes:
        key: the same on every hub.
        title: as messages name it.
        limit: as far as this hub knows; that of a stored budget is looked up.
        budget_id: None for one that a pipeline declares.
        subject: whose spending counts: a name, a session, or an event.
        since: the first day that counts.
    """

    key: str
    title: str
    unit: Unit
    limit: int
    owner_id: str
    scope: Scope
    subject: str
    since: int
    budget_id: str | None = None


def accounts_of(
    run: Run,
    stored: Iterable[StoredBudget],
    declared: Mapping[str, Mapping[Unit, int]],
    now: int,
) -> list[Account]:
    """The accounts that a run's calls are booked on.

    Args:
        run: whose.
        stored: budgets of its owner.
        declared: what pipelines allow each of their executions, by name.
        now: microseconds since the epoch.
    """
    found: list[Account] = []
    for one in stored:
        found += _of_stored(run, one, now)
    for event_id, name in run.events:
        for unit, limit in declared.get(name, {}).items():
            found.append(
                Account(
                    key=f"event:{event_id}:{unit}",
                    title=f"an execution of {name}",
                    unit=unit,
                    limit=limit,
                    owner_id=run.owner_id,
                    scope=Scope.EXECUTION,
                    subject=event_id,
                    since=0,
                )
            )
    return found


def concerns(run: Run, one: StoredBudget) -> bool:
    """Whether a budget counts what a run spends."""
    if one.owner_id != run.owner_id:
        return False
    match one.scope:
        case Scope.OWNER:
            return True
        case Scope.SESSION:
            return run.session_id is not None and one.subject in (EACH, run.session_id)
        case Scope.EXECUTION:
            return any(one.subject in (EACH, name) for _, name in run.events)
        case _:
            return run.kind == one.scope.value and one.subject in (EACH, run.name)


def _of_stored(run: Run, one: StoredBudget, now: int) -> list[Account]:
    if not concerns(run, one):
        return []
    match one.scope:
        case Scope.OWNER:
            subjects = [""]
        case Scope.SESSION:
            subjects = [run.session_id or ""]
        case Scope.EXECUTION:
            subjects = [event for event, name in run.events if one.subject in (EACH, name)]
        case _:
            subjects = [run.name]
    return [_account(one, subject, now) for subject in subjects]


def account_for(one: StoredBudget, now: int) -> Account | None:
    """The one account of a budget now; None where each subject has its own."""
    if one.subject == EACH or one.scope is Scope.EXECUTION:
        return None
    return _account(one, one.subject, now)


def _account(one: StoredBudget, subject: str, now: int) -> Account:
    since = first_day(one.period, now)
    return Account(
        key=f"{one.id}:{since}:{subject}",
        title=title(one),
        unit=one.unit,
        limit=one.amount,
        owner_id=one.owner_id,
        scope=one.scope,
        subject=subject,
        since=since,
        budget_id=one.id,
    )


def first_day(period: Period, now: int) -> int:
    """The first day of the period that is under way."""
    if period is Period.EVER:
        return 0
    if period is Period.DAY:
        return day_of(now)
    first = datetime.fromtimestamp(now / MICROS, UTC).replace(day=1)
    return day_of(int(first.timestamp()) * MICROS)


def title(one: NewBudget) -> str:
    """A budget in words, without its amount: `owner a day`."""
    whose = one.scope.value if not one.subject else f"{one.scope} {one.subject}"
    if one.subject == EACH:
        whose = f"each {one.scope}"
    return whose if one.period is Period.EVER else f"{whose} a {one.period}"


def amount_text(unit: Unit, amount: int) -> str:
    """An amount with its unit: `5 credits`, `$0.25`."""
    if unit is not Unit.USD:
        return f"{amount:,} {unit.removesuffix('s') if amount == 1 else unit}"
    dollars = usd(amount)
    return f"${(dollars or Decimal(0)).normalize():f}"


def no_room(
    title: str, unit: Unit, need: int, *, limit: int, spent: int, set_aside: int
) -> BudgetExceeded:
    """Why a call is not made."""

    def text(amount: int) -> str:
        return amount_text(unit, amount)

    return BudgetExceeded(
        f"the budget of {title} has no room for a call that may need {text(need)}: "
        f"of {text(limit)}, {text(spent)} are spent"
        + (f" and {text(set_aside)} set aside for calls under way" if set_aside else ""),
        hint="allow more, or look where it went: holdfast usage, holdfast budgets list",
    )


def pico_of(dollars: Decimal) -> int:
    """Picodollars out of dollars."""
    return int((dollars * PICO).to_integral_value(ROUND_HALF_EVEN))
