"""Turns of a session: which of its queued events may be claimed."""

from __future__ import annotations

from sqlalchemy import and_, bindparam, exists, or_, select, tuple_

from holdfast.domain.status import EventStatus
from holdfast.store.tables import events
from holdfast.store.tables.base import word

E = EventStatus
_turn = events.alias("turn")
_before = events.alias("before")

IN_TURN = exists(
    select(_turn.c.id).where(
        _turn.c.owner_id == events.c.owner_id,
        _turn.c.session_id == events.c.session_id,
        _turn.c.session_id.is_not(None),
        _turn.c.status.in_([word(one) for one in (E.RUNNING, E.WAITING, E.PAUSED)]),
    )
)
"""Another event of its session runs or stands still."""

IN_LINE = exists(
    select(_before.c.id).where(
        _before.c.owner_id == events.c.owner_id,
        _before.c.session_id == events.c.session_id,
        _before.c.session_id.is_not(None),
        _before.c.status == word(E.QUEUED),
        or_(
            _before.c.deliveries > 0,
            and_(
                _before.c.available_at <= bindparam("now"),
                or_(
                    _before.c.priority > events.c.priority,
                    and_(
                        _before.c.priority == events.c.priority,
                        tuple_(_before.c.available_at, _before.c.id)
                        < tuple_(events.c.available_at, events.c.id),
                    ),
                ),
            ),
        ),
    )
)
"""Another event of its session is to run before one that has not begun."""

ITS_TURN = or_(
    events.c.session_id.is_(None),
    and_(~IN_TURN, or_(events.c.deliveries > 0, ~IN_LINE)),
)
"""Nothing of its session is before it. One that has begun holds its place over every pause."""
