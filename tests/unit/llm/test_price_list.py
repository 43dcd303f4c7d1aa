"""Own prices and the own tariff, read from files."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from holdfast.errors import SettingsError
from holdfast.llm.price_list import read_prices, read_tariff
from holdfast.llm.prices import Prices
from holdfast.llm.usage import Usage


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.yaml"


def test_prices_hold_from_their_day_on(file: Path) -> None:
    file.write_text(
        """
        "openai:llama": [{input: 1, output: 2}, {from: 2026-03-01, input: 0.1, output: 0.3}]
        "ollama:qwen": {input: 0, output: 0}
        """
    )
    prices = Prices(read_prices(file, "HOLDFAST_PRICES"))
    usage = Usage(tokens_input=1000, tokens_output=0)
    before = prices.price("openai", "llama", usage, at("2026-02-28T23:59:59"))
    after = prices.price("openai", "llama", usage, at("2026-03-01T00:00:00"))
    assert (before.cost_pico, before.date) == (10**9, None)
    assert (after.cost_pico, after.date) == (10**8, "2026-03-01")
    assert prices.price("ollama", "qwen", usage, at("2026-03-01")).cost_pico == 0


def test_an_own_price_for_what_is_kept_by_the_hour(file: Path) -> None:
    file.write_text(
        """
        "google:gemini-2.5-pro":
          - {input: 1, output: 2}
          - {from: 2026-03-01, input: 1, output: 2, storage_hour: 2.5}
        "google:gemini-2.5-flash": {input: 1, output: 2}
        "own:thing": {input: 1, output: 2, storage_hour: 0}
        """
    )
    prices = Prices(read_prices(file, "HOLDFAST_PRICES"))
    march = at("2026-03-01T00:00:00")
    assert prices.storage("google", "gemini-2.5-pro", march) == 2_500_000
    before = prices.storage("google", "gemini-2.5-pro", march - 1)
    assert before == Prices().storage("google", "gemini-2.5-pro", march) == 4_500_000
    assert prices.storage("google", "gemini-2.5-flash", march) == 1_000_000
    assert prices.storage("own", "thing", march) == 0
    assert prices.storage("own", "other", march) is None


def test_numbers_are_read_as_they_are_written(file: Path) -> None:
    file.write_text('{"a:b": {"from": "2026-01-01", "input": 0.1, "output": "0.30"}}')
    ((rate,),) = read_prices(file, "HOLDFAST_PRICES").values()
    assert (rate.input, rate.output) == (Decimal("0.1"), Decimal("0.30"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nonsense", "must be an object"),
        ("llama: {input: 1, output: 1}", "provider:model"),
        ("a:b: 3", "expected an object"),
        ("'a:b': {input: 1}", "output is missing"),
        ("'a:b': {input: 1, output: 1, cached: 1}", "unknown field 'cached'"),
        ("'a:b': {input: -1, output: 1}", "must be dollars"),
        ("'a:b': {input: true, output: 1}", "must be dollars"),
        ("'a:b': {input: .nan, output: 1}", "must be dollars|not YAML"),
        ("'a:b': {from: soon, input: 1, output: 1}", "must be a day"),
        ("'a:b': [{input: 1, output: 1}, {input: 2, output: 1}]", "one price for each day"),
        ("'a:b': {input: 1, output: 1}\n'a:b': {input: 2, output: 1}", "stands twice"),
        ("{", "not YAML"),
    ],
)
def test_what_is_no_price_is_refused(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError, match=told):
        read_prices(file, "HOLDFAST_PRICES")


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(SettingsError, match="HOLDFAST_PRICES: .*cannot be read"):
        read_prices(file, "HOLDFAST_PRICES")


def test_the_first_pattern_that_fits_counts(file: Path) -> None:
    file.write_text("support.*:judge: {fast: 1, expert: 5}\nsupport.*: {fast: 2, '*': 3}\n")
    tariff = read_tariff(file, "HOLDFAST_TARIFF")
    assert tariff.credits("support.triage", "judge", "expert") == 5
    assert tariff.credits("support.triage", "judge", "standard") == 0
    assert tariff.credits("support.triage", "draft", "fast") == 2
    assert tariff.credits("support.triage", "draft", None) == 3
    assert tariff.credits("other", "draft", "fast") == 0


@pytest.mark.parametrize("text", ["'*': free", "'*': {fast: -1}", "'*': 1.5", "'*': {1: 1}"])
def test_what_is_no_tariff_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError, match="HOLDFAST_TARIFF"):
        read_tariff(file, "HOLDFAST_TARIFF")
