"""`holdfast prompts`: versions of prompts, and the labels by which pipelines ask for them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.errors import InvalidInput

from .door import Json, Url, open_client, run
from .figures import SHORT

if TYPE_CHECKING:
    from holdfast.client import Client

app = typer.Typer(help="See versions of prompts, move and roll back labels.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A prompt, as `list` shows it.")]
At = Annotated[
    str, typer.Argument(metavar="NAME[@VERSION]", help="A prompt; at a label or a hash.")
]
Label = Annotated[str, typer.Argument(metavar="LABEL", help="Such as production.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Kept with the move.")]


@app.command("list")
def list_prompts(url: Url = None, as_json: Json = False) -> None:
    """List prompts, who uses them and where their labels stand."""
    from .terminal import columns, show, tell, write_json

    found = _ask(url, lambda client: client.prompts())
    if as_json:
        write_json(found)
    elif not found["items"]:
        tell("There are no prompts.")
    else:
        from .tables import prompts_table

        show(prompts_table(found["items"], columns()))


@app.command("show")
def show_prompt(at: At, url: Url = None, as_json: Json = False) -> None:
    """Show a prompt's versions and the moves of its labels; with @VERSION, that one's text."""
    from .terminal import columns, show, write_json

    name, version = _split(at)
    if version is not None:
        view = _ask(url, lambda client: client.prompt_version(name, version))
        if as_json:
            write_json(view)
        else:
            from .figures import plain

            _write(plain(view["source"]))
        return
    view = _ask(url, lambda client: client.prompt(name))
    if as_json:
        write_json(view)
        return
    from .tables import prompt_moves_table, prompt_versions_table

    show(prompt_versions_table(view["versions"], columns()))
    show(prompt_moves_table(view["moves"], columns()))


@app.command()
def diff(
    name: Name,
    a: Annotated[str, typer.Argument(metavar="A", help="A label or a hash.")] = "file",
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")] = "production",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Compare two versions, part by part; the exit code is 1 when they differ."""
    from .figures import plain
    from .terminal import write_json

    view = _ask(url, lambda client: client.diff_prompts(name, a, b))
    if as_json:
        write_json(view)
    else:
        for part in view["parts"]:
            lines = "".join(f"  {plain(line)}\n" for line in part["lines"])
            _write(f"{part['part']}\n{lines}")
    if not view["same"]:
        raise typer.Exit(1)


@app.command("label")
def move_label(
    name: Name,
    label: Label,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A hash or another label.")],
    reason: Reason = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Let a label stand at a version, for the runs that begin from now on."""
    view = _ask(
        url, lambda client: client.move_label(name, label, version, reason=reason), changes=True
    )
    _moved(view, as_json=as_json)


@app.command()
def rollback(
    name: Name, label: Label, reason: Reason = None, url: Url = None, as_json: Json = False
) -> None:
    """Let a label stand where it stood before its last move."""
    view = _ask(
        url, lambda client: client.roll_back_label(name, label, reason=reason), changes=True
    )
    _moved(view, as_json=as_json)


@app.command()
def push(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A prompt's text.")],
    name: Annotated[
        str | None,
        typer.Option("--name", help="Of the prompt; default: from its path below `prompts`."),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="A label that is to stand at it.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Store a file's text as a version of its prompt; a label moves only if one is named."""
    from .terminal import tell, write_json

    called = name or _name_of(file)
    text = _text(file)

    async def work(client: Client) -> Any:
        stored = await client.put_prompt(called, text)
        if label is not None:
            await client.move_label(called, label, stored["version"])
        return stored

    view = _ask(url, work, changes=True)
    if as_json:
        write_json(view)
        return
    at = f", {label} from now on" if label else ""
    tell(f"{called} {view['version'][:SHORT]}{at}.")


@app.command()
def pull(
    at: At,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Default: standard output.")
    ] = None,
    url: Url = None,
) -> None:
    """Write a version's text, as a file has it; without @VERSION the one of the app's file."""
    name, version = _split(at)
    view = _ask(url, lambda client: client.prompt_version(name, version or "file"))
    if to is None:
        _write(view["source"])
        return
    try:
        to.write_text(view["source"], "utf-8", newline="\n")
    except OSError as error:
        raise InvalidInput(f"{to} cannot be written: {error}") from error


def _moved(view: Any, *, as_json: bool) -> None:
    from .terminal import tell, write_json

    if as_json:
        write_json(view)
        return
    again = "" if view["move"] else " already"
    tell(f"{view['label']} of {view['name']} stands at {view['version'][:SHORT]}{again}.")


def _split(at: str) -> tuple[str, str | None]:
    name, _, version = at.partition("@")
    return name, version or None


def _name_of(file: Path) -> str:
    """`prompts/support/judge.md` holds the prompt `support/judge`."""
    parts = file.absolute().with_suffix("").parts
    if "prompts" not in parts[:-1]:
        raise InvalidInput(f"{file} stands in no folder `prompts`", hint="say --name")
    last = len(parts) - 1 - parts[::-1].index("prompts", 1)
    return "/".join(parts[last + 1 :])


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from error


def _write(text: str) -> None:
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def _ask(url: str | None, ask: Callable[[Client], Awaitable[Any]], *, changes: bool = False) -> Any:
    async def work() -> Any:
        async with open_client(url, read_only=not changes) as client:
            return await ask(client)

    return run(work())
