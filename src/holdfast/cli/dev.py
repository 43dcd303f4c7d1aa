"""`holdfast dev`: what helps while a pipeline is being written."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from .door import run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.testing.providers import FakeServer

MODELS = {
    "anthropic": "claude-sonnet-5-5",
    "google": "gemini-3.8-flash",
    "ollama": "llama3.2",
    "openai": "gpt-6-luna",
}
"""What the printed aliases ask the fakes for; they answer to any name."""

app = typer.Typer(no_args_is_help=True, help="What helps while a pipeline is being written.")


@app.callback()
def dev() -> None:
    """What helps while a pipeline is being written."""


@app.command()
def providers(
    port: Annotated[
        int, typer.Option(help="First of four ports in a row; 0: any free ones.", min=0, max=65532)
    ] = 0,
) -> None:
    """Serve fake model providers on loopback until Ctrl-C, and print the settings to use them.

    They speak the wire formats of Anthropic, Google, Ollama and OpenAI and answer with JSON that
    fits the schema asked for, else with one sentence. No language model answers.
    """
    run(_serve(port))


@app.command()
def smoke(
    model: Annotated[
        list[str] | None, typer.Option(help="PROVIDER=MODEL: ask that model; may be repeated.")
    ] = None,
) -> None:
    """Make one small call to each provider whose key or URL is set, and print what was recorded.

    A hub in this process makes the calls; its record is thrown away. They cost what a few dozen
    tokens cost. Ends with 1 when a call fails; one without a key is skipped.
    """
    from holdfast.errors import SettingsError
    from holdfast.settings import load

    from .smoke import smoke as ask

    named: dict[str, str] = {}
    for one in model or ():
        provider, _, name = one.partition("=")
        if provider not in MODELS or not name:
            raise SettingsError(
                f"--model {provider}: expected PROVIDER=MODEL",
                hint=f"providers are {', '.join(MODELS)}",
            )
        named[provider] = name
    if not run(ask(load().environment, named)):
        raise typer.Exit(1)


async def _serve(port: int) -> None:
    from holdfast.errors import SettingsError
    from holdfast.testing.providers import (
        FakeAnthropic,
        FakeGoogle,
        FakeOllama,
        FakeOpenAI,
        fitting,
    )

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    fakes = {
        "anthropic": FakeAnthropic(fitting),
        "google": FakeGoogle(fitting),
        "ollama": FakeOllama(fitting),
        "openai": FakeOpenAI(fitting),
    }
    with ExitStack() as stack:
        for at, fake in enumerate(fakes.values()):
            wanted = port + at if port else 0
            try:
                stack.enter_context(fake.listen(wanted))
            except OSError as error:
                raise SettingsError(
                    f"port {wanted} cannot be listened on: {error.strerror or error}",
                    hint="name another --port, or 0 for any free ones",
                ) from error
        _greet(fakes)
        await ended.wait()


def _greet(fakes: Mapping[str, FakeServer]) -> None:
    """Say on standard output what to set, and the rest beside it."""
    aliases = {
        name: {"model": f"{name}:{MODELS[name]}", "base_url": fake.url}
        for name, fake in fakes.items()
    }
    levels = dict(zip(("fast", "standard", "expert"), aliases.values(), strict=False))
    typer.echo(f"HOLDFAST_MODELS='{json.dumps({**levels, **aliases})}'")
    for name, fake in fakes.items():
        typer.echo(f"{name:<9}  {fake.url}", err=True)
    typer.echo("Fakes, not language models; a token is a word. Ctrl-C ends them.", err=True)
