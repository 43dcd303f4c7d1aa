"""Running work turned into steps and attempts, as it happens and without a database."""

from .collector import Collector
from .handler import INNER_GRAPH, RecordingHandler, StepHandle, step_of

__all__ = ["INNER_GRAPH", "Collector", "RecordingHandler", "StepHandle", "step_of"]
