"""What people do to dead letters: each deed is kept with what it changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Self

from sqlalchemy import bindparam, select, update

from holdfast.domain.dead_letters import Action
from holdfast.domain.halts import Halt
from holdfast.domain.ids import new_id
from holdfast.domain.status import EventStatus
from holdfast.errors import HoldfastError, IllegalMove, NotFound, SingletonBusy
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.frames import plain, to_json
from holdfast.store.statements import Insert, Statement, fill, pieces, sized, slots
from holdfast.store.tables import events, interventions

from .halting import Halts
from .held import HeldEvent, hold, save
from .unique import refuse_second

_INSERT = Insert(interventions)
_DATA = Statement(
    update(events).where(events.c.id == bindparam("of")).values(data=bindparam("data"))
)
_DISCARDED = Statement(
    update(events).where(events.c.id == bindparam("of")).values(discarded=bindparam("discarded"))
)


@cache
def _data_of(count: int) -> Statement:
    return Statement(select(events.c.id, events.c.data).where(events.c.id.in_(slots("id", count))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervened:
    """What became of a dead letter."""

    event_id: str
    execution_id: str | None
    status: EventStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervene(Command[Intervened]):
    """Edit, replay or discard a dead letter.

    Editing forgets its checkpoints: they were made of the data before. A replayed one goes on from
    them; a discarded one needs them no more.

    Attributes:
        by: who does it.
        reason: why; a discard needs one.
        data: JSON, already held against the pipeline's schema; an edit needs it.

    Raises:
        NotFound: no such event, or another owner's.
        IllegalMove: it is no dead letter, or no more.
        SingletonBusy: another event with its singleton key has not ended.
    """

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 4
    event_id: str
    owner_id: str
    by: str
    action: Action
    reason: str | None = None
    data: bytes | None = None

    @classmethod
    def write_many(
        cls, tx: Writes, commands: Sequence[Self]
    ) -> Sequence[Intervened | HoldfastError]:
        """Decide each under the events' locks, in turn."""
        found = hold(tx, [command.event_id for command in commands])
        letters = _Letters(tx, [one.event_id for one in commands if one.action is Action.EDITED])
        results = [letters.take(found.get(one.event_id), one) for one in commands]
        letters.write()
        return results


class _Letters:
    """Dead letters of one transaction and what is done to them."""

    def __init__(self, tx: Writes, to_edit: Sequence[str]) -> None:
        self._tx = tx
        self._halts = Halts(tx)
        self._moved: dict[str, HeldEvent] = {}
        self._deeds: list[tuple[object, ...]] = []
        self._discarded: list[dict[str, object]] = []
        self._edited: set[str] = set()
        self._data: dict[str, str] = {
            id_: data
            for piece in pieces(to_edit)
            for id_, data in tx.rows(_data_of(sized(piece)), fill("id", piece))
        }

    def take(self, event: HeldEvent | None, command: Intervene) -> Intervened | HoldfastError:
        """Do it, and queue the rows that tell of it."""
        if event is None or event.owner_id != command.owner_id:
            return NotFound(f"there is no event {command.event_id}")
        if event.status is not EventStatus.DEAD:
            return IllegalMove(f"event {event.id} is {event.status} and no dead letter")
        before = {
            name: getattr(event, name)
            for name in ("deliveries", "crashes", "errors", "last_error", "finished_at")
        }
        data = None
        match command.action:
            case Action.EDITED:
                data = self._edit(event, command.data or b"null")
            case Action.REPLAYED:
                try:
                    self._replay(event)
                except SingletonBusy as busy:
                    return busy
            case Action.DISCARDED:
                self._discard(event, command)
        self._moved[event.id] = event
        self._deeds.append(
            (
                new_id(),
                event.owner_id,
                event.id,
                command.action.value,
                self._tx.now(),
                command.by,
                None if command.reason is None else plain(command.reason),
                data,
                to_json(before),
            )
        )
        return Intervened(event_id=event.id, execution_id=event.execution_id, status=event.status)

    def _edit(self, event: HeldEvent, data: bytes) -> str:
        before, self._data[event.id] = self._data[event.id], data.decode()
        self._edited.add(event.id)
        self._halts.end(event)
        event.pinned = None
        return before

    def _replay(self, event: HeldEvent) -> None:
        refuse_second(self._tx, event.id)
        event.move(EventStatus.QUEUED, self._tx.now())
        event.deliveries = event.crashes = event.errors = 0
        event.finished_at = event.cancel_requested_at = event.pause_requested_at = None
        if event.halt is not None:
            event.halt = Halt.of(event.halt).broken().to_json()

    def _discard(self, event: HeldEvent, command: Intervene) -> None:
        now = self._tx.now()
        event.move(EventStatus.CANCELLED, now)
        self._halts.end(event)
        told = {"at": now, "by": command.by, "reason": command.reason}
        self._discarded.append({"of": event.id, "discarded": to_json(told)})

    def write(self) -> None:
        """Write what was taken."""
        self._halts.write()
        save(self._tx, self._moved.values())
        self._tx.change(_DATA, [{"of": id_, "data": self._data[id_]} for id_ in self._edited])
        self._tx.change(_DISCARDED, self._discarded)
        self._tx.insert(_INSERT, self._deeds)
