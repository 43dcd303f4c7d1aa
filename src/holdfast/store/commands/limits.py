"""Limits of models that hubs share: slices of a minute, taken and given back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from sqlalchemy import bindparam, select, update

from holdfast.domain.limits import SLICE_US, WINDOW_US, Minute, Slice, Wanted
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.frames import from_json, plain, to_json
from holdfast.store.statements import Conflict, Insert, Statement
from holdfast.store.tables import rates

from .held import lock

NOBODY = ""
"""Owner of these rows: a vendor limits an account, whoever asks. No pipeline has that owner."""

_PLACE = Insert(rates, unless=Conflict(("owner_id", "pipeline")))
_HELD = lock(
    select(rates.c.starts).where(
        rates.c.owner_id == bindparam("nobody"), rates.c.pipeline == bindparam("of")
    )
)
_SAVE = Statement(
    update(rates)
    .where(rates.c.owner_id == bindparam("nobody"), rates.c.pipeline == bindparam("of"))
    .values(starts=bindparam("taken"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeCalls(Command[Slice | None]):
    """Take a slice of what may be asked of a model, and give back what was not used.

    Attributes:
        name: of the model.
        wanted: None only gives back.
        back: calls and tokens by the slice they are of, fewer than none where more was used.
    """

    lane: ClassVar[Lane] = "claim"
    order: ClassVar[int] = 1
    name: str
    wanted: Wanted | None
    back: Mapping[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    window_us: int = WINDOW_US
    slice_us: int = SLICE_US

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Slice | None]:
        """In the order of names: two hubs that take several never wait for each other."""
        order = sorted(range(len(commands)), key=lambda place: commands[place].name)
        taken = {place: _take(tx, commands[place]) for place in order}
        return [taken[place] for place in range(len(commands))]


def _take(tx: Writes, command: TakeCalls) -> Slice | None:
    name = plain(command.name)
    tx.insert(_PLACE, [(NOBODY, name, "{}", 0)])
    ((written,),) = tx.rows(_HELD, {"nobody": NOBODY, "of": name})
    stored: dict[str, Any] = from_json(written)
    minute = Minute({int(at): (had[0], had[1]) for at, had in stored.items()})
    minute.give_back(command.back)
    found = None
    if command.wanted is not None:
        found = minute.take(
            command.wanted, tx.now(), window_us=command.window_us, slice_us=command.slice_us
        )
    kept = to_json({str(at): had for at, had in minute.taken.items()})
    tx.change(_SAVE, [{"nobody": NOBODY, "of": name, "taken": kept}])
    return found
