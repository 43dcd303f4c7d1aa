"""`holdfast up`: run a hub."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.imports import kept_imports

from .door import run

if TYPE_CHECKING:
    from holdfast.app import Parts

EXAMPLE = Path("examples/support_triage/emails.jsonl")


def up(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; others than loopback need API keys.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: any free.")] = None,
    apps: Annotated[
        str | None, typer.Option(help="Apps to load, separated by commas.", metavar="MODULE,…")
    ] = None,
    runners: Annotated[int | None, typer.Option(help="Runner processes.")] = None,
    roles: Annotated[
        str | None,
        typer.Option(help="What this hub does: api, worker, agents.", metavar="ROLE,…"),
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="Folder for the SQLite file, the journal and locks.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error.", metavar="LEVEL")
    ] = None,
) -> None:
    """Run a hub until Ctrl-C; a second Ctrl-C ends it at once.

    Options win over the settings (HOLDFAST_HOST, HOLDFAST_PORT, …).
    """
    from holdfast.runner.process import open_spawner
    from holdfast.settings import load
    from holdfast.telemetry import configure_logging

    overrides: dict[str, Any] = {
        "host": host,
        "port": port,
        "apps": apps,
        "runners": runners,
        "roles": roles,
        "home": home,
        "log_level": log_level,
    }
    settings = load(overrides)
    configure_logging(settings.log_level, form=settings.log_form)
    with ExitStack() as stack:
        spawner = runner = None
        environment = settings.runner_environment()
        if settings.runs or settings.runs_agents:
            spawner = open_spawner(settings.spawn, settings.preload(), environment=environment)
            stack.callback(spawner.close)
        if settings.runs and spawner is not None:
            # It imports beside the hub, which would otherwise wait for it after a crash.
            runner = spawner.spawn(environment, soon=True)
            stack.callback(runner.close)
        with kept_imports():
            from holdfast.app import serve
        run(serve(settings, on_started=greet, spawner=spawner, runner=runner), long=True)


def greet(parts: Parts, url: str) -> None:
    """Say where the hub answers, what it has loaded and what to try first."""
    from rich.text import Text

    from holdfast.domain.hubs import Role
    from holdfast.settings import load

    from .figures import one_line
    from .terminal import console

    out = console(stderr=True)
    out.print(Text.assemble("Holdfast answers at ", (url, "bold")))
    if Role.API not in parts.settings.roles:
        out.print(Text("  a worker: it takes no requests but those of probes", "dim"))
    if parts.settings.dispatch == "celery":
        worker = "celery -A holdfast.celery_app worker"
        out.print(Text.assemble("  pipelines are run by Celery: ", (worker, "bold")))
    pipelines = sorted(parts.kit.registry, key=lambda one: one.name)
    for one in pipelines:
        about = f"  {one_line(one.description, 80)}" if one.description else ""
        line = Text.assemble("  ", (one.name, "green"), f" v{one.version}", (about, "dim"))
        out.print(line, soft_wrap=True)
    for name in parts.agents:
        out.print(Text.assemble("  ", (name, "green"), ("  an agent", "dim")), soft_wrap=True)
    for failure in parts.kit.registry.failures:
        reason = f"  {one_line(failure.app)} is left out: {one_line(failure.error)}"
        out.print(Text(reason, "red"), soft_wrap=True)
    if not pipelines and not parts.agents:
        out.print(Text("  no pipeline is loaded: name apps in HOLDFAST_APPS or --apps", "yellow"))
    if Role.API in parts.settings.roles:
        names, needs_url = {one.name for one in pipelines}, url != load().url
        first = first_command(url, names, needs_url=needs_url, guarded=parts.keyring.guarded)
        out.print(Text.assemble("Try: ", (first, "bold")), soft_wrap=True)
        if parts.agents:
            hub = f" --url {url}" if needs_url else ""
            talk = f"{own_command()} agents chat {parts.agents[0]}{hub}"
            out.print(Text.assemble("And: ", (talk, "bold")), soft_wrap=True)
    out.print(Text("Ctrl-C stops the hub.", "dim"))


def first_command(url: str, pipelines: set[str], *, needs_url: bool, guarded: bool = False) -> str:
    """A command that shows something, for somebody who has just started a hub.

    Args:
        url: the hub's.
        pipelines: names of what is loaded.
        needs_url: the settings in another shell would not lead there.
        guarded: requests need an API key.
    """
    if EXAMPLE.exists() and "support.triage" in pipelines:
        hub = f" --url {url}" if needs_url else ""
        return f"{own_command()} events submit {EXAMPLE} --wait{hub}"
    shown = "-H 'Authorization: Bearer hf_…' " if guarded else ""
    return f"curl {shown}{url}/api/v1/pipelines"


def own_command() -> str:
    """How another shell in this folder calls this program."""
    if shutil.which("holdfast"):
        return "holdfast"
    installed = Path(sys.executable).with_name("holdfast")
    here = Path.cwd()
    return str(installed.relative_to(here) if installed.is_relative_to(here) else installed)
