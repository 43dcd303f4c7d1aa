"""Executions, their steps and the steps' attempts."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text

from holdfast.domain.status import ExecutionStatus, StepStatus

from .base import id_column, metadata, one_of

executions = Table(
    "executions",
    metadata,
    id_column("id", primary_key=True),
    Column("owner_id", Text, nullable=False),
    id_column("event_id"),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("graph_version", Text, nullable=False),
    Column("code_version", Text, nullable=False),
    Column("delivery", Integer, nullable=False),
    id_column("parent_id", nullable=True),
    Column("session_id", Text),
    Column("trace_id", Text),
    Column("status", Text, nullable=False),
    Column("input", Integer),
    Column("output", Integer),
    Column("error", Text),  # JSON
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("duration_us", BigInteger),
    Column("steps_total", Integer, nullable=False),
    Column("steps_succeeded", Integer, nullable=False),
    Column("steps_skipped", Integer, nullable=False),
    Column("steps_failed", Integer, nullable=False),
    Column("flags", Text, nullable=False),  # JSON
    Column("seq", Integer, nullable=False),
    Column("stops", Text),  # JSON: when it waited or was paused
    Column("origin", Text),
    Column("tokens_input", BigInteger, nullable=False),
    Column("tokens_output", BigInteger, nullable=False),
    Column("tokens_cached", BigInteger, nullable=False),
    Column("tokens_reasoning", BigInteger, nullable=False),
    Column("cost_pico", BigInteger, nullable=False),
    Column("credits", BigInteger, nullable=False),
    Column("usage_unknown", Integer, nullable=False),
    Column("cost_unknown", Integer, nullable=False),
    Column("suspicious", Integer),  # 1 when the flags say so, else NULL: what the index is over
    one_of("status", ExecutionStatus),
)
Index(None, executions.c.owner_id, executions.c.id)
Index(None, executions.c.owner_id, executions.c.name, executions.c.id)
Index(None, executions.c.owner_id, executions.c.status, executions.c.id)
Index(None, executions.c.event_id)
Index(
    "ix_executions_parent",
    executions.c.parent_id,
    sqlite_where=executions.c.parent_id.is_not(None),
    postgresql_where=executions.c.parent_id.is_not(None),
)
Index(
    "ix_executions_suspicious",
    executions.c.owner_id,
    executions.c.id,
    sqlite_where=executions.c.suspicious.is_not(None),
    postgresql_where=executions.c.suspicious.is_not(None),
)

# SQLite keeps rows of these two inside their primary key: half the trees to write, and a record's
# rows lie together.
steps = Table(
    "steps",
    metadata,
    id_column("execution_id", primary_key=True),
    Column("owner_id", Text, nullable=False),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("parent", Integer),
    Column("seq", Integer, nullable=False),
    Column("end_seq", Integer),
    Column("kind", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("operation_version", Text),
    Column("status", Text, nullable=False),
    Column("skip_reason", Text),
    Column("input", Integer),
    Column("output", Integer),
    Column("error", Text),  # JSON
    Column("error_phase", Text),
    Column("started_at", BigInteger, nullable=False),
    Column("duration_us", BigInteger),
    Column("suspicious", Text),  # JSON
    one_of("status", StepStatus),
    sqlite_with_rowid=False,
)

attempts = Table(
    "attempts",
    metadata,
    id_column("execution_id", primary_key=True),
    Column("owner_id", Text, nullable=False),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("call", Integer),
    Column("seq", Integer, nullable=False),
    Column("end_seq", Integer),
    Column("status", Text, nullable=False),
    Column("provider", Text),
    Column("model", Text),
    Column("parameters", Text, nullable=False),  # JSON
    Column("prompt_system", Integer),
    Column("prompt_user", Integer),
    Column("messages", Integer),
    Column("raw_response", Integer),
    Column("started_at", BigInteger, nullable=False),
    Column("duration_us", BigInteger),
    Column("first_token_us", BigInteger),
    Column("request_id", Text),
    Column("finish_reason", Text),
    Column("http_status", Integer),
    Column("validation", Text),
    Column("validation_us", BigInteger),
    Column("validation_errors", Text),  # JSON
    Column("tokens_input", BigInteger),
    Column("tokens_cached", BigInteger),
    Column("tokens_cache_write", BigInteger),
    Column("tokens_output", BigInteger),
    Column("tokens_reasoning", BigInteger),
    Column("usage", Text, nullable=False),
    Column("cost_pico", BigInteger),
    Column("price_source", Text),
    Column("credits", BigInteger, nullable=False),
    Column("error", Text),  # JSON
    Column("error_class", Text),
    Column("prompt_name", Text),
    Column("prompt_label", Text),
    Column("prompt_version", Text),
    Column("alias", Text),
    Column("tokens_input_audio", BigInteger),
    Column("tokens_output_audio", BigInteger),
    Column("tokens_input_image", BigInteger),
    Column("tokens_output_image", BigInteger),
    Column("price_date", Text),
    Column("saved_pico", BigInteger),
    one_of("status", StepStatus),
    sqlite_with_rowid=False,
)
