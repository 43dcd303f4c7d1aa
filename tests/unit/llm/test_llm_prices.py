"""Costs in whole picodollars; what is not known is never 0."""

from datetime import UTC, datetime
from decimal import Decimal

import genai_prices
import pytest
from genai_prices.data import providers
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.llm.prices import Price, Prices, Rate
from holdfast.llm.usage import Usage

NOW = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp() * 1_000_000)


def used(tokens_input, tokens_output, **more):
    return Usage(tokens_input=tokens_input, tokens_output=tokens_output, usage="reported", **more)


def test_cached_input_is_part_of_the_input():
    # gpt-4.1-mini: $0.40 input, $0.10 cached, $1.60 output for a million tokens.
    price = Prices().price("openai", "gpt-4.1-mini", used(1000, 100, tokens_cached=600), NOW)
    assert price.cost_pico == 400 * 400_000 + 600 * 100_000 + 100 * 1_600_000
    assert price.source == f"genai-prices {genai_prices.__version__}"


def test_a_cache_write_for_an_hour_has_its_own_price():
    # claude-3-5-haiku: $0.80 input, $1 written for five minutes, $1.60 for an hour.
    usage = used(1000, 0, tokens_cache_write=900, tokens_cache_write_1h=700)
    price = Prices().price("anthropic", "claude-3-5-haiku-latest", usage, NOW)
    assert price.cost_pico == 100 * 800_000 + 200 * 1_000_000 + 700 * 1_600_000
    rate = Rate(input=Decimal(1), output=Decimal(1), cache_write=Decimal(2))
    own = Prices({("mine", "m"): [rate]})
    assert own.price("mine", "m", usage, NOW).cost_pico == 100 * 10**6 + 900 * 2 * 10**6


@pytest.mark.parametrize("model", ["qwen-of-my-own", "", "gpt-nothing"])
def test_an_unknown_model_costs_unknown(model):
    assert Prices().price("openai", model, used(10, 10), NOW) == Price(None, None)


def test_an_unknown_provider_costs_unknown():
    assert Prices().price("mine", "gpt-4.1", used(10, 10), NOW) == Price(None, None)


def test_unknown_tokens_cost_unknown():
    assert Prices().price("openai", "gpt-4.1", Usage(), NOW) == Price(None, None)
    for partly in (Usage(tokens_output=5), Usage(tokens_input=5)):
        assert Prices().price("openai", "gpt-4.1", partly, NOW) == Price(None, None)


def test_rules_cost_nothing_and_say_so():
    assert Prices().price("scripted", "rules", Usage(), NOW) == Price(0, "scripted")


def test_own_prices_win():
    prices = Prices({("openai", "qwen"): [Rate(input=Decimal("0.0000005"), output=Decimal(2))]})
    price = prices.price("openai", "qwen", used(3, 1), NOW)
    assert price == Price(2_000_002, "override", None, 0)
    # Half a picodollar goes to the even neighbour, so that rounding favours nobody.
    assert prices.price("openai", "qwen", used(1, 0), NOW).cost_pico == 0


def test_a_long_prompt_costs_its_own_price():
    prices = Prices()
    short = prices.price("openai", "gpt-6-luna", used(272_000, 0), NOW).cost_pico
    longer = prices.price("openai", "gpt-6-luna", used(272_001, 0), NOW).cost_pico
    assert (short, longer) == (272_000 * 100_000, 272_001 * 200_000)


def test_prices_have_dates():
    prices = Prices()
    before = int(datetime(2025, 5, 1, tzinfo=UTC).timestamp() * 1_000_000)
    assert prices.price("openai", "o3", used(1000, 0), before).cost_pico == 10_000 * 10**6
    assert prices.price("openai", "o3", used(1000, 0), NOW).date == "2025-06-10"
    assert prices.price("openai", "o3", used(1000, 0), NOW).cost_pico == 2_000 * 10**6


PRICED = [
    (provider.id, model.id)
    for provider in providers
    if provider.id in {"openai", "anthropic", "google", "perplexity", "deepseek", "mistral"}
    for model in provider.models
]


@given(
    which=st.sampled_from(PRICED),
    fresh=st.integers(1, 500_000),
    cached=st.integers(0, 300_000),
    written=st.integers(0, 1000),
    for_an_hour=st.integers(0, 1000),
    answer=st.integers(0, 50_000),
    reasoning=st.integers(0, 5000),
)
@settings(max_examples=300, deadline=None)
def test_as_the_price_list_itself_computes(
    which, fresh, cached, written, for_an_hour, answer, reasoning
):
    provider, model = which
    written += for_an_hour
    usage = used(
        fresh + cached + written,
        answer + reasoning,
        tokens_cached=cached,
        tokens_cache_write=written,
        tokens_cache_write_1h=for_an_hour,
        tokens_reasoning=reasoning,
    )
    ours = SHARED.price(provider, model, usage, NOW)
    try:
        theirs = genai_prices.calc_price(
            genai_prices.Usage(
                input_tokens=usage.tokens_input,
                cache_read_tokens=cached,
                cache_write_tokens=written,
                cache_write_1h_tokens=for_an_hour,
                output_tokens=usage.tokens_output,
                output_reasoning_tokens=reasoning,
            ),
            model,
            provider_id=provider,
            genai_request_timestamp=datetime.fromtimestamp(NOW / 1_000_000, tz=UTC),
        )
    except LookupError:
        assert ours.cost_pico is None
        return
    listed = theirs.model_price
    if listed.input_mtok is None or (listed.output_mtok is None and usage.tokens_output):
        assert ours.cost_pico is None
        return
    assert abs(ours.cost_pico - theirs.total_price * 10**12) <= Decimal("0.5")


SHARED = Prices()


def test_sound_and_pictures_have_their_own_price():
    rate = Rate(
        input=Decimal(1), output=Decimal(2), input_audio=Decimal(10), output_image=Decimal(30)
    )
    usage = used(
        100, 50, tokens_cached=40, tokens_input_audio=30, tokens_output_audio=5,
        tokens_output_image=20,
    )  # fmt: skip
    dollars = 70 * 1 + 30 * 10 + 30 * 2 + 20 * 30  # no price for sound that is said: as text
    assert rate.cost_pico(usage) == dollars * 10**6
    # More sound than there is fresh input: the rest of it was cached.
    assert rate.cost_pico(used(100, 0, tokens_cached=90, tokens_input_audio=30)) == 190 * 10**6


def test_what_a_cache_saves_and_what_writing_it_costs():
    rate = Rate(
        input=Decimal(10), output=Decimal(1), cache_read=Decimal(1), cache_write=Decimal(12)
    )
    prices = Prices({("mine", "m"): [rate]})
    assert prices.price("mine", "m", used(100, 5, tokens_cached=60), NOW).saved_pico == 540 * 10**6
    written = prices.price("mine", "m", used(100, 5, tokens_cache_write=60), NOW)
    assert written.saved_pico == -120 * 10**6
    assert prices.price("mine", "m", used(100, 5), NOW).saved_pico == 0


def test_an_alias_may_be_priced_as_another_model():
    own = {("own", "small"): [Rate(input=Decimal(1), output=Decimal(1))]}
    prices = Prices(own, {"local": "own:small", "free": "own:nothing"})
    asked = ("openai", "gpt-4.1-mini", used(5, 5), NOW)
    assert prices.price(*asked, alias="local").source == "override"
    assert prices.price(*asked, alias="free") == Price(None, None)
    assert prices.price(*asked, alias="other").source != "override"
