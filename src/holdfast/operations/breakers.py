"""Circuit breakers: looked at, opened and closed by hand."""

from __future__ import annotations

from holdfast.bus import Notice
from holdfast.bus.base import BREAKER
from holdfast.domain.breakers import (
    BY_HAND,
    NAME,
    Breaker,
    BreakerMove,
    CloseByHand,
    OpenByHand,
)
from holdfast.domain.ids import MICROS
from holdfast.errors import InvalidInput, NotFound
from holdfast.store.commands import MoveBreaker
from holdfast.store.queries import AllBreakers
from holdfast.telemetry import logger

from .kit import Kit
from .views import View, iso

log = logger("breakers")


def breaker_view(breaker: Breaker, waiting: int) -> View:
    """A breaker as the doors show it."""
    return {
        "name": breaker.name,
        "status": breaker.status.value,
        "openings": breaker.openings,
        "until": iso(breaker.until),
        "reason": breaker.reason,
        "by_hand": breaker.by_hand,
        "changed_at": iso(breaker.changed_at),
        "waiting": waiting,
    }


async def all_breakers(kit: Kit) -> list[View]:
    """All that were ever used, by name, with how many events wait for each."""
    found = await kit.store.read(AllBreakers())
    return [breaker_view(one, found.waiting.get(name, 0)) for name, one in found.breakers.items()]


async def open_breaker(
    kit: Kit, name: str, *, seconds: float | None = None, reason: str | None = None
) -> View:
    """Let no calls be made; also of what nobody has called yet.

    Args:
        kit: the hub's parts.
        name: of the breaker.
        seconds: after which one call may try; None: none does until somebody closes it.
        reason: shown to who meets it.

    Raises:
        InvalidInput: that is no name.
    """
    if not NAME.fullmatch(name):
        expected = f"a name that fits {NAME.pattern}"
        raise InvalidInput(
            f"{name!a} is no name for a breaker",
            fields=[{"field": "name", "expected": expected, "got": ascii(name)[:100]}],
        )
    for_us = None if seconds is None else int(seconds * MICROS)
    return await _move(kit, name, OpenByHand(for_us=for_us, reason=reason or BY_HAND))


async def close_breaker(kit: Kit, name: str) -> View:
    """Let calls be made again, and what waited for it run.

    Raises:
        NotFound: nothing was ever called under that name.
    """
    known = (await kit.store.read(AllBreakers())).breakers
    if name not in known:
        raise NotFound(f"there is no breaker {name!a}", hint="see: holdfast breakers list")
    return await _move(kit, name, CloseByHand())


async def _move(kit: Kit, name: str, move: BreakerMove) -> View:
    moved = await kit.store.write(MoveBreaker(name, move))
    log.info("breaker.moved_by_hand", breaker=name, status=moved.breaker.status.value)
    kit.bus.publish(Notice(BREAKER))
    waiting = (await kit.store.read(AllBreakers())).waiting.get(name, 0)
    return breaker_view(moved.breaker, waiting)
