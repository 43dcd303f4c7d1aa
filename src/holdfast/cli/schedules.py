"""`holdfast schedules`: events that the clock sends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.errors import InvalidInput

from .door import Json, Url, open_client, run

if TYPE_CHECKING:
    from holdfast.client import Client

app = typer.Typer(help="Let the clock send events.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A schedule.")]


@app.command("list")
def list_schedules(url: Url = None, as_json: Json = False) -> None:
    """List schedules: when each fires next, and what came of the last time."""
    from .terminal import columns, show, tell, write_json

    found = _ask(url, lambda client: client.schedules())
    if as_json:
        write_json(found)
        return
    if not found["items"]:
        tell("There are no schedules.")
        return
    from .tables import schedules_table

    show(schedules_table(found["items"], columns()))


@app.command("set")
def set_schedule(
    name: Name,
    cron: Annotated[str, typer.Option("--cron", help="When: '30 2 * * MON-FRI'.")],
    pipeline: Annotated[str, typer.Option("--pipeline", help="Which pipeline runs.")],
    data: Annotated[str, typer.Option("--data", help="The events' data, as JSON.")],
    timezone: Annotated[
        str, typer.Option("--timezone", help="Whose clocks count: Europe/Berlin.")
    ] = "UTC",
    priority: Annotated[int | None, typer.Option("--priority", help="Of the events.")] = None,
    missed: Annotated[
        str, typer.Option("--missed", help="Times no hub was there for: skip, or once.")
    ] = "skip",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make a schedule, or put another in the place of the one of that name."""
    import orjson

    from .terminal import tell, write_json

    try:
        given = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"--data is not JSON: {error}") from None
    options: dict[str, Any] = {"timezone": timezone, "missed": missed}
    if priority is not None:
        options["priority"] = priority
    view = _ask(
        url,
        lambda client: client.put_schedule(
            name, cron=cron, pipeline=pipeline, data=given, **options
        ),
        read_only=False,
    )
    if as_json:
        write_json(view)
    else:
        tell(f"It fires next at {view['next_at']}." if view["enabled"] else "It is paused.")


@app.command()
def pause(name: Name, url: Url = None, as_json: Json = False) -> None:
    """Keep a schedule from firing."""
    _told(_ask(url, lambda client: client.pause_schedule(name), read_only=False), as_json=as_json)


@app.command()
def resume(name: Name, url: Url = None, as_json: Json = False) -> None:
    """Let a paused schedule fire again, from the next time that comes."""
    _told(_ask(url, lambda client: client.resume_schedule(name), read_only=False), as_json=as_json)


@app.command()
def delete(name: Name, url: Url = None, as_json: Json = False) -> None:
    """Delete a schedule; the events it sent stay."""
    from .terminal import tell, write_json

    answer = _ask(url, lambda client: client.delete_schedule(name), read_only=False)
    if as_json:
        write_json(answer)
    else:
        tell("It is gone; the events it sent stay.")


def _told(view: Any, *, as_json: bool) -> None:
    from .terminal import tell, write_json

    if as_json:
        write_json(view)
    else:
        tell(f"It fires next at {view['next_at']}." if view["enabled"] else "It is paused.")


def _ask(
    url: str | None, ask: Callable[[Client], Awaitable[Any]], *, read_only: bool = True
) -> Any:
    async def work() -> Any:
        async with open_client(url, read_only=read_only) as client:
            return await ask(client)

    return run(work())
