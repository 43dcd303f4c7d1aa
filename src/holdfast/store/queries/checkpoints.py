"""Questions about checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from sqlalchemy import bindparam, select
from sqlalchemy.sql.elements import ColumnElement

from holdfast.domain.checkpoints import Checkpoint, CheckpointsWanted, PendingWrite, Value
from holdfast.store.base import Query, Reads, Row
from holdfast.store.frames import from_json
from holdfast.store.statements import Statement, fill, pieces, sized, slots
from holdfast.store.tables import checkpoint_blobs, checkpoint_writes, checkpoints

_COLUMNS = ("thread_id", "ns", "id", "parent_id", "form", "body", "metadata", "versions")

_WRITES = Statement(
    select(
        checkpoint_writes.c.task_id,
        checkpoint_writes.c.path,
        checkpoint_writes.c.idx,
        checkpoint_writes.c.channel,
        checkpoint_writes.c.form,
        checkpoint_writes.c.body,
    ).where(
        checkpoint_writes.c.owner_id == bindparam("owner"),
        checkpoint_writes.c.thread_id == bindparam("thread"),
        checkpoint_writes.c.ns == bindparam("ns"),
        checkpoint_writes.c.checkpoint_id == bindparam("id"),
    )
)


@cache
def _found(tests: frozenset[str]) -> Statement:
    where: list[ColumnElement[bool]] = [checkpoints.c.owner_id == bindparam("owner")]
    for name in sorted(tests):
        if name == "before":
            where.append(checkpoints.c.id < bindparam("before"))
        else:
            where.append(checkpoints.c[name] == bindparam(name))
    return Statement(
        select(*(checkpoints.c[name] for name in _COLUMNS))
        .where(*where)
        .order_by(checkpoints.c.id.desc())
        .limit(bindparam("limit"))
    )


@cache
def _blobs(count: int) -> Statement:
    return Statement(
        select(
            checkpoint_blobs.c.channel,
            checkpoint_blobs.c.version,
            checkpoint_blobs.c.form,
            checkpoint_blobs.c.body,
        ).where(
            checkpoint_blobs.c.owner_id == bindparam("owner"),
            checkpoint_blobs.c.thread_id == bindparam("thread"),
            checkpoint_blobs.c.ns == bindparam("ns"),
            checkpoint_blobs.c.version.in_(slots("version", count)),
        )
    )


NO_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Checkpoints(Query[list[Checkpoint]]):
    """An owner's checkpoints with their values and writes, newest first."""

    snapshot: ClassVar[bool] = True
    owner_id: str
    wanted: CheckpointsWanted

    def run(self, db: Reads) -> list[Checkpoint]:
        """Ask for the rows, then for each one's values and writes."""
        wanted = self.wanted
        tests = {
            name: value
            for name in ("thread_id", "ns", "id", "before")
            if (value := getattr(wanted, name)) is not None
        }
        limit = NO_LIMIT if wanted.limit is None else wanted.limit
        # What the metadata must say is not asked of the database, so neither is the limit then.
        asked = {"owner": self.owner_id, "limit": NO_LIMIT if wanted.metadata else limit, **tests}
        rows = [
            row
            for row in db.rows(_found(frozenset(tests)), asked)
            if _fits(from_json(row[6]), wanted.metadata)
        ]
        return [self._whole(db, row) for row in rows[:limit]]

    def _whole(self, db: Reads, row: Row) -> Checkpoint:
        thread_id, ns, id_, parent_id, form, body, metadata, versions = row
        at = {"owner": self.owner_id, "thread": thread_id, "ns": ns}
        known: Mapping[str, str] = from_json(versions)
        return Checkpoint(
            thread_id=thread_id,
            ns=ns,
            id=id_,
            parent_id=parent_id,
            value=Value(form, bytes(body)),
            metadata=from_json(metadata),
            versions=known,
            values=self._values(db, at, known),
            writes=in_order(
                PendingWrite(
                    task_id=task_id,
                    path=path,
                    index=index,
                    channel=channel,
                    value=Value(form, bytes(body)),
                )
                for task_id, path, index, channel, form, body in db.rows(_WRITES, {**at, "id": id_})
            ),
        )

    def _values(
        self, db: Reads, at: Mapping[str, Any], versions: Mapping[str, str]
    ) -> dict[str, Value]:
        return {
            channel: Value(form, bytes(body))
            for piece in pieces(sorted(set(versions.values())))
            for channel, version, form, body in db.rows(
                _blobs(sized(piece)), {**at, **fill("version", piece)}
            )
            if versions.get(channel) == version
        }


def in_order(writes: Iterable[PendingWrite]) -> tuple[PendingWrite, ...]:
    """Writes in the order in which a live run applies them."""
    return tuple(sorted(writes, key=lambda one: (one.path, one.task_id, one.index)))


def _fits(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(metadata.get(name) == value for name, value in wanted.items())
