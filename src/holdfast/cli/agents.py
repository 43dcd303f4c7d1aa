"""`holdfast agents`: applied from files, started and stopped, looked at."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.errors import InvalidInput

from .chat import chat
from .door import Json, Url, open_client, run

if TYPE_CHECKING:
    from holdfast.agents.files import AgentFile
    from holdfast.client import Client

View = dict[str, Any]

LOOK_S = 0.5
"""Pause between looks at a log that is followed: nothing tells when a process writes."""

app = typer.Typer(help="Apply agents, start and stop them, talk with them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="An agent, as `list` shows it.")]


@app.command()
def apply(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="YAML; several agents parted by ---.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check; store nothing.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make agents as files say, or a version of those that differ; all of them or none.

    What is wrong is told with file, line and column.
    """
    from holdfast.agents.files import read_file

    from .terminal import tell, write_json

    given = [one for file in files for one in read_file(file)]

    async def work(client: Client) -> list[View]:
        checked = [await _apply(client, one, dry_run=True) for one in given]
        return checked if dry_run else [await _apply(client, one) for one in given]

    done = _ask(url, work, changes=True)
    if as_json:
        write_json({"items": done})
        return
    told = {"created": "made", "changed": "changed", "same": "no change"}
    for one in done:
        would = " (nothing is stored)" if dry_run else ""
        tell(f"{one['name']}: {told[one['change']]}, version {one['version']}{would}")


async def _apply(client: Client, one: AgentFile, *, dry_run: bool = False) -> View:
    try:
        return await client.apply_agent(
            one.name, one.config, description=one.description, dry_run=dry_run
        )
    except InvalidInput as error:
        raise one.located(error) from error


@app.command("list")
def list_agents(url: Url = None, as_json: Json = False) -> None:
    """List agents: what answers, and where the process stands."""
    from .terminal import columns, show, tell, write_json

    async def work(client: Client) -> list[View]:
        return [one async for one in client.agents()]

    found = _ask(url, work)
    if as_json:
        write_json({"items": found})
    elif not found:
        tell("There are no agents.")
    else:
        from .agent_tables import agents_table

        show(agents_table(found, columns()))


@app.command("show")
def show_agent(
    name: Name,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Write the file that `apply` would take.")
    ] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show an agent and its configuration; secrets in it are references."""
    from .terminal import show, write_json

    view = _ask(url, lambda client: client.agent(name))
    if as_json:
        write_json(view)
        return
    from holdfast.agents.files import write_agent

    from .figures import plain

    if as_yaml:
        _write(write_agent(view["name"], view["description"], view["config"]))
        return
    from rich.text import Text

    from .agent_tables import agent_sheet

    config = write_agent(view["name"], "", view["config"]).partition("\n")[2]
    show(*agent_sheet(view), *(Text(f"  {line}") for line in plain(config).splitlines()))


app.command("chat")(chat)


@app.command()
def start(name: Name, url: Url = None, as_json: Json = False) -> None:
    """Let an agent answer again, also one that was given up; it starts now."""
    _told(name, _ask(url, lambda client: client.start_agent(name), changes=True), as_json=as_json)


@app.command()
def stop(name: Name, url: Url = None, as_json: Json = False) -> None:
    """Let an agent end what it is at and stay down; its messages wait until `start`."""
    _told(name, _ask(url, lambda client: client.stop_agent(name), changes=True), as_json=as_json)


@app.command()
def restart(name: Name, url: Url = None, as_json: Json = False) -> None:
    """Start an agent's process anew."""
    _told(name, _ask(url, lambda client: client.restart_agent(name), changes=True), as_json=as_json)


@app.command()
def status(name: Name, url: Url = None, as_json: Json = False) -> None:
    """Show an agent's process: since when, how often it died, why it was given up."""
    from .terminal import show, write_json

    view = _ask(url, lambda client: client.agent_status(name))
    if as_json:
        write_json(view)
        return
    from .agent_tables import process_sheet

    show(*process_sheet(name, view))


@app.command()
def versions(name: Name, url: Url = None, as_json: Json = False) -> None:
    """List an agent's versions, newest first."""
    from .terminal import columns, show, write_json

    found = _ask(url, lambda client: client.agent_versions(name))
    if as_json:
        write_json(found)
        return
    from .agent_tables import agent_versions_table

    show(agent_versions_table(found["items"], columns()))


@app.command()
def diff(
    name: Name,
    a: Annotated[int, typer.Argument(metavar="A", help="A version.")],
    b: Annotated[int, typer.Argument(metavar="B", help="Another.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Compare two versions of an agent; the exit code is 1 when they differ."""
    from .figures import plain
    from .terminal import write_json

    view = _ask(url, lambda client: client.diff_agent(name, a, b))
    if as_json:
        write_json(view)
    else:
        for part in view["parts"]:
            lines = "".join(f"  {plain(line)}\n" for line in part["lines"])
            _write(f"{part['part']}\n{lines}")
    if not view["same"]:
        raise typer.Exit(1)


@app.command()
def rollback(
    name: Name,
    version: Annotated[
        int | None, typer.Argument(metavar="[VERSION]", help="Default: the one before the newest.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Bring back what an older version said, as a new version."""
    from .terminal import tell, write_json

    view = _ask(url, lambda client: client.roll_back_agent(name, version), changes=True)
    if as_json:
        write_json(view)
    else:
        tell(f"{view['name']}: version {view['version']}, as it was before.")


@app.command()
def logs(
    name: Name,
    tail: Annotated[int, typer.Option("-n", "--tail", help="The newest so many lines.")] = 100,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new ones.")] = False,
    url: Url = None,
) -> None:
    """Write what an agent's process wrote."""

    async def work(client: Client) -> None:
        found = await client.agent_logs(name, tail=tail)
        _lines(found["lines"])
        while follow:
            await asyncio.sleep(LOOK_S)
            found = await client.agent_logs(name, offset=found["offset"])
            _lines(found["lines"])

    _ask(url, work)


@app.command()
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Delete an agent with its sessions; what waits for it is cancelled."""
    from .terminal import tell, write_json

    if not yes and not typer.confirm(f"delete {name} and all its sessions?", err=True):
        raise typer.Exit(1)
    answer = _ask(url, lambda client: client.delete_agent(name), changes=True)
    if as_json:
        write_json(answer)
    else:
        tell("It is gone.")


def _told(name: str, process: View, *, as_json: bool) -> None:
    from .terminal import tell, write_json

    if as_json:
        write_json(process)
    else:
        off = "; it is to stay down, and messages wait for it" if process["wanted"] == "off" else ""
        tell(f"{name} is {process['status']}{off}.")


def _lines(lines: list[str]) -> None:
    from .figures import plain

    _write("".join(f"{plain(line)}\n" for line in lines))


def _write(text: str) -> None:
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def _ask(url: str | None, ask: Callable[[Client], Awaitable[Any]], *, changes: bool = False) -> Any:
    async def work() -> Any:
        async with open_client(url, read_only=not changes) as client:
            return await ask(client)

    return run(work())
