"""Checkpoints: the state of a graph between two steps, as LangGraph's savers keep it.

Values are bytes that only the side that runs the graph can read; everything else is plain, so that
the store can find, list and prune checkpoints without knowing what is in them.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Value(NamedTuple):
    """A serialized value: how it was written, and its bytes."""

    form: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingWrite:
    """What one task wrote after a checkpoint, before the next one.

    Attributes:
        task_id: of the task; the same when it runs again from the same checkpoint.
        path: where the task stands in the graph; writes are applied in its order.
        index: place among the task's writes. A negative one (an error, an interrupt, an answer)
            replaces what was there, any other stays as it was first written.
    """

    task_id: str
    path: str
    index: int
    channel: str
    value: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One checkpoint.

    Attributes:
        thread_id: the run it belongs to; an event's id unless a graph names its own.
        ns: namespace of a subgraph; empty for the graph itself.
        id: sorts by time within its thread and namespace.
        parent_id: the one before.
        value: the checkpoint without its channels' values.
        metadata: JSON object.
        versions: version of each channel; a version that was stored once never changes.
        values: by channel. On the way in only those of new versions, on the way out all.
        writes: what tasks wrote since; only on the way out, in the order to be applied.
    """

    thread_id: str
    ns: str
    id: str
    parent_id: str | None
    value: Value
    metadata: Mapping[str, Any]
    versions: Mapping[str, str]
    values: Mapping[str, Value]
    writes: tuple[PendingWrite, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointWrites:
    """Writes on their way to the checkpoint they follow."""

    thread_id: str
    ns: str
    checkpoint_id: str
    writes: tuple[PendingWrite, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointsWanted:
    """Which checkpoints to list, newest first; what is None does not matter.

    Attributes:
        before: only ids that sort before this one.
        metadata: members that must be equal.
    """

    thread_id: str | None = None
    ns: str | None = None
    id: str | None = None
    before: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    limit: int | None = None


Saved = Checkpoint | CheckpointWrites


def of_one_task(ns: str) -> bool:
    """Whether a namespace is that of a subgraph's one task: LangGraph names it after the task.

    A subgraph that keeps its state from run to run has one without.
    """
    return ":" in ns


def value_to_json(value: Value) -> list[str]:
    """A value as JSON has it."""
    return [value.form, b64encode(value.body).decode()]


def value_from_json(written: list[str]) -> Value:
    """The inverse of `value_to_json`."""
    form, body = written
    return Value(form, b64decode(body))


def _write_to_json(write: PendingWrite) -> list[Any]:
    value = value_to_json(write.value)
    return [write.task_id, write.path, write.index, write.channel, value]


def _write_from_json(written: list[Any]) -> PendingWrite:
    task_id, path, index, channel, value = written
    return PendingWrite(
        task_id=task_id, path=path, index=index, channel=channel, value=value_from_json(value)
    )


def saved_to_json(saved: Saved) -> dict[str, Any]:
    """A checkpoint or writes, as they cross the socket and stand in the journal."""
    writes = [_write_to_json(write) for write in saved.writes]
    if isinstance(saved, CheckpointWrites):
        return {
            "thread_id": saved.thread_id,
            "ns": saved.ns,
            "checkpoint_id": saved.checkpoint_id,
            "writes": writes,
        }
    return {
        "thread_id": saved.thread_id,
        "ns": saved.ns,
        "id": saved.id,
        "parent_id": saved.parent_id,
        "value": value_to_json(saved.value),
        "metadata": saved.metadata,
        "versions": saved.versions,
        "values": {channel: value_to_json(value) for channel, value in saved.values.items()},
        "writes": writes,
    }


def saved_from_json(written: Mapping[str, Any]) -> Saved:
    """The inverse of `saved_to_json`."""
    fields = dict(written)
    fields["writes"] = tuple(_write_from_json(write) for write in fields["writes"])
    if "checkpoint_id" in fields:
        return CheckpointWrites(**fields)
    fields["value"] = value_from_json(fields["value"])
    fields["values"] = {
        channel: value_from_json(value) for channel, value in fields["values"].items()
    }
    return Checkpoint(**fields)
