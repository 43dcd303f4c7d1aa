"""Domain objects to rows and back: the same names, some fields as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Generic, TypeVar

from holdfast.domain.events import Event
from holdfast.domain.executions import Attempt, Execution, Step, Totals
from holdfast.domain.status import EventStatus, ExecutionStatus, StepStatus

from .frames import from_json, plain, to_json

T = TypeVar("T")


class Shape(Generic[T]):
    """How the fields of one frozen dataclass lie in columns of the same names.

    Attributes:
        names: the fields, in the order of `row`.
    """

    def __init__(
        self,
        make: Callable[..., T],
        names: Iterable[str],
        *,
        json: Iterable[str] = (),
        texts: Iterable[str] = (),
        status: Callable[[str], Any] | None = None,
    ) -> None:
        """Describe a dataclass.

        Args:
            make: the dataclass.
            names: its fields.
            json: fields stored as JSON; None stays NULL.
            texts: fields whose text comes from outside and may hold what databases refuse.
            status: the enum of the field `status`.
        """
        self.names = tuple(names)
        self._make = make
        self._take = attrgetter(*self.names)
        self._json = [self.names.index(name) for name in json]
        self._texts = [self.names.index(name) for name in texts]
        self._status = self.names.index("status") if status else None
        self._word = status

    def row(self, item: T) -> list[Any]:
        """The values of `item`, ready to be stored."""
        values = list(self._take(item))
        for place in self._json:
            if values[place] is not None:
                values[place] = to_json(values[place])
        for place in self._texts:
            if values[place] is not None:
                values[place] = plain(values[place])
        if self._status is not None:
            values[self._status] = values[self._status].value  # drivers adapt exact types only
        return values

    def item(self, row: Sequence[Any], **more: Any) -> T:
        """The object whose values `row` holds; `more` are fields that are not columns."""
        values = list(row)
        for place in self._json:
            if values[place] is not None:
                values[place] = from_json(values[place])
        if self._status is not None and self._word is not None:
            values[self._status] = self._word(values[self._status])
        return self._make(**dict(zip(self.names, values, strict=True)), **more)


def _names(of: Any, *without: str) -> list[str]:
    return [field.name for field in fields(of) if field.name not in without]


def _totals(**values: Any) -> Totals:
    return Totals(**values)


EVENT = Shape(
    Event,
    _names(Event),
    json=("data", "last_error", "halt", "replay", "discarded"),
    status=EventStatus,
)

LISTED_EVENT = Shape(
    Event,
    _names(Event, "data"),
    json=("last_error", "halt", "replay", "discarded"),
    status=EventStatus,
)
"""An event without its data."""

TOTALS = Shape(_totals, _names(Totals))

_EXECUTION = Shape(
    Execution,
    _names(Execution, "totals"),
    json=("error", "flags", "stops"),
    texts=("kind", "name", "graph_version", "code_version", "session_id", "trace_id"),
    status=ExecutionStatus,
)

EXECUTION_NAMES = (*_EXECUTION.names, *TOTALS.names)

EXECUTION_COLUMNS = (*EXECUTION_NAMES, "suspicious")
"""With what is only searched by: it follows from the flags."""


def execution_row(execution: Execution) -> list[Any]:
    """An execution in the order of `EXECUTION_COLUMNS`."""
    suspicious = 1 if execution.flags.get("suspicious") else None
    return [*_EXECUTION.row(execution), *TOTALS.row(execution.totals), suspicious]


def execution_item(row: Sequence[Any]) -> Execution:
    """An execution out of the columns of `EXECUTION_NAMES`."""
    cut = len(_EXECUTION.names)
    return _EXECUTION.item(row[:cut], totals=TOTALS.item(row[cut:]))


STEP = Shape(
    Step,
    _names(Step),
    json=("error", "suspicious"),
    texts=("kind", "operation", "operation_version", "skip_reason", "error_phase"),
    status=StepStatus,
)

ATTEMPT = Shape(
    Attempt,
    _names(Attempt),
    json=("parameters", "validation_errors", "error"),
    texts=(
        "provider",
        "model",
        "request_id",
        "finish_reason",
        "validation",
        "usage",
        "price_source",
        "error_class",
        "prompt_name",
        "prompt_label",
        "prompt_version",
    ),
    status=StepStatus,
)
