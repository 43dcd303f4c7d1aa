"""`holdfast cards`: check cards before they run, and their schema for editors."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .door import Json

app = typer.Typer(help="Check pipelines declared in YAML.", no_args_is_help=True)

Files = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FILE", help="Cards or folders of cards; without any, the apps' own."),
]


@app.command()
def check(
    files: Files = None,
    apps: Annotated[
        list[str] | None,
        typer.Option(
            "--app", metavar="MODULE", help="What cards may use; without it HOLDFAST_APPS."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check cards: every fault with its file, line and column; exit code 1 if there is one."""
    from holdfast.pipelines.cards.apps import check_cards
    from holdfast.settings import load

    from .figures import one_line
    from .terminal import tell, write_json

    report = check_cards(files or [], apps or load().apps)
    if as_json:
        write_json({"files": report.files, "faults": [asdict(one) for one in report.faults]})
    else:
        for fault in report.faults:
            sys.stdout.write(f"{one_line(str(fault), 2000)}\n")
        count = len(report.files)
        if report.faults:
            tell(f"{len(report.faults)} fault(s) in {count} card(s).", "red")
        else:
            tell(f"{count} card(s), nothing wrong.", "green")
    if report.faults:
        raise typer.Exit(1)


@app.command()
def schema() -> None:
    """Write the JSON schema of cards, for editors: `# yaml-language-server: $schema=…`."""
    from holdfast.pipelines.cards.model import card_schema

    from .terminal import write_json

    write_json(card_schema())
