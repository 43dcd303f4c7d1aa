"""OpenAI's newer wire format, `/v1/responses`, for the fake that speaks the older one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast

import orjson

from .base import Broken, FakeAnswer, FakeRequest, Reply, count_tokens, pieces_of


def count_input(body: Mapping[str, Any]) -> int:
    """The tokens of a request: words, and three more for every item."""
    given = body.get("input")
    if isinstance(given, str):
        given = [{"content": given}]
    items = cast("list[dict[str, Any]]", given or [])
    return count_tokens(str(body.get("instructions") or "")) + sum(
        3 + count_tokens(_text(item.get("content") or item.get("output"))) for item in items
    )


def _text(content: Any) -> str:
    if isinstance(content, list):
        parts = cast("list[dict[str, Any]]", content)
        return " ".join(str(part.get("text", "")) for part in parts)
    return str(content or "")


def whole(request: FakeRequest, answer: FakeAnswer) -> dict[str, Any]:
    """A response with all that it says."""
    text = "".join(pieces_of(answer))
    items = [_message(request, text)] if text or not answer.tool_calls else []
    items += [_call(request, at, call) for at, call in enumerate(answer.tool_calls)]
    return _response(request, answer, items)


class Telling:
    """The events of one streamed response, numbered."""

    def __init__(self, request: FakeRequest, answer: FakeAnswer, reply: Reply) -> None:
        self._request = request
        self._answer = answer
        self._reply = reply
        self._number = 0

    async def begin(self) -> None:
        """Tell that a response has begun, and its message if it has one."""
        begun = {**_response(self._request, self._answer, []), "status": "in_progress"}
        begun["usage"] = None
        await self._tell("response.created", response=begun)
        if self._says:
            opened: dict[str, Any] = {
                **_message(self._request, ""),
                "status": "in_progress",
                "content": [],
            }
            await self._tell("response.output_item.added", output_index=0, item=opened)
            await self._tell("response.content_part.added", **self._place, part=_part(""))

    async def say(self, at: int, piece: str) -> None:
        """Tell one piece of the text."""
        del at
        await self._tell("response.output_text.delta", **self._place, delta=piece, logprobs=[])

    def broken(self) -> Broken:
        """How this stream goes wrong."""
        return Broken(
            garble=lambda: self._reply.event(b'{"type": "response.output_te', "response.x"),
            error=lambda said: self._tell(
                "error", code=said.error_code or "server_error", message="Failed.", param=None
            ),
        )

    async def end(self) -> None:
        """Tell the calls, and that the response is complete."""
        response = whole(self._request, self._answer)
        for index, item in enumerate(response["output"]):
            if item["type"] == "function_call":
                await self._call(index, item)
            else:
                part = item["content"][0]
                await self._tell("response.output_text.done", **self._place, text=part["text"])
                await self._tell("response.content_part.done", **self._place, part=part)
            await self._tell("response.output_item.done", output_index=index, item=item)
        self._request.complete = True  # before the last byte: who reads it may ask at once
        ending = "incomplete" if response["incomplete_details"] else "completed"
        await self._tell(f"response.{ending}", response=response)

    async def _call(self, index: int, item: dict[str, Any]) -> None:
        opened = {**item, "arguments": "", "status": "in_progress"}
        await self._tell("response.output_item.added", output_index=index, item=opened)
        place = {"item_id": item["id"], "output_index": index}
        raw = item["arguments"]
        await self._tell("response.function_call_arguments.delta", **place, delta=raw)
        await self._tell("response.function_call_arguments.done", **place, arguments=raw)

    async def _tell(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        await self._reply.event(event, kind)

    @property
    def _says(self) -> bool:
        return bool(pieces_of(self._answer)) or not self._answer.tool_calls

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": _id(self._request, "msg"), "output_index": 0, "content_index": 0}


def _id(request: FakeRequest, kind: str) -> str:
    return request.request_id.replace("req", kind)


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(request: FakeRequest, text: str) -> dict[str, Any]:
    return {
        "type": "message",
        "id": _id(request, "msg"),
        "role": "assistant",
        "status": "completed",
        "content": [_part(text)],
    }


def _call(request: FakeRequest, at: int, call: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"{_id(request, 'fc')}_{at}",
        "call_id": f"{_id(request, 'call')}_{at}",
        "name": call["name"],
        "arguments": orjson.dumps(call["args"]).decode(),
        "status": "completed",
    }


def _response(
    request: FakeRequest, answer: FakeAnswer, items: list[dict[str, Any]]
) -> dict[str, Any]:
    cut = answer.finish_reason == "length"
    return {
        "id": _id(request, "resp"),
        "object": "response",
        "created_at": int(time.time()),
        "model": request.body.get("model"),
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "output": items,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": _usage(request) if answer.report_usage else None,
    }


def _usage(request: FakeRequest) -> dict[str, Any]:
    return {
        "input_tokens": request.tokens_input,
        "input_tokens_details": {"cached_tokens": request.tokens_cached},
        "output_tokens": request.tokens_output,
        "output_tokens_details": {"reasoning_tokens": request.tokens_reasoning},
        "total_tokens": request.tokens_input + request.tokens_output,
    }
