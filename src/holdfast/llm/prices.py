"""What a call cost, in whole picodollars, by the dated price list of genai-prices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from holdfast.domain.ids import MICROS

from .usage import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo

_PICO_PER_MTOK = 1_000_000  # $1 for a million tokens is 10^6 picodollars for one
_PICO_PER_KREQ = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """A cost and where it comes from; both None when it is not known."""

    cost_pico: int | None = None  # picodollars
    source: str | None = None
    date: str | None = None  # from which day on it holds, ISO 8601; None: always, or not told
    saved_pico: int | None = None  # what it would have cost more without the provider's cache


UNKNOWN = Price()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one million tokens cost, in dollars.

    A class without a price of its own costs what its whole costs: cached input as input,
    reasoning as output. Sound and pictures count as not cached as far as there is other input.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None  # None: as any other
    reasoning: Decimal | None = None
    input_audio: Decimal | None = None
    output_audio: Decimal | None = None
    input_image: Decimal | None = None
    output_image: Decimal | None = None
    thousand_requests: Decimal = Decimal(0)
    storage_hour: Decimal | None = None  # of a million tokens kept for an hour
    since: date | None = None  # first day it holds; None: always

    def cost_pico(self, usage: Usage) -> int:
        """Picodollars for `usage`, whose input and output must be known."""
        cached, written = usage.tokens_cached or 0, usage.tokens_cache_write or 0
        for_an_hour = 0 if self.cache_write_1h is None else usage.tokens_cache_write_1h or 0
        reasoning = (usage.tokens_reasoning or 0) if self.reasoning is not None else 0
        fresh = max(0, (usage.tokens_input or 0) - cached - written)
        answer = max(0, (usage.tokens_output or 0) - reasoning)
        dollars_per_mtok = self._modal(usage, fresh, answer) + (
            self.input * fresh
            + (self.input if self.cache_read is None else self.cache_read) * cached
            + (self.input if self.cache_write is None else self.cache_write)
            * max(0, written - for_an_hour)
            + (self.cache_write_1h or Decimal(0)) * for_an_hour
            + self.output * answer
            + (self.reasoning or Decimal(0)) * reasoning
        )
        pico = dollars_per_mtok * _PICO_PER_MTOK + self.thousand_requests * _PICO_PER_KREQ
        return int(pico.to_integral_value(ROUND_HALF_EVEN))

    def saved_pico(self, usage: Usage) -> int:
        """What it would have cost more had nothing been cached; below 0 when writing cost more."""
        if not (usage.tokens_cached or usage.tokens_cache_write):
            return 0
        plain = replace(
            usage, tokens_cached=None, tokens_cache_write=None, tokens_cache_write_1h=None
        )
        return self.cost_pico(plain) - self.cost_pico(usage)

    def _modal(self, usage: Usage, fresh: int, answer: int) -> Decimal:
        """What sound and pictures cost beyond as many tokens of text."""
        more = Decimal(0)
        for tokens, price, room, text in (
            (usage.tokens_input_audio, self.input_audio, fresh, self.input),
            (usage.tokens_input_image, self.input_image, fresh, self.input),
            (usage.tokens_output_audio, self.output_audio, answer, self.output),
            (usage.tokens_output_image, self.output_image, answer, self.output),
        ):
            if tokens and price is not None:
                more += (price - text) * min(tokens, room)
        return more


_STORAGE_MTOK_HOUR = (
    # Dollars for a million tokens kept for an hour, by the start of the model's name; from
    # Google's page "Gemini Developer API pricing", 2026. genai-prices has no such price.
    ("google", re.compile(r"gemini-(?:2\.5|3(?:\.\d)?)-pro"), Decimal("4.50")),
    ("google", re.compile(r"gemini-(?:2\.5|3(?:\.\d)?)-flash"), Decimal("1.00")),
)


def storage_price(provider: str, model: str) -> int | None:
    """Picodollars for one token that is kept in a cache for an hour; None: not known."""
    for of, name, dollars in _STORAGE_MTOK_HOUR:
        if of == provider and name.match(model):
            return int(dollars * _PICO_PER_MTOK)
    return None


class Prices:
    """Prices by provider and model; each rate is looked up once and kept."""

    def __init__(
        self,
        overrides: Mapping[tuple[str, str], Sequence[Rate]] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        """Start with own prices, which win over the list.

        Args:
            overrides: by (provider, model), each from a day on, the latest first.
            aliases: `provider:model` as which calls by an alias are priced.
        """
        self._overrides = dict(overrides or {})
        self._aliases = dict(aliases or {})
        self._models: dict[tuple[str, str], ModelInfo | None] = {}
        self._tables: dict[int, _Table | None] = {}

    def storage(self, provider: str, model: str, at_us: int) -> int | None:
        """As `storage_price`; an own price of the day wins."""
        own = self._own(provider, model, at_us)
        if own is None or own.storage_hour is None:
            return storage_price(provider, model)
        return int(own.storage_hour * _PICO_PER_MTOK)

    def price(
        self, provider: str, model: str, usage: Usage, at_us: int, *, alias: str | None = None
    ) -> Price:
        """What a call cost.

        Args:
            provider: name of the provider (`openai`, …).
            model: as the provider named it in its answer, or as it was asked for.
            usage: its tokens.
            at_us: when it was made, microseconds since the epoch: prices change.
            alias: by which it was asked; one may be priced as another model.

        Returns:
            An unknown price when the tokens or the model's price are not known.
        """
        if provider == "scripted":
            return Price(0, "scripted")
        if usage.tokens_input is None or usage.tokens_output is None:
            return UNKNOWN
        if alias is not None and alias in self._aliases:
            provider, _, model = self._aliases[alias].partition(":")
        source, rate = "override", self._own(provider, model, at_us)
        if rate is None:
            source, rate = self._source, self._rate(provider, model, usage, at_us)
        if rate is None:
            return UNKNOWN
        since = None if rate.since is None else rate.since.isoformat()
        return Price(rate.cost_pico(usage), source, since, rate.saved_pico(usage))

    def _own(self, provider: str, model: str, at_us: int) -> Rate | None:
        rates = self._overrides.get((provider, model))
        if not rates:
            return None
        day = datetime.fromtimestamp(at_us / MICROS, tz=UTC).date()
        return next((one for one in rates if one.since is None or one.since <= day), None)

    @cached_property
    def _source(self) -> str:
        import genai_prices

        return f"genai-prices {genai_prices.__version__}"

    def _rate(self, provider: str, model: str, usage: Usage, at_us: int) -> Rate | None:
        key = (provider, model)
        if key not in self._models:
            self._models[key] = _find(provider, model)
        info = self._models[key]
        if info is None:
            return None
        since = None
        if isinstance(info.prices, list):
            listed = info.get_prices(datetime.fromtimestamp(at_us / MICROS, tz=UTC))
            since = _since(info.prices, listed)
        else:
            listed = info.prices
        # The list's entries live as long as the process, so their identity is a safe key.
        if id(listed) not in self._tables:
            self._tables[id(listed)] = _table(vars(listed), since)
        table = self._tables[id(listed)]
        if table is None or (usage.tokens_output and not table.has_output):
            return None
        return table.rate(usage.tokens_input or 0)


@dataclass(frozen=True, slots=True)
class _Table:
    """One entry of the list: the rate up to each prompt size, largest first."""

    steps: tuple[tuple[int, Rate], ...]  # (applies above this many input tokens, rate)
    has_output: bool  # an embedding model has none, and no price for it

    def rate(self, tokens_input: int) -> Rate:
        return next(rate for above, rate in self.steps if tokens_input > above)


def _find(provider: str, model: str) -> ModelInfo | None:
    from genai_prices.data_snapshot import get_snapshot

    try:
        return get_snapshot().find_provider_model(model, None, provider, None)[1]
    except LookupError:
        return None


def _since(prices: Iterable[Any], listed: Any) -> date | None:
    """The day from which an entry of a dated list holds; None: from the start."""
    (entry,) = [one for one in prices if one.prices is listed][:1]
    return getattr(entry.constraint, "start_date", None)


def _table(listed: Mapping[str, Any], since: date | None) -> _Table | None:
    """An entry's rates; None when it has no price for tokens in."""
    if listed.get("input_mtok") is None:
        return None
    has_output = listed.get("output_mtok") is not None
    starts = {tier.start for price in listed.values() for tier in _tiers(price)}
    steps = [(start, _rate_at(listed, start + 1, since)) for start in starts]
    first = (-1, _rate_at(listed, 0, since))
    return _Table((*sorted(steps, key=lambda s: -s[0]), first), has_output)


def _rate_at(listed: Mapping[str, Any], tokens_input: int, since: date | None) -> Rate:
    def at(name: str) -> Decimal | None:
        price = listed.get(name)
        found = getattr(price, "base", price)
        for tier in _tiers(price):
            if tokens_input > tier.start:
                found = tier.price
        return found

    return Rate(
        input=at("input_mtok") or Decimal(0),
        output=at("output_mtok") or Decimal(0),
        cache_read=at("cache_read_mtok"),
        cache_write=at("cache_write_mtok"),
        cache_write_1h=at("cache_write_1h_mtok"),
        reasoning=at("output_reasoning_mtok"),
        input_audio=at("input_audio_mtok"),
        output_audio=at("output_audio_mtok"),
        input_image=at("input_image_mtok"),
        output_image=at("output_image_mtok"),
        thousand_requests=at("requests_kcount") or Decimal(0),
        since=since,
    )


def _tiers(price: Any) -> Iterable[Any]:
    """Tiers in ascending order; none for a plain price."""
    return getattr(price, "tiers", ())
