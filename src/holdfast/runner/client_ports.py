"""The hub's ports as a runner sees them: a question over the socket, an answer with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import orjson

from holdfast.errors import PortError

ASK_TIMEOUT_S = 10.0
"""How long a step waits for its hub."""


class HubPorts:
    """Implements the ports by asking the hub.

    Args:
        send: sends the JSON of a question: `{"id", "execution_id", "port", "args"}`.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._ids = count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def submit(
        self,
        *,
        execution_id: str,
        type: str,  # noqa: A002 - CloudEvents' name
        data: Mapping[str, Any],
        idempotency_key: str | None = None,
    ) -> str:
        """See `EventsPort.submit`."""
        return await self._call(
            execution_id,
            "events.submit",
            {"type": type, "data": data, "idempotency_key": idempotency_key},
        )

    def answered(self, answer: Mapping[str, Any]) -> None:
        """Take the hub's answer: `{"id", "value"}` or `{"id", "error"}`."""
        waiting = self._waiting.pop(answer["id"], None)
        if waiting is None or waiting.done():
            return  # the step gave up before the answer came
        if "error" in answer:
            waiting.set_exception(PortError(answer["error"]))
        else:
            waiting.set_result(answer["value"])

    async def _call(self, execution_id: str, port: str, args: Mapping[str, Any]) -> Any:
        ask = next(self._ids)
        answer = self._waiting[ask] = asyncio.get_running_loop().create_future()
        question = {"id": ask, "execution_id": execution_id, "port": port, "args": args}
        try:
            self._send(orjson.dumps(question))
            return await asyncio.wait_for(answer, ASK_TIMEOUT_S)
        except TimeoutError:
            raise PortError(f"the hub did not answer {port} within {ASK_TIMEOUT_S:g} s") from None
        finally:
            self._waiting.pop(ask, None)
