"""What every verb works with."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.bus import Bus
from holdfast.journal import Journal
from holdfast.pipelines.registry import Registry
from holdfast.store.store import Store
from holdfast.telemetry import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """The parts of one hub that its operations use."""

    store: Store
    registry: Registry
    journal: Journal
    bus: Bus
    metrics: Metrics
    boot_id: str
    aliases: frozenset[str] = frozenset()  # of models, as the settings name them
