"""The journal's entries: written by whoever runs the work, read by whoever takes it in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any

import orjson

from holdfast.domain.changes import change_from
from holdfast.domain.events import Claimed
from holdfast.domain.halts import Halt
from holdfast.domain.recordings import RECORDED, Begun, begun_from

from .running import Assessor, Running, Start


def begin_entry(start: Start) -> bytes:
    """The first entry of an execution that a hub runs."""
    # The event's data stands in its row; the record does not repeat it.
    fields = asdict(start)
    fields["claimed"]["data"] = "null"
    return orjson.dumps({"b": fields})


def recording_entry(begun: Begun) -> bytes:
    """The first entry of an execution that runs elsewhere; no row has its data yet."""
    return orjson.dumps({"r": begun})


def change_entry(execution_id: str, raw: bytes) -> bytes:
    """A change, as `domain.changes.write_change` wrote it."""
    return b'{"x":"' + execution_id.encode() + b'","c":' + raw + b"}"


def settled_entry(execution_id: str) -> bytes:
    """The record is in the database: what came before need not be read again."""
    return b'{"x":"' + execution_id.encode() + b'","settled":true}'


def execution_of(body: bytes) -> str | None:
    """Whose an entry is; None for one that says that something is settled.

    That one is needed as long as an earlier segment may still have what it speaks of.
    """
    if body.startswith(b'{"x":"') and not body.endswith(b',"settled":true}'):
        return body[6 : body.index(b'"', 6)].decode()
    if body.startswith(b'{"b":'):
        return orjson.loads(body)["b"]["claimed"]["execution_id"]
    return None


def replay(
    entries: Iterable[bytes],
    assessor: Assessor,
    fault: Callable[[Exception], None],
    *,
    owner_id: str | None = None,
) -> list[Running]:
    """The executions that entries tell of and that are not settled, in order of beginning.

    Args:
        entries: as they were written.
        assessor: prices and warnings.
        fault: told of each entry that cannot be understood, which is passed over.
        owner_id: whose the recordings are, whatever they say themselves; None: as they say.
    """
    found: dict[str, Running] = {}
    for body in entries:
        try:
            _take(found, orjson.loads(body), assessor, owner_id)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            fault(error)
    return list(found.values())


def _take(
    found: dict[str, Running], entry: dict[str, Any], assessor: Assessor, owner_id: str | None
) -> None:
    if "b" in entry:
        start = _read_begin(entry["b"])
        found[start.claimed.execution_id] = Running(start, assessor)
    elif "r" in entry:
        begun = begun_from(entry["r"])
        if owner_id is not None:
            begun = replace(begun, owner_id=owner_id)
        found[begun.execution_id] = Running(_recorded(begun), assessor)
    elif "settled" in entry:
        found.pop(entry["x"], None)
    elif (running := found.get(entry["x"])) is not None:
        running.apply(change_from(entry["c"]))


def _read_begin(fields: dict[str, Any]) -> Start:
    claimed = fields.pop("claimed")
    claimed["data"] = claimed["data"].encode()
    if claimed["halt"] is not None:
        claimed["halt"] = Halt.of(claimed["halt"])
    fields.pop("begun", None)  # only recordings have one
    return Start(claimed=Claimed(**claimed), **fields)


def _recorded(begun: Begun) -> Start:
    claimed = Claimed(
        event_id=begun.event_id,
        owner_id=begun.owner_id,
        target=begun.name,
        target_kind=RECORDED,
        data=begun.data.encode(),
        traceparent=begun.traceparent,
        execution_id=begun.execution_id,
        fence=1,
        delivery=1,
        crashes=0,
        started_at=begun.started_at,
    )
    return Start(
        claimed=claimed,
        lease_owner=begun.source,
        graph_version=begun.version,
        code_version=begun.version,
        kind=RECORDED,
        begun=begun,
    )
