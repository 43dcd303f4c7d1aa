"""Pieces of a streamed answer on their way to who follows its run, by the shortest way."""

from __future__ import annotations

from typing import Any, Protocol, cast, runtime_checkable
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk
from typing_extensions import override


@runtime_checkable
class TakesPieces(Protocol):
    """A callback handler that is told of pieces by a plain call."""

    def piece(self, run_id: UUID, token: str | list[Any], chunk: Any) -> None:
        """Take a piece; never raises, never waits."""
        ...


class PieceRun(AsyncCallbackManagerForLLMRun):
    """A run whose pieces reach those who take them so without LangChain's dispatch.

    That costs a call several times what is done with a piece, and an answer has hundreds.
    """

    @classmethod
    def of(
        cls, run_manager: AsyncCallbackManagerForLLMRun | None
    ) -> AsyncCallbackManagerForLLMRun | None:
        """The same run; itself where nobody takes pieces by a plain call."""
        if run_manager is None:
            return None
        quick = [one for one in run_manager.handlers if isinstance(one, TakesPieces)]
        if not quick:
            return run_manager
        made = cls(
            run_id=run_manager.run_id,
            handlers=run_manager.handlers,
            inheritable_handlers=run_manager.inheritable_handlers,
            parent_run_id=run_manager.parent_run_id,
            tags=run_manager.tags,
            inheritable_tags=run_manager.inheritable_tags,
            metadata=run_manager.metadata,
            inheritable_metadata=run_manager.inheritable_metadata,
        )
        made.quick = cast("list[TakesPieces]", quick)
        made.others = None
        if len(quick) < len(run_manager.handlers):
            made.others = AsyncCallbackManagerForLLMRun(
                run_id=run_manager.run_id,
                handlers=[one for one in run_manager.handlers if one not in quick],
                inheritable_handlers=[],
                parent_run_id=run_manager.parent_run_id,
                tags=run_manager.tags,
            )
        return made

    quick: list[TakesPieces]
    others: AsyncCallbackManagerForLLMRun | None

    @override
    async def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        **kwargs: Any,
    ) -> None:
        """See `AsyncCallbackManagerForLLMRun`."""
        for one in self.quick:
            one.piece(self.run_id, token, chunk)
        if self.others is not None:
            await self.others.on_llm_new_token(token, chunk=chunk, **kwargs)
