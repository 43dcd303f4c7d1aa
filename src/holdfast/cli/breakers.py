"""`holdfast breakers`: what is not called now because it keeps failing."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .door import Json, Url, open_client, run

app = typer.Typer(help="See circuit breakers, open and close them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A breaker's name, as `list` shows it.")]


@app.command("list")
def list_breakers(url: Url = None, as_json: Json = False) -> None:
    """List the breakers that were ever used, and how many events wait for each."""
    from .terminal import columns, show, write_json

    async def work() -> dict[str, Any]:
        async with open_client(url) as client:
            return await client.breakers()

    answer = run(work())
    if as_json:
        write_json(answer)
        return
    from .tables import breakers_table

    show(breakers_table(answer["items"], columns()))


@app.command("open")
def open_breaker(
    name: Name,
    seconds: Annotated[
        float | None,
        typer.Option("--for", metavar="SECONDS", min=0, help="After which one call may try."),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="What to tell those who meet it.")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Let no calls be made; what needs them is postponed until somebody closes it."""
    from .terminal import tell, write_json

    async def work() -> dict[str, Any]:
        async with open_client(url, read_only=False) as client:
            return await client.open_breaker(name, seconds=seconds, reason=reason)

    view = run(work())
    if as_json:
        write_json(view)
        return
    till = "until it is closed" if seconds is None else f"for {seconds:g} s, then one is tried"
    tell(f"{name} is open: no calls are made {till}.")


@app.command("close")
def close_breaker(name: Name, url: Url = None, as_json: Json = False) -> None:
    """Let calls be made again; what waited for it runs."""
    from .terminal import tell, write_json

    async def work() -> dict[str, Any]:
        async with open_client(url, read_only=False) as client:
            return await client.close_breaker(name)

    view = run(work())
    if as_json:
        write_json(view)
    else:
        tell(f"{name} is closed; {view['waiting']} events that waited for it run now.")
