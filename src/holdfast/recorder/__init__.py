"""Recording code that Holdfast does not run: scripts, notebooks, tasks of other frameworks."""

from .recorder import Recorder
from .runs import Call, RecordedExecution, RecordedStep

__all__ = ["Call", "RecordedExecution", "RecordedStep", "Recorder"]
