"""`holdfast events`: send work in, see where it stands, stop it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .door import Json, Url, open_client, run

if TYPE_CHECKING:
    from .lines import Line
    from .submitting import Fate

app = typer.Typer(help="Send work in and see where it stands.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="An event.")]

WAIT_S = 300.0
"""How long `--wait` waits for one event unless told otherwise."""


@app.command()
def submit(
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="JSON lines, one event each; `-`: standard input."),
    ] = None,
    type: Annotated[  # noqa: A002 - CloudEvents' name
        str | None, typer.Option("--type", help="Type of one event: the pipeline's name.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Data of that event, as JSON.", metavar="JSON")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="Its idempotency key: sent twice, it still runs once."),
    ] = None,
    session: Annotated[
        str | None,
        typer.Option("--session", help="Its session, whose turns run one after the other."),
    ] = None,
    delay: Annotated[
        float | None, typer.Option("--delay", min=0, help="Seconds it is held back.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until each has ended.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for one event.", show_default=True)
    ] = WAIT_S,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Events at once.")] = 8,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Submit events: a file of them, or one with --type and --data.

    A line that is refused is reported with its number; the others go on.

    The exit code is 1 when a line was refused or, with --wait, when an event did not succeed.
    """
    if (file is None) == (type is None) or (type is None) != (data is None):
        raise typer.BadParameter("give either FILE or both --type and --data")
    more = {"idempotency_key": key or None, "session_id": session, "delay": delay}
    for option, value in (("--key", key), ("--session", session), ("--delay", delay)):
        if file is not None and value is not None:
            raise typer.BadParameter(f"{option} goes with --type; in a file each line has its own")

    from .lines import count_lines
    from .submitting import Wish, submit_all
    from .summary import GOOD, Bar

    total = 1 if file is None else count_lines(file)
    wish = Wish(wait=timeout if wait else None, concurrency=concurrency)
    fates: list[Fate] = []
    began = time.monotonic()

    async def work(bar: Bar, lines: Iterator[Line]) -> None:
        def done(fate: Fate) -> None:
            fates.append(fate)
            _report(fate, bar, as_json=as_json)

        async with open_client(url, read_only=False) as client:
            await submit_all(client, lines, wish, done)

    try:
        with Bar(total) as bar, _source(file, type, data, more) as lines:
            run(work(bar, lines))
    finally:
        # Also when the hub went away or Ctrl-C came: what was accepted stays accepted.
        if not as_json and fates:
            _conclude(fates, total or len(fates), time.monotonic() - began, single=file is None)
    wanted = {"succeeded"} if wait else GOOD
    if any(fate.status not in wanted for fate in fates):
        raise typer.Exit(1)


@app.command("list")
def list_events(
    url: Url = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many.")] = 20,
    status: Annotated[str | None, typer.Option(help="Only those that stand or ended so.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Only this pipeline's.")] = None,
    before: Annotated[str | None, typer.Option(help="Older than this one.", metavar="ID")] = None,
    as_json: Json = False,
) -> None:
    """List events, newest first."""
    from .terminal import columns, tell, write_json
    from .terminal import show as put

    async def work() -> Any:
        async with open_client(url) as client:
            return await client.events_page(
                limit=limit, status=status, target=pipeline, before=before
            )

    page = run(work())
    if as_json:
        write_json(page)
        return
    if not page["items"]:
        tell("There are no such events.")
        return
    from .tables import events_table

    put(events_table(page["items"], columns()))


@app.command()
def show(id: Id, url: Url = None, as_json: Json = False) -> None:  # noqa: A002
    """Show an event: where it stands, its data, and the execution to look at."""
    from .terminal import show as put
    from .terminal import write_json

    async def work() -> Any:
        async with open_client(url) as client:
            return await client.event(id)

    view = run(work())
    if as_json:
        write_json(view)
        return
    from .tables import event_sheet

    put(*event_sheet(view))


@app.command()
def cancel(id: Id, url: Url = None, as_json: Json = False) -> None:  # noqa: A002
    """Stop an event: at once when it waits, through the step that runs when it runs."""
    from .terminal import tell, write_json

    async def work() -> Any:
        async with open_client(url, read_only=False) as client:
            return await client.cancel_event(id)

    answer = run(work())
    if as_json:
        write_json(answer)
    elif answer["status"] == "cancelled":
        tell("It is cancelled.")
    else:
        tell(f"It is {answer['status']}; the step that runs is being stopped.")


@contextmanager
def _source(
    file: str | None,
    type: str | None,  # noqa: A002
    data: str | None,
    more: dict[str, Any],
) -> Generator[Iterator[Line]]:
    from .lines import Line, given, open_lines

    if file is not None:
        with open_lines(file) as lines:
            yield lines
        return
    yield iter([Line(0, given(type or "", data or "", **more))])


def _report(fate: Fate, bar: Any, *, as_json: bool) -> None:
    from .summary import refusal
    from .terminal import write_json

    if as_json:
        write_json(fate.view(), line=True)
    if fate.status == "refused" and fate.error:
        bar.tell(f"line {fate.line}: {refusal(fate.error)}" if fate.line else refusal(fate.error))
    bar.step(fate)


def _conclude(fates: list[Fate], total: int, seconds: float, *, single: bool) -> None:
    from rich.text import Text

    from .figures import plain
    from .summary import GOOD, MAX_ROWS, fate_table, summary_line
    from .terminal import console
    from .transcript import as_text

    out = console()
    out.print(summary_line(fates, total, seconds, out.width), soft_wrap=True)
    events = sorted((fate for fate in fates if fate.event_id), key=lambda fate: fate.line)
    listed = events if len(events) <= MAX_ROWS else [f for f in events if f.status not in GOOD]
    if listed:
        out.print()
        out.print(fate_table(listed[:MAX_ROWS], out.width))
    if left := len(events) - min(len(listed), MAX_ROWS):
        out.print(Text(f"{left:,} more; holdfast events list shows them", "dim"))
    if single and fates[0].output is not None:
        out.print()
        out.print(Text(plain(as_text(fates[0].output))), soft_wrap=True)
