"""`holdfast db`: the database's schema, up and down, and the way to another database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .door import Json

app = typer.Typer(
    help="The database: its schema, backups, moving to another one.", no_args_is_help=True
)


@app.command()
def upgrade(as_json: Json = False) -> None:
    """Bring the schema up to what this version needs; data stays."""
    from holdfast.settings import load
    from holdfast.store import migrations

    url = load().store_url
    before = migrations.current(url)
    migrations.upgrade(url)
    _moved(before, migrations.current(url), as_json=as_json)


@app.command()
def downgrade(
    revision: Annotated[str, typer.Argument(help="Revision to go down to; `base`: none at all.")],
    yes: Annotated[bool, typer.Option("--yes", help="Yes, lose that data.")] = False,
    as_json: Json = False,
) -> None:
    """Take the schema down to an earlier revision; what later tables hold is lost."""
    if not yes:
        raise typer.BadParameter(f"what was stored since {revision} would be lost: say --yes")

    from holdfast.settings import load
    from holdfast.store import migrations

    url = load().store_url
    before = migrations.current(url)
    migrations.downgrade(url, revision)
    _moved(before, migrations.current(url), as_json=as_json)


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="SQLITE_URL", help="Where from; left as it is.")],
    target: Annotated[
        str, typer.Argument(metavar="POSTGRES_URL", help="Where to; a database without rows.")
    ],
    as_json: Json = False,
) -> None:
    """Copy everything from SQLite to PostgreSQL; the hub must be stopped."""
    from holdfast.settings import load
    from holdfast.store import migrations
    from holdfast.store.copying import copy as copy_all

    from .terminal import tell, write_json

    migrations.check(source)
    migrations.upgrade(target)
    copied = copy_all(source, target, home=load().home)
    if as_json:
        write_json(copied)
        return
    for name, rows in copied.items():
        if rows:
            tell(f"{rows:>12,}  {name}")
    tell("Everything is copied. Set HOLDFAST_DATABASE_URL and start the hub.")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="New file to write.")], as_json: Json = False
) -> None:
    """Write all of a SQLite database to a new file, as it stands now; the hub may go on."""
    from holdfast.settings import load
    from holdfast.store.backup import back_up

    from .terminal import tell, write_json

    size = back_up(load().store_url, file)
    if as_json:
        write_json({"file": str(file), "size_bytes": size})
    else:
        tell(f"{file}: {size:,} bytes")


def _moved(before: str | None, after: str | None, *, as_json: bool) -> None:
    from .terminal import tell, write_json

    if as_json:
        write_json({"before": before, "after": after})
    elif before == after:
        tell(f"The schema is at {after} already.")
    else:
        tell(f"The schema went from {before or 'nothing'} to {after or 'nothing'}.")
