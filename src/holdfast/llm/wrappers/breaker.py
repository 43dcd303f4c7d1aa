"""Calls of a chat model only while its breaker lets them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

from pydantic import Field, SkipValidation
from typing_extensions import override

from holdfast.llm.calls import reported
from holdfast.ports import BreakersPort

from .base import AroundChatModel, Call


class BreakerChatModel(AroundChatModel):
    """Asks before each call and tells how it ended; a stream ends with its last piece.

    Raises `BreakerOpen` instead of calling while the breaker is open.
    """

    breaker: str
    breakers: SkipValidation[BreakersPort] = Field(exclude=True, repr=False)

    @override
    @contextmanager
    def _around_in_thread(self, call: Call) -> Generator[None]:
        with reported(self.breakers, self.breakers.allow_in_thread(self.breaker)):
            yield

    @override
    @asynccontextmanager
    async def _around(self, call: Call) -> AsyncGenerator[None]:
        with reported(self.breakers, await self.breakers.allow(self.breaker)):
            yield
