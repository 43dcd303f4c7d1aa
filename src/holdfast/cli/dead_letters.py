"""`holdfast dead-letters`: what used up its deliveries, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.errors import InvalidInput

from .door import Json, Url, open_client, run

app = typer.Typer(
    help="See what used up its deliveries; mend it, run it again, or discard it.",
    no_args_is_help=True,
)

Id = Annotated[str, typer.Argument(metavar="ID", help="An event.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]…", help="Events.")]
OfPipeline = Annotated[str | None, typer.Option("--pipeline", help="All of this pipeline's.")]
All = Annotated[bool, typer.Option("--all", help="All there are.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("list")
def list_letters(
    url: Url = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many.")] = 20,
    pipeline: Annotated[str | None, typer.Option(help="Only this pipeline's.")] = None,
    discarded: Annotated[
        bool, typer.Option("--discarded", help="Those that were discarded instead.")
    ] = False,
    before: Annotated[str | None, typer.Option(help="Older than this one.", metavar="ID")] = None,
    as_json: Json = False,
) -> None:
    """List dead letters, newest event first."""
    from .terminal import columns, show, tell, write_json

    async def work() -> Any:
        async with open_client(url) as client:
            return await client.dead_letters_page(
                limit=limit,
                pipeline=pipeline,
                state="discarded" if discarded else None,
                before=before,
            )

    page = run(work())
    if as_json:
        write_json(page)
        return
    if not page["items"]:
        tell("There are no such dead letters.")
        return
    from .tables import events_table

    show(events_table(page["items"], columns()))


@app.command()
def show(id: Id, url: Url = None, as_json: Json = False) -> None:  # noqa: A002
    """Show a dead letter: its data, each delivery with its error, and what was done to it."""
    from .terminal import show as put
    from .terminal import write_json

    async def work() -> Any:
        async with open_client(url) as client:
            return await client.dead_letter(id)

    view = run(work())
    if as_json:
        write_json(view)
        return
    from .tables import event_sheet, history_lines

    put(*event_sheet(view), *history_lines(view["history"]))


@app.command()
def edit(
    id: Id,  # noqa: A002
    data: Annotated[
        str | None, typer.Option("--data", help="The new data, as JSON.", metavar="JSON")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="A file with the new data.", metavar="FILE")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Replace a dead letter's data; replayed, it begins anew with that."""
    from .terminal import tell, write_json

    if (data is None) == (file is None):
        raise typer.BadParameter("give either --data or --file")
    given = _json(data, file)

    async def work() -> Any:
        async with open_client(url, read_only=False) as client:
            return await client.edit_dead_letter(id, given)

    answer = run(work())
    if as_json:
        write_json(answer)
    else:
        tell("It has the new data; the one before stays in its history.")


@app.command()
def replay(
    ids: Ids = None,
    pipeline: OfPipeline = None,
    everything: All = False,
    yes: Yes = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Queue dead letters again: those named, or those of a filter, which are counted first."""
    filters = _chosen(ids, pipeline, everything=everything)
    _treat("replay", ids, filters, None, url, yes=yes, as_json=as_json)


@app.command()
def discard(
    reason: Annotated[str, typer.Option("--reason", help="Why; kept with each.")],
    ids: Ids = None,
    pipeline: OfPipeline = None,
    everything: All = False,
    yes: Yes = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Cancel dead letters for good: those named, or those of a filter, which are counted first."""
    filters = _chosen(ids, pipeline, everything=everything)
    _treat("discard", ids, filters, reason, url, yes=yes, as_json=as_json)


def _chosen(ids: list[str] | None, pipeline: str | None, *, everything: bool) -> dict[str, Any]:
    if sum((bool(ids), pipeline is not None, everything)) != 1:
        raise typer.BadParameter("give ids, --pipeline or --all")
    return {} if ids else {"pipeline": pipeline}


def _treat(
    verb: str,
    ids: list[str] | None,
    filters: dict[str, Any],
    reason: str | None,
    url: str | None,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    from .figures import count
    from .terminal import tell, write_json

    async def work(*, dry_run: bool) -> Any:
        async with open_client(url, read_only=False) as client:
            if reason is None:
                return await client.replay_dead_letters(ids=ids or None, dry_run=dry_run, **filters)
            return await client.discard_dead_letters(
                reason, ids=ids or None, dry_run=dry_run, **filters
            )

    if not ids and not yes:
        found = run(work(dry_run=True))["matched"]
        if found and not typer.confirm(f"{verb} {count(found, 'dead letter')}?", err=True):
            raise typer.Exit(1)
    done = run(work(dry_run=False))
    if as_json:
        write_json(done)
    else:
        tell(f"{done['done']} of {done['matched']}")
        for one in done["refused"]:
            tell(f"{one['id']}: {one['message']}", "yellow")
    if done["refused"]:
        raise typer.Exit(1)


def _json(text: str | None, file: Path | None) -> Any:
    import orjson

    try:
        return orjson.loads(file.read_bytes() if file is not None else text or "")
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise InvalidInput(
            f"{file or '--data'} is not JSON: {error}", hint='objects look like {"text": "hi"}'
        ) from None
