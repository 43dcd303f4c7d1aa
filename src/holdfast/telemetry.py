"""Log records with an action and ids, and the counters behind `/metrics`."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import structlog


def logger(room: str) -> structlog.stdlib.BoundLogger:
    """The logger of one room; call it as `log.info("action", key=value)`, never with prose."""
    return structlog.get_logger(room)


def ensure_logging(level: str) -> None:
    """Configure logging unless the program we are part of has done so.

    Left alone, structlog would print every record, and with an exception all local variables.
    """
    if not structlog.is_configured():
        configure_logging(level)


def _to_stderr(*_args: Any) -> structlog.PrintLogger:
    # Looked up at each use: whoever captures standard error later gets the records too.
    return structlog.PrintLogger(sys.stderr)


def _render_json(_logger: Any, _name: str, event: Mapping[str, Any]) -> str:
    import orjson

    return orjson.dumps(event, default=str).decode()


def configure_logging(level: str, *, form: str = "text") -> None:
    """Send log records to standard error.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        form: `text` for people, `json` for collectors.
    """
    renderer: Any = (
        _render_json
        if form == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            event_key="action",
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("action"),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=_to_stderr,
        cache_logger_on_first_use=False,
    )


class Metrics:
    """Counters and gauges of one process, rendered in the Prometheus text format."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._help: dict[str, tuple[str, str]] = {}
        self._values: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}

    def describe(self, name: str, kind: str, text: str) -> None:
        """Declare a metric once; `kind` is `counter` or `gauge`."""
        self._help[name] = (kind, text)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            series = self._values.setdefault(name, {})
            series[key] = series.get(key, 0) + amount

    def put(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        with self._lock:
            self._values.setdefault(name, {})[tuple(sorted(labels.items()))] = value

    def get(self, name: str, **labels: str) -> float:
        """The present value; 0 when nothing was counted yet."""
        return self._values.get(name, {}).get(tuple(sorted(labels.items())), 0)

    def render(self) -> str:
        """Prometheus text exposition, version 0.0.4."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        with self._lock:
            values = {name: dict(series) for name, series in self._values.items()}
        for name in sorted(values.keys() | self._help.keys()):
            kind, text = self._help.get(name, ("gauge", ""))
            yield f"# HELP {name} {text}"
            yield f"# TYPE {name} {kind}"
            for labels, value in sorted(values.get(name, {}).items()):
                inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels)
                yield f"{name}{{{inside}}} {value:g}" if inside else f"{name} {value:g}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
