"""What a call does is told to whoever records it: each try, and each one that was not made."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models.base import LangSmithParams
from langchain_core.outputs import ChatResult
from typing_extensions import override

from holdfast.llm.attempts import tries_of
from holdfast.llm.base import ALIAS_KEY
from holdfast.llm.deadline import why_cancelled

from .base import AroundChatModel, Call
from .pieces import PieceRun


class AttemptsChatModel(AroundChatModel):
    """The innermost wrapper: what passes here reaches the provider, and is an attempt."""

    alias: str | None = None

    @override
    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        told = {**super()._get_ls_params(stop, **kwargs), ALIAS_KEY: self.alias}
        return cast("LangSmithParams", told)

    @override
    @contextmanager
    def _around_in_thread(self, call: Call) -> Generator[None]:
        tries = tries_of(call.run_manager)
        if tries is None:
            yield
            return
        tries.started(self.asks(call.stop, call.kwargs))
        try:
            yield
        except asyncio.CancelledError:
            late = why_cancelled()
            if late is not None:  # else whoever cancelled it knows why, and tells
                tries.failed(late)
            raise
        except BaseException as error:
            tries.failed(error)
            raise
        tries.answered(call.said)

    # Whole answers by LangChain's own method: it streams from the provider where that is set, and
    # passes each piece on to those who follow the run.

    @override
    def _ask(self, call: Call) -> ChatResult:
        return self.inner._generate_with_cache(
            call.messages, call.stop, run_manager=cast("Any", call.run_manager), **call.kwargs
        )

    @override
    async def _aask(self, call: Call) -> ChatResult:
        followed = PieceRun.of(cast("AsyncCallbackManagerForLLMRun | None", call.run_manager))
        return await self.inner._agenerate_with_cache(
            call.messages, call.stop, run_manager=followed, **call.kwargs
        )


class RefusalsChatModel(AroundChatModel):
    """Around all that may keep a try from the provider: one that it refused is on record too."""

    @override
    @contextmanager
    def _around_in_thread(self, call: Call) -> Generator[None]:
        tries = tries_of(call.run_manager)
        before = 0 if tries is None else tries.count
        try:
            yield
        except Exception as error:
            if tries is not None and tries.count == before:
                tries.refused(self.asks(call.stop, call.kwargs), error)
            raise
