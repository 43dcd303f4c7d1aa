"""A fake of OpenAI's chat completions and responses, of its embeddings and its models."""

from __future__ import annotations

import asyncio
import base64
import struct
import time
from collections.abc import Mapping
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
from .openai_cache import PrefixCache
from .responses import Telling, count_input, whole

_FINGERPRINT = "fp_fake"


class FakeOpenAI(FakeServer):
    """`async with FakeOpenAI(["Hello"]) as server:` and give `server.url` to a client.

    A token is a word, and every message costs three more: unlike any estimate, so that a test
    can tell a reported number from a guessed one. Beginnings of chat prompts are kept as the
    model's generation keeps them, see `PrefixCache`.
    """

    def __init__(
        self,
        answers: Answers = (),
        *,
        api_key: str | None = None,
        models: tuple[str, ...] = ("fake-model",),
        dimensions: int = DIMENSIONS,
    ) -> None:
        """Prepare the server.

        Args:
            answers: see `Answers`; nothing: one fixed sentence.
            api_key: the only key accepted; None: any.
            models: what `/v1/models` lists. Other names are answered too.
            dimensions: of an embedding, where the request does not say.
        """
        super().__init__(answers)
        self._api_key = api_key
        self._models = models
        self._dimensions = dimensions
        self._prefixes = PrefixCache()

    @property
    def url(self) -> str:
        """The base URL a client needs."""
        return f"{self.origin}/v1"

    def forget(self) -> None:
        """Drop all kept beginnings, as the provider may at any time."""
        self._prefixes.clear()

    async def handle(self, request: FakeRequest, method: str, reply: Reply) -> None:
        """See `FakeServer.handle`."""
        given = request.headers.get("authorization", "")
        if self._api_key is not None and given != f"Bearer {self._api_key}":
            await reply.json(401, _error(401, "invalid_api_key"))
        elif (method, request.path) == ("GET", "/v1/models"):
            listed = [{"id": m, "object": "model", "owned_by": "fake"} for m in self._models]
            await reply.json(200, {"object": "list", "data": listed})
        elif (method, request.path) == ("POST", "/v1/chat/completions"):
            await self._chat(request, reply)
        elif (method, request.path) == ("POST", "/v1/responses"):
            await self._responses(request, reply)
        elif (method, request.path) == ("POST", "/v1/embeddings"):
            await self._embeddings(request, reply)
        else:
            await reply.json(404, _error(404, "unknown_url"))

    async def _responses(self, request: FakeRequest, reply: Reply) -> None:
        answer = self.next_answer(request)
        if answer.latency_s:
            await asyncio.sleep(answer.latency_s)
        if answer.status >= 400:
            error = _error(answer.status, answer.error_code)
            await reply.json(answer.status, error, _headers(request, answer))
            return
        _count(request, answer, count_input(request.body))
        if request.body.get("stream"):
            telling = Telling(request, answer, reply)
            reply.events(_headers(request, answer))
            await telling.begin()
            if await self.stream(answer, reply, telling.say, telling.broken()):
                await telling.end()
                await reply.end()
            return
        await self.pause(answer, 0)
        request.complete = answer.body is None
        body = whole(request, answer) if answer.body is None else answer.body
        await reply.json(200, body, _headers(request, answer))

    async def _embeddings(self, request: FakeRequest, reply: Reply) -> None:
        """Vectors by the hash of each text: the same for the same text, and of length 1."""
        texts = texts_in(request.body.get("input"))
        if texts is None:
            await reply.json(400, _error(400, "invalid_input"))
            return
        answer = self.next_answer(request)
        if answer.latency_s:
            await asyncio.sleep(answer.latency_s)
        if answer.status >= 400:
            error = _error(answer.status, answer.error_code)
            await reply.json(answer.status, error, _headers(request, answer))
            return
        size = int(request.body.get("dimensions") or self._dimensions)
        packed = request.body.get("encoding_format") == "base64"
        request.tokens_input = sum(count_tokens(text) for text in texts)
        usage = {"prompt_tokens": request.tokens_input, "total_tokens": request.tokens_input}
        vectors = [hashed_vector(text, size) for text in texts]
        data = [
            {"object": "embedding", "index": at, "embedding": _packed(v) if packed else v}
            for at, v in enumerate(vectors)
        ]
        request.complete = True
        body = {"object": "list", "data": data, "model": request.body.get("model")}
        if answer.report_usage:
            body["usage"] = usage
        await reply.json(200, body, _headers(request, answer))

    async def _chat(self, request: FakeRequest, reply: Reply) -> None:
        answer = self.next_answer(request)
        if answer.latency_s:
            await asyncio.sleep(answer.latency_s)
        if answer.status >= 400:
            error = _error(answer.status, answer.error_code)
            await reply.json(answer.status, error, _headers(request, answer))
            return
        if fault := self._prefixes.fault(request.body):
            await reply.json(400, _error(400, None, fault), _headers(request, answer))
            return
        _count(request, answer, _count_messages(request.body.get("messages", [])))
        read, request.tokens_cache_write = self._prefixes.take(request.body)
        request.tokens_cached = read or request.tokens_cached
        text = "".join(pieces_of(answer))
        calls = [_tool_call(request, at, call) for at, call in enumerate(answer.tool_calls)]
        if request.body.get("stream"):
            await self._stream(request, answer, calls, reply)
            return
        await self.pause(answer, 0)
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "finish_reason": _reason(answer)}
        body = _envelope(request, "chat.completion", [{**choice, "logprobs": None}])
        if answer.report_usage:
            body["usage"] = _usage(request)
        request.complete = answer.body is None
        await reply.json(
            200, body if answer.body is None else answer.body, _headers(request, answer)
        )

    async def _stream(
        self, request: FakeRequest, answer: FakeAnswer, calls: list[dict[str, Any]], reply: Reply
    ) -> None:
        options: dict[str, Any] = request.body.get("stream_options") or {}
        wanted = bool(options.get("include_usage")) and answer.report_usage
        silent: dict[str, Any] = {"usage": None} if wanted else {}
        reply.events(_headers(request, answer))
        sent = 0

        async def say(at: int, piece: str) -> None:
            nonlocal sent
            sent += count_tokens(piece)
            delta: dict[str, Any] = {"content": piece}
            if at == 0:
                delta = {"role": "assistant", "refusal": None, **delta}
            body = _envelope(request, "chat.completion.chunk", [_delta(delta, None)])
            running = {"usage": _usage(request, sent)} if answer.repetitive else silent
            await reply.event({**body, **running})

        broken = Broken(
            garble=lambda: reply.event(b'{"id": "chatcmpl-fake", "choices": [{'),
            error=lambda said: reply.event(_error(500, said.error_code or "server_error")),
        )
        if not await self.stream(answer, reply, say, broken):
            return
        for at, call in enumerate(calls):
            delta = {"tool_calls": [{"index": at, **call}]}
            await reply.event(_envelope(request, "chat.completion.chunk", [_delta(delta, None)]))
        last = _envelope(request, "chat.completion.chunk", [_delta({}, _reason(answer))])
        for _ in range(2 if answer.repetitive else 1):
            await reply.event({**last, **silent})
        if wanted:
            tail = _envelope(request, "chat.completion.chunk", [])
            await reply.event({**tail, "usage": _usage(request)})
        request.complete = True  # before the last byte: who reads it may ask at once
        await reply.event(b"[DONE]")
        await reply.end()


def _reason(answer: FakeAnswer) -> str:
    called = answer.tool_calls and answer.finish_reason == "stop"
    return "tool_calls" if called else answer.finish_reason


def _tool_call(request: FakeRequest, at: int, call: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": f"call_{request.request_id}_{at}",
        "type": "function",
        "function": {"name": call["name"], "arguments": orjson.dumps(call["args"]).decode()},
    }


def _count(request: FakeRequest, answer: FakeAnswer, tokens_input: int) -> None:
    request.tokens_input = tokens_input
    request.tokens_cached = min(answer.tokens_cached, tokens_input)
    request.tokens_reasoning = answer.tokens_reasoning
    request.tokens_output = (
        count_tokens("".join(pieces_of(answer)))
        + answer.tokens_reasoning
        + sum(count_tokens(orjson.dumps(c["args"]).decode()) + 1 for c in answer.tool_calls)
    )


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _headers(request: FakeRequest, answer: FakeAnswer) -> dict[str, str]:
    named = {"x-request-id": request.request_id} if answer.send_request_id else {}
    return {**named, **answer.headers}


def _count_messages(messages: list[dict[str, Any]]) -> int:
    return sum(3 + count_tokens(_text(message.get("content"))) for message in messages)


def _text(content: Any) -> str:
    if isinstance(content, list):
        parts = cast("list[Any]", content)
        return " ".join(str(part.get("text", "")) for part in parts)
    return str(content or "")


def _envelope(request: FakeRequest, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": request.request_id.replace("req_", "chatcmpl-"),
        "object": kind,
        "created": int(time.time()),
        "model": request.body.get("model"),
        "system_fingerprint": _FINGERPRINT,
        "choices": choices,
    }


def _delta(delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _usage(request: FakeRequest, so_far: int | None = None) -> dict[str, Any]:
    output = request.tokens_output if so_far is None else so_far
    details = {"cached_tokens": request.tokens_cached, "audio_tokens": 0}
    if request.tokens_cache_write:
        details["cache_write_tokens"] = request.tokens_cache_write
    return {
        "prompt_tokens": request.tokens_input,
        "completion_tokens": output,
        "total_tokens": request.tokens_input + output,
        "prompt_tokens_details": details,
        "completion_tokens_details": {"reasoning_tokens": request.tokens_reasoning},
    }


def _error(status: int, code: str | None, message: str | None = None) -> dict[str, Any]:
    kinds = {401: "invalid_request_error", 429: "rate_limit_error", 500: "server_error"}
    return {
        "error": {
            "message": message or f"The fake provider answers {status}.",
            "type": kinds.get(status, "invalid_request_error"),
            "param": None,
            "code": code,
        }
    }
