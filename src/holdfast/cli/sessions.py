"""`holdfast sessions`: conversations with agents, listed, read, renamed, archived, deleted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .door import Json, Url, open_client, run

if TYPE_CHECKING:
    from holdfast.client import Client

View = dict[str, Any]

app = typer.Typer(help="See conversations with agents.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="A session, as `list` shows it.")]
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, help="Most that are shown.")]


@app.command("list")
def list_sessions(
    agent: Annotated[
        str | None, typer.Argument(metavar="[AGENT]", help="Only those with this agent.")
    ] = None,
    archived: Annotated[bool, typer.Option("--archived", help="Those in the archive.")] = False,
    limit: Limit = 50,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List conversations, the one that changed last first."""
    from .terminal import columns, show, tell, write_json

    async def work(client: Client) -> list[View]:
        status = "archived" if archived else "active"
        return await _first(limit, client.sessions(agent=agent, status=status))

    found = _ask(url, work)
    if as_json:
        write_json({"items": found})
    elif not found:
        tell("There are no sessions.")
    else:
        from .agent_tables import sessions_table

        show(sessions_table(found, columns()))


@app.command("show")
def show_session(
    session: Id,
    limit: Limit = 20,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show a conversation: its newest messages, the oldest of them first."""
    from .terminal import show, tell, write_json

    async def work(client: Client) -> View:
        view = await client.session(session)
        said = await _first(limit, client.messages(session))
        return {**view, "newest": said[::-1]}

    view = _ask(url, work)
    if as_json:
        write_json(view)
        return
    from rich.text import Text

    from .agent_tables import message_lines, session_sheet

    show(*session_sheet(view))
    for message in view["newest"]:
        show(Text(), *message_lines(message, view["agent"]["name"] or "agent"))
    if len(view["newest"]) < view["messages"]:
        tell(f"{view['messages']} messages in all; --limit shows more.", "dim")


@app.command()
def rename(
    session: Id,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What it is called from now on.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Give a conversation another title."""
    view = _ask(url, lambda client: client.change_session(session, title=title), changes=True)
    _told(view, f"It is called {view['title']}.", as_json=as_json)


@app.command()
def archive(
    session: Id,
    undo: Annotated[bool, typer.Option("--undo", help="Take it out of the archive.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Put a conversation into the archive: kept and shown, but it takes no further messages."""
    status = "active" if undo else "archived"
    view = _ask(url, lambda client: client.change_session(session, status=status), changes=True)
    _told(view, f"It is {view['status']}.", as_json=as_json)


@app.command()
def delete(
    session: Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Delete a conversation with its messages, its executions and what is remembered of it."""
    if not yes and not typer.confirm("delete it with everything that was said?", err=True):
        raise typer.Exit(1)
    view = _ask(url, lambda client: client.delete_session(session), changes=True)
    _told(view, "It is gone.", as_json=as_json)


def _told(view: View, text: str, *, as_json: bool) -> None:
    from .terminal import tell, write_json

    if as_json:
        write_json(view)
    else:
        tell(text)


async def _first(limit: int, items: Any) -> list[View]:
    found: list[View] = []
    async for item in items:
        found.append(item)
        if len(found) == limit:
            break
    return found


def _ask(url: str | None, ask: Callable[[Client], Awaitable[Any]], *, changes: bool = False) -> Any:
    async def work() -> Any:
        async with open_client(url, read_only=not changes) as client:
            return await ask(client)

    return run(work())
