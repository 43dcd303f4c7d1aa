"""The tree of commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import (
    agents,
    breakers,
    cache,
    cards,
    db,
    dead_letters,
    dev,
    doctor,
    events,
    executions,
    hubs,
    keys,
    knowledge,
    pipelines,
    prompts,
    replaying,
    schedules,
    sessions,
    up,
)
from . import usage as money
from .door import key_file
from .main import VERSION, say_version

app = typer.Typer(
    name="holdfast",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("up")(up.up)
app.add_typer(events.app, name="events")
executions.app.command("replay")(replaying.replay)
executions.app.command("diff")(replaying.diff)
app.add_typer(executions.app, name="executions")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(schedules.app, name="schedules")
app.add_typer(knowledge.app, name="knowledge")
app.add_typer(pipelines.app, name="pipelines")
app.add_typer(agents.app, name="agents")
app.add_typer(sessions.app, name="sessions")
app.add_typer(prompts.app, name="prompts")
app.add_typer(cards.app, name="cards")
app.add_typer(breakers.app, name="breakers")
app.add_typer(cache.app, name="cache")
app.command("usage")(money.usage)
app.command("estimate")(money.estimate)
app.add_typer(money.app, name="budgets")
app.add_typer(keys.app, name="keys")
app.add_typer(db.app, name="db")
app.command("hubs")(hubs.hubs)
app.add_typer(dev.app, name="dev")
app.command("doctor")(doctor.doctor)


def _version(asked: bool) -> None:
    if asked:
        say_version()
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[  # noqa: ARG001
        bool, typer.Option(VERSION, help="Say the version and exit.", callback=_version)
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option("--key-file", help="File with the API key; wins over HOLDFAST_KEY."),
    ] = None,
) -> None:
    """Runs LLM pipelines and agents and keeps everything they did."""
    key_file.set(key)
