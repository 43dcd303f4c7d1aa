"""Paused pipelines: their queued events are not claimed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from sqlalchemy import bindparam, delete

from holdfast.store.base import Command, Lane, Writes
from holdfast.store.statements import Conflict, Insert, Statement
from holdfast.store.tables import pauses

_PAUSE = Insert(pauses, unless=Conflict(("pipeline",)))
_GO_ON = Statement(delete(pauses).where(pauses.c.pipeline == bindparam("of")))


@dataclass(frozen=True, slots=True)
class PausePipeline(Command[None]):
    """Claim none of a pipeline's events from now on, whoever owns them."""

    lane: ClassVar[Lane] = "claim"
    order: ClassVar[int] = 1
    pipeline: str
    owner_id: str

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[None]:
        """One that is paused already stays as it is."""
        rows = sorted((one.pipeline, one.owner_id, tx.now()) for one in commands)
        tx.insert(_PAUSE, rows)
        return [None for _ in commands]


@dataclass(frozen=True, slots=True)
class UnpausePipeline(Command[None]):
    """Claim a pipeline's events again."""

    lane: ClassVar[Lane] = "claim"
    order: ClassVar[int] = 1
    pipeline: str

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[None]:
        """One that is not paused stays as it is."""
        tx.change(_GO_ON, [{"of": one.pipeline} for one in commands])
        return [None for _ in commands]
