"""Pieces of a streamed answer reach everybody who follows the run, each once and in order."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.callbacks.manager import AsyncCallbackManagerForLLMRun

from holdfast.llm.wrappers.pieces import PieceRun


class Quick(BaseCallbackHandler):
    """Takes pieces by a plain call."""

    run_inline = True

    def __init__(self) -> None:
        self.got: list[str] = []

    def piece(self, run_id: UUID, token: str | list[Any], chunk: Any) -> None:
        assert isinstance(run_id, UUID)
        assert chunk is None
        self.got.append(str(token))

    def on_llm_new_token(self, token: str, **_: Any) -> None:
        raise AssertionError(f"{token} came a second time")


class Other(AsyncCallbackHandler):
    """Somebody else's, over LangChain's own way."""

    def __init__(self) -> None:
        self.got: list[str] = []

    async def on_llm_new_token(self, token: str, **_: Any) -> None:
        self.got.append(token)


def run_of(*handlers: BaseCallbackHandler) -> AsyncCallbackManagerForLLMRun:
    return AsyncCallbackManagerForLLMRun(
        run_id=uuid4(), handlers=list(handlers), inheritable_handlers=[]
    )


async def test_each_gets_every_piece_once() -> None:
    quick, other = Quick(), Other()
    run = PieceRun.of(run_of(quick, other))
    assert isinstance(run, PieceRun)
    for token in ("a", "b"):
        await run.on_llm_new_token(token)
    assert (quick.got, other.got) == (["a", "b"], ["a", "b"])


async def test_without_one_that_takes_them_so_it_is_the_run_itself() -> None:
    run = run_of(Other())
    assert PieceRun.of(run) is run
    assert PieceRun.of(None) is None
