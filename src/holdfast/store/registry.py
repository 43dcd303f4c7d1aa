"""Which database an address means, and how to open it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from holdfast.domain.ids import now_us
from holdfast.errors import SettingsError, StoreError

from .base import Backend
from .store import Store

SCHEMES = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "postgresql+psycopg": "postgresql",
    "postgres": "postgresql",
}
"""Schemes of database addresses, and the database each means."""


class Address(NamedTuple):
    """A database address, taken apart as far as opening it needs.

    Attributes:
        kind: `sqlite` or `postgresql`.
        file: the SQLite file; None for PostgreSQL.
        url: in the form the driver takes.
    """

    kind: str
    file: Path | None
    url: str

    @property
    def sqlalchemy_url(self) -> str:
        """The address in SQLAlchemy's form."""
        return self.url.replace("postgresql://", "postgresql+psycopg://", 1)


def address(url: str) -> Address:
    """Take a database address apart.

    Args:
        url: `sqlite:////absolute/path.db` or `postgresql://…`, also as `postgres://` and
            `postgresql+psycopg://`, unix sockets as `postgresql://user@/name?host=/folder`.

    Raises:
        SettingsError: not an address of a database we know.
    """
    scheme, separator, rest = url.partition("://")
    kind = SCHEMES.get(scheme)
    if not separator or kind is None:
        raise SettingsError(
            f"{scheme or 'an empty text'} is not a database Holdfast knows",
            hint="use sqlite:////absolute/path.db or postgresql://user:password@host/name",
        )
    if kind == "postgresql":
        return Address(kind, None, f"postgresql://{rest}")
    path = Path(unquote(urlsplit(url).path.removeprefix("/")))
    if not path.is_absolute():
        raise SettingsError(
            f"the database address {url} has no absolute path",
            hint="use four slashes: sqlite:////absolute/path.db",
        )
    return Address(kind, path, f"sqlite:///{path}")


def open_store(
    url: str,
    *,
    home: Path,
    clock: Callable[[], int] = now_us,
    read_only: bool = False,
    moment: bool = False,
) -> Store:
    """Open a migrated database.

    Args:
        url: see `address`.
        home: the folder whose lock a SQLite hub holds.
        clock: microseconds since the epoch; PostgreSQL uses its own.
        read_only: only look, with or without a hub beside; every write is refused.
        moment: not as a hub and closed soon; a SQLite hub that starts meanwhile waits for that.

    Raises:
        SettingsError: the address is none.
        StoreOutdated: the schema does not match the code.
        StoreLocked: another hub holds the SQLite file.
        StoreError: the database cannot be reached, or its driver is not installed.
    """
    where = address(url)
    backend = _looking(where) if read_only else _backend(where, home, clock, moment=moment)
    try:
        import_module("holdfast.store.migrations").check(url)
        return Store(backend)
    except BaseException:
        backend.close()
        raise


def _backend(where: Address, home: Path, clock: Callable[[], int], *, moment: bool) -> Backend:
    if where.file is not None:
        from .sqlite import SqliteBackend

        where.file.parent.mkdir(parents=True, exist_ok=True)
        return SqliteBackend(where.file, home=home, clock=clock, moment=moment)
    require_driver(where)
    from .postgres import PostgresBackend

    return PostgresBackend(where.url)


def _looking(where: Address) -> Backend:
    from .read_only import ReadOnlyBackend

    if where.file is not None:
        from .sqlite import look_into

        return ReadOnlyBackend(look_into(where.file))
    require_driver(where)
    from .postgres import PostgresBackend

    backend = PostgresBackend(where.url)
    return ReadOnlyBackend(backend.open_reads, backend.close)


def require_driver(where: Address) -> None:
    """Make sure that the driver for an address can be imported.

    Raises:
        StoreError: it is not installed; the hint says what to install.
    """
    if where.kind != "postgresql":
        return
    try:
        import_module("psycopg")
    except ImportError as error:
        raise StoreError(
            f"PostgreSQL needs the psycopg driver: {error}",
            hint="pip install 'holdfast[postgres]'",
        ) from error
