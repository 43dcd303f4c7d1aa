"""Budgets: room for calls set aside in memory, leased in slices of the database's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from holdfast.bus import Notice
from holdfast.bus.base import BUDGETS, GAP
from holdfast.domain.budgets import (
    Account,
    Run,
    StoredBudget,
    Unit,
    accounts_of,
    amount_text,
    concerns,
    no_room,
)
from holdfast.domain.events import CHILD, Claimed
from holdfast.domain.executions import Record
from holdfast.domain.ids import new_id, now_us
from holdfast.domain.usage import Sums, UsageLine, day_of
from holdfast.errors import BudgetExceeded
from holdfast.journal import Running
from holdfast.llm.embeddings import Purse
from holdfast.llm.usage import Usage
from holdfast.operations.kit import Kit
from holdfast.pipelines.registry import Registry
from holdfast.ports import PlannedCall, Spending
from holdfast.runner.client_ports import STORE_TIMEOUT_S
from holdfast.store.commands import FoldUsage, GiveBackAllowances, TakeAllowance
from holdfast.store.queries import AllBudgets, WaitingFor
from holdfast.telemetry import logger

from .patience import patiently
from .rounds import Rounds

log = logger("hub")

LOOK_S = 5.0
"""How late this hub may be to hear of a budget that another one set, when a notice was lost."""

GIVE_BACK_S = 1.0
"""For how long a hub keeps what it does not need now; others may need it."""

GATHER_S = 0.05
"""What comes within that is looked at together."""

FOLD_S = 30.0
FOLD_LINES = 500
"""How often lines of the ledger are added up by day, and how many at once."""


@dataclass(slots=True)
class _Pot:
    """What this hub has set aside of one account.

    Attributes:
        granted: as the database has it for this hub.
        held: of that, by execution: reserved for calls, and spent but not stored yet.
    """

    granted: int = 0
    held: dict[str, int] = field(default_factory=dict[str, int])
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def free(self) -> int:
        return self.granted - sum(self.held.values())

    def hold(self, execution_id: str, amount: int) -> None:
        self.held[execution_id] = self.held.get(execution_id, 0) + amount


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reservation:
    """What one call may use, by key of account."""

    execution_id: str
    amounts: Mapping[str, tuple[Unit, int]]
    line: UsageLine  # enters the ledger if nobody tells what it did use


class Declared(Mapping[str, Mapping[Unit, int]]):
    """What one execution of each pipeline or agent may spend, as the registry has it now.

    Agents come and go while a hub runs, so it is looked up and not kept.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __getitem__(self, name: str) -> Mapping[Unit, int]:
        budget = self._registry.get(name).budget if name in self._registry else None
        if budget is None:
            raise KeyError(name)
        return budget.amounts()

    def __iter__(self) -> Iterator[str]:
        return (one.name for one in self._registry if one.budget is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Budgets:
    """Reserves, settles and gives back; belongs to the hub's loop.

    Args:
        kit: the hub's parts.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._stored: list[StoredBudget] = []
        self._declared = Declared(kit.registry)
        self._pots: dict[str, _Pot] = {}
        self._reservations: dict[str, _Reservation] = {}
        self._asking: set[str] = set()  # reservations under way
        self._called_off: set[str] = set()  # … that nobody waits for any more
        self._runs: dict[str, Run] = {}
        self._lines: dict[str, list[UsageLine]] = {}  # of calls nobody told the usage of
        self._rounds = Rounds("budgets", self._keep_up)
        self._moved = False  # since the last look
        self._look_at = self._fold_at = 0.0  # when it is time again
        self._stop_listening = [kit.bus.listen(topic, self._heard) for topic in (BUDGETS, GAP)]
        kit.metrics.describe(
            "holdfast_budget_refusals_total", "counter", "Calls that a budget had no room for."
        )

    async def start(self) -> None:
        """Take in which budgets there are, then keep up."""
        await self.look()
        self._fold_at = asyncio.get_running_loop().time() + FOLD_S
        self._rounds.start()

    async def close(self) -> None:
        """Stop; what is set aside still goes when the hub leaves."""
        for stop in self._stop_listening:
            stop()
        await self._rounds.close()

    def count(self, claimed: Claimed) -> bool:
        """Whether a budget may count what an execution spends."""
        if claimed.origin == CHILD:  # those that wait for it may have one
            mine = any(one.owner_id == claimed.owner_id for one in self._stored)
            return bool(self._declared) or mine
        run = _run(claimed)
        return claimed.target in self._declared or any(concerns(run, one) for one in self._stored)

    def purse(self, running: Running) -> Purse | None:
        """What calls that the hub makes for an execution are booked on; None where nothing is."""
        return _Purse(self, running) if self.count(running.start.claimed) else None

    async def reserve(self, running: Running, args: Mapping[str, Any]) -> dict[str, str] | None:
        """Answer a call that is about to be made.

        Returns:
            None where no budget counts it; the reason where one refuses it.

        Raises:
            StoreError: the database stays away.
        """
        mine: str = args["reservation"]
        self._asking.add(mine)
        try:
            reservation = await self._reserve(running, args)
        except BudgetExceeded as error:
            self._kit.metrics.add(
                "holdfast_budget_refusals_total", pipeline=running.start.claimed.target
            )
            return {"refused": error.message, "hint": error.hint}
        finally:
            self._asking.discard(mine)
        if reservation is None:
            self._called_off.discard(mine)
            return None
        self._reservations[mine] = reservation
        if mine in self._called_off or running.finished is not None:
            self._called_off.discard(mine)
            self.settle({"reservation": mine})
        return {"reserved": mine}

    def settle(self, told: Mapping[str, Any]) -> None:
        """Keep aside what a call did use instead of what it might have."""
        mine: str = told["reservation"]
        reservation = self._reservations.pop(mine, None)
        if reservation is None:
            if mine in self._asking:
                self._called_off.add(mine)
            return  # else: its run has ended
        if told.get("unknown"):
            self._lines.setdefault(reservation.execution_id, []).append(reservation.line)
            return
        usage = told.get("usage")
        used = _used(self._kit, reservation.line, usage) if usage else {}
        for key, (unit, amount) in reservation.amounts.items():
            spent = used.get(unit, 0)
            if unit is Unit.CREDITS and told.get("credits"):
                spent = amount
            self._pots[key].hold(reservation.execution_id, spent - amount)

    def closed(self, record: Record) -> Record:
        """The record of a part with what is no longer set aside once it is stored."""
        of = record.execution.id
        for mine, one in list(self._reservations.items()):
            if one.execution_id == of:
                del self._reservations[mine]  # its run will say no more of it
        released = tuple(
            (key, pot.held[of]) for key, pot in sorted(self._pots.items()) if pot.held.get(of)
        )
        lines = tuple(self._lines.pop(of, ()))
        return replace(record, released=released, usage=(*record.usage, *lines))

    def stored(self, record: Record) -> None:
        """The ledger has what was set aside until now."""
        of = record.execution.id
        for key, amount in record.released:
            pot = self._pots[key]
            pot.granted -= amount
            del pot.held[of]
        self._runs.pop(of, None)
        if record.released:
            self._rounds.ring()

    async def _reserve(self, running: Running, args: Mapping[str, Any]) -> _Reservation | None:
        run = await self._run_of(running)
        stored = [one for one in self._stored if one.owner_id == run.owner_id]
        accounts = accounts_of(run, stored, self._declared, now_us())
        needs = self._needs(running, args)
        amounts: dict[str, tuple[Unit, int]] = {}
        # In the order of keys, so that two calls never wait for each other.
        for one in sorted(accounts, key=lambda account: account.key):
            if one.unit not in needs:
                continue
            need = needs[one.unit]
            try:
                if need is None:
                    raise _no_price(one, args)
                if need and await self._hold(one, running.id, need):
                    amounts[one.key] = (one.unit, need)
            except BaseException:
                for key, (_, held) in amounts.items():
                    self._pots[key].hold(running.id, -held)
                raise
        if not amounts:
            return None
        return _Reservation(execution_id=running.id, amounts=amounts, line=_line(args, needs))

    def _needs(self, running: Running, args: Mapping[str, Any]) -> dict[Unit, int | None]:
        """What a call may use at most, of each unit; None: nobody knows."""
        operation = args["operation"]
        if operation is not None:  # a node, whose calls to models ask for themselves
            tariff = self._kit.tariff.credits(
                running.start.claimed.target, operation, args["alias"]
            )
            return {Unit.CREDITS: args["credits"] or tariff}
        usage = Usage(
            tokens_input=args["tokens_input"], tokens_output=args["tokens_output"], usage="planned"
        )
        price = self._kit.prices.price(
            args["provider"], args["model"], usage, now_us(), alias=args["alias"]
        )
        tokens = args["tokens_input"] + args["tokens_output"]
        return {Unit.TOKENS: tokens, Unit.USD: price.cost_pico}

    async def _hold(self, account: Account, execution_id: str, need: int) -> bool:
        """Set `need` aside; False when the budget is gone.

        Raises:
            BudgetExceeded: there is not as much left.
        """
        pot = self._pots.setdefault(account.key, _Pot())
        async with pot.lock:
            if pot.free < need:
                take = TakeAllowance(account, self._kit.boot_id, need - pot.free)
                taken = await patiently(
                    self._kit.store,
                    lambda: self._kit.store.write(take),
                    within_s=STORE_TIMEOUT_S,
                    execution_id=execution_id,
                )
                if taken.gone:
                    return False
                pot.granted += taken.granted
                if pot.free < need:
                    raise no_room(
                        account.title,
                        account.unit,
                        need,
                        limit=taken.limit,
                        spent=taken.spent,
                        set_aside=taken.elsewhere + sum(pot.held.values()),
                    )
            pot.hold(execution_id, need)
        return True

    async def _run_of(self, running: Running) -> Run:
        known = self._runs.get(running.id)
        if known is None:
            claimed = running.start.claimed
            known = _run(claimed)
            if claimed.origin == CHILD and claimed.parent_id is not None:
                above = await self._kit.store.read(WaitingFor(claimed.parent_id, claimed.owner_id))
                events = [(one.event_id, one.name) for one in above]
                known = replace(known, events=(*known.events, *events))
            self._runs[running.id] = known
        return known

    async def look(self) -> None:
        """Take in the budgets as they are now."""
        self._stored = await self._kit.store.read(AllBudgets())

    async def _give_back(self) -> None:
        """Give back what no call needs now."""
        amounts: dict[str, int] = {}
        for key, pot in list(self._pots.items()):
            if pot.lock.locked():
                continue
            if (free := pot.free) > 0:
                amounts[key] = free
                pot.granted -= free
            if not pot.held and not pot.granted:
                del self._pots[key]
        if amounts:
            back = tuple(sorted(amounts.items()))
            await patiently(
                self._kit.store,
                lambda: self._kit.store.write(GiveBackAllowances(self._kit.boot_id, back)),
            )

    def _heard(self, notice: Notice) -> None:  # noqa: ARG002 - whichever it was, all are read
        self._moved = True
        self._rounds.ring()

    async def _keep_up(self) -> float:
        """Give back what is not used, look when something has moved, fold now and then."""
        await asyncio.sleep(GATHER_S)
        now = asyncio.get_running_loop().time()
        if self._moved or now >= self._look_at:
            self._moved, self._look_at = False, now  # again, if this one fails
            await self.look()
            self._look_at = now + LOOK_S
        await self._give_back()
        if now >= self._fold_at:
            while await self._kit.store.write(FoldUsage(FOLD_LINES)) == FOLD_LINES:
                pass
            self._fold_at = now + FOLD_S
        return GIVE_BACK_S


class _Purse:
    """The budgets of one execution, for calls that the hub makes for it."""

    def __init__(self, budgets: Budgets, running: Running) -> None:
        self._budgets = budgets
        self._running = running

    async def reserve(self, call: PlannedCall | None) -> str | None:
        """See `ports.BudgetsPort.reserve`."""
        if call is None:
            return None
        mine = new_id()
        try:
            args = {"reservation": mine, **asdict(call)}
            answer = await self._budgets.reserve(self._running, args)
        except BaseException:  # given up: something may be set aside by now
            self.settle(Spending(mine))
            raise
        if answer is None:
            return None
        if "refused" in answer:
            raise BudgetExceeded(answer["refused"], hint=answer["hint"])
        return mine

    def settle(self, spending: Spending) -> None:
        """See `ports.BudgetsPort.settle`."""
        self._budgets.settle(asdict(spending))


def _run(claimed: Claimed) -> Run:
    return Run(
        owner_id=claimed.owner_id,
        kind=claimed.target_kind,
        name=claimed.target,
        session_id=claimed.session_id,
        events=((claimed.event_id, claimed.target),),
    )


def _used(kit: Kit, line: UsageLine, told: Mapping[str, Any]) -> dict[Unit, int]:
    usage = Usage(**told)
    price = kit.prices.price(line.provider, line.model, usage, now_us(), alias=line.alias)
    return {
        Unit.TOKENS: (usage.tokens_input or 0) + (usage.tokens_output or 0),
        Unit.USD: price.cost_pico or 0,
    }


def _line(args: Mapping[str, Any], needs: Mapping[Unit, int | None]) -> UsageLine:
    return UsageLine(
        day=day_of(now_us()),
        alias=args["alias"],
        provider=args["provider"],
        model=args["model"],
        sums=Sums(
            held_tokens=needs.get(Unit.TOKENS) or 0,
            held_pico=needs.get(Unit.USD) or 0,
        ),
    )


def _no_price(account: Account, args: Mapping[str, Any]) -> BudgetExceeded:
    limit = amount_text(account.unit, account.limit)
    return BudgetExceeded(
        f"the budget of {account.title}, {limit}, cannot be kept: nobody knows what "
        f"{args['provider']}:{args['model']} costs",
        hint="give it a price: HOLDFAST_PRICES, or price of the alias",
    )
