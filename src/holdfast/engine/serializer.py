"""The strict serializer of checkpoints: only types that the pipeline names come back to life.

LangGraph's own makes whatever class a checkpoint names, and quietly gives back raw data where it
may not. Here both ways are closed: a value of an unknown type is refused when it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, cast

import ormsgpack
from langgraph.checkpoint.serde import _msgpack, jsonplus
from langgraph.types import Send
from pydantic import BaseModel

from holdfast.errors import CheckpointError
from holdfast.pipelines.state import Branches, EarlierError, group_of

OPTIONS = (
    ormsgpack.OPT_NON_STR_KEYS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
    | ormsgpack.OPT_REPLACE_SURROGATES
)

MODEL, DATACLASS, ENUM, BRANCHES, ERROR, SEND = range(64, 70)
"""Our kinds of extension; LangGraph's are below 64."""

Key = tuple[str, str]
"""Module and qualified name of a class."""

SAFE: frozenset[Key] = frozenset(cast("Iterable[Key]", _msgpack.SAFE_MSGPACK_TYPES))
"""What LangGraph itself takes for harmless: dates, messages, its own commands."""


def key_of(kind: type[Any]) -> Key:
    """What a class is called in checkpoints."""
    return kind.__module__, kind.__qualname__


class StrictSerializer:
    """LangGraph's `SerializerProtocol` over msgpack, with an allow-list.

    Args:
        kinds: pydantic models, dataclasses and enums that may be kept.
        where: the pipeline, for errors.
    """

    def __init__(self, kinds: Iterable[type[Any]], where: str) -> None:
        self._kinds = {key_of(kind): kind for kind in kinds}
        self._where = where
        self._theirs: Callable[[int, bytes], Any] = jsonplus._create_msgpack_ext_hook(None)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """The form and the bytes of a value.

        Raises:
            CheckpointError: some part of it is of a type that is not kept.
        """
        if obj is None:
            return "null", b""
        if isinstance(obj, bytes | bytearray):
            return type(obj).__name__, bytes(obj)
        return "msgpack", self._pack(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The inverse of `dumps_typed`.

        Raises:
            CheckpointError: it holds something that was not written by this pipeline.
        """
        form, body = data
        match form:
            case "null":
                return None
            case "bytes":
                return body
            case "bytearray":
                return bytearray(body)
            case "msgpack":
                return self._unpack(body)
            case _:
                raise CheckpointError(f"{self._where}: a checkpoint holds a value as {form!a}")

    def _pack(self, value: Any) -> bytes:
        try:
            return ormsgpack.packb(value, default=self._write, option=OPTIONS)
        except ormsgpack.MsgpackEncodeError as error:
            if isinstance(error.__cause__, CheckpointError):
                raise error.__cause__ from None
            raise CheckpointError(
                f"{self._where}: a value cannot be kept in a checkpoint: {error}"
            ) from error

    def _unpack(self, body: bytes) -> Any:
        return ormsgpack.unpackb(body, ext_hook=self._read, option=ormsgpack.OPT_NON_STR_KEYS)

    def _write(self, value: Any) -> Any:
        kind = cast("type[Any]", type(value))
        key = key_of(kind)
        if key in self._kinds:
            return self._write_ours(key, value)
        if kind is Branches:
            return ormsgpack.Ext(BRANCHES, self._pack([group_of(value), dict(value)]))
        if kind is Send:
            return ormsgpack.Ext(SEND, self._pack([value.node, value.arg]))
        if isinstance(value, BaseException):
            told = EarlierError.of(value)
            return ormsgpack.Ext(ERROR, self._pack([told.kind, told.message, told.code]))
        if key in SAFE and is_dataclass(value):
            return self._write_ours(key, value)
        if key in SAFE or kind.__module__ in ("numpy", "langgraph.checkpoint.serde.types"):
            return jsonplus._msgpack_default(value)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        raise CheckpointError(
            f"{self._where}: a {key[0]}.{key[1]} cannot be kept in a checkpoint",
            hint="let the node's return annotation name it, or list it: keeps=[…]",
        )

    def _write_ours(self, key: Key, value: Any) -> Any:
        if isinstance(value, Enum):
            return ormsgpack.Ext(ENUM, self._pack([*key, value.value]))
        if isinstance(value, BaseModel):
            members = [value.__dict__, value.__pydantic_extra__, list(value.model_fields_set)]
            return ormsgpack.Ext(MODEL, self._pack([*key, *members]))
        members = {one.name: getattr(value, one.name) for one in fields(value)}
        return ormsgpack.Ext(DATACLASS, self._pack([*key, members]))

    def _read(self, code: int, body: bytes) -> Any:
        match code:
            case _ if code == MODEL:
                module, name, members, extra, given = self._unpack(body)
                return _model(self._kind(module, name), members, extra, given)
            case _ if code == DATACLASS:
                module, name, members = self._unpack(body)
                return self._kind(module, name)(**members)
            case _ if code == ENUM:
                module, name, member = self._unpack(body)
                return self._kind(module, name)(member)
            case _ if code == BRANCHES:
                return Branches(*self._unpack(body))
            case _ if code == ERROR:
                return EarlierError(*self._unpack(body))
            case _ if code == SEND:
                return Send(*self._unpack(body))
            case _:
                self._check_theirs(code, body)
                return self._theirs(code, body)

    def _kind(self, module: str, name: str) -> Any:
        known = self._kinds.get((module, name))
        if known is None and (module, name) in SAFE:
            from importlib import import_module

            known = getattr(import_module(module), name)
        if known is None:
            raise CheckpointError(
                f"{self._where}: a checkpoint names {module}.{name}, which this pipeline does not",
                hint="it was written by other code: migrate or cancel the execution",
            )
        return known

    def _check_theirs(self, code: int, body: bytes) -> None:
        """Refuse what LangGraph's reader would give back as raw data."""
        if code in (jsonplus.EXT_DELTA_SNAPSHOT, jsonplus.EXT_NUMPY_ARRAY):
            return
        module, name, *_ = self._unpack(body)
        if (module, name) not in SAFE:
            self._kind(module, name)


def _model(
    kind: type[BaseModel],
    members: Mapping[str, Any],
    extra: Mapping[str, Any] | None,
    given: list[str],
) -> BaseModel:
    """A model as it was: neither validated again nor with defaults filled in anew."""
    return kind.model_construct(set(given), **members, **(extra or {}))
