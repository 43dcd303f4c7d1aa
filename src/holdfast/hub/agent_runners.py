"""What the process of an agent is started with: its configuration, models, secrets and log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from holdfast.agents.build import declare
from holdfast.agents.config import AgentConfig, SimpleSettings
from holdfast.agents.declaration import AgentDeclaration
from holdfast.agents.secrets import resolve_secrets
from holdfast.domain.agents import AgentVersion
from holdfast.llm.aliases import OWN_ALIAS, own_alias
from holdfast.llm.content.redaction import Redaction
from holdfast.pipelines.prompt_files import PromptFiles
from holdfast.pipelines.registry import Registry
from holdfast.ports import ModelConfig
from holdfast.runner.process import Spawner

from .agents import Configured
from .local_worker import LocalWorker
from .process_worker import ProcessWorker, RunnerOptions
from .worker import Employer, Worker

LOG_BYTES = 5_000_000
"""A log that is longer when a process starts is put aside; the one put aside before is gone."""


def configure(version: AgentVersion) -> Configured:
    """See `agents.Configure`."""
    declared = declare(
        id=version.id, name=version.name, version=version.version, config=version.config
    )
    settings = declared.config.settings
    return Configured(
        version=version,
        declaration=declared,
        concurrency=settings.concurrency,
        idle_s=settings.idle_s,
    )


class AgentModels:
    """The models an agent's process may ask.

    Args:
        aliases: of the settings.
        environ: environment variables, for an agent that names provider and model itself.
        checks: content checks that act on calls.
    """

    def __init__(
        self,
        aliases: Mapping[str, ModelConfig],
        environ: Mapping[str, str],
        checks: Sequence[Mapping[str, Any]],
    ) -> None:
        self._aliases = aliases
        self._environ = environ
        self._checks = checks

    def of(self, name: str, config: AgentConfig) -> dict[str, ModelConfig]:
        """Those that its configuration names, and what they fall back on; a graph's may be any.

        Args:
            name: of the agent.
            config: its configuration.

        Raises:
            SettingsError: the provider it names is unknown, or there is no key for it.
        """
        settings = config.settings
        if not isinstance(settings, SimpleSettings):
            return dict(self._aliases)
        wanted = list(settings.aliases)
        models: dict[str, ModelConfig] = {}
        while wanted:
            alias = wanted.pop()
            if alias in self._aliases and alias not in models:
                models[alias] = self._aliases[alias]
                wanted += models[alias].fallbacks
        if settings.provider is not None and settings.model_id is not None:
            own = own_alias(
                settings.provider,
                settings.model_id,
                settings.changes,
                self._environ,
                lambda: f"agent {name}",
            )
            models[OWN_ALIAS] = replace(own, checks=self._checks)
        return models


class AgentRunners:
    """Makes workers that run one agent each, in a process of its own.

    Args:
        options: what every runner of this hub is started with.
        models: see `AgentModels`.
        environ: environment variables, for references to secrets.
        logs: folder for what the processes print.
        spawner: starts the processes.
    """

    def __init__(
        self,
        options: RunnerOptions,
        models: AgentModels,
        environ: Mapping[str, str],
        logs: Path,
        spawner: Spawner | None,
    ) -> None:
        self._options = options
        self._models = models
        self._environ = environ
        self._logs = logs
        self._spawner = spawner
        self._numbers = count(1)

    def hire(self, agent: Configured, employer: Employer) -> Worker:
        """See `supervisor.HireAgent`."""
        version, config = agent.version, _config(agent)
        secrets = resolve_secrets(config.settings.secrets, self._environ)
        options = replace(
            self._options,
            apps=(),
            models=self._models.of(version.name, config),
            environment={**self._options.environment, **secrets},
            slots=agent.concurrency,
            log=fresh_log(self._logs / f"{version.id}.log"),
            agent={
                "id": version.id,
                "name": version.name,
                "version": version.version,
                "config": version.config,
            },
        )
        name = f"agent-{version.name}-{next(self._numbers)}"
        return ProcessWorker(name, employer, options, self._spawner)


class LocalAgents:
    """Makes workers that run one agent each in the hub's own process, for tests and notebooks.

    Their secrets are not in the environment: that is the whole process's.

    Args:
        models: see `AgentModels`.
        prompts: of the apps' files.
        redactions: what is taken out of all that is recorded.
    """

    def __init__(
        self, models: AgentModels, prompts: PromptFiles, redactions: Sequence[Redaction] = ()
    ) -> None:
        self._models = models
        self._prompts = prompts
        self._redactions = redactions

    def hire(self, agent: Configured, employer: Employer) -> Worker:
        """See `supervisor.HireAgent`."""
        config = _config(agent)
        declared = agent.declaration
        assert declared is not None  # noqa: S101 - `_config` would have raised
        return LocalWorker(
            employer,
            slots=agent.concurrency,
            registry=Registry([declared], prompts=self._prompts),
            models=self._models.of(agent.version.name, config),
            proves=declared,
            redactions=self._redactions,
        )


def _config(agent: Configured) -> AgentConfig:
    if agent.error is not None:
        raise agent.error
    assert isinstance(agent.declaration, AgentDeclaration)  # noqa: S101 - see `configure`
    return agent.declaration.config


def fresh_log(path: Path) -> Path:
    """A log file with room in it: one that has grown long is put aside.

    Raises:
        OSError: the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        long = path.stat().st_size > LOG_BYTES
    except FileNotFoundError:
        long = False
    if long:
        path.replace(path.with_name(f"{path.name}.1"))
    return path
