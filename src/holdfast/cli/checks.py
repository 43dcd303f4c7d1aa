"""What `holdfast doctor` looks at, one function per question."""

from __future__ import annotations

import asyncio
import fcntl
import os
import platform
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.errors import HoldfastError, HubUnreachable, SettingsError
from holdfast.telemetry import configure_logging

from .door import open_client

if TYPE_CHECKING:
    from holdfast.client import Client
    from holdfast.hub.worker import Worker
    from holdfast.pipelines.registry import Registry
    from holdfast.settings import Settings

OK, NOTE, WRONG = "ok", "note", "wrong"

LEAST_PYTHON = (3, 11)

RUNNER_START_S = 30.0
"""A runner that is not ready by then does not start."""

MAX_QUEUED = 1000
"""Queued events looked at for their targets."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question.

    Attributes:
        about: what was looked at.
        level: `ok`, `note` (works, but should be known) or `wrong`.
        said: what was found.
        hint: what to do.
    """

    about: str
    level: str
    said: str
    hint: str = ""


async def examine(url: str | None) -> AsyncIterator[Finding]:
    """Look at everything, in the order in which one thing needs the other."""
    yield _python()
    try:
        from holdfast.settings import load

        settings = load()
    except SettingsError as error:
        yield _wrong("settings", error)
        return
    configure_logging("warning", form=settings.log_form)
    yield Finding("settings", OK, f"hub at {settings.url}, {settings.runners} runners")
    yield _home(settings.home)
    database = await asyncio.to_thread(_database, settings)
    yield database
    if database.level == OK:
        for finding in await asyncio.to_thread(lambda: list(_vectors(settings))):
            yield finding
    if settings.bus_url is not None:
        yield await _bus(settings.bus_url)
    if settings.dispatch == "celery" and settings.celery_broker_url is not None:
        yield await asyncio.to_thread(_broker, settings.celery_broker_url)
    answers = False
    async for finding in _hub(url, settings):
        answers = answers or (finding.about == "hub" and finding.level == OK)
        yield finding
    registry = await asyncio.to_thread(_load, settings)
    for finding in _apps(settings, registry):
        yield finding
    models_work = True
    for finding in _models(settings):
        models_work = models_work and finding.level != WRONG
        yield finding
    if answers or database.level == OK:
        yield await _queue(url)
    if models_work:
        yield await _runner(settings)


def _wrong(about: str, error: HoldfastError) -> Finding:
    return Finding(about, WRONG, error.message, error.hint)


def _python() -> Finding:
    said = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info >= LEAST_PYTHON:
        return Finding("python", OK, said)
    wanted = ".".join(map(str, LEAST_PYTHON))
    return Finding("python", WRONG, said, f"Holdfast needs Python {wanted} or newer")


def _home(home: Path) -> Finding:
    there = home.absolute()
    if there.is_dir():
        if os.access(there, os.W_OK | os.X_OK):
            return Finding("home", OK, str(there))
        return Finding("home", WRONG, f"{there} cannot be written", "change its owner or mode")
    existing = next(parent for parent in there.parents if parent.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return Finding("home", OK, f"{there} will be made by the first hub")
    return Finding("home", WRONG, f"{there} cannot be made", "set HOLDFAST_HOME to another folder")


def _database(settings: Settings) -> Finding:
    from holdfast.store import migrations
    from holdfast.store.registry import address

    try:
        kind = address(settings.store_url).kind
        migrations.check(settings.store_url)
    except HoldfastError as error:
        return _wrong("database", error)
    return Finding("database", OK, f"{kind}, schema {migrations.head()}")


def _vectors(settings: Settings) -> Iterator[Finding]:
    """Who compares the vectors of documents, and what makes them."""
    from holdfast.llm.embeddings import HASHING
    from holdfast.llm.hashing import LABEL

    try:
        configs = settings.embedding_configs()
    except SettingsError as error:
        yield _wrong("embeddings", error)
        return
    for alias, config in configs.items():
        label = f" ({LABEL})" if config.provider == HASHING else ""
        yield Finding("embeddings", OK, f"{alias}: {config.provider}:{config.model}{label}")
    from holdfast.store.vectors import has_table

    if settings.shared and has_table(settings.store_url):
        yield Finding("vectors", OK, "compared by pgvector")
        return
    where = "in the hub's memory"
    if settings.shared:
        where += ": this database has no pgvector (install it, then: holdfast db upgrade)"
    if find_spec("numpy") is None:
        hint = "pip install 'holdfast[knowledge]'; searches by keyword work without"
        yield Finding("vectors", NOTE, f"would be compared {where}, but numpy is missing", hint)
    else:
        yield Finding("vectors", NOTE if settings.shared else OK, f"compared {where}")


async def _bus(url: str) -> Finding:
    from holdfast.bus.registry import open_bus
    from holdfast.telemetry import Metrics

    try:
        bus = open_bus(url, hub="doctor", space="holdfast:doctor", metrics=Metrics())
    except SettingsError as error:
        return _wrong("bus", error)
    await bus.start()
    joined = bus.joined
    await bus.close()
    if joined:
        return Finding("bus", OK, "its server answers")
    hint = "hubs hear of each other through the database only; see HOLDFAST_BUS_URL"
    return Finding("bus", NOTE, "its server does not answer", hint)


def _broker(url: str) -> Finding:
    try:
        from holdfast.bus.celery_broker import broker_away
    except ImportError as error:
        said = f"Celery cannot be imported: {error}"
        return Finding("celery", WRONG, said, "pip install 'holdfast[celery,redis]'")
    reason = broker_away(url)
    if reason is None:
        return Finding("celery", OK, "the broker answers")
    hint = "events wait until it does; see HOLDFAST_CELERY_BROKER_URL"
    return Finding("celery", WRONG, f"the broker does not answer: {reason}", hint)


async def _hub(url: str | None, settings: Settings) -> AsyncIterator[Finding]:
    """Who answers at the address, and who holds the home folder."""
    from holdfast.client import Client

    where, holder = url or settings.url, lock_holder(settings.home)
    held = f", pid {holder}" if holder else ""
    try:
        async with Client(where) as client:
            await client.health()
            reasons = await _not_ready(client)
    except HubUnreachable as error:
        if url is not None:
            yield _wrong("hub", error)
        elif holder is not None:
            said = f"a hub{held or ' of unknown pid'} holds {settings.home}, but none at {where}"
            yield Finding("hub", WRONG, said, "it listens elsewhere: pass --url, or stop it")
        else:
            yield Finding("hub", NOTE, f"none answers at {where}", "start one: holdfast up")
            yield _port(settings)
    except HoldfastError as error:
        said = f"something answers at {where}, but not as a hub: {error.message}"
        yield Finding("hub", WRONG, said, "choose another HOLDFAST_PORT")
    else:
        if reasons:
            yield Finding("hub", WRONG, f"answers at {where}{held}, but is not ready: {reasons}")
        else:
            yield Finding("hub", OK, f"answers at {where}{held}")


async def _not_ready(client: Client) -> str:
    try:
        await client.ready()
    except HoldfastError as error:
        return error.message
    return ""


def lock_holder(home: Path) -> str | None:
    """The pid of the hub that holds the home folder; empty when unknown, None when none does."""
    from holdfast.store.lock import LOCK_FILE

    try:
        file = (home / LOCK_FILE).open("rb")
    except OSError:
        return None
    with file:
        try:
            # Shared, and given back with the file: two doctors do not see each other as hubs.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read(32).decode("ascii", "replace").strip()
    return None


def _port(settings: Settings) -> Finding:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((settings.host, settings.port))
        except OSError as error:
            said = f"{settings.host}:{settings.port} cannot be used: {error.strerror}"
            return Finding("port", WRONG, said, "choose another HOLDFAST_PORT")
    return Finding("port", OK, f"{settings.host}:{settings.port} is free")


def _load(settings: Settings) -> Registry:
    from holdfast.pipelines.registry import Registry

    try:
        aliases = settings.model_configs().keys()
    except SettingsError:  # told as a finding of its own
        aliases = None
    return Registry.load(settings.apps, prompts=settings.prompts, aliases=aliases)


def _apps(settings: Settings, registry: Registry) -> Iterator[Finding]:
    for failure in registry.failures:
        yield _wrong("apps", failure.error)
    names = ", ".join(sorted(one.name for one in registry))
    if names:
        yield Finding("apps", OK, f"pipelines {names}")
    elif not settings.apps:
        yield Finding("apps", NOTE, "none is named", "set HOLDFAST_APPS to your modules")


def _models(settings: Settings) -> Iterator[Finding]:
    """Each alias: what it stands for and whether it has a key, which is never shown."""
    try:
        configs = settings.model_configs()
    except SettingsError as error:
        yield _wrong("models", error)
        return
    for alias, config in configs.items():
        if config.provider == "scripted":
            yield Finding("models", OK, f"{alias}: scripted rules, not a language model")
            continue
        server = f" at {config.base_url}" if config.base_url else ""
        key = "a key is set" if config.api_key else "without a key"
        yield Finding("models", OK, f"{alias}: {config.provider}:{config.model}{server}, {key}")


async def _queue(url: str | None) -> Finding:
    """Queued events whose pipeline is not loaded: nobody will ever claim them."""
    lost: Counter[str] = Counter()
    try:
        async with open_client(url) as client:
            loaded = {one["name"] for one in (await client.pipelines())["items"]}
            seen = 0
            async for event in client.events(status="queued"):
                seen += 1
                if event["target"] not in loaded:
                    lost[event["target"]] += 1
                if seen >= MAX_QUEUED:
                    break
    except HoldfastError as error:
        return _wrong("queue", error)
    if lost:
        told = ", ".join(f"{n} for {name}" for name, n in lost.most_common())
        hint = "load the app that declares it, or cancel them: holdfast events list --status queued"
        return Finding("queue", WRONG, f"nobody will claim {told}: not loaded", hint)
    return Finding("queue", OK, f"{seen} queued, each with a pipeline")


async def _runner(settings: Settings) -> Finding:
    """Start one runner as the hub would, and stop it."""
    from holdfast.hub.process_worker import ProcessWorker, RunnerOptions

    options = RunnerOptions(
        apps=settings.apps,
        models=settings.model_configs(),
        environment=settings.runner_environment(),
        slots=1,
        log_level="error",
    )
    employer = Trial()
    worker = ProcessWorker("doctor", employer, options)
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        await worker.start()
        async with asyncio.timeout(RUNNER_START_S):
            reason = await employer.fate
    except (OSError, TimeoutError) as error:
        reason = f"{type(error).__name__} {error}".rstrip()
    finally:
        with suppress(ProcessLookupError):
            if worker.pid is not None:
                await worker.kill()
    if reason:
        hint = "run `python -m holdfast.runner` to see it fail"
        return Finding("runner", WRONG, f"does not start: {reason}", hint)
    return Finding("runner", OK, f"starts in {loop.time() - began:.1f} s")


class Trial:
    """The employer of one runner that is never given work.

    Attributes:
        fate: an empty text when it became ready, else why it went.
    """

    def __init__(self) -> None:
        self.fate: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_ready(self, worker: Worker) -> None:  # noqa: ARG002
        """It can start."""
        self._settle("")

    def on_gone(self, worker: Worker, reason: str) -> None:  # noqa: ARG002
        """It has ended."""
        self._settle(reason)

    def on_change(self, worker: Worker, execution_id: str, raw: bytes) -> None:
        """Never: it runs nothing."""

    def on_tokens(self, execution_id: str, step: int, text: str) -> None:
        """Never: it runs nothing."""

    def on_ended(self, worker: Worker, execution_id: str) -> None:
        """Never: it runs nothing."""

    def on_outcome(self, told: Mapping[str, Any]) -> None:
        """Never: it runs nothing."""

    def on_spent(self, told: Mapping[str, Any]) -> None:
        """Never: it runs nothing."""

    async def ask(self, execution_id: str, port: str, args: dict[str, Any]) -> Any:
        """Never: it runs nothing."""
        raise AssertionError(f"a runner without work asked for {port}: {execution_id} {args}")

    def _settle(self, reason: str) -> None:
        if not self.fate.done():
            self.fate.set_result(reason)
