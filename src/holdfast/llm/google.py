"""Google's Gemini models, by the Gemini API."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from google.genai.client import Client
from google.genai.errors import UnknownApiResponseError
from google.genai.types import (
    Content,
    CreateCachedContentConfig,
    EmbedContentConfig,
    HttpOptions,
    Part,
    UpdateCachedContentConfig,
)
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_google_genai import ChatGoogleGenerativeAI
from pydantic import SecretStr

from holdfast.errors import ModelError
from holdfast.ports import ContextCachePort, ModelConfig

from .base import DEFAULT_TIMEOUT_S, NO_KEY, Provider, with_limits
from .embeddings import Embedded
from .made_caches import Beginning, MadeCaches
from .streams import StreamFacts

_NOT_JSON = (json.JSONDecodeError, UnknownApiResponseError)

GOOGLE_URL = "https://generativelanguage.googleapis.com"

CACHE_MINIMUMS = (
    # Tokens of the smallest cached content, by the model's name; from Google's page "Context
    # caching". Others are asked of the server, which refuses what is too small.
    (re.compile(r"gemini-(?:2\.5|3(?:\.\d)?)-pro"), 4096),
    (re.compile(r"gemini-(?:2\.5|3(?:\.\d)?)-flash"), 1024),
)

CACHE_TIMEOUT_MS = 30_000
"""A cache that takes longer to make is not waited for."""


class GoogleProvider(Provider):
    """Makes chat models over LangChain's Google integration."""

    name: ClassVar[str] = "google"

    def __init__(self) -> None:
        self._made: list[GoogleChat] = []

    def make(self, config: ModelConfig, script: Callable[..., Any] | None) -> GoogleChat:
        """See `Provider.make`."""
        del script
        options = self.parameters(config)
        # All three always given: the library would else take them from the environment, and send
        # Google's key to whatever server the alias names.
        url, key = config.base_url or GOOGLE_URL, config.api_key or NO_KEY
        chat = GoogleChat(
            model=config.model,
            client_options=url,
            api_key=SecretStr(key),
            vertexai=False,
            max_tokens=options.pop("max_tokens"),
            request_timeout=options.pop("timeout_s"),
            temperature=options.pop("temperature", None),  # the library has a default of its own
            retries=0,
            cache=False,
            **options,
        )
        # Its own client looks into the environment for the API to speak, whatever it was told.
        chat.client = Client(vertexai=False, api_key=key, http_options=HttpOptions(base_url=url))
        self._made.append(chat)
        return chat

    def structured(self, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """See `Provider.structured`."""
        del name
        return {"response_mime_type": "application/json", "response_json_schema": dict(schema)}

    def parameters(self, config: ModelConfig) -> dict[str, Any]:
        """See `Provider.parameters`."""
        return with_limits(config)

    async def embed(self, config: ModelConfig, texts: Sequence[str], *, query: bool) -> Embedded:
        """See `Provider.embed`. The Gemini API does not say how many tokens it counted."""
        timeout_ms = int(config.parameters.get("timeout_s", DEFAULT_TIMEOUT_S) * 1000)
        client = Client(
            vertexai=False,
            api_key=config.api_key or NO_KEY,
            http_options=HttpOptions(base_url=config.base_url or GOOGLE_URL, timeout=timeout_ms),
        )
        try:
            made = await client.aio.models.embed_content(
                model=config.model,
                contents=list(texts),
                config=EmbedContentConfig(
                    task_type="RETRIEVAL_QUERY" if query else "RETRIEVAL_DOCUMENT",
                    output_dimensionality=config.parameters.get("dimensions"),
                ),
            )
        finally:
            client.close()
            await client.aio.aclose()
        return Embedded([one.values or [] for one in made.embeddings or ()])

    def context_cache(
        self, config: ModelConfig, model: Any, port: ContextCachePort | None
    ) -> GoogleCaches | None:
        """See `Provider.context_cache`: they are paid by the hour, so only where a time is set."""
        if port is None or config.context_cache is not True:
            return None
        found = (least for name, least in CACHE_MINIMUMS if name.match(config.model))
        return GoogleCaches(config, model, minimum=next(found, None), port=port)

    async def aclose(self) -> None:
        """See `Provider.aclose`."""
        made, self._made = self._made, []
        for chat in made:
            await chat.aclose()


class GoogleChat(ChatGoogleGenerativeAI):
    """LangChain's `ChatGoogleGenerativeAI` with the facts of an answer kept straight.

    A stream that just stops is an error, not an answer. A prompt that was refused has a finish
    reason. The provider is named as everywhere here.
    """

    async def aclose(self) -> None:
        """Close the connections, those of the library's own client too."""
        await super().aclose()
        client = self.client
        if client is not None:
            client.close()
            await client.aio.aclose()

    def beginning(
        self, messages: list[BaseMessage], held: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """The contents, and the system prompt and tools, of a request that begins so."""
        request = self._prepare_request(messages, **held)
        config = request["config"]
        beside = {
            name: value
            for name in ("system_instruction", "tools", "tool_config")
            if (value := getattr(config, name)) is not None
        }
        return list(request["contents"]), beside

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop, **kwargs)
        params["ls_provider"] = "google"
        return params

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        try:
            return _whole(super()._generate(*args, **kwargs))
        except _NOT_JSON as error:
            raise self._garbled() from error

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        try:
            return _whole(await super()._agenerate(*args, **kwargs))
        except _NOT_JSON as error:
            raise self._garbled() from error

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        facts = self._facts()
        try:
            for chunk in super()._stream(*args, **kwargs):
                yield facts.tidy(_piece(chunk))
        except _NOT_JSON as error:
            raise facts.garbled() from error
        yield from facts.end()

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        facts = self._facts()
        try:
            async for chunk in super()._astream(*args, **kwargs):
                yield facts.tidy(_piece(chunk))
        except _NOT_JSON as error:
            raise facts.garbled() from error
        for chunk in facts.end():
            yield chunk

    def _facts(self) -> StreamFacts:
        # Each chunk of Gemini's has running totals, of which the library passes on what is new.
        return StreamFacts(self.model, adds_up=True)

    def _garbled(self) -> ModelError:
        return ModelError(f"the answer of {self.model} is not JSON", error_class="temporary")


class GoogleCaches(MadeCaches):
    """The Gemini API's `cachedContents`; tools live in them with the system prompt."""

    held: ClassVar[tuple[str, ...]] = ("tools", "functions", "tool_choice", "tool_config")

    def __init__(self, config: ModelConfig, chat: GoogleChat, **how: Any) -> None:
        super().__init__(config, **how)
        self._chat = chat

    async def count(self, beginning: Beginning) -> int:
        """See `MadeCaches.count`; the API counts contents only, so all is counted as such."""
        contents, config = self._held(beginning)
        texts = [
            tool.model_dump_json(exclude_none=True) for tool in config.get("tools") or () if tool
        ]
        said = [Content(role="user", parts=[Part(text=text)]) for text in texts]
        if (system := config.get("system_instruction")) is not None:
            said.append(Content(role="user", parts=system.parts))
        counted = await self._chat.async_client.models.count_tokens(
            model=self._config.model, contents=[*said, *contents]
        )
        return counted.total_tokens or 0

    async def make(self, beginning: Beginning) -> tuple[str, int | None]:
        """See `MadeCaches.make`."""
        contents, config = self._held(beginning)
        made = await self._chat.async_client.caches.create(
            model=self._config.model,
            config=CreateCachedContentConfig(
                ttl=f"{beginning.ttl_s}s",
                contents=contents or None,
                http_options=HttpOptions(timeout=CACHE_TIMEOUT_MS),
                **config,
            ),
        )
        if made.name is None:
            raise ModelError("the cache that was made has no name", error_class="temporary")
        return made.name, made.usage_metadata.total_token_count if made.usage_metadata else None

    async def renew(self, resource: str, ttl_s: int) -> None:
        """See `MadeCaches.renew`."""
        config = UpdateCachedContentConfig(ttl=f"{ttl_s}s")
        await self._chat.async_client.caches.update(name=resource, config=config)

    async def drop(self, resource: str) -> None:
        """See `MadeCaches.drop`."""
        await self._chat.async_client.caches.delete(name=resource)

    def relying(self, resource: str) -> dict[str, Any]:
        """See `MadeCaches.relying`."""
        return {"cached_content": resource}

    def _held(self, beginning: Beginning) -> tuple[list[Any], dict[str, Any]]:
        """Contents of a cache, and what lies beside them, as the library would send it."""
        return self._chat.beginning(list(beginning.messages), beginning.held)


def _piece(chunk: ChatGenerationChunk) -> ChatGenerationChunk:
    refused = _refusal(chunk.message.response_metadata)
    if refused is not None:
        chunk.generation_info = {**(chunk.generation_info or {}), "finish_reason": refused}
    return chunk


def _whole(result: ChatResult) -> ChatResult:
    refused = _refusal(result.llm_output or {})
    for generation in result.generations:
        if refused is not None:
            generation.generation_info = {"finish_reason": refused}
    return result


def _refusal(metadata: Mapping[str, Any]) -> str | None:
    """Why a prompt got no answer at all."""
    feedback: Mapping[str, Any] = metadata.get("prompt_feedback") or {}
    reason = feedback.get("block_reason")
    return None if reason is None else str(getattr(reason, "value", reason))
