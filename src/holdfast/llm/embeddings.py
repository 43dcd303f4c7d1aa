"""Embeddings by alias: batches, what each call used, vectors of length 1."""

from __future__ import annotations

import asyncio
import math
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.domain.changes import NO_USAGE
from holdfast.domain.ids import now_us
from holdfast.domain.knowledge import DEFAULT, Embedding
from holdfast.domain.splitting import tokens_of
from holdfast.errors import BreakerOpen, BudgetExceeded, ModelError, SettingsError
from holdfast.ports import (
    BreakersPort,
    EmbeddingCall,
    ModelConfig,
    NoBreakers,
    PlannedCall,
    Spending,
)

from . import hashing
from .aliases import Source, place_of, read_alias
from .calls import reported
from .failures import classify
from .registry import provider_class
from .usage import Usage

if TYPE_CHECKING:
    from .base import Provider

SETTING = "HOLDFAST_EMBEDDINGS"

HASHING = "hashing"

FIELDS = ("model", "base_url", "api_key", "parameters")
"""Of an embedding alias."""

PARAMETERS = frozenset({"dimensions", "batch", "timeout_s"})
"""What an embedding alias may set; `batch` is the most texts of one call."""

BATCH = 96

HASHED_AT_ONCE = 64
"""Texts that are hashed before the loop gets its turn."""


def read_embeddings(
    value: Mapping[str, Any] | None, environ: Mapping[str, str]
) -> dict[str, ModelConfig]:
    """All embedding aliases: those of the settings over the default, which is hashing.

    Args:
        value: as for `aliases.read_aliases`, with the parameters of `PARAMETERS`.
        environ: environment variables, as `settings` read them.

    Raises:
        SettingsError: see `aliases.read_aliases`.
    """
    found = dict(OFFLINE)
    for alias, spec in (value or {}).items():
        config = read_alias(
            alias,
            spec,
            environ,
            place_of(Source(SETTING), alias),
            fields_known=FIELDS,
            parameters=PARAMETERS,
            without=HASHING,
        )
        if config.provider == HASHING and config.model != hashing.MODEL:
            raise SettingsError(
                f"{SETTING}, alias {alias!r}: hashing has no model {config.model!r}",
                hint=f"write {HASHING}:{hashing.MODEL}",
            )
        for name in ("dimensions", "batch"):
            number = config.parameters.get(name, 1)
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise SettingsError(
                    f"{SETTING}, alias {alias!r}: {name} must be a whole number above 0"
                )
        found[alias] = config
    return found


OFFLINE: Mapping[str, ModelConfig] = {
    DEFAULT: ModelConfig(alias=DEFAULT, provider=HASHING, model=hashing.MODEL)
}


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a provider gave for a batch.

    Attributes:
        vectors: one for each text, in their order.
        tokens: that it counted; None when it does not say.
        request_id: the provider's, for its support.
    """

    vectors: Sequence[Sequence[float]]
    tokens: int | None = None
    request_id: str | None = None


class Purse(Protocol):
    """What calls are booked on: the part of `ports.BudgetsPort` that is needed here."""

    async def reserve(self, call: PlannedCall | None) -> str | None:
        """See `BudgetsPort.reserve`."""
        ...

    def settle(self, spending: Spending) -> None:
        """See `BudgetsPort.settle`."""
        ...


@dataclass(slots=True)
class Vectors:
    """Vectors of texts, and the calls that made them.

    Attributes:
        packed: float32, little-endian, of length 1, in the order of the texts.
        calls: also those that failed, and that were refused; filled as they are made.
        purse: budgets that the calls count for; None: none does.
    """

    packed: list[bytes] = field(default_factory=list[bytes])
    calls: list[EmbeddingCall] = field(default_factory=list[EmbeddingCall])
    purse: Purse | None = None


class Embeddings:
    """The embedding aliases of one process."""

    def __init__(self, configs: Mapping[str, ModelConfig] = OFFLINE) -> None:
        """Keep the configuration; nothing is imported or connected yet.

        Args:
            configs: by alias, secrets resolved.
        """
        self._configs = dict(configs)
        self._providers: dict[str, Provider] = {}
        self.breakers: BreakersPort = NoBreakers()  # the hub's, once it has started

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._configs))

    def __contains__(self, alias: object) -> bool:
        return alias in self._configs

    def config(self, alias: str) -> ModelConfig:
        """What an alias stands for.

        Raises:
            SettingsError: there is none of that name.
        """
        found = self._configs.get(alias)
        if found is None:
            raise SettingsError(
                f"there is no embedding alias {alias!r}",
                hint=f"known are {', '.join(sorted(self._configs))}; see {SETTING}",
            )
        return found

    def like(self, embedding: Embedding) -> ModelConfig:
        """The alias that makes vectors of this kind.

        Raises:
            SettingsError: none does.
        """
        # One that names its size before one that has the model's own, whatever that is.
        for unnamed in (None, embedding.dimensions):
            for config in self._configs.values():
                kind = (config.provider, config.model, dimensions_of(config) or unnamed)
                if kind == (embedding.provider, embedding.model, embedding.dimensions):
                    return config
        raise SettingsError(
            f"no embedding alias stands for {embedding}, which made the vectors there",
            hint=f"name it in {SETTING}, or index the documents anew into another collection",
        )

    async def embed(
        self, config: ModelConfig, texts: Sequence[str], *, query: bool = False, into: Vectors
    ) -> None:
        """Embed texts, batch after batch; a failed batch leaves its call in `into.calls`.

        Args:
            config: of the alias.
            texts: none of them empty.
            query: they are asked, not kept; some models tell the two apart.
            into: takes vectors and calls.

        Raises:
            ModelError: the provider failed or gave what cannot be used.
            BreakerOpen: its calls kept failing, none is made now.
            BudgetExceeded: a budget has no room for the call.
            SettingsError: the provider cannot be loaded, or has no embeddings.
        """
        await self._load(config.provider)
        size = config.parameters.get("batch", BATCH)
        for start in range(0, len(texts), size):
            await self._batch(config, texts[start : start + size], query, into)

    async def _batch(
        self, config: ModelConfig, texts: Sequence[str], query: bool, into: Vectors
    ) -> None:
        at, began = now_us(), time.perf_counter_ns()
        told: dict[str, Any] = {"provider": config.provider, "model": config.model, "at": at}
        told |= {"texts": len(texts), "parameters": _shown(config)}
        try:
            made, packed = await self._booked(config, texts, query, into.purse)
        except SettingsError:
            raise
        except Exception as error:
            # A breaker or a budget that refused the call; or a breaker that it opened by failing.
            refused = isinstance(error, BreakerOpen | BudgetExceeded)
            made_it = not refused or error.__cause__ is not None
            failure = classify((error.__cause__ or error) if refused else error)
            took = (time.perf_counter_ns() - began) // 1000
            into.calls.append(
                EmbeddingCall(
                    **told,
                    duration_us=took,
                    usage="unknown" if made_it else NO_USAGE,
                    error=failure.message,
                    error_class=failure.error_class,
                    http_status=failure.http_status,
                    request_id=failure.request_id,
                )
            )
            if refused:
                raise
            raise ModelError(
                f"embedding by {config.provider}:{config.model} failed: {failure.message}",
                error_class=failure.error_class,
                http_status=failure.http_status,
            ) from error
        tokens, usage = made.tokens, "reported"
        if config.provider == HASHING:
            usage = NO_USAGE
        elif tokens is None:
            tokens, usage = sum(map(tokens_of, texts)), "estimated"
        into.packed += packed
        into.calls.append(
            EmbeddingCall(
                **told,
                duration_us=(time.perf_counter_ns() - began) // 1000,
                tokens=tokens,
                usage=usage,
                request_id=made.request_id,
            )
        )

    async def _booked(
        self, config: ModelConfig, texts: Sequence[str], query: bool, purse: Purse | None
    ) -> tuple[Embedded, list[bytes]]:
        """One call, with room set aside for it before and settled after, however it ended."""
        if config.provider == HASHING:
            return await self._checked(config, texts, query)
        reserved, planned = None, sum(map(tokens_of, texts))
        if purse is not None:
            reserved = await purse.reserve(
                PlannedCall(
                    alias="", provider=config.provider, model=config.model, tokens_input=planned
                )
            )
        spent: dict[str, Any] = {"unknown": True}  # cancelled: perhaps after it was sent
        try:
            made = await self._guarded(config, texts, query)
            tokens = planned if made[0].tokens is None else made[0].tokens
            usage = Usage(tokens_input=tokens, tokens_output=0, usage="reported")
            spent = {"usage": asdict(usage)}
            return made
        except Exception:
            spent = {}  # it failed before any answer
            raise
        finally:
            if purse is not None and reserved is not None:
                purse.settle(Spending(reserved, **spent))

    async def _guarded(
        self, config: ModelConfig, texts: Sequence[str], query: bool
    ) -> tuple[Embedded, list[bytes]]:
        """One call under the breaker of its provider and model."""
        name = self._providers[config.provider].breaker(config)
        if name is None:
            return await self._checked(config, texts, query)
        with reported(self.breakers, await self.breakers.allow(name)):
            return await self._checked(config, texts, query)

    async def _checked(
        self, config: ModelConfig, texts: Sequence[str], query: bool
    ) -> tuple[Embedded, list[bytes]]:
        made = await self._ask(config, texts, query)
        packed = [_packed(vector) for vector in made.vectors]
        if len(packed) != len(texts) or len({len(one) for one in packed}) > 1:
            raise ModelError(
                f"{config.provider}:{config.model} gave {len(packed)} vectors for "
                f"{len(texts)} texts, or of different sizes",
                error_class="temporary",
            )
        return made, packed

    async def _ask(self, config: ModelConfig, texts: Sequence[str], query: bool) -> Embedded:
        if config.provider == HASHING:
            size = dimensions_of(config) or hashing.DIMENSIONS
            vectors: list[list[float]] = []
            for start in range(0, len(texts), HASHED_AT_ONCE):
                batch = texts[start : start + HASHED_AT_ONCE]
                vectors += await asyncio.to_thread(hashing.embed_all, batch, size)
            return Embedded(vectors)
        return await self._providers[config.provider].embed(config, texts, query=query)

    async def _load(self, name: str) -> None:
        if name == HASHING or name in self._providers:
            return
        # In a thread: importing a vendor's package takes seconds, and the hub must not stand still.
        made = (await asyncio.to_thread(provider_class, name))()
        self._providers.setdefault(name, made)

    async def aclose(self) -> None:
        """Close every provider's connections."""
        providers = list(self._providers.values())
        self._providers.clear()
        async with AsyncExitStack() as stack:
            for provider in providers:
                stack.push_async_callback(provider.aclose)


def dimensions_of(config: ModelConfig) -> int | None:
    """Numbers in a vector; None when the alias leaves that to the model."""
    usual = hashing.DIMENSIONS if config.provider == HASHING else None
    return config.parameters.get("dimensions", usual)


def _shown(config: ModelConfig) -> dict[str, Any]:
    return dict(config.parameters) | (
        {"label": hashing.LABEL} if config.provider == HASHING else {}
    )


def _packed(vector: Sequence[float]) -> bytes:
    length = math.sqrt(math.fsum(x * x for x in vector))
    if not vector or not math.isfinite(length) or length == 0.0:
        raise ModelError("an embedding is empty, zero or not finite", error_class="temporary")
    return struct.pack(f"<{len(vector)}f", *(x / length for x in vector))
