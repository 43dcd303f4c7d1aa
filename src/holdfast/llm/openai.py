"""OpenAI, and every server that speaks its chat format."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, ClassVar, cast

from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import ChatOpenAI
from openai import DefaultAsyncHttpxClient, DefaultHttpxClient
from pydantic import SecretStr

from holdfast.ports import ModelConfig

from .base import NO_KEY, Provider, with_limits
from .streams import StreamFacts

OPENAI_URL = "https://api.openai.com/v1"

_KEPT_HEADERS = ("x-request-id", "openai-processing-ms")
_OPENAIS_OWN = re.compile(r"(?:openai/)?(?:gpt-(?!oss)|chatgpt|o\d)")


class OpenAIProvider(Provider):
    """Makes chat models over LangChain's OpenAI integration."""

    name: ClassVar[str] = "openai"
    url: ClassVar[str] = OPENAI_URL

    def __init__(self) -> None:
        self._clients: tuple[DefaultHttpxClient, DefaultAsyncHttpxClient] | None = None

    def make(self, config: ModelConfig, script: Callable[..., Any] | None) -> OpenAIChat:
        """See `Provider.make`."""
        del script
        if self._clients is None:
            # LangChain's default client is shared by the whole process and outlives event loops.
            self._clients = (DefaultHttpxClient(), DefaultAsyncHttpxClient())
        options = self.parameters(config)
        timeout = options.pop("timeout_s")
        max_tokens = options.pop("max_tokens")
        return OpenAIChat(
            model=config.model,
            # Both always given: the library would else take them from the environment, and send
            # OpenAI's key to whatever server the alias names.
            base_url=config.base_url or OPENAI_URL,
            api_key=SecretStr(config.api_key or NO_KEY),
            timeout=timeout,
            max_completion_tokens=max_tokens,
            max_retries=0,
            stream_usage=True,
            include_response_headers=True,
            cache=False,
            http_client=self._clients[0],
            http_async_client=self._clients[1],
            **options,
        )

    def structured(self, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """See `Provider.structured`."""
        return {"response_format": json_schema_format(name, schema)}

    def parameters(self, config: ModelConfig) -> dict[str, Any]:
        """See `Provider.parameters`."""
        return with_limits(config)

    async def aclose(self) -> None:
        """See `Provider.aclose`."""
        if self._clients is not None:
            clients, self._clients = self._clients, None
            clients[0].close()
            await clients[1].aclose()


def json_schema_format(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's `response_format` for an answer by JSON schema.

    Not strict: strict mode refuses optional fields and most constraints; answers are validated
    against the full schema anyway.
    """
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "schema": dict(schema), "strict": False},
    }


class OpenAIChat(ChatOpenAI):
    """LangChain's `ChatOpenAI` with the facts of a stream kept straight.

    A structured answer takes the same road as a free one (the library's own road drops the
    response headers, and the whole answer when it was cut at the limit). Usage that a server
    repeats in each chunk counts once. A stream that just stops is an error, not an answer.
    """

    def _get_request_payload(
        self, input_: Any, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        payload = cast("dict[str, Any]", super()._get_request_payload(input_, stop=stop, **kwargs))
        if "messages" not in payload:  # the Responses API has its own names
            return payload
        if "response_format" in payload:
            body: dict[str, Any] = dict(payload.get("extra_body") or {})
            payload["extra_body"] = {**body, "response_format": payload.pop("response_format")}
        if self.openai_api_base != OPENAI_URL and not _OPENAIS_OWN.match(self.model_name):
            # Servers of other vendors often know only the older name.
            payload["max_tokens"] = payload.pop("max_completion_tokens")
        return payload

    def _convert_chunk_to_generation_chunk(
        self,
        chunk: dict[str, Any],
        default_chunk_class: type,
        base_generation_info: dict[str, Any] | None,
    ) -> ChatGenerationChunk | None:
        made = super()._convert_chunk_to_generation_chunk(
            chunk, default_chunk_class, base_generation_info
        )
        if made is not None and chunk.get("id"):
            made.generation_info = {**(made.generation_info or {}), "id": chunk["id"]}
        return made

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        facts = StreamFacts(self.model_name, headers=_KEPT_HEADERS)
        try:
            for chunk in super()._stream(*args, **kwargs):
                yield facts.tidy(chunk)
        except json.JSONDecodeError as error:
            raise facts.garbled() from error
        except ValueError as error:  # how the library tells of an error inside a response
            if not facts.begun:
                raise
            raise facts.failed(error) from error
        yield from facts.end()

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        facts = StreamFacts(self.model_name, headers=_KEPT_HEADERS)
        try:
            async for chunk in super()._astream(*args, **kwargs):
                yield facts.tidy(chunk)
        except json.JSONDecodeError as error:
            raise facts.garbled() from error
        except ValueError as error:  # how the library tells of an error inside a response
            if not facts.begun:
                raise
            raise facts.failed(error) from error
        for chunk in facts.end():
            yield chunk
