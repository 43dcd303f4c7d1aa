"""Run by Alembic: migrates over the connection that `running` opened."""

from __future__ import annotations

from alembic import context

from holdfast.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
)
context.run_migrations()
