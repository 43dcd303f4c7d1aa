"""`holdfast executions replay` and `diff`: run it again, and see what is not as it was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.errors import InvalidInput

from .door import Json, Url, open_client, run
from .executions import Id, resolve

if TYPE_CHECKING:
    from holdfast.client import Client

WAIT_S = 300.0
"""Seconds to wait for a replay, unless the command says otherwise."""

Pairs = list[str] | None


def replay(
    id: Id,  # noqa: A002 - its name on the command line
    live: Annotated[bool, typer.Option("--live", help="Ask models and tools anew.")] = False,
    or_live: Annotated[
        bool, typer.Option("--or-live", help="Ask anew only where nothing is recorded.")
    ] = False,
    start: Annotated[
        str | None, typer.Option("--from", help="Live from this node on.", metavar="NODE")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Other data, as JSON.", metavar="FILE")
    ] = None,
    prompt: Annotated[
        Pairs, typer.Option("--prompt", help="Another user prompt.", metavar="NODE=FILE")
    ] = None,
    system: Annotated[
        Pairs, typer.Option("--system", help="Another system prompt.", metavar="NODE=FILE")
    ] = None,
    version: Annotated[
        Pairs,
        typer.Option(
            "--prompt-version", help="Another version of its prompt.", metavar="NODE=VERSION"
        ),
    ] = None,
    alias: Annotated[
        Pairs, typer.Option("--alias", help="Another model.", metavar="ALIAS=ALIAS")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait.")] = WAIT_S,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Run an ended execution once more: with the answers it got then, or live.

    The exit code is 1 when, with --wait, the replay did not succeed.
    """
    options: dict[str, Any] = {
        "answers": "live" if live else "recorded",
        "unrecorded": "live" if or_live else "fail",
        "start": start,
        "prompts": _prompts(prompt or [], system or [], version or []),
        "aliases": dict(_pair(one, "--alias", "ALIAS=ALIAS") for one in alias or []),
    }
    if data is not None:
        options["data"] = _json(data)

    async def work() -> tuple[Any, Any]:
        async with open_client(url, read_only=False) as client:
            sent = await client.replay(await resolve(client, id), **options)
            if not wait:
                return sent, None
            try:
                ended = await client.wait(sent["id"], timeout)
            except TimeoutError as error:
                raise InvalidInput(
                    str(error), hint="it goes on; see holdfast events show"
                ) from None
            return ended, await client.execution(ended["execution_id"])

    event, execution = run(work())
    _report(event, execution, as_json=as_json)
    if execution is not None and event["status"] != "succeeded":
        raise typer.Exit(1)


def diff(
    a: Id,
    b: Id,
    full: Annotated[
        bool, typer.Option("--full", help="Also steps that are the same, and all lines.")
    ] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Compare two executions step by step: the first that differs, and what followed.

    The exit code is 1 when they differ.
    """

    async def work() -> Any:
        async with open_client(url) as client:
            return await _compared(client, a, b)

    view = run(work())
    if as_json:
        from .terminal import write_json

        write_json(view)
    else:
        from .differing import draw_diff
        from .terminal import console

        out = console()
        for line in draw_diff(view, full=full):
            out.print(line, soft_wrap=True)
    if not view["same"]:
        raise typer.Exit(1)


async def _compared(client: Client, a: str, b: str) -> Any:
    return await client.diff(await resolve(client, a), await resolve(client, b))


def _report(event: Any, execution: Any, *, as_json: bool) -> None:
    from .terminal import tell, write_json

    if as_json:
        write_json(event if execution is None else execution)
    elif execution is None:
        tell(f"It runs once more, as event {event['id']}.")
    else:
        from .differing import draw_replay
        from .terminal import console

        out = console()
        for line in draw_replay(execution):
            out.print(line, soft_wrap=True)


def _prompts(user: list[str], system: list[str], version: list[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for part, option, given in (("user", "--prompt", user), ("system", "--system", system)):
        for one in given:
            node, file = _pair(one, option, "NODE=FILE")
            found.setdefault(node, {})[part] = _text(Path(file))
    for one in version:
        node, ref = _pair(one, "--prompt-version", "NODE=VERSION")
        found.setdefault(node, {})["version"] = ref
    return found


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise typer.BadParameter(f"{option} {text}: write {form}")
    return name, value


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error


def _json(path: Path) -> Any:
    import orjson

    try:
        return orjson.loads(_text(path))
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{path} is not JSON: {error}") from None
