"""What every verb works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.bus import Bus
from holdfast.journal import Journal
from holdfast.llm.embeddings import Embeddings
from holdfast.llm.price_list import Tariff
from holdfast.llm.prices import Prices
from holdfast.pipelines.registry import Registry
from holdfast.store.store import Store
from holdfast.telemetry import Metrics

from .matrices import Matrices


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """The parts of one hub that its operations use."""

    store: Store
    registry: Registry
    journal: Journal
    bus: Bus
    metrics: Metrics
    boot_id: str
    home: Path = Path(".holdfast")  # folder of the journal and of logs
    aliases: frozenset[str] = frozenset()  # of models, as the settings name them
    providers: Mapping[str, str] = field(default_factory=dict[str, str])  # of those aliases
    embeddings: Embeddings = field(default_factory=Embeddings)
    matrices: Matrices = field(default_factory=Matrices)
    prices: Prices = field(default_factory=Prices)
    tariff: Tariff = field(default_factory=Tariff)
