"""What a call cost, in whole picodollars, by the dated price list of genai-prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
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


UNKNOWN = Price()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one million tokens cost, in dollars.

    A class without a price of its own costs what its whole costs: cached input as input,
    reasoning as output.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None  # None: as any other
    reasoning: Decimal | None = None
    thousand_requests: Decimal = Decimal(0)

    def cost_pico(self, usage: Usage) -> int:
        """Picodollars for `usage`, whose input and output must be known."""
        cached, written = usage.tokens_cached or 0, usage.tokens_cache_write or 0
        for_an_hour = 0 if self.cache_write_1h is None else usage.tokens_cache_write_1h or 0
        reasoning = (usage.tokens_reasoning or 0) if self.reasoning is not None else 0
        fresh = max(0, (usage.tokens_input or 0) - cached - written)
        answer = max(0, (usage.tokens_output or 0) - reasoning)
        dollars_per_mtok = (
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


class Prices:
    """Prices by provider and model; each rate is looked up once and kept."""

    def __init__(self, overrides: Mapping[tuple[str, str], Rate] | None = None) -> None:
        """Start with own prices, which win over the list.

        Args:
            overrides: by (provider, model).
        """
        self._overrides = dict(overrides or {})
        self._models: dict[tuple[str, str], ModelInfo | None] = {}
        self._tables: dict[int, _Table | None] = {}

    def price(self, provider: str, model: str, usage: Usage, at_us: int) -> Price:
        """What a call cost.

        Args:
            provider: name of the provider (`openai`, …).
            model: as the provider named it in its answer, or as it was asked for.
            usage: its tokens.
            at_us: when it was made, microseconds since the epoch: prices change.

        Returns:
            An unknown price when the tokens or the model's price are not known.
        """
        if provider == "scripted":
            return Price(0, "scripted")
        if usage.tokens_input is None or usage.tokens_output is None:
            return UNKNOWN
        own = self._overrides.get((provider, model))
        if own is not None:
            return Price(own.cost_pico(usage), "override")
        rate = self._rate(provider, model, usage.tokens_input, at_us)
        return UNKNOWN if rate is None else Price(rate.cost_pico(usage), self._source)

    @cached_property
    def _source(self) -> str:
        import genai_prices

        return f"genai-prices {genai_prices.__version__}"

    def _rate(self, provider: str, model: str, tokens_input: int, at_us: int) -> Rate | None:
        key = (provider, model)
        if key not in self._models:
            self._models[key] = _find(provider, model)
        info = self._models[key]
        if info is None:
            return None
        if isinstance(info.prices, list):
            listed = info.get_prices(datetime.fromtimestamp(at_us / MICROS, tz=UTC))
        else:
            listed = info.prices
        # The list's entries live as long as the process, so their identity is a safe key.
        if id(listed) not in self._tables:
            self._tables[id(listed)] = _table(vars(listed))
        table = self._tables[id(listed)]
        return None if table is None else table.rate(tokens_input)


@dataclass(frozen=True, slots=True)
class _Table:
    """One entry of the list: the rate up to each prompt size, largest first."""

    steps: tuple[tuple[int, Rate], ...]  # (applies above this many input tokens, rate)

    def rate(self, tokens_input: int) -> Rate:
        return next(rate for above, rate in self.steps if tokens_input > above)


def _find(provider: str, model: str) -> ModelInfo | None:
    from genai_prices.data_snapshot import get_snapshot

    try:
        return get_snapshot().find_provider_model(model, None, provider, None)[1]
    except LookupError:
        return None


def _table(listed: Mapping[str, Any]) -> _Table | None:
    """An entry's rates; None when it has no price for tokens in and out."""
    if listed.get("input_mtok") is None or listed.get("output_mtok") is None:
        return None
    starts = {tier.start for price in listed.values() for tier in _tiers(price)}
    steps = [(start, _rate_at(listed, start + 1)) for start in starts]
    return _Table((*sorted(steps, key=lambda s: -s[0]), (-1, _rate_at(listed, 0))))


def _rate_at(listed: Mapping[str, Any], tokens_input: int) -> Rate:
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
        thousand_requests=at("requests_kcount") or Decimal(0),
    )


def _tiers(price: Any) -> Iterable[Any]:
    """Tiers in ascending order; none for a plain price."""
    return getattr(price, "tiers", ())
