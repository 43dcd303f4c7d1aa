"""The first node: what the model gets to see of the conversation so far."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig

from holdfast.domain.conversations import Speaker, Window
from holdfast.pipelines.context import current_run
from holdfast.recording import step_of

from .config import MemorySettings
from .turn import RECALL, Turn


class Recall:
    """Asks for the session's window; a replay gets the one on record.

    Args:
        settings: how much is remembered.
        version: recorded with each step.
    """

    def __init__(self, settings: MemorySettings, version: str) -> None:
        self._settings = settings
        self.metadata = {"holdfast_kind": "node", "holdfast_version": version}

    async def run(self, turn: Turn, config: RunnableConfig) -> dict[str, Any]:
        """Leave the window behind, without the question itself: the turn has that.

        Raises:
            PortError: the hub did not answer.
        """
        del turn
        run, step = current_run(), step_of(config)
        if run.replaying is not None:
            recorded = run.replaying.call(step.number, f'node "{RECALL}"')
            if recorded is not None:
                return {"results": {RECALL: recorded.output}}
        if not self._settings.enabled or run.session_id is None:
            return {"results": {RECALL: None}}
        window = await run.ports.memory.window(
            execution_id=run.execution_id,
            token_budget=self._settings.token_budget,
            depth=self._settings.depth,
        )
        return {"results": {RECALL: _plain(window)}}


def _plain(window: Window) -> dict[str, Any]:
    """As JSON. The newest message is the turn's own question, which is left out."""
    said = list(window.messages)
    if said and said[-1].role is Speaker.USER:
        said.pop()
    return {
        "facts": list(window.facts),
        "summaries": [one.content for one in window.summaries],
        "messages": [{"role": one.role.value, "content": one.content} for one in said],
        "left_out": window.left_out,
    }
