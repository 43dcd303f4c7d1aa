"""Running work turned into steps and attempts, as it happens and without a database."""

from .collector import Collector
from .handler import RecordingHandler, StepHandle, step_of

__all__ = ["Collector", "RecordingHandler", "StepHandle", "step_of"]
