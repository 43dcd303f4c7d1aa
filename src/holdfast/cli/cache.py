"""`holdfast cache`: what providers keep of prompts, and what that saves."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from .door import Json, Url, open_client, run

app = typer.Typer(
    help="See what providers keep of prompts, and what it saves.", no_args_is_help=True
)

Day = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DAY", help="As 2026-11-20, UTC.")
]


@app.command("list")
def list_caches(url: Url = None, as_json: Json = False) -> None:
    """List the static beginnings of prompts: which are kept, and which are too small."""
    from .terminal import columns, show, write_json

    async def work() -> dict[str, Any]:
        async with open_client(url) as client:
            return await client.context_caches()

    answer = run(work())
    if as_json:
        write_json(answer)
        return
    from .tables import caches_table

    show(caches_table(answer["items"], columns()))


@app.command()
def savings(since: Day = None, until: Day = None, url: Url = None, as_json: Json = False) -> None:
    """Show what was saved by day, prompt and model, and what writing and storing cost."""
    from .terminal import columns, show, write_json

    async def work() -> dict[str, Any]:
        days = [None if day is None else day.date() for day in (since, until)]
        async with open_client(url) as client:
            return await client.cache_savings(since=days[0], until=days[1])

    answer = run(work())
    if as_json:
        write_json(answer)
        return
    from .tables import savings_table

    show(savings_table(answer["items"], answer["total"], columns()))
