"""Sessions and their messages."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    text,
)

from holdfast.domain.conversations import SessionStatus, Speaker

from .base import id_column, metadata, one_of

sessions = Table(
    "sessions",
    metadata,
    id_column("id", primary_key=True),
    Column("owner_id", Text, nullable=False),
    Column("agent_id", Text, ForeignKey("agents.id", name="fk_sessions_agent"), nullable=False),
    Column("title", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("chat_id", Text),
    Column("user", Text, nullable=False),  # JSON
    Column("metadata", Text, nullable=False),  # JSON
    Column("status", Text, nullable=False),
    Column("turns", Integer, nullable=False),
    Column("messages", Integer, nullable=False),
    Column("unsummarised", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    one_of("status", SessionStatus),
)
CHAT = sessions.c.chat_id.is_not(None)

Index(
    "uq_sessions_chat",
    sessions.c.owner_id,
    sessions.c.agent_id,
    sessions.c.channel,
    sessions.c.chat_id,
    unique=True,
    sqlite_where=CHAT,
    postgresql_where=CHAT,
)
Index(None, sessions.c.owner_id, sessions.c.updated_at, sessions.c.id)
Index(None, sessions.c.agent_id, sessions.c.updated_at, sessions.c.id)

messages = Table(
    "messages",
    metadata,
    id_column("id", primary_key=True),
    Column(
        "session_id",
        Text,
        ForeignKey("sessions.id", name="fk_messages_session"),
        nullable=False,
    ),
    Column("owner_id", Text, nullable=False),
    Column("turn", Integer, nullable=False),  # of a summary: of the last that it stands for
    Column("part", Integer, nullable=False),  # … likewise
    Column("role", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("tokens", Integer, nullable=False),
    id_column("event_id", nullable=True),
    id_column("execution_id", nullable=True),
    Column("summarised", Integer, nullable=False),
    Column("summary_of", Text, nullable=False),  # JSON
    Column("feedback", Text),
    Column("comment", Text),
    Column("metadata", Text, nullable=False),  # JSON
    Column("created_at", BigInteger, nullable=False),
    one_of("role", Speaker),
    CheckConstraint("feedback IN ('like', 'dislike')", name="feedback"),
)

SAID = text("role <> 'summary'")
OPEN = text("role <> 'summary' AND summarised = 0")
SUMMARY = text("role = 'summary'")
OF_EVENT = messages.c.event_id.is_not(None)

Index(
    "uq_messages_place",
    messages.c.session_id,
    messages.c.turn,
    messages.c.part,
    unique=True,
    sqlite_where=SAID,
    postgresql_where=SAID,
)
Index(
    "ix_messages_open",  # the window: those that no summary stands for
    messages.c.session_id,
    messages.c.turn,
    messages.c.part,
    sqlite_where=OPEN,
    postgresql_where=OPEN,
)
Index(
    "uq_messages_summary",  # no message ends two summaries
    messages.c.session_id,
    messages.c.turn,
    messages.c.part,
    unique=True,
    sqlite_where=SUMMARY,
    postgresql_where=SUMMARY,
)
Index(
    "ix_messages_event",
    messages.c.event_id,
    sqlite_where=OF_EVENT,
    postgresql_where=OF_EVENT,
)
