"""A copy of a SQLite database at one moment, also while a hub works on it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from holdfast.errors import StoreError

from . import migrations
from .registry import address


def back_up(url: str, file: Path) -> int:
    """Write everything that is committed now into a new file, whole and on the disk.

    Reads only: a hub goes on meanwhile, and what it stores from now on is not in the copy.

    Args:
        url: address of a migrated SQLite database.
        file: must not exist.

    Returns:
        The copy's size in bytes.

    Raises:
        StoreError: it is PostgreSQL, which has tools of its own; the file exists; no room is left.
        StoreOutdated: the schema does not match the code.
    """
    where = address(url)
    if where.file is None:
        raise StoreError(
            "PostgreSQL is backed up with its own tools", hint="pg_dump --format=custom"
        )
    migrations.check(url)
    try:
        file.touch(exist_ok=False)  # never over another backup
    except OSError as error:
        raise StoreError(f"{file} cannot be made: {error.strerror}") from error
    try:
        with closing(sqlite3.connect(f"{where.file.as_uri()}?mode=ro", uri=True)) as database:
            database.execute("VACUUM INTO ?", (str(file),))
        with file.open("rb+") as written:
            os.fsync(written.fileno())
    except BaseException as error:
        file.unlink()
        if isinstance(error, sqlite3.Error | OSError):
            raise StoreError(f"the backup failed: {error}") from error
        raise
    return file.stat().st_size
