"""A fake of the Gemini API: content streamed and whole, embeddings, token counts, caches."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson

from .base import (
    DIMENSIONS,
    Answers,
    Broken,
    FakeAnswer,
    FakeRequest,
    FakeServer,
    Reply,
    count_tokens,
    hashed_vector,
    pieces_of,
    texts_in,
)

_MODEL = re.compile(r"/v1(?:beta)?/models/([^/:]+):(\w+)")
_CACHES = re.compile(r"/v1(?:beta)?/(cachedContents(?:/[\w-]+)?)")
_TTL = re.compile(r"(\d+(?:\.\d+)?)s")
_DEFAULT_TTL_S = 3600.0
_MOST_EMBEDDED = 100  # in one call
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


@dataclass(slots=True, kw_only=True)
class FakeCache:
    """One of the server's cached contents."""

    name: str  # cachedContents/…
    model: str  # models/…
    tokens: int
    created: datetime
    expires: datetime


class _Refused(Exception):
    """The request is to be answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeGoogle(FakeServer):
    """`async with FakeGoogle(["Hello"]) as server:` and give `server.url` to a client.

    A token is a word, and every content costs three more. Cached contents below the minimum are
    refused, and so are requests that name one which has expired or repeat what it holds.

    Attributes:
        caches: the cached contents by name, expired ones included until they are asked for.
    """

    def __init__(
        self, answers: Answers = (), *, api_key: str | None = None, cache_minimum: int = 1024
    ) -> None:
        """Prepare the server.

        Args:
            answers: see `Answers`; nothing: one fixed sentence.
            api_key: the only key accepted; None: any.
            cache_minimum: tokens below which nothing can be cached.
        """
        super().__init__(answers)
        self.caches: dict[str, FakeCache] = {}
        self._api_key = api_key
        self._cache_minimum = cache_minimum
        self._made = 0

    @property
    def url(self) -> str:
        """The base URL a client needs."""
        return self.origin

    def clock(self) -> datetime:
        """Tells what has expired; a test may put another in its place."""
        return datetime.now(UTC)

    async def handle(self, request: FakeRequest, method: str, reply: Reply) -> None:
        """See `FakeServer.handle`."""
        if self._api_key not in {None, request.headers.get("x-goog-api-key")}:
            await reply.json(400, _error(400, "API key not valid. Please pass a valid API key."))
            return
        try:
            model, caches = _MODEL.fullmatch(request.path), _CACHES.fullmatch(request.path)
            if model is not None and method == "POST":
                await self._ask(request, model[1], model[2], reply)
            elif caches is not None:
                await reply.json(200, self._cached_contents(request, method, caches[1]))
            else:
                raise _Refused(404, "not found")
        except _Refused as refused:
            await reply.json(refused.status, _error(refused.status, str(refused)))

    async def _ask(self, request: FakeRequest, model: str, verb: str, reply: Reply) -> None:
        if verb == "countTokens":
            await reply.json(200, _counted(_asked(request.body)))
            return
        if verb in {"embedContent", "batchEmbedContents"}:
            await self._embed(request, verb, reply)
            return
        if verb not in {"generateContent", "streamGenerateContent"}:
            raise _Refused(404, f"no method {verb}")
        if not request.body.get("contents"):
            raise _Refused(400, "contents is not specified")
        cache = self._cache_of(request, model)
        answer = self.next_answer(request)
        if answer.latency_s:
            await asyncio.sleep(answer.latency_s)
        if answer.status >= 400:
            error = _error(answer.status, code=answer.error_code, headers=answer.headers)
            await reply.json(answer.status, error, answer.headers)
            return
        _count(request, answer, 0 if cache is None else cache.tokens)
        if verb == "streamGenerateContent":
            await self._stream(request, model, answer, reply)
            return
        await self.pause(answer, 0)
        parts = [{"text": text}] if (text := "".join(pieces_of(answer))) else []
        body = _response(request, model, [*parts, *_calls(answer)], _reason(answer))
        if answer.report_usage:
            body["usageMetadata"] = _usage(request, request.tokens_output)
        request.complete = answer.body is None
        await reply.json(200, body if answer.body is None else answer.body, answer.headers)

    async def _embed(self, request: FakeRequest, verb: str, reply: Reply) -> None:
        """As the real one it does not say how many tokens it counted."""
        alone = verb == "embedContent"
        asked: list[dict[str, Any]] = (
            [request.body] if alone else list(request.body.get("requests") or ())
        )
        texts = texts_in([_text_of(one.get("content")) for one in asked])
        if texts is None or len(texts) > _MOST_EMBEDDED:
            raise _Refused(400, f"1 to {_MOST_EMBEDDED} contents with text can be embedded")
        answer = self.next_answer(request)
        if answer.latency_s:
            await asyncio.sleep(answer.latency_s)
        if answer.status >= 400:
            error = _error(answer.status, code=answer.error_code, headers=answer.headers)
            await reply.json(answer.status, error, answer.headers)
            return
        request.tokens_input = sum(count_tokens(text) for text in texts)
        request.complete = True
        made = [
            {"values": hashed_vector(text, int(one.get("outputDimensionality") or DIMENSIONS))}
            for text, one in zip(texts, asked, strict=True)
        ]
        await reply.json(200, {"embedding": made[0]} if alone else {"embeddings": made})

    async def _stream(
        self, request: FakeRequest, model: str, answer: FakeAnswer, reply: Reply
    ) -> None:
        reply.events(answer.headers)
        sent = 0

        async def say(at: int, piece: str) -> None:
            nonlocal sent
            del at
            sent += count_tokens(piece)
            body = _response(request, model, [{"text": piece}], None)
            if answer.report_usage:
                body["usageMetadata"] = _usage(request, sent + request.tokens_reasoning)
            await reply.event(body)

        broken = Broken(
            garble=lambda: reply.event(b'{"candidates": [{"content'),
            error=lambda said: reply.event(_error(503, code=said.error_code)),
        )
        if not await self.stream(answer, reply, say, broken):
            return
        parts = _calls(answer) or [{"text": ""}]
        last = _response(request, model, parts, _reason(answer))
        if answer.report_usage:
            last["usageMetadata"] = _usage(request, request.tokens_output)
        request.complete = True  # before the last byte: who reads it may ask at once
        for _ in range(2 if answer.repetitive else 1):
            await reply.event(last)
        await reply.end()

    def _cache_of(self, request: FakeRequest, model: str) -> FakeCache | None:
        """The cached content that a request names."""
        name = request.body.get("cachedContent")
        if name is None:
            return None
        cache = self._living(str(name))
        if cache.model != f"models/{model}":
            raise _Refused(
                400,
                f"Model used by GenerateContent request (models/{model}) and CachedContent "
                f"({cache.model}) has to be the same.",
            )
        if any(request.body.get(k) for k in ("systemInstruction", "tools", "toolConfig")):
            raise _Refused(
                400,
                "CachedContent can not be used with GenerateContent request setting "
                "system_instruction, tools or tool_config.",
            )
        return cache

    def _living(self, name: str) -> FakeCache:
        cache = self.caches.get(name)
        if cache is not None and cache.expires <= self.clock():
            del self.caches[name]
            cache = None
        if cache is None:
            raise _Refused(403, "CachedContent not found (or permission denied)")
        return cache

    def _cached_contents(self, request: FakeRequest, method: str, name: str) -> dict[str, Any]:
        if name == "cachedContents":
            if method == "POST":
                return self._make_cache(request)
            if method == "GET":
                living = [c for c in self.caches.values() if c.expires > self.clock()]
                return {"cachedContents": [_shown(cache) for cache in living]}
            raise _Refused(404, "not found")
        cache = self._living(name)
        if method == "PATCH":
            cache.expires = self._expiry(request.body)
        elif method == "DELETE":
            del self.caches[name]
            return {}
        return _shown(cache)

    def _make_cache(self, request: FakeRequest) -> dict[str, Any]:
        model = request.body.get("model")
        if not model:
            raise _Refused(400, "model is required")
        tokens = _tokens(request.body)
        if tokens < self._cache_minimum:
            raise _Refused(
                400,
                f"Cached content is too small. total_token_count={tokens}, "
                f"min_total_token_count={self._cache_minimum}",
            )
        self._made += 1
        cache = FakeCache(
            name=f"cachedContents/fake{self._made}",
            model=str(model),
            tokens=tokens,
            created=self.clock(),
            expires=self._expiry(request.body),
        )
        self.caches[cache.name] = cache
        request.tokens_cache_write = tokens
        return _shown(cache)

    def _expiry(self, body: Mapping[str, Any]) -> datetime:
        if "expireTime" in body:
            return datetime.fromisoformat(body["expireTime"])
        ttl = _TTL.fullmatch(str(body.get("ttl", f"{_DEFAULT_TTL_S}s")))
        if ttl is None:
            raise _Refused(400, "Invalid ttl")
        return self.clock() + timedelta(seconds=float(ttl[1]))


def _asked(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return body.get("generateContentRequest") or body


def _counted(body: Mapping[str, Any]) -> dict[str, Any]:
    total = _tokens(body)
    return {
        "totalTokens": total,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}],
    }


def _tokens(body: Mapping[str, Any]) -> int:
    contents = cast("list[dict[str, Any]]", body.get("contents") or [])
    system = cast("dict[str, Any] | None", body.get("systemInstruction"))
    if system is not None:
        contents = [system, *contents]
    tools = body.get("tools")
    total = count_tokens(orjson.dumps(tools).decode()) if tools else 0
    for content in contents:
        total += 3
        for part in cast("list[dict[str, Any]]", content.get("parts") or []):
            other = {k: v for k, v in part.items() if k not in {"text", "thoughtSignature"}}
            total += count_tokens(str(part.get("text", "")))
            total += count_tokens(orjson.dumps(other).decode()) if other else 0
    return total


def _count(request: FakeRequest, answer: FakeAnswer, cached: int) -> None:
    """Count the tokens of a request and its answer; the prompt's include the cached ones."""
    request.tokens_input = _tokens(request.body) + cached
    request.tokens_cached = cached or min(answer.tokens_cached, request.tokens_input)
    request.tokens_reasoning = answer.tokens_reasoning
    request.tokens_output = (
        count_tokens("".join(pieces_of(answer)))
        + answer.tokens_reasoning
        + sum(count_tokens(orjson.dumps(c["args"]).decode()) + 1 for c in answer.tool_calls)
    )


def _calls(answer: FakeAnswer) -> list[dict[str, Any]]:
    return [
        {"functionCall": {"name": call["name"], "args": dict(call["args"])}}
        for call in answer.tool_calls
    ]


def _reason(answer: FakeAnswer) -> str:
    names = {"stop": "STOP", "length": "MAX_TOKENS"}
    return names.get(answer.finish_reason, answer.finish_reason)


def _response(
    request: FakeRequest, model: str, parts: list[dict[str, Any]], reason: str | None
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if reason is not None:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "modelVersion": model, "responseId": request.request_id}


def _usage(request: FakeRequest, output: int) -> dict[str, Any]:
    """Thoughts apart from the answer, cached tokens inside the prompt, as Gemini counts them."""
    usage: dict[str, Any] = {
        "promptTokenCount": request.tokens_input,
        "candidatesTokenCount": output - request.tokens_reasoning,
        "totalTokenCount": request.tokens_input + output,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": request.tokens_input}],
    }
    if request.tokens_cached:
        usage["cachedContentTokenCount"] = request.tokens_cached
    if request.tokens_reasoning:
        usage["thoughtsTokenCount"] = request.tokens_reasoning
    return usage


def _shown(cache: FakeCache) -> dict[str, Any]:
    return {
        "name": cache.name,
        "model": cache.model,
        "createTime": cache.created.isoformat(),
        "updateTime": cache.created.isoformat(),
        "expireTime": cache.expires.isoformat(),
        "usageMetadata": {"totalTokenCount": cache.tokens},
    }


def _error(
    status: int,
    message: str | None = None,
    *,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    error: dict[str, Any] = {
        "code": status,
        "message": message or f"The fake provider answers {status}.",
        "status": code or _STATUSES.get(status, "UNKNOWN"),
    }
    wait = (headers or {}).get("retry-after")
    if wait is not None:  # Google tells it in the body too
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        error["details"] = [{"@type": kind, "retryDelay": f"{wait}s"}]
    return {"error": error}


def _text_of(content: Any) -> str:
    parts = cast("list[dict[str, Any]]", (content or {}).get("parts") or [])
    return "".join(str(part.get("text", "")) for part in parts)
