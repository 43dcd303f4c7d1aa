"""The command `holdfast`: its groups, its version, and how errors leave it."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from holdfast.errors import HoldfastError

from . import db, doctor, events, executions, pipelines, up

app = typer.Typer(
    name="holdfast",
    help="Runs LLM pipelines and agents and keeps everything they did.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("up")(up.up)
app.add_typer(events.app, name="events")
app.add_typer(executions.app, name="executions")
app.add_typer(pipelines.app, name="pipelines")
app.add_typer(db.app, name="db")
app.command("doctor")(doctor.doctor)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"holdfast {version('holdfast')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Say the version and exit.", callback=_version),
    ] = False,
) -> None:
    """Runs LLM pipelines and agents and keeps everything they did."""


def main() -> None:
    """Run the command line; the exit code is 0, 1 (something failed) or 2 (wrong usage)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows `?`
    try:
        app()
    except HoldfastError as error:
        complain(error)
        sys.exit(1)


def complain(error: HoldfastError) -> None:
    """Say on standard error what is wrong, where, and what to do."""
    from .figures import one_line
    from .terminal import tell

    tell(f"error: {one_line(error.message)}", "red")
    for field in error.fields:
        tell(f"  {field_line(field)}")
    if error.hint:
        tell(f"  {one_line(error.hint)}")


def field_line(field: dict[str, object]) -> str:
    """One wrong field: `data.size: expected an integer, got "x"`."""
    from .figures import one_line

    expected, got = one_line(field.get("expected", "")), one_line(field.get("got", ""), 80)
    told = ", ".join(
        [*([f"expected {expected}"] if expected else []), *([f"got {got}"] if got else [])]
    )
    return f"{one_line(field.get('field', ''))}: {told}"
