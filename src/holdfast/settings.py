"""All settings, in one place; the only reader of the environment.

Each is the environment variable `HOLDFAST_` + its name in capitals, from the environment or a
`.env` file in the working directory. An unknown `HOLDFAST_…` variable or a wrong value is refused
with its name.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

import orjson
from dotenv import dotenv_values
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from holdfast.domain.breakers import BreakerRules
from holdfast.domain.hubs import Role
from holdfast.errors import SettingsError
from holdfast.llm.aliases import Source, read_aliases
from holdfast.llm.content.redaction import Redaction, read_redactions
from holdfast.llm.content.rules import DEFAULT_RULES, Rule, read_rules
from holdfast.llm.embeddings import read_embeddings
from holdfast.llm.price_list import Tariff, read_prices, read_tariff
from holdfast.llm.prices import Prices
from holdfast.llm.registry import module_of
from holdfast.ports import ModelConfig
from holdfast.runner.process import SpawnKind

PREFIX = "HOLDFAST_"

ALIASES = {
    "DATABASE_URL": "database_url",
    "MANAGER_PORT": "port",
    "AGENT_INACTIVITY_TIMEOUT": "agent_inactivity_timeout",
    "PROCESS_CHECK_INTERVAL": "process_check_interval",
    "MAX_RESTART_ATTEMPTS": "max_restart_attempts",
    "AGENT_RUNNER_HEARTBEAT_INTERVAL": "agent_runner_heartbeat_interval",
}
"""Variables without the prefix that are read too; the prefixed form wins."""

FOREIGN = ("HOLDFAST_TEST_",)
"""Prefixes of variables that belong to the tests and are ignored here."""

BROKERS = frozenset({"redis", "rediss", "amqp", "amqps"})
"""Schemes of brokers that Celery rings through."""

RUNNER_HIDES = frozenset(
    {
        "DATABASE_URL",
        "MANAGER_PORT",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        "OLLAMA_API_KEY",
        "OPENAI_API_KEY",
    }
)
"""Variables a runner does not inherit; a key reaches it only if a model alias uses it."""


_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is listened on


class Settings(BaseModel):
    """Everything that can be set.

    Attributes:
        environment: the variables the settings were read from, for what refers to them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(
        default=Path(".holdfast"), description="Folder for the SQLite file, the journal and locks."
    )
    database_url: str | None = Field(
        default=None,
        description="`postgresql://user@host/name` or `sqlite:////path`; default: an SQLite file "
        "under the home folder.",
        repr=False,
    )
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on; others than loopback need API keys, see docs/keys.md.",
    )
    port: int = Field(default=8001, ge=0, le=65535, description="Port to listen on; 0: any free.")
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="Further names by which requests may address the hub, separated by commas; "
        "needs API keys.",
    )
    roles: tuple[Role, ...] = Field(
        default=(Role.API, Role.WORKER, Role.AGENTS),
        description="What this hub does, separated by commas: `api`, `worker`, `agents`.",
    )
    bus_url: str | None = Field(
        default=None,
        description="Joins several hubs: `redis://host:port`; PostgreSQL only.",
        repr=False,
    )
    dispatch: Literal["direct", "celery"] = Field(
        default="direct",
        description="Who runs pipelines: `direct`, the hubs themselves, or `celery`, its workers.",
    )
    celery_broker_url: str | None = Field(
        default=None, description="`redis://…` or `amqp://…`, for `celery`.", repr=False
    )
    celery_queue: str = Field(
        default="holdfast", min_length=1, description="Queue that rings Celery's workers."
    )
    key: str | None = Field(
        default=None, description="The API key that clients on this machine show.", repr=False
    )
    apps: tuple[str, ...] = Field(
        default=(),
        description="Apps to load, separated by commas: `package.module` or `package.module:name`.",
    )
    agents: tuple[Path, ...] = Field(
        default=(),
        description="Files of agents to apply at the start, separated by commas; see "
        "docs/agents.md.",
    )
    prompts: tuple[Path, ...] = Field(
        default=(),
        description="Folders of prompts besides those beside the apps, separated by commas; see "
        "docs/prompts.md.",
    )
    models: dict[str, Any] = Field(
        default_factory=dict[str, Any],
        description='Model aliases as JSON: `{"fast": "openai:NAME"}`; see docs/models.md.',
    )
    embeddings: dict[str, Any] = Field(
        default_factory=dict[str, Any],
        description='Embedding aliases as JSON: `{"default": "openai:NAME"}`; see '
        "docs/knowledge.md.",
    )
    models_file: Path | None = Field(
        default=None, description="Model aliases as a YAML file; `HOLDFAST_MODELS` wins over it."
    )
    prices: Path | None = Field(
        default=None, description="File with own prices of models, YAML or JSON; see docs/costs.md."
    )
    tariff: Path | None = Field(
        default=None, description="File with credits by operation and alias; see docs/costs.md."
    )
    checks: list[Any] | None = Field(
        default=None,
        description="Content checks as JSON: "
        '`[{"check": "secrets", "on": "input", "action": "redact"}]`; see docs/checks.md.',
    )
    redact: list[Any] = Field(
        default_factory=list[Any],
        description="What no record keeps, as JSON: "
        '`[{"check": "personal"}, {"pattern": "K-[0-9]{6}", "kind": "customer"}]`; see '
        "docs/checks.md.",
    )
    runners: int = Field(default=2, ge=1, le=64, description="Runner processes.")
    runner_slots: int = Field(
        default=32, ge=1, le=1024, description="Executions one runner works on at once."
    )
    runner_env: tuple[str, ...] = Field(
        default=(),
        description="Names of variables runners inherit although they are hidden by default.",
    )
    spawn: SpawnKind = Field(
        default="auto",
        description="How runners are started: forked from a warm `zygote`, `plain`, or `auto`: "
        "forked where that can be.",
    )
    agent_inactivity_timeout: float = Field(
        default=1800.0,
        ge=0,
        description="Seconds without a message after which an agent's process is stopped; the next "
        "message starts it again; 0: never.",
    )
    process_check_interval: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="Seconds between two looks at agents' processes: whether they are idle, and "
        "what is wanted of them.",
    )
    max_restart_attempts: int = Field(
        default=5,
        ge=0,
        description="Restarts in a row that come to nothing before an agent's process is given up.",
    )
    agent_runner_heartbeat_interval: float = Field(
        default=5.0,
        gt=0,
        le=30,
        description="Seconds between two questions to an agent's process whether it still answers.",
    )
    deadline: float | None = Field(
        default=600.0,
        gt=0,
        description="Seconds an execution may take when its pipeline does not say; 0: no limit.",
    )
    stop_grace: float = Field(
        default=10.0, ge=0, description="Seconds running work gets to end when the hub stops."
    )
    breaker_failures: int = Field(
        default=5, ge=0, description="Failed calls that open a circuit breaker; 0: none does."
    )
    breaker_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of the calls that must have failed for that."
    )
    breaker_window: float = Field(
        default=60.0, gt=0, description="Seconds back that calls count for a breaker."
    )
    breaker_cooldown: float = Field(
        default=10.0,
        gt=0,
        description="Seconds a breaker stays open before one call may try again; each failed try "
        "doubles them.",
    )
    breaker_cooldown_most: float = Field(
        default=300.0, gt=0, description="Seconds a breaker's cool-down is never longer than."
    )
    breaker_rate_limits: bool = Field(
        default=False, description="Whether a provider's 429 counts as a failed call."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least important log records shown."
    )
    log_form: Literal["text", "json"] = Field(
        default="text", description="Log records for people or for collectors."
    )
    environment: Annotated[Mapping[str, str], Field(repr=False, exclude=True)] = Field(
        default_factory=dict[str, str], repr=False
    )

    @field_validator(
        "agents", "apps", "allowed_hosts", "prompts", "roles", "runner_env", mode="before"
    )
    @classmethod
    def _comma_list(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("models", "embeddings", "checks", "redact", mode="before")
    @classmethod
    def _json(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"not JSON: {error}") from error

    @field_validator("deadline", mode="before")
    @classmethod
    def _no_limit(cls, value: Any) -> Any:
        return None if value in (0, "0") else value

    @field_validator("roles")
    @classmethod
    def _roles(cls, value: tuple[Role, ...]) -> tuple[Role, ...]:
        if not value:
            raise ValueError("a hub needs a role")
        return tuple(role for role in Role if role in value)

    @model_validator(mode="after")
    def _several(self) -> Self:
        """What needs a database that several hubs can share."""
        if self.dispatch == "celery" and self.celery_broker_url is None:
            raise SettingsError(
                "HOLDFAST_DISPATCH: celery needs a broker",
                hint="set HOLDFAST_CELERY_BROKER_URL to redis://… or amqp://…",
            )
        if self.celery_broker_url is not None:
            scheme = self.celery_broker_url.partition("://")[0]
            if scheme not in BROKERS:
                raise SettingsError(
                    f"HOLDFAST_CELERY_BROKER_URL: {scheme or 'an empty text'} is no broker we know",
                    hint="use redis://HOST:PORT/0 or amqp://USER:PASSWORD@HOST:PORT//",
                )
        if self.shared:
            return self
        if self.dispatch == "celery":
            raise SettingsError(
                "HOLDFAST_DISPATCH: SQLite allows exactly one hub, and each Celery process is one",
                hint="set HOLDFAST_DATABASE_URL to a PostgreSQL database",
            )
        alone = "SQLite allows exactly one hub"
        hint = "set HOLDFAST_DATABASE_URL to a PostgreSQL database"
        if self.bus_url is not None:
            raise SettingsError(
                f"HOLDFAST_BUS_URL: {alone}, there are no others to join", hint=hint
            )
        if not {Role.API, Role.WORKER} <= set(self.roles):
            raise SettingsError(f"HOLDFAST_ROLES: {alone}, and it needs api and worker", hint=hint)
        return self

    @field_validator("host")
    @classmethod
    def _address(cls, value: str) -> str:
        if value == "localhost":
            return value
        try:
            ip_address(value)
        except ValueError as error:
            raise ValueError("must be an IP address or localhost") from error
        return value

    @property
    def breaker_rules(self) -> BreakerRules:
        """When circuit breakers open, and for how long."""
        return BreakerRules(
            failures=self.breaker_failures,
            share=self.breaker_share,
            window_s=self.breaker_window,
            cooldown_s=self.breaker_cooldown,
            cooldown_most_s=self.breaker_cooldown_most,
            rate_limits=self.breaker_rate_limits,
        )

    @property
    def url(self) -> str:
        """Where the hub answers, seen from this machine."""
        name = _EVERYWHERE.get(self.host, self.host)
        host = f"[{name}]" if ":" in name else name
        return f"http://{host}:{self.port}"

    @property
    def exposed(self) -> bool:
        """Whether the hub is meant to be reached from other machines."""
        local = self.host == "localhost" or ip_address(self.host).is_loopback
        return bool(self.allowed_hosts) or not local

    @property
    def runs(self) -> bool:
        """Whether this hub has runners of its own."""
        return Role.WORKER in self.roles and self.dispatch == "direct"

    @property
    def runs_agents(self) -> bool:
        """Whether this hub runs agents."""
        return Role.AGENTS in self.roles

    @property
    def store_url(self) -> str:
        """The database, as a URL."""
        return self.database_url or f"sqlite:///{self.home.absolute() / 'holdfast.db'}"

    @property
    def shared(self) -> bool:
        """Whether several hubs can work on the database."""
        return self.store_url.partition(":")[0] != "sqlite"

    def model_configs(self) -> dict[str, ModelConfig]:
        """The model aliases, secrets resolved.

        Raises:
            SettingsError: an alias is wrong; the message names it.
        """
        acting = [rule.plain() for rule in self.check_rules() if rule.action != "flag"]
        file = None if self.models_file is None else _aliases_in(self.models_file)
        configs = read_aliases(self.models, self.environment, file=file)
        return {name: replace(config, checks=acting) for name, config in configs.items()}

    def embedding_configs(self) -> dict[str, ModelConfig]:
        """The embedding aliases, secrets resolved; only the hub needs them.

        Raises:
            SettingsError: an alias is wrong; the message names it.
        """
        return read_embeddings(self.embeddings, self.environment)

    def preload(self) -> tuple[str, ...]:
        """Modules that a zygote imports for the runners it forks: the providers in use, agents."""
        providers = sorted({config.provider for config in self.model_configs().values()})
        vendors = [module for name in providers if (module := module_of(name)) is not None]
        return (*vendors, *(("holdfast.agents.build",) if self.runs_agents else ()))

    def price_list(self) -> Prices:
        """What calls cost: own prices over the list, and aliases that are priced as others.

        Raises:
            SettingsError: the file of own prices is wrong; the message says where.
        """
        own = {} if self.prices is None else read_prices(self.prices, "HOLDFAST_PRICES")
        as_others = {
            alias: config.price for alias, config in self.model_configs().items() if config.price
        }
        return Prices(own, as_others)

    def own_tariff(self) -> Tariff:
        """Credits by operation and alias.

        Raises:
            SettingsError: the file is wrong; the message says where.
        """
        return Tariff() if self.tariff is None else read_tariff(self.tariff, "HOLDFAST_TARIFF")

    def check_rules(self) -> tuple[Rule, ...]:
        """The content checks; the usual ones where nothing is set.

        Raises:
            SettingsError: a rule is wrong; the message names it.
        """
        if self.checks is None:
            return DEFAULT_RULES
        return read_rules(self.checks, "HOLDFAST_CHECKS")

    def redactions(self) -> tuple[Redaction, ...]:
        """What is taken out of all that is recorded.

        Raises:
            SettingsError: a rule is wrong; the message names it.
        """
        return read_redactions(self.redact, "HOLDFAST_REDACT")

    def runner_environment(self) -> dict[str, str]:
        """What a runner inherits: no setting of the hub's, no key that no alias uses."""
        keys = {config.api_key for config in self.model_configs().values() if config.api_key}
        return {
            name: value
            for name, value in self.environment.items()
            if name in self.runner_env
            or value in keys
            or not (name.startswith(PREFIX) or name in RUNNER_HIDES)
        }


def load(
    overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Read the settings.

    Args:
        overrides: by field name; win over the environment.
        environ: instead of the process's environment and `.env`.

    Raises:
        SettingsError: an unknown variable or a wrong value; the message names the variable.
    """
    if environ is None:
        dotenv = {name: value for name, value in dotenv_values(".env").items() if value is not None}
        environ = {**dotenv, **os.environ}
    values: dict[str, Any] = {}
    for name, field in ALIASES.items():
        if environ.get(name):
            values[field] = environ[name]
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name.startswith(FOREIGN):
            continue
        field = name.removeprefix(PREFIX).lower()
        if field not in Settings.model_fields or field == "environment":
            raise SettingsError(f"unknown setting {name}", hint=_nearest(field))
        values[field] = value
    values |= {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        return Settings(**values, environment=environ)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise SettingsError(
            f"{name}: {first['msg'].removeprefix('Value error, ')}",
            hint=Settings.model_fields[str(first["loc"][0])].description or "",
        ) from None


def _aliases_in(path: Path) -> tuple[dict[str, Any], Source]:
    """The aliases of a YAML file, and where each thing stands in it.

    Raises:
        SettingsError: it cannot be read, or is no mapping of aliases.
    """
    from holdfast.pipelines.cards.faults import Faults
    from holdfast.pipelines.cards.reader import Reader

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = type(error).__name__
        raise SettingsError(f"HOLDFAST_MODELS_FILE: {path} cannot be read ({reason})") from error
    faults = Faults(str(path))
    read = Reader(faults).read(text)
    if faults.found:
        raise SettingsError("; ".join(str(fault) for fault in faults.sorted()))
    if not isinstance(read, dict):
        raise SettingsError(
            f"{path}:1: expected aliases", hint="NAME: provider:model, one below the other"
        )
    aliases = cast("dict[str, Any]", read)
    return aliases, Source(str(path), lambda at: faults.place(at, key=True)[0])


def _nearest(field: str) -> str:
    close = difflib.get_close_matches(field, Settings.model_fields, n=1)
    known = [name for name in Settings.model_fields if name != "environment"]
    names = close or known
    return "did you mean " + " or ".join(PREFIX + name.upper() for name in names) + "?"
