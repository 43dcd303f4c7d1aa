"""Budgets as running work sees them: the hub is asked before a call, and told what it used."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from holdfast.domain.ids import new_id
from holdfast.engine.threads import running_execution
from holdfast.errors import BudgetExceeded, PortError
from holdfast.ports import PlannedCall, Spending

from .client_ports import STORE_TIMEOUT_S


class AskedBudgets:
    """Answers `ports.BudgetsPort` by asking the hub; runs that no budget counts ask nothing.

    Args:
        ask: puts a question to the hub: execution, port, arguments.
        tell: tells it what a call used, from the loop's thread.
    """

    def __init__(
        self,
        ask: Callable[[str, str, dict[str, Any]], Awaitable[Any]],
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self._ask = ask
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._budgeted: set[str] = set()

    def begin(self, execution_id: str) -> None:
        """Some budget may count what this execution spends."""
        self._budgeted.add(execution_id)

    def end(self, execution_id: str) -> None:
        """It has ended."""
        self._budgeted.discard(execution_id)

    def wanted(self) -> bool:
        """See `BudgetsPort.wanted`."""
        return running_execution.get() in self._budgeted

    async def reserve(self, call: PlannedCall | None) -> str | None:
        """See `BudgetsPort.reserve`."""
        execution_id = running_execution.get()
        if call is None or execution_id is None or not self.wanted():
            return None
        mine = new_id()
        args = {"reservation": mine, **asdict(call)}
        try:
            answer = await self._ask(execution_id, "budgets.reserve", args)
        except BaseException:  # cancelled, or no answer: the hub may have set something aside
            self.settle(Spending(mine))
            raise
        if answer is None:
            return None
        if "refused" in answer:
            raise BudgetExceeded(answer["refused"], hint=answer["hint"])
        return mine

    def reserve_in_thread(self, call: PlannedCall | None) -> str | None:
        """See `BudgetsPort.reserve_in_thread`."""
        if call is None or not self.wanted():
            return None
        if threading.get_ident() == self._loop_thread:  # blocking it, the answer would never come
            raise PortError(
                "a blocking call on the event loop cannot ask whether a budget has room",
                hint="await ainvoke(…), or make the node a plain function",
            )
        asked = asyncio.run_coroutine_threadsafe(self.reserve(call), self._loop)
        return asked.result(STORE_TIMEOUT_S)

    def settle(self, spending: Spending) -> None:
        """See `BudgetsPort.settle`."""
        told = asdict(spending)
        if threading.get_ident() == self._loop_thread:
            self._tell(told)
        else:
            self._loop.call_soon_threadsafe(self._tell, told)
