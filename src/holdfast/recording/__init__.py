"""Running work turned into steps and attempts, as it happens and without a database."""

from .collector import Collector
from .handler import INNER_GRAPH, RecordingHandler, StepHandle, step_of
from .replaying import Replaying

__all__ = ["INNER_GRAPH", "Collector", "RecordingHandler", "Replaying", "StepHandle", "step_of"]
