"""What people did to dead letters."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Text

from holdfast.domain.dead_letters import Action

from .base import id_column, metadata, one_of

interventions = Table(
    "interventions",
    metadata,
    id_column("id", primary_key=True),
    Column("owner_id", Text, nullable=False),
    id_column("event_id"),
    Column("action", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("by", Text, nullable=False),  # a key's id, or the local user
    Column("reason", Text),
    Column("data", Text),  # JSON: the event's data before an edit
    Column("before", Text, nullable=False),  # JSON: what it counted and its error until then
    one_of("action", Action),
)
Index(None, interventions.c.event_id)
