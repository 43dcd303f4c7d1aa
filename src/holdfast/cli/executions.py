"""`holdfast executions`: what ran, and everything it did."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from holdfast.errors import InvalidInput, NotFound

from .door import Json, Url, open_client, run

if TYPE_CHECKING:
    from holdfast.client import Client

app = typer.Typer(help="See what ran, step by step.", no_args_is_help=True)

R = TypeVar("R")

MANY = ("cancel", "pause", "resume")
"""What can be done to many at once."""

Id = Annotated[
    str, typer.Argument(metavar="ID", help="An execution, or an event: its newest execution.")
]


@app.command("list")
def list_executions(
    url: Url = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many.")] = 20,
    status: Annotated[str | None, typer.Option(help="Only those that stand or ended so.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Only this pipeline's.")] = None,
    parent: Annotated[
        str | None, typer.Option(help="Only children and replays of this one.", metavar="ID")
    ] = None,
    origin: Annotated[
        str | None, typer.Option(help="Only those that come from another so: replay, child.")
    ] = None,
    suspicious: Annotated[
        bool | None,
        typer.Option(
            "--suspicious/--unsuspicious",
            help="Only those that content checks flagged, or did not.",
        ),
    ] = None,
    before: Annotated[str | None, typer.Option(help="Older than this one.", metavar="ID")] = None,
    as_json: Json = False,
) -> None:
    """List executions, newest first."""
    from .terminal import show, tell, write_json

    async def work() -> Any:
        async with open_client(url) as client:
            return await client.executions_page(
                limit=limit,
                status=status,
                pipeline=pipeline,
                parent_id=parent,
                origin=origin,
                suspicious=suspicious,
                before=before,
            )

    page = run(work())
    if as_json:
        write_json(page)
        return
    if not page["items"]:
        tell("There are no such executions.")
        return
    from .tables import executions_table

    show(executions_table(page["items"]))


@app.command()
def show(
    id: Id,  # noqa: A002 - its name on the command line
    full: Annotated[
        bool, typer.Option("--full", help="Also every prompt, answer and traceback.")
    ] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Draw an execution: its steps as a tree, with times, tokens and cost."""
    from .terminal import console, write_json

    view = run(with_client(url, id, lambda client, found: client.execution(found)))
    if as_json:
        write_json(view)
        return
    from .drawing import draw_execution
    from .transcript import transcript

    out = console()
    for line in draw_execution(view, out.width):
        out.print(line, soft_wrap=True)
    if full:
        out.print()
        for line in transcript(view):
            out.print(line, soft_wrap=True)


@app.command()
def tail(
    id: Id,  # noqa: A002
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Follow an execution until it ends: a line for each thing that happens, and streamed text."""
    from .tailing import follow

    async def work() -> bool:
        async with open_client(url) as client:
            return await follow(client, await resolve(client, id), as_json=as_json)

    if not run(work()):
        raise typer.Exit(1)


@app.command()
def progress(
    id: Id,  # noqa: A002
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List every node of its pipeline with its status, those still to come as well."""
    from .terminal import write_json

    view = run(with_client(url, id, lambda client, found: client.progress(found)))
    if as_json:
        write_json(view)
        return
    from .tables import progress_table
    from .terminal import show as put
    from .terminal import tell

    put(progress_table(view))
    if not view["declared"]:
        known = f"{view['name']} v{view['version']}"
        tell(f"{known} is not loaded: only nodes that ran are listed.", "yellow")


@app.command()
def export(
    id: Id,  # noqa: A002
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write it there.")
    ] = None,
    pytest: Annotated[
        Path | None,
        typer.Option("--pytest", metavar="DIR", help="Write a test that runs it offline instead."),
    ] = None,
    url: Url = None,
    as_json: Json = False,  # noqa: ARG001 - it is JSON in any case
) -> None:
    """Hand out an execution whole, as one self-contained JSON document; or as a test."""
    from .terminal import tell, write_json

    if pytest is not None:
        if out is not None:
            raise typer.BadParameter("--pytest names its files itself; leave --out away")
        from .fixtures import write_test

        fixture = run(with_client(url, id, lambda client, found: client.fixture(found)))
        for written in write_test(pytest, fixture):
            tell(str(written))
        return
    document = run(with_client(url, id, lambda client, found: client.export(found)))
    if out is None:
        write_json(document)
        return
    import orjson

    write_whole(out, orjson.dumps(document, option=orjson.OPT_INDENT_2))
    tell(f"{out}: {out.stat().st_size:,} bytes")


@app.command()
def resume(
    id: Id,  # noqa: A002
    answer: Annotated[
        str | None, typer.Option("--answer", help="What it waits for, as JSON.", metavar="JSON")
    ] = None,
    wait: Annotated[
        str | None, typer.Option("--wait", help="Which wait, where there are several.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Answer what an execution waits for, or let a paused one go on."""
    from .terminal import tell, write_json

    given: Any = ... if answer is None else _json(answer)
    told = run(
        with_client(
            url, id, lambda client, found: client.resume(found, given, wait=wait), read_only=False
        )
    )
    if as_json:
        write_json(told)
    else:
        tell("It goes on.")


@app.command()
def pause(
    id: Id,  # noqa: A002
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Stop a running execution before its next step; resume lets it go on from there."""
    from .terminal import tell, write_json

    told = run(with_client(url, id, lambda client, found: client.pause(found), read_only=False))
    if as_json:
        write_json(told)
    else:
        tell("It stops before its next step.")


@app.command()
def migrate(
    id: Id,  # noqa: A002
    to: Annotated[str, typer.Option("--to", help="The loaded version.", metavar="VERSION")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Let a halted execution go on under another version of its pipeline than it began with."""
    from .terminal import tell, write_json

    told = run(
        with_client(url, id, lambda client, found: client.migrate(found, to), read_only=False)
    )
    if as_json:
        write_json(told)
    else:
        tell(f"It belongs to version {to} now; it is {told['status']}.")


@app.command("many")
def many(
    verb: Annotated[str, typer.Argument(help="cancel, pause or resume", metavar="VERB")],
    status: Annotated[str | None, typer.Option(help="Only those that stand so.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Only this pipeline's.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Cancel, pause or resume all executions that a filter chooses; first they are counted."""
    from .terminal import tell, write_json

    if verb not in MANY:
        raise typer.BadParameter(f"{verb} is none of: {', '.join(MANY)}")

    async def work(*, dry_run: bool) -> Any:
        async with open_client(url, read_only=False) as client:
            return await client.many(verb, dry_run=dry_run, status=status, pipeline=pipeline)

    count = run(work(dry_run=True))["matched"]
    if count and not yes and not typer.confirm(f"{verb} {count} executions?", err=True):
        raise typer.Exit(1)
    done: Any = {"matched": 0, "done": 0, "refused": []}
    if count:
        done = run(work(dry_run=False))
    if as_json:
        write_json(done)
    else:
        tell(f"{done['done']} of {done['matched']}")
        for one in done["refused"]:
            tell(f"{one['id']}: {one['message']}", "yellow")
    if done["refused"]:
        raise typer.Exit(1)


@app.command()
def cancel(
    id: Id,  # noqa: A002
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Stop an execution; the stop reaches the step that runs."""
    from .terminal import tell, write_json

    answer = run(
        with_client(url, id, lambda client, found: client.cancel_execution(found), read_only=False)
    )
    if as_json:
        write_json(answer)
    else:
        tell(f"Its event is {answer['status']}; a running step is being stopped.")


@app.command()
def prune(
    pipeline: Annotated[str | None, typer.Option(help="Only this pipeline's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Delete what is older than its pipeline's retention: ended events and what ran for them."""
    from .figures import count
    from .terminal import tell, write_json

    async def work() -> Any:
        async with open_client(url, read_only=dry_run) as client:
            return await client.prune(pipeline, dry_run=dry_run)

    answer = run(work())
    if as_json:
        write_json(answer)
        return
    if not answer["events"]:
        tell("No such pipeline declares a retention: Pipeline(…, retention=timedelta(days=30)).")
    for name, events in answer["events"].items():
        deleted = "to delete" if dry_run else "deleted, with their executions"
        tell(f"{name}: {count(events, 'event')} {deleted}")


def write_whole(path: Path, body: bytes) -> None:
    """Write a file whole or not at all: a full disk must not leave half of it under its name.

    Raises:
        InvalidInput: it cannot be written there.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(body)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from error


def _json(text: str) -> Any:
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(
            f"--answer is not JSON: {error}", hint="text needs quotes: '\"yes\"'"
        ) from None


async def with_client(
    url: str | None,
    wanted: str,
    ask: Callable[[Client, str], Awaitable[R]],
    *,
    read_only: bool = True,
) -> R:
    """Ask a client about the execution that was meant."""
    async with open_client(url, read_only=read_only) as client:
        return await ask(client, await resolve(client, wanted))


async def resolve(client: Client, wanted: str) -> str:
    """The execution's id, given its own or its event's.

    Raises:
        NotFound: there is neither, or the event has not run yet.
    """
    try:
        event = await client.event(wanted)
    except NotFound:
        return wanted
    if event["execution_id"] is None:
        raise NotFound(f"event {wanted} is {event['status']} and has not run yet")
    return str(event["execution_id"])
