"""Up, down, where we are, what is missing."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from holdfast.errors import StoreError, StoreOutdated
from holdfast.store.registry import address, require_driver
from holdfast.store.tables import metadata
from holdfast.store.tables.knowledge import MADE_BY_MIGRATIONS
from holdfast.store.vectors import follow

if TYPE_CHECKING:
    from alembic.config import Config

# Alembic is imported by what moves the schema alone: every hub and command looks where it is.

FOLDER = Path(__file__).parent

NEWEST = "head"
NOTHING = "base"

_TURN = 0x686F6C64
"""Key of the advisory lock that lets one migration run at a time on PostgreSQL."""


def upgrade(url: str, revision: str = NEWEST) -> None:
    """Bring the schema up to `revision`, in one transaction.

    Raises:
        StoreError: the database cannot be reached or refused.
    """
    from alembic import command

    with _connected(url) as connection:
        command.upgrade(_config(connection), revision)
        follow(connection)


def downgrade(url: str, revision: str) -> None:
    """Take the schema down to `revision`; `base` removes everything, data included.

    Raises:
        StoreError: the database cannot be reached or refused.
    """
    from alembic import command

    with _connected(url) as connection:
        command.downgrade(_config(connection), revision)


def current(url: str) -> str | None:
    """The revision of the database; None when it has never been migrated.

    Raises:
        StoreError: the database cannot be reached.
    """
    file = address(url).file
    if file is not None and not file.exists():
        return None
    with _connected(url, alone=False) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def head() -> str:
    """The newest revision this code knows."""
    return revisions()[-1]


@cache
def revisions() -> tuple[str, ...]:
    """All that this code knows, in their order; each is the number its file begins with."""
    return tuple(sorted(file.name[:4] for file in (FOLDER / "versions").glob("[0-9]*_*.py")))


def check(url: str) -> None:
    """Make sure that code and schema belong together.

    Raises:
        StoreOutdated: they do not; the hint says what to run.
        StoreError: the database cannot be reached.
    """
    found, wanted = current(url), head()
    if found == wanted:
        return
    if found is not None and found not in revisions():
        raise StoreOutdated(
            f"the database is at revision {found}, which this version of Holdfast does not know",
            hint="run the version of Holdfast that wrote it, or a newer one",
        )
    where = "has no tables yet" if found is None else f"is at revision {found}"
    raise StoreOutdated(
        f"the database {where}; the code needs {wanted}", hint="holdfast db upgrade"
    )


def compare(url: str) -> list[Any]:
    """What the tables have that the migrated database has not, and the reverse."""
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with _connected(url, alone=False) as connection:
        opts = {"compare_type": True, "include_name": _told_of_by_tables}
        context = MigrationContext.configure(connection, opts=opts)
        return list(compare_metadata(context, metadata))


def _told_of_by_tables(name: str | None, kind: str, _parents: Any) -> bool:
    return kind not in ("table", "index") or not (name or "").startswith(tuple(MADE_BY_MIGRATIONS))


def new_version(url: str, message: str) -> Path:
    """Write a new migration from what `compare` finds; `url` names a migrated scratch database."""
    from alembic import command

    with _connected(url) as connection:
        number = f"{len(revisions()) + 1:04d}"
        script = command.revision(_config(connection), message, autogenerate=True, rev_id=number)
    if script is None or isinstance(script, list):
        raise AssertionError("one migration was asked for")
    return Path(script.path)


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    return config


@contextmanager
def _connected(url: str, *, alone: bool = True) -> Generator[Connection]:
    where = address(url)
    require_driver(where)
    if where.file is not None:
        where.file.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(where.sqlalchemy_url, poolclass=NullPool)
    if where.file is not None:
        _whole_transactions(engine, "BEGIN IMMEDIATE" if alone else "BEGIN")
    try:
        with engine.begin() as connection:
            if where.file is None and alone:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TURN})")
            yield connection
    except DBAPIError as error:
        raise StoreError(f"the database refused: {error.orig}") from error
    finally:
        engine.dispose()


def _whole_transactions(engine: Engine, begin: str) -> None:
    """Keep `sqlite3` from committing by itself: a migration is done wholly or not at all."""

    def on_connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
