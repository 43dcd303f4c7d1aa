"""OpenAI, and every server that speaks its chat format."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, omit
from pydantic import SecretStr

from holdfast.ports import ContextCachePort, ModelConfig

from .base import DEFAULT_TIMEOUT_S, NO_KEY, Provider, with_limits
from .context_cache import CacheCall, Marking, with_last_block
from .embeddings import Embedded
from .streams import StreamFacts

OPENAI_URL = "https://api.openai.com/v1"

_KEPT_HEADERS = ("x-request-id", "openai-processing-ms")
_OPENAIS_OWN = re.compile(r"(?:openai/)?(?:gpt-(?!oss)|chatgpt|o\d)")

_MARKED = re.compile(r"(?:openai/)?gpt-(?:5\.(?:[6-9]|\d\d)|[6-9])(?![0-9])")
"""From GPT-5.6 on a beginning is kept up to a mark, and keeping it has a price."""

CACHE_MINIMUM = 1024
"""Tokens of the shortest beginning that is kept (OpenAI's guide "Prompt caching")."""

_CACHE_S = 1800.0


class OpenAIProvider(Provider):
    """Makes chat models over LangChain's OpenAI integration."""

    name: ClassVar[str] = "openai"
    url: ClassVar[str] = OPENAI_URL

    def __init__(self) -> None:
        self._clients: tuple[DefaultHttpxClient, DefaultAsyncHttpxClient] | None = None

    def make(self, config: ModelConfig, script: Callable[..., Any] | None) -> OpenAIChat:
        """See `Provider.make`."""
        del script
        clients = self._connections()
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
            http_client=clients[0],
            http_async_client=clients[1],
            **options,
        )

    def structured(self, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """See `Provider.structured`."""
        return {"response_format": json_schema_format(name, schema)}

    def parameters(self, config: ModelConfig) -> dict[str, Any]:
        """See `Provider.parameters`."""
        return with_limits(config)

    async def embed(self, config: ModelConfig, texts: Sequence[str], *, query: bool) -> Embedded:
        """See `Provider.embed`. Not over LangChain, whose embeddings lose what they used."""
        del query
        client = AsyncOpenAI(
            base_url=config.base_url or OPENAI_URL,
            api_key=config.api_key or NO_KEY,
            timeout=config.parameters.get("timeout_s", DEFAULT_TIMEOUT_S),
            max_retries=0,
            http_client=self._connections()[1],
        )
        raw = await client.embeddings.with_raw_response.create(
            model=config.model,
            input=list(texts),
            dimensions=config.parameters.get("dimensions", omit),
            encoding_format="float",  # base64, the default, is unknown to some servers
        )
        made = raw.parse()
        ordered = sorted(made.data, key=lambda one: one.index)
        # Some servers send no usage at all, whatever the client's types say.
        usage: Any = getattr(made, "usage", None)
        tokens = getattr(usage, "prompt_tokens", None)
        request_id = raw.headers.get("x-request-id")
        return Embedded([one.embedding for one in ordered], tokens, request_id)

    def _connections(self) -> tuple[DefaultHttpxClient, DefaultAsyncHttpxClient]:
        if self._clients is None:
            # LangChain's default client is shared by the whole process and outlives event loops.
            self._clients = (DefaultHttpxClient(), DefaultAsyncHttpxClient())
        return self._clients

    def context_cache(
        self, config: ModelConfig, model: Any, port: ContextCachePort | None
    ) -> OpenAICache | None:
        """See `Provider.context_cache`; other vendors' servers may not know the fields."""
        del model
        own = config.base_url in {None, OPENAI_URL}
        if not own and config.context_cache is None:
            return None
        return OpenAICache(
            config,
            minimum=CACHE_MINIMUM,
            lifetime_s=_CACHE_S,
            at_once=config.context_cache is True,
            port=port,
        )

    async def aclose(self) -> None:
        """See `Provider.aclose`."""
        if self._clients is not None:
            clients, self._clients = self._clients, None
            clients[0].close()
            await clients[1].aclose()


class OpenAICache(Marking):
    """A key by which calls that begin alike meet, and from GPT-5.6 on a mark where that ends.

    Without a mark these models keep the whole of each prompt, at the price of a write, and find a
    static beginning again only if the rest is the same too. With the mode `explicit` and no mark
    nothing is kept and nothing is paid.
    """

    prefix: ClassVar[tuple[str, ...]] = ("tools", "response_format")

    def __init__(self, config: ModelConfig, **how: Any) -> None:
        super().__init__(config, **how)
        self._marks = _MARKED.match(config.model) is not None

    def mark(self, key: str, call: CacheCall, static: int) -> CacheCall:
        """See `Marking.mark`."""
        kwargs = {**call.kwargs, "prompt_cache_key": f"holdfast-{key[:40]}"}
        if not self._marks:
            return replace(call, kwargs=kwargs, marked=True)
        kwargs["prompt_cache_options"] = {"mode": "explicit"}
        messages = call.messages
        if call.marked:
            field = {"prompt_cache_breakpoint": {"mode": "explicit"}}
            messages = with_last_block(messages, static, field)
        return replace(call, kwargs=kwargs, messages=messages)


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
