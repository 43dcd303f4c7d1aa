"""A fake of Anthropic's messages, streamed and whole, with its accounting of cached prompts."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from typing import Any, cast

import orjson

from .base import (
    Answers,
    Broken,
    FakeAnswer,
    FakeRequest,
    FakeServer,
    Reply,
    count_tokens,
    pieces_of,
)

_LIFETIMES_S = {"5m": 300.0, "1h": 3600.0}
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class FakeAnthropic(FakeServer):
    """`async with FakeAnthropic(["Hello"]) as server:` and give `server.url` to a client.

    A token is a word, and every message costs three more. A prefix marked with `cache_control`
    is written to the cache once it has `cache_minimum` tokens, and read from it until its
    lifetime is over; each reading begins the lifetime anew.
    """

    def __init__(
        self, answers: Answers = (), *, api_key: str | None = None, cache_minimum: int = 1024
    ) -> None:
        """Prepare the server.

        Args:
            answers: see `Answers`; nothing: one fixed sentence.
            api_key: the only key accepted; None: any.
            cache_minimum: tokens below which a prefix is not cached, and nothing says so.
        """
        super().__init__(answers)
        self._api_key = api_key
        self._cache_minimum = cache_minimum
        self._cached: dict[str, tuple[float, float]] = {}  # prefix: (until, lifetime)
        self.clock = time.monotonic
        """Tells the age of cached prefixes; a test may put another in its place."""

    @property
    def url(self) -> str:
        """The base URL a client needs."""
        return self.origin

    def forget(self) -> None:
        """Drop all cached prefixes, as the provider may at any time."""
        self._cached.clear()

    async def handle(self, request: FakeRequest, method: str, reply: Reply) -> None:
        """See `FakeServer.handle`."""
        if self._api_key not in {None, _key(request)}:
            await reply.json(401, _error(request, 401, None))
        elif (method, request.path) != ("POST", "/v1/messages"):
            await reply.json(404, _error(request, 404, None))
        elif fault := _fault(request):
            await reply.json(400, _error(request, 400, None, fault), _headers(request))
        else:
            await self._messages(request, reply)

    async def _messages(self, request: FakeRequest, reply: Reply) -> None:
        answer = self.next_answer(request)
        if answer.latency_s:
            await asyncio.sleep(answer.latency_s)
        if answer.status >= 400:
            error = _error(request, answer.status, answer.error_code)
            await reply.json(answer.status, error, _headers(request, answer))
            return
        self._count(request, answer)
        blocks: list[dict[str, Any]] = [{"type": "text", "text": "".join(pieces_of(answer))}]
        if answer.tool_calls and not blocks[0]["text"]:
            blocks = []
        blocks += [_tool_use(request, at, call) for at, call in enumerate(answer.tool_calls)]
        if request.body.get("stream"):
            await self._stream(request, answer, blocks, reply)
            return
        await self.pause(answer, 0)
        body = _message(request, blocks, _reason(answer))
        if answer.report_usage:
            body["usage"] = _usage(request, request.tokens_output)
        request.complete = answer.body is None
        await reply.json(
            200, body if answer.body is None else answer.body, _headers(request, answer)
        )

    async def _stream(
        self,
        request: FakeRequest,
        answer: FakeAnswer,
        blocks: list[dict[str, Any]],
        reply: Reply,
    ) -> None:
        reply.events(_headers(request, answer))
        started = _message(request, [], None)
        if answer.report_usage:
            started["usage"] = _usage(request, 1)
        await _event(reply, "message_start", message=started)
        await _event(reply, "ping")
        if blocks and blocks[0]["type"] == "text":
            opening = {"type": "text", "text": ""}
            await _event(reply, "content_block_start", index=0, content_block=opening)
        broken = Broken(
            garble=lambda: reply.event(b'{"type": "content_block_del', "content_block_delta"),
            error=lambda said: reply.event(
                _error(request, 500, said.error_code or "overloaded_error"), "error"
            ),
        )

        async def say(at: int, piece: str) -> None:
            del at
            delta = {"type": "text_delta", "text": piece}
            await _event(reply, "content_block_delta", index=0, delta=delta)

        if not await self.stream(answer, reply, say, broken):
            return
        for index, block in enumerate(blocks):
            if block["type"] == "tool_use":
                await _tool_events(reply, index, block)
            await _event(reply, "content_block_stop", index=index)
        ending = {"stop_reason": _reason(answer), "stop_sequence": None}
        for _ in range(2 if answer.repetitive else 1):
            last: dict[str, Any] = {"delta": ending}
            if answer.report_usage:
                last["usage"] = _last_usage(request)
            await _event(reply, "message_delta", **last)
        request.complete = True  # before the last byte: who reads it may ask at once
        await _event(reply, "message_stop")
        await reply.end()

    def _count(self, request: FakeRequest, answer: FakeAnswer) -> None:
        """Count the tokens of a request and its answer, cached ones by their marks."""
        now, total, marks, digest = self.clock(), 0, list[tuple[int, str, str]](), hashlib.sha256()
        for text, tokens, lifetime in _prompt(request.body):
            total += tokens
            digest.update(orjson.dumps(text))
            if lifetime is not None and total >= self._cache_minimum:
                marks.append((total, digest.hexdigest(), lifetime))
        read = 0
        for tokens, prefix, _ in marks:
            until, lasts = self._cached.get(prefix, (0.0, 0.0))
            if now < until:
                read = tokens
                self._cached[prefix] = (now + lasts, lasts)
        written_before = read
        for tokens, prefix, lifetime in marks:
            if tokens > written_before:
                self._cached[prefix] = (now + _LIFETIMES_S[lifetime], _LIFETIMES_S[lifetime])
                request.tokens_cache_write += tokens - written_before
                if lifetime == "1h":
                    request.tokens_cache_write_1h += tokens - written_before
                written_before = tokens
        request.tokens_input = total
        request.tokens_cached = read or min(answer.tokens_cached, total)
        request.tokens_reasoning = answer.tokens_reasoning
        request.tokens_output = (
            count_tokens("".join(pieces_of(answer)))
            + answer.tokens_reasoning
            + sum(count_tokens(orjson.dumps(c["args"]).decode()) + 1 for c in answer.tool_calls)
        )


def _key(request: FakeRequest) -> str:
    """The key, in the header of the API or in that of its newer clients."""
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    return request.headers.get("x-api-key", bearer)


def _prompt(body: Mapping[str, Any]) -> list[tuple[Any, int, str | None]]:
    """The prompt in the order in which it is cached: (what, tokens, lifetime of a mark)."""
    found: list[tuple[Any, int, str | None]] = []
    for tool in _parts(body.get("tools")):
        plain = {k: v for k, v in tool.items() if k != "cache_control"}
        found.append((plain, count_tokens(orjson.dumps(plain).decode()), _lifetime(tool)))
    for part in _parts(body.get("system")):
        text = str(part.get("text", ""))
        found.append((["system", text], count_tokens(text), _lifetime(part)))
    for message in _parts(body.get("messages")):
        parts = _parts(message.get("content"))
        for at, part in enumerate(parts):
            text = str(part.get("text") or part.get("content") or part.get("input") or "")
            tokens = count_tokens(text) + (3 if at == 0 else 0)
            found.append(([message["role"], text], tokens, _lifetime(part)))
    output: Mapping[str, Any] = body.get("output_config") or {}
    if "format" in output:
        found.append((output["format"], 1, None))
    return found


def _parts(content: Any) -> list[dict[str, Any]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return cast("list[dict[str, Any]]", content)


def _lifetime(part: Mapping[str, Any]) -> str | None:
    mark = part.get("cache_control")
    return None if mark is None else str(mark.get("ttl", "5m"))


def _fault(request: FakeRequest) -> str | None:
    """What the real server would refuse."""
    body = request.body
    if "anthropic-version" not in request.headers:
        return "anthropic-version: header is required"
    for name in ("model", "max_tokens", "messages"):
        if not body.get(name):
            return f"{name}: Field required"
    if body["messages"][0]["role"] != "user":
        return "messages: first message must use the user role"
    marks = [lifetime for _, _, lifetime in _prompt(body) if lifetime is not None]
    if len(marks) > 4:
        return "A maximum of 4 blocks with cache_control may be provided."
    if any(mark not in _LIFETIMES_S for mark in marks):
        return "cache_control.ttl: Input should be '5m' or '1h'"
    return None


async def _event(reply: Reply, kind: str, **fields: Any) -> None:
    await reply.event({"type": kind, **fields}, kind)


async def _tool_events(reply: Reply, index: int, block: Mapping[str, Any]) -> None:
    opening: dict[str, Any] = {**block, "input": {}}
    await _event(reply, "content_block_start", index=index, content_block=opening)
    raw = orjson.dumps(block["input"]).decode()
    half = len(raw) // 2
    for part in (raw[:half], raw[half:]):
        delta = {"type": "input_json_delta", "partial_json": part}
        await _event(reply, "content_block_delta", index=index, delta=delta)


def _tool_use(request: FakeRequest, at: int, call: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": f"toolu_{request.request_id}_{at}",
        "name": call["name"],
        "input": dict(call["args"]),
    }


def _reason(answer: FakeAnswer) -> str:
    if answer.tool_calls and answer.finish_reason == "stop":
        return "tool_use"
    names = {"stop": "end_turn", "length": "max_tokens"}
    return names.get(answer.finish_reason, answer.finish_reason)


def _message(
    request: FakeRequest, blocks: list[dict[str, Any]], reason: str | None
) -> dict[str, Any]:
    return {
        "id": request.request_id.replace("req_", "msg_"),
        "type": "message",
        "role": "assistant",
        "model": request.body.get("model"),
        "content": blocks,
        "stop_reason": reason,
        "stop_sequence": None,
    }


def _usage(request: FakeRequest, output: int) -> dict[str, Any]:
    """Input without what was read from and written to the cache, as Anthropic counts it."""
    long = request.tokens_cache_write_1h
    return {
        **_last_usage(request),
        "output_tokens": output,
        "cache_creation": {
            "ephemeral_5m_input_tokens": request.tokens_cache_write - long,
            "ephemeral_1h_input_tokens": long,
        },
        "service_tier": "standard",
    }


def _last_usage(request: FakeRequest) -> dict[str, Any]:
    cached = request.tokens_cached + request.tokens_cache_write
    usage: dict[str, Any] = {
        "input_tokens": request.tokens_input - cached,
        "cache_creation_input_tokens": request.tokens_cache_write,
        "cache_read_input_tokens": request.tokens_cached,
        "output_tokens": request.tokens_output,
    }
    if request.tokens_reasoning:
        usage["output_tokens_details"] = {"thinking_tokens": request.tokens_reasoning}
    return usage


def _headers(request: FakeRequest, answer: FakeAnswer | None = None) -> dict[str, str]:
    if answer is None:
        return {"request-id": request.request_id}
    named = {"request-id": request.request_id} if answer.send_request_id else {}
    return {**named, **answer.headers}


def _error(
    request: FakeRequest, status: int, kind: str | None, message: str | None = None
) -> dict[str, Any]:
    return {
        "type": "error",
        "error": {
            "type": kind or _KINDS.get(status, "api_error"),
            "message": message or f"The fake provider answers {status}.",
        },
        "request_id": request.request_id,
    }
