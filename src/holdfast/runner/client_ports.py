"""The hub's ports as a runner sees them: a question over the socket, an answer with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from typing import Any, cast

from holdfast.domain.checkpoints import Checkpoint, CheckpointsWanted, Saved
from holdfast.domain.conversations import Window
from holdfast.domain.payload import encode
from holdfast.errors import PortError
from holdfast.ports import CachedResult, EmbeddingCall, KnowledgeAnswer

from . import limits
from .context_caches import AskedContextCache
from .crossing import answer_from_json, question_to_json, window_from_json
from .frames import Kind

ASK_TIMEOUT_S = 10.0
"""How long a step waits for its hub."""

CACHE_TIMEOUT_S = 30.0
"""How long a call waits to hear of its cache: another run may be making it."""

STORE_TIMEOUT_S = 300.0
"""How long it waits for something to be stored: while the database is away the work waits."""


WINDOWS = ("memory.window", "memory.unsummarised")
"""Questions that windows answer."""


class AskedCache:
    """A `CachePort` that asks the hub.

    Args:
        ask: puts a question to it: execution, port, arguments.
    """

    def __init__(self, ask: Callable[[str, str, dict[str, Any]], Awaitable[Any]]) -> None:
        self._ask = ask

    async def get(self, *, execution_id: str, key: str) -> CachedResult | None:
        """See `CachePort.get`."""
        found = await self._ask(execution_id, "cache.get", {"key": key})
        return None if found is None else CachedResult(*found)

    async def put(self, *, execution_id: str, key: str, value: str, ttl_s: float) -> None:
        """See `CachePort.put`."""
        await self._ask(execution_id, "cache.put", {"key": key, "value": value, "ttl_s": ttl_s})


class AskedCheckpoints:
    """A `CheckpointsPort` that asks the hub.

    Args:
        ask: puts a question to it: execution, port, arguments as domain objects. It keeps the
            order of what it was asked, and of the record before it: a step whose checkpoint is
            stored is on record.
    """

    def __init__(self, ask: Callable[[str, str, dict[str, Any]], Awaitable[Any]]) -> None:
        self._ask = ask

    async def save(self, *, execution_id: str, saved: Sequence[Saved]) -> None:
        """See `CheckpointsPort.save`."""
        await self._ask(execution_id, "checkpoints.save", {"saved": saved})

    async def list(self, *, execution_id: str, wanted: CheckpointsWanted) -> Sequence[Checkpoint]:
        """See `CheckpointsPort.list`."""
        found = await self._ask(execution_id, "checkpoints.list", {"wanted": wanted})
        return cast("Sequence[Checkpoint]", found)

    async def drop_runs(self, *, execution_id: str, run_ids: Sequence[str]) -> None:
        """See `CheckpointsPort.drop_runs`."""
        await self._ask(execution_id, "checkpoints.drop_runs", {"run_ids": list(run_ids)})

    async def copy(self, *, execution_id: str, source: str, target: str) -> None:
        """See `CheckpointsPort.copy`."""
        args = {"source": source, "target": target}
        await self._ask(execution_id, "checkpoints.copy", args)

    async def prune(self, *, execution_id: str, thread_ids: Sequence[str], keep: str) -> None:
        """See `CheckpointsPort.prune`."""
        args = {"thread_ids": list(thread_ids), "keep": keep}
        await self._ask(execution_id, "checkpoints.prune", args)


class AskedRecords:
    """A `RecordsPort` that asks the hub.

    Args:
        ask: puts a question to it: execution, port, arguments.
    """

    def __init__(self, ask: Callable[[str, str, dict[str, Any]], Awaitable[Any]]) -> None:
        self._ask = ask

    async def replayed(self, *, execution_id: str) -> Mapping[str, Any]:
        """See `RecordsPort.replayed`."""
        return await self._ask(execution_id, "records.replayed", {})


class AskedPrompts:
    """A `PromptsPort` that asks the hub.

    Args:
        ask: puts a question to it: execution, port, arguments.
    """

    def __init__(self, ask: Callable[[str, str, dict[str, Any]], Awaitable[Any]]) -> None:
        self._ask = ask

    async def version(self, *, execution_id: str, name: str, version: str) -> Mapping[str, Any]:
        """See `PromptsPort.version`."""
        args = {"name": name, "version": version}
        return await self._ask(execution_id, "prompts.version", args)


class AskedKnowledge:
    """A `KnowledgePort` that asks the hub.

    Args:
        ask: puts a question to it: execution, port, arguments.
    """

    def __init__(self, ask: Callable[[str, str, dict[str, Any]], Awaitable[Any]]) -> None:
        self._ask = ask

    async def index(
        self,
        *,
        execution_id: str,
        collection: str,
        key: str,
        text: str,
        metadata: Mapping[str, Any],
        alias: str | None,
    ) -> KnowledgeAnswer:
        """See `KnowledgePort.index`."""
        args = {"collection": collection, "key": key, "text": text, "metadata": dict(metadata)}
        return _known(await self._ask(execution_id, "knowledge.index", {**args, "alias": alias}))

    async def delete(self, *, execution_id: str, collection: str, key: str) -> KnowledgeAnswer:
        """See `KnowledgePort.delete`."""
        args = {"collection": collection, "key": key}
        return _known(await self._ask(execution_id, "knowledge.delete", args))

    async def search(self, *, execution_id: str, asked: Mapping[str, Any]) -> KnowledgeAnswer:
        """See `KnowledgePort.search`."""
        return _known(await self._ask(execution_id, "knowledge.search", dict(asked)))


class AskedMemory:
    """A `MemoryPort` that asks the hub.

    Args:
        ask: puts a question to it: execution, port, arguments; windows are answered as such.
    """

    def __init__(self, ask: Callable[[str, str, dict[str, Any]], Awaitable[Any]]) -> None:
        self._ask = ask

    async def window(
        self, *, execution_id: str, token_budget: int, depth: int | None = None
    ) -> Window:
        """See `MemoryPort.window`."""
        args = {"token_budget": token_budget, "depth": depth}
        return await self._ask(execution_id, "memory.window", args)

    async def unsummarised(
        self, *, execution_id: str, session_id: str, keep: int, block: int
    ) -> Window:
        """See `MemoryPort.unsummarised`."""
        args = {"session_id": session_id, "keep": keep, "block": block}
        return await self._ask(execution_id, "memory.unsummarised", args)

    async def summarise(
        self,
        *,
        execution_id: str,
        session_id: str,
        of: Sequence[str],
        summary: str,
        facts: Sequence[str],
    ) -> bool:
        """See `MemoryPort.summarise`."""
        args = {"session_id": session_id, "of": list(of), "summary": summary, "facts": list(facts)}
        return await self._ask(execution_id, "memory.summarise", args)

    async def items(
        self, *, execution_id: str, ops: Sequence[Mapping[str, Any]]
    ) -> KnowledgeAnswer:
        """See `MemoryPort.items`."""
        args = {"ops": [dict(op) for op in ops]}
        return _known(await self._ask(execution_id, "memory.items", args))


def _known(told: Mapping[str, Any]) -> KnowledgeAnswer:
    calls = [EmbeddingCall(**call) for call in told["calls"]]
    return KnowledgeAnswer(value=told["value"], calls=calls, error=told["error"])


class HubPorts:
    """Implements the ports by asking the hub.

    Args:
        send: sends the JSON of a question: `{"id", "execution_id", "port", "args"}`.
    """

    def __init__(self, send: Callable[[Kind, bytes], None]) -> None:
        self._send = send
        self._ids = count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.cache = AskedCache(self._call)
        self.checkpoints = AskedCheckpoints(self._call_with_objects)
        self.records = AskedRecords(self._call_in_order)
        self.knowledge = AskedKnowledge(self._call_patiently)
        self.memory = AskedMemory(self._call_for_memory)
        self.context_cache = AskedContextCache(self._call_for_cache)
        self.prompts = AskedPrompts(self._call_in_order)

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
            timeout_s=STORE_TIMEOUT_S,
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

    async def _call_with_objects(
        self, execution_id: str, port: str, args: Mapping[str, Any]
    ) -> Any:
        answer = await self._call_in_order(execution_id, port, question_to_json(args))
        return answer_from_json(answer)

    async def ask(self, execution_id: str, port: str, args: dict[str, Any]) -> Any:
        """Put a question to the hub.

        Raises:
            PortError: it refused or did not answer in time.
        """
        return await self._call(execution_id, port, args)

    async def _call_patiently(self, execution_id: str, port: str, args: Mapping[str, Any]) -> Any:
        return await self._call(execution_id, port, args, timeout_s=STORE_TIMEOUT_S)

    async def _call_for_memory(self, execution_id: str, port: str, args: Mapping[str, Any]) -> Any:
        answer = await self._call_patiently(execution_id, port, args)
        return window_from_json(answer) if port in WINDOWS else answer

    async def _call_for_cache(self, execution_id: str, port: str, args: Mapping[str, Any]) -> Any:
        return await self._call(execution_id, port, args, timeout_s=CACHE_TIMEOUT_S)

    async def ask_to_wait(self, execution_id: str, port: str, args: dict[str, Any]) -> Any:
        """Put a question whose answer may take a while, for it is another's turn.

        Raises:
            PortError: the hub refused or did not answer in time.
        """
        return await self._call(execution_id, port, args, timeout_s=limits.ASK_TIMEOUT_S)

    async def ask_patiently(self, execution_id: str, port: str, args: dict[str, Any]) -> Any:
        """The same where the hub may have to wait for its database first."""
        return await self._call(execution_id, port, args, timeout_s=STORE_TIMEOUT_S)

    async def _call_in_order(self, execution_id: str, port: str, args: Mapping[str, Any]) -> Any:
        return await self._call(execution_id, port, args, Kind.STORE, STORE_TIMEOUT_S)

    async def _call(
        self,
        execution_id: str,
        port: str,
        args: Mapping[str, Any],
        kind: Kind = Kind.ASK,
        timeout_s: float = ASK_TIMEOUT_S,
    ) -> Any:
        ask = next(self._ids)
        answer = self._waiting[ask] = asyncio.get_running_loop().create_future()
        question = {"id": ask, "execution_id": execution_id, "port": port, "args": args}
        try:
            self._send(kind, encode(question))
            return await asyncio.wait_for(answer, timeout_s)
        except TimeoutError:
            raise PortError(f"the hub did not answer {port} within {timeout_s:g} s") from None
        finally:
            self._waiting.pop(ask, None)
