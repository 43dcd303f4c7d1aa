"""A fake of Ollama's chat, completion and embeddings, and of its list of models."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
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

_ANSWERS = {"/api/chat", "/api/generate", "/api/embed"}
_TAGS = {"/api/tags": "models", "/api/ps": "models"}


class FakeOllama(FakeServer):
    """`async with FakeOllama(["Hello"]) as server:` and give `server.url` to a client.

    A token is a word, and every message costs three more. What a model thinks counts as its
    answer; Ollama does not say how much of it that was.
    """

    def __init__(self, answers: Answers = (), *, models: tuple[str, ...] | None = None) -> None:
        """Prepare the server.

        Args:
            answers: see `Answers`; nothing: one fixed sentence.
            models: the only ones it has; None: whatever is asked for.
        """
        super().__init__(answers)
        self._models = models

    @property
    def url(self) -> str:
        """The base URL a client needs."""
        return self.origin

    async def handle(self, request: FakeRequest, method: str, reply: Reply) -> None:
        """See `FakeServer.handle`."""
        model = request.body.get("model")
        if method == "GET" and request.path in _TAGS:
            listed = [{"name": m, "model": m, "size": 1} for m in self._models or ()]
            await reply.json(200, {"models": listed})
        elif method == "GET" and request.path == "/api/version":
            await reply.json(200, {"version": "0.0.0-fake"})
        elif method != "POST" or request.path not in _ANSWERS:
            await reply.json(404, {"error": "404 page not found"})
        elif not model:
            await reply.json(400, {"error": "model is required"})
        elif self._models is not None and model not in self._models:
            await reply.json(404, {"error": f"model '{model}' not found"})
        elif request.path == "/api/embed":
            await self._embed(request, reply)
        else:
            await self._answer_in(request, request.path == "/api/chat", reply)

    async def _embed(self, request: FakeRequest, reply: Reply) -> None:
        texts = texts_in(request.body.get("input"))
        if texts is None:
            await reply.json(400, {"error": "invalid input type"})
            return
        answer = self.next_answer(request)
        if answer.latency_s:
            await asyncio.sleep(answer.latency_s)
        if answer.status >= 400:
            error = {"error": answer.error_code or f"The fake provider answers {answer.status}."}
            await reply.json(answer.status, error, answer.headers)
            return
        size = int(request.body.get("dimensions") or DIMENSIONS)
        request.tokens_input = sum(count_tokens(text) for text in texts)
        request.complete = True
        body: dict[str, Any] = {
            "model": request.body["model"],
            "embeddings": [hashed_vector(text, size) for text in texts],
        }
        if answer.report_usage:
            body["prompt_eval_count"] = request.tokens_input
        await reply.json(200, body, answer.headers)

    async def _answer_in(self, request: FakeRequest, chat: bool, reply: Reply) -> None:
        answer = self.next_answer(request)
        if answer.latency_s:
            await asyncio.sleep(answer.latency_s)
        if answer.status >= 400:
            error = {"error": answer.error_code or f"The fake provider answers {answer.status}."}
            await reply.json(answer.status, error, answer.headers)
            return
        _count(request, answer)
        if request.body.get("stream", True):  # the real server streams unless told not to
            await self._stream(request, answer, chat, reply)
            return
        await self.pause(answer, 0)
        text = "".join(pieces_of(answer))
        body = {**_said(request, chat, text, answer.tool_calls), **_last(request, answer)}
        request.complete = answer.body is None
        await reply.json(200, body if answer.body is None else answer.body, answer.headers)

    async def _stream(
        self, request: FakeRequest, answer: FakeAnswer, chat: bool, reply: Reply
    ) -> None:
        reply.lines(answer.headers)

        async def say(at: int, piece: str) -> None:
            del at
            await reply.line({**_said(request, chat, piece), "done": False})

        broken = Broken(
            garble=lambda: reply.line(b'{"model": "fake", "mess'),
            error=lambda said: reply.line({"error": said.error_code or "the runner has stopped"}),
        )
        if not await self.stream(answer, reply, say, broken):
            return
        for call in answer.tool_calls:  # one a line, as the real server does
            await reply.line({**_said(request, chat, "", (call,)), "done": False})
        request.complete = True  # before the last byte: who reads it may ask at once
        await reply.line({**_said(request, chat, ""), **_last(request, answer)})
        await reply.end()


def _count(request: FakeRequest, answer: FakeAnswer) -> None:
    body = request.body
    messages = cast("list[dict[str, Any]]", body.get("messages") or [])
    texts = [str(m.get("content") or "") for m in messages]
    texts += [str(body[name]) for name in ("system", "prompt") if body.get(name)]
    request.tokens_input = sum(3 + count_tokens(text) for text in texts)
    request.tokens_reasoning = answer.tokens_reasoning
    request.tokens_output = (
        count_tokens("".join(pieces_of(answer)))
        + answer.tokens_reasoning
        + sum(count_tokens(orjson.dumps(c["args"]).decode()) + 1 for c in answer.tool_calls)
    )


def _said(
    request: FakeRequest, chat: bool, text: str, calls: tuple[Mapping[str, Any], ...] = ()
) -> dict[str, Any]:
    head = {"model": request.body["model"], "created_at": datetime.now(UTC).isoformat()}
    if not chat:
        return {**head, "response": text}
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"function": {"name": call["name"], "arguments": dict(call["args"])}} for call in calls
        ]
    return {**head, "message": message}


def _last(request: FakeRequest, answer: FakeAnswer) -> dict[str, Any]:
    ending: dict[str, Any] = {"done": True, "done_reason": answer.finish_reason}
    if not answer.report_usage:
        return ending
    return {
        **ending,
        "total_duration": 4_000_000,  # nanoseconds
        "load_duration": 1_000_000,
        "prompt_eval_count": request.tokens_input,
        "prompt_eval_duration": 1_000_000,
        "eval_count": request.tokens_output,
        "eval_duration": 2_000_000,
    }
