"""Models that an Ollama server runs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from langchain_core.outputs import ChatGenerationChunk
from langchain_ollama import ChatOllama
from ollama import AsyncClient, ResponseError

from holdfast.errors import ModelError
from holdfast.ports import ModelConfig

from .base import DEFAULT_TIMEOUT_S, NO_KEY, Provider, with_limits
from .embeddings import Embedded
from .streams import StreamFacts

OLLAMA_URL = "http://127.0.0.1:11434"


class OllamaProvider(Provider):
    """Makes chat models over LangChain's Ollama integration."""

    name: ClassVar[str] = "ollama"

    def __init__(self) -> None:
        self._made: list[OllamaChat] = []

    def make(self, config: ModelConfig, script: Callable[..., Any] | None) -> OllamaChat:
        """See `Provider.make`."""
        del script
        options = self.parameters(config)
        # Both always given: the client would else take them from the environment, and send
        # Ollama's key to whatever server the alias names.
        headers = {"authorization": f"Bearer {config.api_key or NO_KEY}"}
        chat = OllamaChat(
            model=config.model,
            base_url=config.base_url or OLLAMA_URL,
            client_kwargs={"headers": headers, "timeout": options.pop("timeout_s")},
            num_predict=options.pop("max_tokens"),
            cache=False,
            **options,
        )
        self._made.append(chat)
        return chat

    def structured(self, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """See `Provider.structured`."""
        del name
        return {"format": dict(schema)}

    def parameters(self, config: ModelConfig) -> dict[str, Any]:
        """See `Provider.parameters`."""
        return with_limits(config)

    async def embed(self, config: ModelConfig, texts: Sequence[str], *, query: bool) -> Embedded:
        """See `Provider.embed`. Not over LangChain, whose embeddings lose what they used."""
        del query
        client = AsyncClient(
            host=config.base_url or OLLAMA_URL,
            headers={"authorization": f"Bearer {config.api_key or NO_KEY}"},
            timeout=config.parameters.get("timeout_s", DEFAULT_TIMEOUT_S),
        )
        try:
            made = await client.embed(
                model=config.model,
                input=list(texts),
                truncate=False,  # what is too long is refused, not silently cut
                dimensions=config.parameters.get("dimensions"),
            )
        except ResponseError as error:
            raise error from (error.__context__ or error)
        finally:
            await client.close()
        return Embedded(made.embeddings, made.prompt_eval_count)

    async def aclose(self) -> None:
        """See `Provider.aclose`."""
        made, self._made = self._made, []
        for chat in made:
            await chat.aclose()


class OllamaChat(ChatOllama):
    """LangChain's `ChatOllama` with the facts of an answer kept straight.

    A stream that just stops is an error, not an answer, and an error told inside a stream is the
    server's. An error's response is kept, which says how long to wait.
    """

    streaming: bool = True

    async def aclose(self) -> None:
        """Close the connections."""
        self._client.close()
        await self._async_client.close()

    def _chat_params(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return super()._chat_params(*args, **{"stream": self.streaming, **kwargs})

    def _iterate_over_stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        facts = StreamFacts(self.model)
        try:
            for chunk in super()._iterate_over_stream(*args, **kwargs):
                yield facts.tidy(chunk)
        except json.JSONDecodeError as error:
            raise facts.garbled() from error
        except ResponseError as error:
            raise self._told(error) from (error.__context__ or error)
        yield from facts.end()

    async def _aiterate_over_stream(
        self, *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        facts = StreamFacts(self.model)
        try:
            async for chunk in super()._aiterate_over_stream(*args, **kwargs):
                yield facts.tidy(chunk)
        except json.JSONDecodeError as error:
            raise facts.garbled() from error
        except ResponseError as error:
            raise self._told(error) from (error.__context__ or error)
        for chunk in facts.end():
            yield chunk

    def _told(self, error: ResponseError) -> Exception:
        """The same error, or ours when it came inside a stream and so has no status."""
        if error.status_code >= 400:
            return error
        return ModelError(
            f"the stream of {self.model} ended: {error.error}", error_class="temporary"
        )
