"""`holdfast pipelines`: what is loaded, and how it is wired."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from .door import Json, Url, open_client, run

app = typer.Typer(help="See what can be run.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A pipeline's name.")]


@app.command("list")
def list_pipelines(url: Url = None, as_json: Json = False) -> None:
    """List what is loaded, and the apps that are left out with the reason."""
    from .terminal import columns, show, tell, write_json

    answer = run(_ask(url))
    if as_json:
        write_json(answer)
        return
    from .figures import one_line
    from .tables import pipelines_table

    show(pipelines_table(answer["items"], columns()))
    for failure in answer["failures"]:
        tell(f"{one_line(failure['app'])} is left out: {one_line(failure['message'])}", "red")


@app.command()
def show(name: Name, url: Url = None, as_json: Json = False) -> None:
    """Show a pipeline: versions, nodes and the schema of its events."""
    from .terminal import show as put
    from .terminal import write_json

    view = run(_ask(url, name))
    if as_json:
        write_json(view)
        return
    from rich.text import Text

    from .drawing import title
    from .figures import one_line, plain
    from .graphs import draw_graph
    from .transcript import as_text

    about = one_line(view["description"] or "")
    put(Text.assemble((title(view), "bold"), (f"  code {view['code_version']}", "dim")))
    put(*([Text(about)] if about else []), Text(), *draw_graph(view["graph"]), Text())
    put(Text("an event's data", "cyan"), Text(plain(as_text(view["event_schema"]))))


@app.command()
def graph(
    name: Name,
    mermaid: Annotated[
        bool, typer.Option("--mermaid", help="As a Mermaid flowchart, to paste elsewhere.")
    ] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Draw a pipeline's graph."""
    from .terminal import show as put
    from .terminal import write_json

    view = run(_ask(url, name))
    from . import graphs

    if as_json:
        write_json(view["graph"])
    elif mermaid:
        sys.stdout.write(graphs.mermaid(view["graph"]))
    else:
        from rich.text import Text

        from .drawing import title

        put(Text(title(view), "bold"), *graphs.draw_graph(view["graph"]))


@app.command("pause")
def pause_all(name: Name, url: Url = None, as_json: Json = False) -> None:
    """Let no further event of a pipeline start, and stop what runs before its next step."""
    _whole(url, "pause", name, as_json=as_json)


@app.command("resume")
def resume_all(name: Name, url: Url = None, as_json: Json = False) -> None:
    """Let a paused pipeline's events and executions go on."""
    _whole(url, "resume", name, as_json=as_json)


@app.command("cancel")
def cancel_all(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Cancel all unfinished events of a pipeline; first they are counted."""
    count = run(_do(url, "cancel", name, dry_run=True))["matched"]
    if count and not yes and not typer.confirm(f"cancel {count} events of {name}?", err=True):
        raise typer.Exit(1)
    _whole(url, "cancel", name, as_json=as_json)


def _whole(url: str | None, verb: str, name: str, *, as_json: bool) -> None:
    from .terminal import tell, write_json

    done = run(_do(url, verb, name))
    if as_json:
        write_json(done)
        return
    tell(f"{name}: {verb}; {done['done']} of {done['matched']}")
    for one in done["refused"]:
        tell(f"{one['id']}: {one['message']}", "yellow")


async def _do(url: str | None, verb: str, name: str, *, dry_run: bool = False) -> Any:
    async with open_client(url, read_only=False) as client:
        return await client.whole_pipeline(verb, name, dry_run=dry_run)


async def _ask(url: str | None, name: str | None = None) -> Any:
    async with open_client(url) as client:
        return await client.pipelines() if name is None else await client.pipeline(name)
