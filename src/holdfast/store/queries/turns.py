"""What may be claimed: which queued events are whose, and whose turn it is in a session."""

from __future__ import annotations

from sqlalchemy import and_, bindparam, exists, literal_column, or_, select, tuple_
from sqlalchemy.sql.elements import ColumnElement

from holdfast.domain.agents import AGENT
from holdfast.domain.status import EventStatus
from holdfast.store.tables import events
from holdfast.store.tables.base import word

E = EventStatus

# Spelled out, as the partial indexes have it: `ix_events_ready` and `ix_events_agents`.
_AGENT: ColumnElement[str] = literal_column(f"'{AGENT}'")
_QUEUED = events.c.status == word(E.QUEUED)

FOR_PIPELINES = (_QUEUED, events.c.target_kind != _AGENT)
FOR_AGENTS = (_QUEUED, events.c.target_kind == _AGENT)

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
