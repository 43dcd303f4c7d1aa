"""What a streamed answer says about itself, kept straight whatever the vendor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGenerationChunk

from holdfast.errors import ModelError

_ENDS = frozenset({"finish_reason", "stop_reason", "done_reason", "done", "status"})
"""Facts that say that an answer is complete, by vendor; `status` in OpenAI's responses."""


class StreamFacts:
    """Each fact of a stream passed on once, its usage at the end, its end made sure of."""

    def __init__(self, model: str, *, headers: tuple[str, ...] = (), adds_up: bool = False) -> None:
        """Begin with a stream.

        Args:
            model: named in errors.
            headers: those of the response to keep.
            adds_up: whether the usage of the chunks is to be added up, not the last to be taken.
        """
        self._model = model
        self._headers = headers
        self._adds_up = adds_up
        self._seen: set[str] = set()
        self._usage: UsageMetadata | None = None

    def tidy(self, chunk: ChatGenerationChunk) -> ChatGenerationChunk:
        """Take a chunk's usage out of it, and the facts that were given before."""
        message = chunk.message
        stated: dict[str, Any] = {}
        if isinstance(message, AIMessageChunk):
            # LangChain adds up the chunks' usage, but servers that repeat it send running totals.
            usage, message.usage_metadata = message.usage_metadata, None
            if usage is not None:
                self._usage = add_usage(self._usage, usage) if self._adds_up else usage
            stated = cast("dict[str, Any]", message.response_metadata)
            for name in _ENDS & self._seen & stated.keys():
                del stated[name]
        info: dict[str, Any] = dict(chunk.generation_info or {})
        for facts in (info, stated):
            if "headers" in facts:
                given: dict[str, str] = facts["headers"]
                facts["headers"] = {k: given[k] for k in self._headers if k in given}
        # A fact given twice would be joined: "stopstop".
        chunk.generation_info = {
            k: v for k, v in info.items() if k == "logprobs" or k not in self._seen
        }
        self._seen.update(
            name for facts in (info, stated) for name, value in facts.items() if value
        )
        return chunk

    @property
    def begun(self) -> bool:
        """Whether anything has come."""
        return bool(self._seen)

    def end(self) -> Iterator[ChatGenerationChunk]:
        """What is still to be said when the stream is over: its usage.

        Raises:
            ModelError: it stopped before the answer was complete.
        """
        if not _ENDS & self._seen:
            raise ModelError(
                f"the stream of {self._model} stopped before the answer was complete",
                error_class="temporary",
            )
        if self._usage is not None:
            yield ChatGenerationChunk(
                message=AIMessageChunk(content="", usage_metadata=self._usage)
            )

    def garbled(self) -> ModelError:
        """The error for a piece that cannot be read."""
        return ModelError(
            f"the stream of {self._model} holds a piece that is not JSON", error_class="temporary"
        )

    def failed(self, error: Exception) -> ModelError:
        """The error for a stream that tells of one."""
        return ModelError(f"the stream of {self._model} ended: {error}", error_class="temporary")
