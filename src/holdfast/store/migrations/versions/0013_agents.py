"""Agents, their processes, conversations, long-term memory; a queue of their own for agents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

QUEUED = sa.text("status = 'queued'")
PIPELINES = sa.text("status = 'queued' AND target_kind <> 'agent'")
AGENTS = sa.text("status = 'queued' AND target_kind = 'agent'")
CHAT = sa.text("chat_id IS NOT NULL")
SAID = sa.text("role <> 'summary'")
OPEN = sa.text("role <> 'summary' AND summarised = 0")
SUMMARY = sa.text("role = 'summary'")
OF_EVENT = sa.text("event_id IS NOT NULL")
EXPIRES = sa.text("expires_at IS NOT NULL")


def _partial(
    name: str, table: str, columns: list[str], where: sa.TextClause, *, unique: bool = False
) -> None:
    listed = [sa.text(one) if " " in one else one for one in columns]
    op.create_index(name, table, listed, unique=unique, sqlite_where=where, postgresql_where=where)


def _ready(where: sa.TextClause) -> None:
    _partial("ix_events_ready", "events", ["priority DESC", "available_at", "id"], where)


def upgrade() -> None:
    """Go up."""
    op.drop_index("ix_events_ready", "events")
    _ready(PIPELINES)
    in_line = ["target", "priority DESC", "available_at", "id"]
    _partial("ix_events_agents", "events", in_line, AGENTS)
    op.create_table(
        "agents",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agents")),
    )
    op.create_index("uq_agents_name", "agents", ["owner_id", "name"], unique=True)
    op.create_table(
        "agent_versions",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("undoes", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name="fk_agent_versions_agent"),
        sa.PrimaryKeyConstraint("agent_id", "version", name=op.f("pk_agent_versions")),
    )
    op.create_table(
        "processes",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("wanted", sa.Text(), nullable=False),
        sa.Column("hub", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ready_at", sa.BigInteger(), nullable=True),
        sa.Column("heartbeat_at", sa.BigInteger(), nullable=True),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status IN ('stopped', 'starting', 'running', 'stopping', 'error')",
            name=op.f("ck_processes_status"),
        ),
        sa.CheckConstraint("wanted IN ('on', 'off')", name=op.f("ck_processes_wanted")),
        sa.PrimaryKeyConstraint("kind", "target", name=op.f("pk_processes")),
    )
    op.create_index("ix_processes_owner_id", "processes", ["owner_id"])
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("chat_id", sa.Text(), nullable=True),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("turns", sa.Integer(), nullable=False),
        sa.Column("messages", sa.Integer(), nullable=False),
        sa.Column("unsummarised", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("status IN ('active', 'archived')", name=op.f("ck_sessions_status")),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name="fk_sessions_agent"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    chat = ["owner_id", "agent_id", "channel", "chat_id"]
    _partial("uq_sessions_chat", "sessions", chat, CHAT, unique=True)
    for whose in ("owner_id", "agent_id"):
        op.create_index(
            f"ix_sessions_{whose}_updated_at_id", "sessions", [whose, "updated_at", "id"]
        )
    op.create_table(
        "messages",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(length=36), nullable=True),
        sa.Column("execution_id", sa.String(length=36), nullable=True),
        sa.Column("summarised", sa.Integer(), nullable=False),
        sa.Column("summary_of", sa.Text(), nullable=False),
        sa.Column("feedback", sa.Text(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "role IN ('user', 'assistant', 'summary')", name=op.f("ck_messages_role")
        ),
        sa.CheckConstraint("feedback IN ('like', 'dislike')", name=op.f("ck_messages_feedback")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name="fk_messages_session"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
    )
    place = ["session_id", "turn", "part"]
    _partial("uq_messages_place", "messages", place, SAID, unique=True)
    _partial("ix_messages_open", "messages", place, OPEN)
    _partial("uq_messages_summary", "messages", place, SUMMARY, unique=True)
    _partial("ix_messages_event", "messages", ["event_id"], OF_EVENT)
    op.create_table(
        "memory_items",
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column(
            "namespace",
            sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("ttl_us", sa.BigInteger(), nullable=True),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.Column("embedded_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("owner_id", "namespace", "key", name=op.f("pk_memory_items")),
    )
    _partial("ix_memory_items_expires", "memory_items", ["expires_at"], EXPIRES)


def downgrade() -> None:
    """Go down; all agents and conversations are gone, and what is queued for them."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TABLE IF EXISTS memory_vectors")  # made by `store.vectors.follow`
    for table in ("memory_items", "messages", "sessions", "processes", "agent_versions", "agents"):
        op.drop_table(table)
    op.drop_index("ix_events_agents", "events")
    op.drop_index("ix_events_ready", "events")
    op.execute(
        "UPDATE events SET status = 'cancelled', finished_at = received_at "
        "WHERE status IN ('queued', 'waiting', 'paused') AND target_kind = 'agent'"
    )
    _ready(QUEUED)
