"""Anthropic's Claude models."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from anthropic import (
    Anthropic,
    AsyncAnthropic,
    DefaultAsyncHttpxClient,
    DefaultHttpxClient,
    transform_schema,
)
from anthropic.types import Message, Usage
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import PrivateAttr, SecretStr

from holdfast.errors import ModelError
from holdfast.ports import ContextCachePort, ModelConfig

from .base import NO_KEY, Provider, with_limits
from .context_cache import CacheCall, Marking, with_last_block
from .streams import StreamFacts

ANTHROPIC_URL = "https://api.anthropic.com"

CACHE_MINIMUMS = (
    # Tokens of the shortest beginning that is kept, by the start of the model's name; from
    # Anthropic's page "Prompt caching". A later version counts as the last one listed.
    ("claude-opus-5", 512),
    ("claude-opus-4-7", 2048),
    ("claude-opus-4-6", 4096),
    ("claude-opus-4-5", 4096),
    ("claude-haiku-4", 4096),
    ("claude-haiku-5", 4096),
    ("claude-3-5-haiku", 2048),
    ("claude-3-haiku", 2048),
    ("claude-", 1024),
)

CACHE_TTLS_S = {300: None, 3600: "1h"}
"""How long a beginning is kept after its last use, and the word for it."""


class AnthropicProvider(Provider):
    """Makes chat models over LangChain's Anthropic integration."""

    name: ClassVar[str] = "anthropic"

    def __init__(self) -> None:
        self._clients: tuple[DefaultHttpxClient, DefaultAsyncHttpxClient] | None = None

    def make(self, config: ModelConfig, script: Callable[..., Any] | None) -> AnthropicChat:
        """See `Provider.make`."""
        del script
        if self._clients is None:
            # LangChain's default client is shared by the whole process and outlives event loops.
            self._clients = (DefaultHttpxClient(), DefaultAsyncHttpxClient())
        options = self.parameters(config)
        timeout = options.pop("timeout_s")
        # Always given: the client would else take them from the environment, and send Anthropic's
        # key to whatever server the alias names.
        url, key = config.base_url or ANTHROPIC_URL, config.api_key or NO_KEY
        chat = AnthropicChat(
            model_name=config.model,
            base_url=url,
            api_key=SecretStr(key),
            timeout=timeout,
            max_retries=0,
            stream_usage=True,
            cache=False,
            **options,
        )
        chat.use(
            Anthropic(
                base_url=url,
                api_key=key,
                timeout=timeout,
                max_retries=0,
                http_client=self._clients[0],
            ),
            AsyncAnthropic(
                base_url=url,
                api_key=key,
                timeout=timeout,
                max_retries=0,
                http_client=self._clients[1],
            ),
        )
        return chat

    def structured(self, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """See `Provider.structured`; constraints that Anthropic refuses become descriptions."""
        del name
        return {
            "output_config": {
                "format": {"type": "json_schema", "schema": transform_schema(dict(schema))}
            }
        }

    def parameters(self, config: ModelConfig) -> dict[str, Any]:
        """See `Provider.parameters`."""
        return with_limits(config)

    def context_cache(
        self, config: ModelConfig, model: Any, port: ContextCachePort | None
    ) -> AnthropicCache:
        """See `Provider.context_cache`."""
        del model
        found = (least for start, least in CACHE_MINIMUMS if config.model.startswith(start))
        return AnthropicCache(
            config,
            minimum=next(found, None),
            lifetime_s=config.cache_ttl_s or 300,
            at_once=config.context_cache is True,
            port=port,
        )

    async def aclose(self) -> None:
        """See `Provider.aclose`."""
        if self._clients is not None:
            clients, self._clients = self._clients, None
            clients[0].close()
            await clients[1].aclose()


class AnthropicCache(Marking):
    """A `cache_control` mark at the end of what is static; tools lie before it and are kept too."""

    def mark(self, key: str, call: CacheCall, static: int) -> CacheCall:
        """See `Marking.mark`."""
        del key
        if not call.marked:
            return call
        mark = {"type": "ephemeral"}
        if word := CACHE_TTLS_S.get(round(self.lifetime_s)):
            mark["ttl"] = word
        messages = with_last_block(call.messages, static, {"cache_control": mark})
        return replace(call, messages=messages)


class AnthropicChat(ChatAnthropic):
    """LangChain's `ChatAnthropic` with the facts of an answer kept.

    The library drops the request id, and reads a stream's usage from its end only: what was
    written to a cache for an hour is told at the beginning, and by some servers all input is. A
    stream that just stops is an error, not an answer.
    """

    _own: tuple[Anthropic, AsyncAnthropic] = PrivateAttr()

    def use(self, client: Anthropic, async_client: AsyncAnthropic) -> None:
        """Make every call over these."""
        self._own = (client, async_client)

    @property
    def _client(self) -> Anthropic:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._own[0]

    @property
    def _async_client(self) -> AsyncAnthropic:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._own[1]

    def _create(self, payload: dict[str, Any]) -> Any:
        return _Response(super()._create(payload), stream=bool(payload.get("stream")))

    async def _acreate(self, payload: dict[str, Any]) -> Any:
        raw = await super()._acreate(payload)
        return _AsyncResponse(raw, stream=bool(payload.get("stream")))

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        try:
            return super()._generate(*args, **kwargs)
        except json.JSONDecodeError as error:
            raise self._garbled() from error

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        try:
            return await super()._agenerate(*args, **kwargs)
        except json.JSONDecodeError as error:
            raise self._garbled() from error

    def _format_output(self, data: Any, **kwargs: Any) -> ChatResult:
        if not isinstance(data, Message):  # the client hands on what is not labelled as JSON
            raise self._garbled()
        return super()._format_output(data, **kwargs)

    def _garbled(self) -> ModelError:
        return ModelError(f"the answer of {self.model} is not JSON", error_class="temporary")

    def _make_message_chunk_from_anthropic_event(
        self, event: Any, **kwargs: Any
    ) -> tuple[AIMessageChunk | None, Any]:
        chunk, started = super()._make_message_chunk_from_anthropic_event(event, **kwargs)
        if chunk is not None and event.type == "message_start":
            chunk.response_metadata["id"] = event.message.id
            chunk.response_metadata["request_id"] = event.message.request_id
        return chunk, started

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        facts = StreamFacts(self.model)
        try:
            for chunk in super()._stream(*args, **kwargs):
                yield facts.tidy(chunk)
        except json.JSONDecodeError as error:
            raise facts.garbled() from error
        yield from facts.end()

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        facts = StreamFacts(self.model)
        try:
            async for chunk in super()._astream(*args, **kwargs):
                yield facts.tidy(chunk)
        except json.JSONDecodeError as error:
            raise facts.garbled() from error
        for chunk in facts.end():
            yield chunk


class _Response:
    """A response whose message has its request id, and whose events all that is known of usage."""

    def __init__(self, raw: Any, *, stream: bool) -> None:
        self._raw = raw
        self._stream = stream

    def parse(self) -> Any:
        parsed = self._raw.parse()
        return self._events(parsed) if self._stream else _with_id(parsed, self._raw.request_id)

    def _events(self, events: Any) -> Iterator[Any]:
        usage = _Usage(self._raw.request_id)
        for event in events:
            yield usage.complete(event)


class _AsyncResponse:
    """The same for the async client."""

    def __init__(self, raw: Any, *, stream: bool) -> None:
        self._raw = raw
        self._stream = stream

    async def parse(self) -> Any:
        parsed = await self._raw.parse()
        return self._events(parsed) if self._stream else _with_id(parsed, self._raw.request_id)

    async def _events(self, events: Any) -> AsyncIterator[Any]:
        usage = _Usage(self._raw.request_id)
        async for event in events:
            yield usage.complete(event)


def _with_id(message: Any, request_id: str | None) -> Any:
    if isinstance(message, Message):
        kept: Any = message  # these models take fields that they do not know
        kept.request_id = request_id
    return message


class _Usage:
    """What a stream's first event says of its usage, for its last ones."""

    def __init__(self, request_id: str | None) -> None:
        self._request_id = request_id
        self._first: Usage | None = None

    def complete(self, event: Any) -> Any:
        if event.type == "message_start":
            self._first = event.message.usage
            _with_id(event.message, self._request_id)
        elif event.type == "message_delta" and event.usage is not None and self._first is not None:
            told = {
                name: value
                for name in event.usage.model_fields_set
                if (value := getattr(event.usage, name)) is not None
            }
            written = told.get("cache_creation_input_tokens")
            if written not in {None, self._first.cache_creation_input_tokens}:
                told["cache_creation"] = None  # the first event's parts are not all any more
            event.usage = self._first.model_copy(update=told)
        return event
