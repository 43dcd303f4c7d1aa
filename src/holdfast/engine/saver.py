"""LangGraph's checkpoint saver over the checkpoints port, for loops and for threads."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator, Sequence
from itertools import count
from typing import Any, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.base import Checkpoint as LangGraphCheckpoint

from holdfast.domain.checkpoints import (
    Checkpoint,
    CheckpointsWanted,
    CheckpointWrites,
    PendingWrite,
    Value,
)
from holdfast.errors import CheckpointError
from holdfast.ports import CheckpointsPort

from .serializer import StrictSerializer

T = TypeVar("T")

GATHER_TURNS = 8
"""Turns of the loop for which writes wait for the checkpoint after them, to be stored with it.

LangGraph gets from a step's last writes to its checkpoint in fewer. Where it does not, for another
branch is still at work, they go alone.
"""

PRUNED = {"keep_latest": "latest", "delete": "nothing"}
"""What is kept under LangGraph's names of strategies."""


class _Held:
    """Writes that have not been handed to the port, and who waits for them."""

    __slots__ = ("stored", "writes")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.writes: list[CheckpointWrites] = []
        self.stored: asyncio.Future[None] = loop.create_future()

    def settle(self, error: BaseException | None) -> None:
        """Tell everybody who waits; also where nobody does any more."""
        if isinstance(error, asyncio.CancelledError):
            self.stored.cancel()
        elif error is not None:
            self.stored.set_exception(error)
            self.stored.exception()  # asyncio need not say that nobody has heard of it
        else:
            self.stored.set_result(None)


class PortSaver(BaseCheckpointSaver[str]):
    """Keeps the checkpoints of one execution.

    Order is kept without waiting: a checkpoint is handed to the port before its first await,
    together with the writes before it, and the port keeps the order it was asked in (LangGraph
    awaits a checkpoint, but not the writes before).
    """

    def __init__(
        self,
        port: CheckpointsPort,
        execution_id: str,
        serializer: StrictSerializer,
        *,
        new_thread: str | None = None,
    ) -> None:
        """Made in the loop that answers the port.

        Args:
            port: where checkpoints go.
            execution_id: under whose lease they are written.
            serializer: what may be kept.
            new_thread: a thread of which nothing is stored yet; not asked for until it is.
        """
        super().__init__(serde=serializer)
        self._port = port
        self._execution_id = execution_id
        self._loop = asyncio.get_running_loop()
        self._new_thread = new_thread
        self._held: _Held | None = None
        self._mark = secrets.token_hex(6)  # of this saver's versions
        self._made = count()

    def get_next_version(self, current: str | None, channel: None) -> str:  # noqa: ARG002
        """A version nobody else makes: two branches of one thread must not share values."""
        number = 0 if current is None else int(current.split(".")[0], 16)
        return f"{number + 1:08x}.{self._mark}{next(self._made):x}"

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> PortSaver:  # noqa: ARG002
        """Itself: what may be kept is said by the pipeline, in `keeps=`."""
        return self

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """See `BaseCheckpointSaver`."""
        thread_id, ns, checkpoint_id = _place(config)
        if thread_id == self._new_thread:
            return None
        await self._hand_over()
        wanted = CheckpointsWanted(thread_id=thread_id, ns=ns, id=checkpoint_id, limit=1)
        found = await self._port.list(execution_id=self._execution_id, wanted=wanted)
        return self._tuple(found[0]) if found else None

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """See `BaseCheckpointSaver`."""
        for found in await self._list(config, filter, before, limit):
            yield self._tuple(found)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: LangGraphCheckpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """See `BaseCheckpointSaver`."""
        kept = self._checkpoint(config, checkpoint, metadata, new_versions)
        await self._hand_over(kept)
        return _config(kept.thread_id, kept.ns, kept.id)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """See `BaseCheckpointSaver`."""
        kept = self._writes(config, writes, task_id, task_path)
        self._new_thread = None
        held = self._held = self._held or _Held(self._loop)
        held.writes.append(kept)
        for _ in range(GATHER_TURNS):
            await asyncio.sleep(0)
            if self._held is not held:
                await asyncio.shield(held.stored)
                return
        await self._hand_over()

    async def _hand_over(self, *more: Checkpoint) -> None:
        """Give the port the writes that are held, and what follows them."""
        held, self._held = self._held, None
        if held is None and not more:
            return
        self._new_thread = None
        saved = (*held.writes, *more) if held is not None else more
        told: BaseException | None = None
        try:
            await self._port.save(execution_id=self._execution_id, saved=saved)
        except BaseException as error:
            told = error
            raise
        finally:
            if held is not None:
                held.settle(told)

    async def adelete_thread(self, thread_id: str) -> None:
        """See `BaseCheckpointSaver`."""
        await self.aprune([thread_id], strategy="delete")

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """See `BaseCheckpointSaver`."""
        await self._hand_over()
        await self._port.drop_runs(execution_id=self._execution_id, run_ids=list(run_ids))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """See `BaseCheckpointSaver`."""
        await self._hand_over()
        await self._port.copy(
            execution_id=self._execution_id, source=source_thread_id, target=target_thread_id
        )

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """See `BaseCheckpointSaver`."""
        keep = PRUNED.get(strategy)
        if keep is None:
            raise CheckpointError(
                f"there is no way {strategy!r} of pruning", hint=f"one of: {', '.join(PRUNED)}"
            )
        await self._hand_over()
        await self._port.prune(
            execution_id=self._execution_id, thread_ids=list(thread_ids), keep=keep
        )

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """See `BaseCheckpointSaver`."""
        return self._wait(self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """See `BaseCheckpointSaver`."""
        for found in self._wait(self._list(config, filter, before, limit)):
            yield self._tuple(found)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: LangGraphCheckpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """See `BaseCheckpointSaver`."""
        return self._wait(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """See `BaseCheckpointSaver`."""
        self._wait(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """See `BaseCheckpointSaver`."""
        self._wait(self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """See `BaseCheckpointSaver`."""
        self._wait(self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """See `BaseCheckpointSaver`."""
        self._wait(self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """See `BaseCheckpointSaver`."""
        self._wait(self.aprune(thread_ids, strategy=strategy))

    def _wait(self, asked: Coroutine[Any, Any, T]) -> T:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run_coroutine_threadsafe(asked, self._loop).result()
        asked.close()
        raise CheckpointError(
            f"a checkpoint was asked for without await in a running loop ({running!r})",
            hint="call the graph with ainvoke here, or in a sync node",
        )

    async def _list(
        self,
        config: RunnableConfig | None,
        metadata: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Sequence[Checkpoint]:
        await self._hand_over()
        at = _configurable(config) if config else {}
        wanted = CheckpointsWanted(
            thread_id=at.get("thread_id"),
            ns=at.get("checkpoint_ns"),
            id=at.get("checkpoint_id"),
            before=_configurable(before).get("checkpoint_id") if before else None,
            metadata=metadata or {},
            limit=limit,
        )
        return await self._port.list(execution_id=self._execution_id, wanted=wanted)

    def _checkpoint(
        self,
        config: RunnableConfig,
        checkpoint: LangGraphCheckpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Checkpoint:
        thread_id, ns, parent_id = _place(config)
        rest = {name: value for name, value in checkpoint.items() if name != "channel_values"}
        values = checkpoint["channel_values"]
        return Checkpoint(
            thread_id=thread_id,
            ns=ns,
            id=checkpoint["id"],
            parent_id=parent_id,
            value=self._dump(rest),
            metadata=cast("dict[str, Any]", get_checkpoint_metadata(config, metadata)),
            versions={name: str(one) for name, one in checkpoint["channel_versions"].items()},
            values={
                name: self._dump(values[name])
                for name in new_versions
                if name in values and name in checkpoint["channel_versions"]
            },
        )

    def _writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        path: str,
    ) -> CheckpointWrites:
        thread_id, ns, checkpoint_id = _place(config)
        if checkpoint_id is None:
            raise CheckpointError("writes without a checkpoint they follow")
        return CheckpointWrites(
            thread_id=thread_id,
            ns=ns,
            checkpoint_id=checkpoint_id,
            writes=tuple(
                PendingWrite(
                    task_id=task_id,
                    path=path,
                    index=WRITES_IDX_MAP.get(channel, index),
                    channel=channel,
                    value=self._dump(value),
                )
                for index, (channel, value) in enumerate(writes)
            ),
        )

    def _dump(self, value: Any) -> Value:
        return Value(*self.serde.dumps_typed(value))

    def _load(self, value: Value) -> Any:
        return self.serde.loads_typed(value)

    def _tuple(self, kept: Checkpoint) -> CheckpointTuple:
        checkpoint = self._load(kept.value)
        checkpoint["channel_values"] = {
            name: self._load(value) for name, value in kept.values.items()
        }
        parent = kept.parent_id
        return CheckpointTuple(
            config=_config(kept.thread_id, kept.ns, kept.id),
            checkpoint=checkpoint,
            metadata=cast("CheckpointMetadata", dict(kept.metadata)),
            parent_config=_config(kept.thread_id, kept.ns, parent) if parent else None,
            pending_writes=[
                (write.task_id, write.channel, self._load(write.value)) for write in kept.writes
            ],
        )


def _configurable(config: RunnableConfig) -> dict[str, Any]:
    return config.get("configurable", {})


def _place(config: RunnableConfig) -> tuple[str, str, str | None]:
    at = _configurable(config)
    return str(at["thread_id"]), at.get("checkpoint_ns", ""), at.get("checkpoint_id")


def _config(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    at = {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}
    return {"configurable": at}
