"""The example of docs/breakers.md runs and does what the page says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

from holdfast.domain.breakers import Outcome
from holdfast.errors import BreakerOpen
from holdfast.llm.factory import Models
from holdfast.pipelines.context import RunContext, running
from holdfast.ports import Permit, Ports
from holdfast.testing.ports import MemoryEvents

PAGE = Path(__file__).parents[3] / "docs" / "breakers.md"


class Noted:
    """A `BreakersPort` that notes what it is told."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, Outcome]] = []
        self.is_open = False

    async def allow(self, breaker: str) -> Permit:
        if self.is_open:
            raise BreakerOpen(f"{breaker} is open", breaker=breaker)
        return Permit(breaker)

    def allow_in_thread(self, breaker: str) -> Permit:
        return Permit(breaker)

    def report(self, permit: Permit, outcome: Outcome, reason: str = "") -> bool:
        self.ended.append((permit.breaker, outcome))
        return self.is_open


async def test_the_page() -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    module = ModuleType("docs_breakers_page")
    sys.modules[module.__name__] = module
    try:
        exec(compile(example, "page", "exec"), vars(module))
        lookup, breakers = vars(module)["lookup"], Noted()
        context = RunContext(
            execution_id="x",
            event_id="e",
            owner_id="local",
            delivery=1,
            models=Models({}),
            ports=Ports(events=MemoryEvents(), breakers=breakers),
        )
        event = lookup.validate({"number": 7})

        async def failure() -> Exception:
            with running(context):
                try:
                    await lookup.graph().ainvoke(lookup.initial(event))
                except Exception as error:  # noqa: BLE001 - the test looks at it
                    return error
            raise AssertionError("nobody listens there")

        assert type(await failure()).__name__ == "ConnectError"
        assert breakers.ended == [("crm", Outcome.TEMPORARY)]
        breakers.is_open = True
        assert isinstance(await failure(), BreakerOpen)
        assert len(breakers.ended) == 1, "no call was made"
    finally:
        del sys.modules[module.__name__]
