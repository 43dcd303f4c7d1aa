"""Agents, their versions, and the processes that are supervised."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text

from holdfast.domain.agents import ProcessStatus

from .base import id_column, metadata, one_of

agents = Table(
    "agents",
    metadata,
    id_column("id", primary_key=True),
    Column("owner_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),  # the newest
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
Index("uq_agents_name", agents.c.owner_id, agents.c.name, unique=True)

agent_versions = Table(
    "agent_versions",
    metadata,
    Column(
        "agent_id",
        Text,
        ForeignKey("agents.id", name="fk_agent_versions_agent"),
        primary_key=True,
    ),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("owner_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("config", Text, nullable=False),  # JSON
    Column("author", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("undoes", Integer),
)

processes = Table(
    "processes",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("owner_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("wanted", Text, nullable=False),
    Column("hub", Text),
    Column("lease_until", BigInteger),
    Column("fence", BigInteger, nullable=False),
    Column("host", Text),
    Column("pid", Integer),
    Column("version", Integer),
    Column("started_at", BigInteger),
    Column("ready_at", BigInteger),
    Column("heartbeat_at", BigInteger),
    Column("restarts", Integer, nullable=False),
    Column("asked", Integer, nullable=False),
    Column("last_error", Text),  # JSON
    one_of("status", ProcessStatus),
    CheckConstraint("wanted IN ('on', 'off')", name="wanted"),
)
Index(None, processes.c.owner_id)
