"""LangGraph's store of items over the memory port, for loops and for threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import orjson
from langchain_core.runnables.config import ensure_config
from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    get_text_at_path,
    validate_op_namespace,
)

from holdfast.domain.ids import MICROS
from holdfast.domain.memory_items import OPERATORS
from holdfast.errors import InvalidInput, PortError
from holdfast.pipelines.knowledge import answered
from holdfast.ports import MemoryPort
from holdfast.recording import Replaying, StepHandle, step_of

T = TypeVar("T")

MINUTE_S = 60.0
"""LangGraph's unit for the time that an item is kept."""


class PortStore(BaseStore):
    """Keeps items for the owner of one execution, apart for each agent and pipeline.

    All ways in end in a batch; its reads see what was there before it. Every item is found by
    likeness unless it is put with `index=False`; fields named by `index` are embedded together.
    """

    __slots__ = ("_execution_id", "_loop", "_port", "_replaying")

    supports_ttl = True
    ttl_config: TTLConfig | None = TTLConfig(refresh_on_read=True, omit_expired=True)

    def __init__(
        self, port: MemoryPort, execution_id: str, *, replaying: Replaying | None = None
    ) -> None:
        """Made in the loop that answers the port.

        Args:
            port: where items are.
            execution_id: for whom.
            replaying: the record that answers; what it repeats writes nothing a second time.
        """
        super().__init__()
        self._port = port
        self._execution_id = execution_id
        self._replaying = replaying
        self._loop = asyncio.get_running_loop()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """See `BaseStore`."""
        return await self._carry_out(list(ops), step_of(ensure_config()))

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """See `BaseStore`."""
        return self._wait(self._carry_out(list(ops), step_of(ensure_config())))

    async def _carry_out(self, ops: Sequence[Op], step: StepHandle) -> list[Result]:
        written = [_written(op) for op in ops]  # all, so that a wrong one stops the others
        asked = list(range(len(ops)))
        if self._replaying is not None and not self._replaying.is_live(step.number):
            asked = [n for n in asked if not isinstance(ops[n], PutOp)]
        results: list[Result] = [None] * len(ops)
        if not asked:
            return results
        answer = await self._port.items(
            execution_id=self._execution_id, ops=[written[n] for n in asked]
        )
        told = cast("Sequence[Any]", answered(answer, step))
        for n, result in zip(asked, told, strict=True):
            results[n] = _result(ops[n], result)
        return results

    def _wait(self, asked: Coroutine[Any, Any, T]) -> T:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run_coroutine_threadsafe(asked, self._loop).result()
        asked.close()
        raise PortError(
            f"an item was asked for without await in a running loop ({running!r})",
            hint="use aget, aput and asearch here, or get, put and search in a sync node",
        )


def _written(op: Op) -> dict[str, Any]:
    """An operation as the port takes it.

    Raises:
        InvalidNamespaceError: a namespace cannot be.
        InvalidInput: anything else is wrong with it.
    """
    validate_op_namespace(op)
    return _WAYS[type(op)](op)


def _get(op: GetOp) -> dict[str, Any]:
    return {
        "op": "get",
        "namespace": list(op.namespace),
        "key": op.key,
        "refresh": op.refresh_ttl,
    }


def _search(op: SearchOp) -> dict[str, Any]:
    _check_filter(op.filter or {})
    return {
        "op": "search",
        "prefix": list(op.namespace_prefix),
        "filter": op.filter,
        "query": op.query,
        "limit": _natural("limit", op.limit),
        "offset": _natural("offset", op.offset),
        "refresh": op.refresh_ttl,
    }


def _put(op: PutOp) -> dict[str, Any]:
    told: dict[str, Any] = {"op": "put", "namespace": list(op.namespace), "key": op.key}
    if op.value is None:
        return {**told, "value": None, "text": None, "ttl_s": None}
    try:
        value = orjson.loads(orjson.dumps(dict(op.value)))
    except TypeError as error:
        raise InvalidInput(
            f"item {op.key!r}: its value cannot be kept as JSON: {error}",
            fields=[{"field": "value", "expected": "JSON", "got": str(error)}],
        ) from error
    ttl_s = None if op.ttl is None else op.ttl * MINUTE_S
    return {**told, "value": value, "text": _text(value, op.index), "ttl_s": ttl_s}


def _namespaces(op: ListNamespacesOp) -> dict[str, Any]:
    return {
        "op": "namespaces",
        "match": [
            {"type": one.match_type, "path": list(one.path)} for one in op.match_conditions or ()
        ],
        "max_depth": op.max_depth,
        "limit": _natural("limit", op.limit),
        "offset": _natural("offset", op.offset),
    }


_WAYS: Mapping[type[Any], Callable[[Any], dict[str, Any]]] = {
    GetOp: _get,
    SearchOp: _search,
    PutOp: _put,
    ListNamespacesOp: _namespaces,
}


def _text(value: dict[str, Any], index: bool | Sequence[str] | None) -> str | None:
    """What an item is found by; None when it is not to be found so."""
    if index is False:
        return None
    paths = ["$"] if index is None or index is True else index
    texts = [text for path in paths for text in get_text_at_path(value, path)]
    return "\n".join(texts) if any(text.strip() for text in texts) else None


def _check_filter(conditions: Mapping[str, Any]) -> None:
    for key, wanted in conditions.items():
        if not isinstance(wanted, dict):
            continue
        for name in cast("dict[str, Any]", wanted):
            if name.startswith("$") and name not in OPERATORS:
                known = ", ".join(sorted(OPERATORS))
                raise InvalidInput(
                    f"filter {key}: there is no operator {name}",
                    hint=f"known are {known}",
                    fields=[{"field": f"filter.{key}", "expected": known, "got": name}],
                )


def _natural(name: str, number: int) -> int:
    if number < 0:
        raise InvalidInput(
            f"{name}={number} is negative",
            fields=[{"field": name, "expected": "0 or more", "got": str(number)}],
        )
    return number


def _result(op: Op, told: Any) -> Result:
    if isinstance(op, PutOp) or told is None:
        return None
    if isinstance(op, GetOp):
        return Item(**_fields(told))
    if isinstance(op, SearchOp):
        return [SearchItem(**_fields(one), score=one["score"]) for one in told]
    return [tuple(one) for one in told]


def _fields(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "namespace": tuple(told["namespace"]),
        "key": told["key"],
        "value": told["value"],
        "created_at": _time(told["created_at"]),
        "updated_at": _time(told["updated_at"]),
    }


def _time(at: int) -> datetime:
    return datetime.fromtimestamp(at / MICROS, UTC)
