"""The only place where parts are wired: a hub out of settings, and `serve`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.bus.base import GAP, KEYS
from holdfast.bus.registry import open_bus
from holdfast.domain.events import LOCAL_OWNER, MAX_EVENT_BYTES
from holdfast.domain.hubs import CELERY, NewHub, Role
from holdfast.domain.ids import new_id
from holdfast.errors import SettingsError
from holdfast.hub import AgentOptions, Hub, HubOptions
from holdfast.hub.agent_process import Rules
from holdfast.hub.worker import Employer, Worker
from holdfast.journal import Journal
from holdfast.journal.running import Assessor
from holdfast.llm.content.redaction import Redaction
from holdfast.llm.content.rules import Rule, flagging
from holdfast.llm.embeddings import Embeddings
from holdfast.llm.price_list import Tariff
from holdfast.llm.prices import Prices
from holdfast.operations.agent_files import apply_files
from holdfast.operations.keyring import Keyring
from holdfast.operations.kit import Kit
from holdfast.operations.talks import Talks
from holdfast.operations.wait import EndedEvents
from holdfast.pipelines.registry import Registry
from holdfast.runner.process import RunnerProcess, Spawner, open_spawner
from holdfast.settings import Settings
from holdfast.store import Store
from holdfast.store.queries import Space
from holdfast.store.registry import open_store
from holdfast.telemetry import Metrics, configure_logging, ensure_logging

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from holdfast.hub.agent_channels import AgentChannels
    from holdfast.hub.celery_bell import CeleryBell
    from holdfast.hub.process_worker import RunnerOptions


MAX_FRAME_BYTES = 4 * MAX_EVENT_BYTES
"""A WebSocket is closed over a larger frame; over one between that and what a message may have it
gets an error and lives on."""


@dataclass(slots=True)
class Parts:
    """A running hub and what its doors need.

    Attributes:
        agents: names of those that stand in the files of the settings.
    """

    settings: Settings
    kit: Kit
    keyring: Keyring
    hub: Hub
    ended: EndedEvents
    talks: Talks
    agents: Sequence[str] = ()

    def not_ready(self) -> list[str]:
        """Why the hub cannot work now; empty when it can."""
        reasons: list[str] = []
        if not self.hub.has_workers:
            return reasons
        if self.hub.crew.error is not None:
            reasons.append(self.hub.crew.error)
        elif not self.hub.crew.ready:
            reasons.append("no runner is ready yet")
        if self.kit.journal.full:
            reasons.append(f"{self.kit.journal.waiting} finished records wait for the database")
        return reasons


@asynccontextmanager
async def run_hub(
    settings: Settings,
    *,
    in_process: bool = False,
    read_only: bool = False,
    on_demand: bool = False,
    spawner: Spawner | None = None,
    runner: RunnerProcess | None = None,
) -> AsyncGenerator[Parts]:
    """A hub from the settings, stopped cleanly at the end.

    Args:
        settings: see `settings.Settings`.
        in_process: run graphs in this process instead of in runners (tests, notebooks).
        read_only: run nothing and take no lock: the hub's doors show what is stored, beside
            another hub or without one.
        on_demand: run pipelines whatever the settings say, and claim only when `Hub.run_next` is
            called, as the hub of a Celery worker does.
        spawner: starts the runners; None: one is opened for this hub.
        runner: the first one, spawned with `Settings.runner_environment`; the hub takes it over.

    Raises:
        StoreLocked: another hub works on the same SQLite file.
        StoreOutdated: the schema does not fit; run `holdfast db upgrade`.
        SettingsError: a model alias is wrong, or the hub could be reached from elsewhere without
            an API key.
    """
    ensure_logging(settings.log_level)
    models, prices, tariff = (
        settings.model_configs(),
        settings.price_list(),
        settings.own_tariff(),
    )
    embeddings = Embeddings(settings.embedding_configs())
    rules, redactions = settings.check_rules(), settings.redactions()
    settings.home.mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        store = await asyncio.to_thread(
            open_store, settings.store_url, home=settings.home, read_only=read_only
        )
        stack.push_async_callback(store.close)
        stack.push_async_callback(embeddings.aclose)
        boot_id = new_id()
        metrics = Metrics()
        journal = Journal(
            settings.home / "journal", boot_id, _assessor(rules, prices, tariff, metrics), metrics
        )
        stack.callback(journal.close)
        bus = open_bus(
            None if read_only else settings.bus_url,
            hub=boot_id,
            space=await _space(settings, store),
            metrics=metrics,
        )
        stack.push_async_callback(bus.close)
        kit = Kit(
            store=store,
            registry=_load_apps(settings, models),
            journal=journal,
            bus=bus,
            metrics=metrics,
            boot_id=boot_id,
            home=settings.home,
            aliases=frozenset(models),
            providers={name: config.provider for name, config in models.items()},
            embeddings=embeddings,
            prices=prices,
            tariff=tariff,
        )
        keyring = Keyring(store, metrics, exposed=settings.exposed)
        await keyring.refresh()
        for topic in (KEYS, GAP):
            bus.listen(topic, lambda _: keyring.stale())
        if not (in_process or on_demand):
            _no_open_doors(settings, keyring)
        ended = EndedEvents(kit)
        stack.callback(ended.close)
        runs = settings.runs or on_demand
        starts = (runs or settings.runs_agents) and not in_process and not read_only
        if spawner is None and starts:
            spawner = _open_spawner(settings)
            stack.callback(spawner.close)
        talks = Talks(kit)
        stack.callback(talks.close)
        hub = Hub(
            kit,
            HubOptions(
                runners=1 if in_process else settings.runners if runs else 0,
                about=_about(settings, boot_id, on_demand=on_demand),
                on_demand=on_demand,
                default_deadline_s=settings.deadline,
                stop_grace_s=settings.stop_grace,
                breakers=settings.breaker_rules,
                shares=settings.shared,
            ),
            hire=(
                _hire_here(settings, kit, models, redactions)
                if in_process
                else _hire(settings, models, spawner, runner)
            ),
            agents=(
                None
                if on_demand
                else _agents(settings, kit, models, spawner, in_process=in_process)
            ),
        )
        agents: Sequence[str] = ()
        if not read_only:
            await bus.start()
            if settings.shared:
                ended.start()
                talks.start()
            if settings.dispatch == "celery" and not in_process:
                bell = _celery_bell(settings, kit)
                bell.start(looks=not on_demand)
                stack.push_async_callback(bell.close)
            channels = _agent_channels(settings, kit, ended) if not on_demand else None
            if channels is not None:  # closed after the hub: so the last answers go out, too
                stack.push_async_callback(channels.close)
            await hub.start()
            stack.push_async_callback(hub.close)
            if channels is not None:
                channels.start()
            keyring.start()
            stack.push_async_callback(keyring.close)
            if not on_demand:
                agents = await apply_files(kit, LOCAL_OWNER, settings.agents)
        yield Parts(settings, kit, keyring, hub, ended, talks, agents)


def _agent_channels(settings: Settings, kit: Kit, ended: EndedEvents) -> AgentChannels | None:
    """What joins agents to channels on the bus's server; None where there is none."""
    outside = kit.bus.outside()
    if outside is None or not settings.runs_agents:
        return None
    from holdfast.hub.agent_channels import AgentChannels

    return AgentChannels(kit, outside, ended, host=socket.gethostname())


async def _space(settings: Settings, store: Store) -> str:
    """A name for what the hubs of this database share on a server."""
    if settings.bus_url is None:
        return "holdfast"
    digest = hashlib.sha256((await store.read(Space())).encode()).hexdigest()
    return f"holdfast:{digest[:16]}"


def _assessor(
    rules: tuple[Rule, ...], prices: Prices, tariff: Tariff, metrics: Metrics
) -> Assessor:
    name = "holdfast_content_checks_total"
    metrics.describe(name, "counter", "Texts in which a content check found something.")

    def count(check: str, action: str, on: str) -> None:
        metrics.add(name, check=check, action=action, side=on)

    return Assessor(
        price=prices.price,
        suspicious=flagging(rules, "input", lambda check: count(check, "flag", "input")),
        suspicious_answer=flagging(rules, "output", lambda check: count(check, "flag", "output")),
        tariff=tariff,
        checked=count,
    )


def _celery_bell(settings: Settings, kit: Kit) -> CeleryBell:
    try:
        from holdfast.bus.celery_broker import make_celery
        from holdfast.hub.celery_bell import CeleryBell
    except ImportError as error:
        raise SettingsError(
            f"HOLDFAST_DISPATCH: Celery cannot be imported: {error}",
            hint="pip install 'holdfast[celery,redis]'",
        ) from error
    assert settings.celery_broker_url is not None  # noqa: S101 - the settings see to that
    return CeleryBell(kit, make_celery(settings.celery_broker_url, settings.celery_queue))


def _about(settings: Settings, boot_id: str, *, on_demand: bool) -> NewHub:
    return NewHub(
        id=boot_id,
        kind=CELERY if on_demand else "hub",
        roles=settings.roles,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=version("holdfast"),
    )


def _no_open_doors(settings: Settings, keyring: Keyring) -> None:
    if not settings.exposed or not keyring.empty:
        return
    name, value = "HOLDFAST_HOST", settings.host
    if settings.allowed_hosts:
        name, value = "HOLDFAST_ALLOWED_HOSTS", ", ".join(settings.allowed_hosts)
    raise SettingsError(
        f"{name}: {value} lets other machines in, and there is no API key yet: anybody could "
        "send work",
        hint="make a key first: holdfast keys create NAME; or listen on 127.0.0.1",
    )


def _load_apps(settings: Settings, models: Mapping[str, Any]) -> Registry:
    # As with `python -m`: apps are found from the working directory.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return Registry.load(settings.apps, prompts=settings.prompts, aliases=models.keys())


def _hire_here(
    settings: Settings,
    kit: Kit,
    models: dict[str, Any],
    redactions: tuple[Redaction, ...],
) -> Callable[[str, Employer], Worker]:
    from holdfast.hub.local_worker import LocalWorker

    def local(name: str, employer: Employer) -> Worker:  # noqa: ARG001
        return LocalWorker(
            employer,
            slots=settings.runner_slots,
            registry=kit.registry,
            models=models,
            redactions=redactions,
        )

    return local


def _open_spawner(settings: Settings) -> Spawner:
    environment = settings.runner_environment()
    return open_spawner(settings.spawn, settings.preload(), environment=environment)


def _hire(
    settings: Settings,
    models: dict[str, Any],
    spawner: Spawner | None,
    first: RunnerProcess | None,
) -> Callable[[str, Employer], Worker]:
    from holdfast.hub.process_worker import ProcessWorker

    options = _runner_options(settings, models)
    spawned = [] if first is None else [first]
    return lambda name, employer: ProcessWorker(
        name, employer, options, spawner, spawned.pop() if spawned else None
    )


def _runner_options(settings: Settings, models: dict[str, Any]) -> RunnerOptions:
    from holdfast.hub.process_worker import RunnerOptions

    return RunnerOptions(
        apps=settings.apps,
        models=models,
        environment=settings.runner_environment(),
        slots=settings.runner_slots,
        log_level=settings.log_level,
        log_form=settings.log_form,
        prompts=tuple(str(folder.absolute()) for folder in settings.prompts),
        redact=tuple(one.plain() for one in settings.redactions()),
    )


def _agents(
    settings: Settings,
    kit: Kit,
    models: dict[str, Any],
    spawner: Spawner | None,
    *,
    in_process: bool,
) -> AgentOptions:
    """How this hub knows agents; one without the role runs none."""
    from holdfast.hub.agent_runners import AgentModels, AgentRunners, LocalAgents, configure

    if not settings.runs_agents:
        return AgentOptions(configure=configure)
    checks = [rule.plain() for rule in settings.check_rules() if rule.action != "flag"]
    theirs = AgentModels(models, settings.environment, checks)
    options = replace(
        _runner_options(settings, models), ping_s=settings.agent_runner_heartbeat_interval
    )
    logs = settings.home.absolute() / "logs" / "agents"
    return AgentOptions(
        configure=configure,
        hire=(
            LocalAgents(theirs, kit.registry.prompts, settings.redactions()).hire
            if in_process
            else AgentRunners(options, theirs, settings.environment, logs, spawner).hire
        ),
        rules=Rules(
            idle_s=settings.agent_inactivity_timeout,
            check_s=settings.process_check_interval,
            max_restarts=settings.max_restart_attempts,
            grace_s=settings.stop_grace,
        ),
        host=socket.gethostname(),
    )


def make_api(parts: Parts, *, trusted: bool = False) -> FastAPI:
    """The HTTP doors of a running hub.

    Args:
        parts: of the hub.
        trusted: only this process can reach them; they ask for no key.
    """
    from holdfast.api import ApiParts, create_api

    return create_api(
        ApiParts(
            kit=parts.kit,
            keyring=parts.keyring,
            ended=parts.ended,
            talks=parts.talks,
            not_ready=parts.not_ready,
            version=version("holdfast"),
            doors=Role.API in parts.settings.roles,
            host=parts.settings.host,
            allowed_hosts=parts.settings.allowed_hosts,
            trusted=trusted,
        )
    )


async def serve(
    settings: Settings,
    *,
    on_started: Callable[[Parts, str], None] = lambda _parts, _url: None,
    spawner: Spawner | None = None,
    runner: RunnerProcess | None = None,
) -> None:
    """Run a hub with its HTTP doors until SIGINT or SIGTERM.

    Args:
        settings: see `settings.Settings`.
        on_started: called with the hub and its address when it takes requests.
        spawner: see `run_hub`.
        runner: see `run_hub`.

    Raises:
        SettingsError: the port is taken.
    """
    configure_logging(settings.log_level, form=settings.log_form)
    with contextlib.closing(_bind(settings)) as sock, _signals() as stop:
        url = settings.model_copy(update={"port": sock.getsockname()[1]}).url
        async with run_hub(settings, spawner=spawner, runner=runner) as parts:
            # Aside: what a dead boot has left is to run now, doors or not.
            await asyncio.to_thread(import_module, "holdfast.api")
            api = make_api(parts)
            server = await asyncio.to_thread(_server, api, settings, lambda: on_started(parts, url))
            serving = asyncio.create_task(server.serve(sockets=[sock]))
            asked = asyncio.create_task(stop.wait())
            await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            api.state.parts.stop()  # streams and waiting requests would hold the stop up
            server.should_exit = True
            await serving


def _server(api: FastAPI, settings: Settings, started: Callable[[], None]) -> uvicorn.Server:
    import uvicorn

    class Server(uvicorn.Server):
        """Tells when it takes requests, and leaves the signals to us."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started()

        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None]:
            yield

    return Server(
        uvicorn.Config(
            api,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=max(1, int(settings.stop_grace)),
            ws_max_size=MAX_FRAME_BYTES,
            ws_per_message_deflate=False,  # it would cost more time than the small frames save
        )
    )


@contextlib.contextmanager
def _signals() -> Generator[asyncio.Event]:
    """An event set by the first SIGINT or SIGTERM; a second one ends the process at once.

    Ending at once is safe: what was accepted is committed, what runs is in the journal.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stopped() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol spelled out: asyncio sets TCP_NODELAY only on such sockets.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((settings.host, settings.port))
    except OSError as error:
        sock.close()
        raise SettingsError(
            f"HOLDFAST_PORT: cannot listen on {settings.host}:{settings.port} ({error.strerror})",
            hint="another program, perhaps another hub, uses it; choose another port",
        ) from error
    return sock
