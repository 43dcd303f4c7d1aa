"""Google's Gemini models, by the Gemini API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, ClassVar

from google.genai.client import Client
from google.genai.errors import UnknownApiResponseError
from google.genai.types import HttpOptions
from langchain_core.language_models.base import LangSmithParams
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_google_genai import ChatGoogleGenerativeAI
from pydantic import SecretStr

from holdfast.errors import ModelError
from holdfast.ports import ModelConfig

from .base import NO_KEY, Provider, with_limits
from .streams import StreamFacts

_NOT_JSON = (json.JSONDecodeError, UnknownApiResponseError)

GOOGLE_URL = "https://generativelanguage.googleapis.com"


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
