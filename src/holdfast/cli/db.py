"""`holdfast db`: the database's schema, up and down, and all of it to another database."""

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
    target: Annotated[
        str, typer.Argument(help="Address of an empty database: postgresql://…", metavar="URL")
    ],
    as_json: Json = False,
) -> None:
    """Copy everything into an empty database; the hub is stopped meanwhile.

    From the database of the settings, usually the SQLite file. Work under way is taken up by the
    next hub, if that keeps its HOLDFAST_HOME.
    """
    from holdfast.settings import load
    from holdfast.store import copying

    from .terminal import tell, write_json

    settings = load()
    copied = copying.copy(settings.store_url, target, home=settings.home)
    if as_json:
        write_json(copied)
        return
    for name, rows in copied.items():
        tell(f"{rows:>9,}  {name}")
    tell("Now set HOLDFAST_DATABASE_URL to the new address; the old database is as it was.")


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
