"""Calls of a chat model only as often as its vendor allows, counted by the hub for all runners."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from langchain_core.messages.utils import count_tokens_approximately
from pydantic import Field, SkipValidation
from typing_extensions import override

from holdfast.domain.payload import encode
from holdfast.errors import ModelError
from holdfast.llm.bridge import Bridge
from holdfast.llm.usage import usage_of
from holdfast.ports import Allowance, LimitsPort, running_execution

from .base import AroundChatModel, Call

_CHARS_PER_TOKEN = 4.0


class LimitsChatModel(AroundChatModel):
    """Waits for its turn before each call, and tells what the call really used.

    Before the call its tokens are estimated: what is sent, and all that the answer may take.
    """

    limited: str
    limits: Mapping[str, int]
    max_tokens: int
    port: SkipValidation[LimitsPort] = Field(exclude=True, repr=False)
    bridge: SkipValidation[Bridge] = Field(exclude=True, repr=False)

    @override
    @contextmanager
    def _around_in_thread(self, call: Call) -> Generator[None]:
        if not self.bridge.usable:
            raise ModelError(
                f"{self.limited} has limits, and a blocking call in the event loop cannot wait",
                error_class="permanent",
                hint="await ainvoke or astream, or call it from a node that is not async",
            )
        allowance = self.bridge.wait(self._take(call))
        made = False
        try:
            time.sleep(allowance.wait_s)
            made = True
            yield
        finally:
            self._settle(allowance, call, made=made)

    @override
    @asynccontextmanager
    async def _around(self, call: Call) -> AsyncGenerator[None]:
        allowance = await self._take(call)
        made = False
        try:
            if allowance.wait_s:
                await asyncio.sleep(allowance.wait_s)
            made = True
            yield
        finally:
            self._settle(allowance, call, made=made)

    async def _take(self, call: Call) -> Allowance:
        """Leave for a call, with the time it has to wait first.

        Raises:
            ModelError: it would have to wait too long, or never fits.
        """
        most = self.limits.get("tokens_per_minute")
        tokens = 0
        if most is not None:
            sent = _estimate(call)
            if sent > most:
                raise ModelError(
                    f"a call of about {sent} tokens never fits the {most} tokens a minute "
                    f"of {self.limited}",
                    error_class="permanent",
                )
            tokens = min(most, sent + self.max_tokens)
        return await self.port.take(
            execution_id=running_execution.get() or "",
            name=self.limited,
            limits=self.limits,
            tokens=tokens,
        )

    def _settle(self, allowance: Allowance, call: Call, *, made: bool) -> None:
        usage = usage_of(call.said)
        known = usage.tokens_input is not None and usage.tokens_output is not None
        tokens = (usage.tokens_input or 0) + (usage.tokens_output or 0) if known else None
        self.port.settle(allowance, made=made, tokens=tokens)


def _estimate(call: Call) -> int:
    tokens = count_tokens_approximately(call.messages, chars_per_token=_CHARS_PER_TOKEN)
    # Tools and schemas are sent along; they are what is bound besides the messages.
    bound: Any = {name: value for name, value in call.kwargs.items() if name != "stop"}
    return tokens + (int(len(encode(bound)) / _CHARS_PER_TOKEN) if bound else 0)
