"""MLflow's side: its fluent tracing API over a local SQLite store."""

from __future__ import annotations

import logging
import sys

import mlflow
from mlflow.entities import SpanType
from side import ANSWER, PROMPT, STEPS, Recording, obey

logging.getLogger("mlflow").setLevel(logging.ERROR)


class MLflow(Recording):
    """Tracing as documented: spans as context managers."""

    def __init__(self, folder: str) -> None:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        self._experiment = mlflow.set_experiment("bench").experiment_id

    def trace(self, number: int, *, calls: bool) -> str:
        with mlflow.start_span("bench", span_type=SpanType.CHAIN) as root:
            root.set_inputs({"number": number})
            for step in range(STEPS):
                prompt, answer = f"{step} {PROMPT}", f"{step} {ANSWER}"
                if not calls:
                    with mlflow.start_span("work") as span:
                        span.set_inputs({"input": prompt})
                        span.set_outputs(answer)
                    continue
                with mlflow.start_span("judge", span_type=SpanType.CHAT_MODEL) as span:
                    span.set_inputs(
                        {
                            "model": "gpt-4o-mini",
                            "messages": [
                                {"role": "system", "content": PROMPT},
                                {"role": "user", "content": prompt},
                            ],
                        }
                    )
                    span.set_outputs(answer)
                    span.set_attribute(
                        "mlflow.chat.tokenUsage",
                        {"input_tokens": 500, "output_tokens": 500, "total_tokens": 1000},
                    )
        return root.trace_id

    def readable(self, trace_id: str) -> bool:
        found = mlflow.get_trace(trace_id)
        return found is not None and len(found.data.spans) == 1 + STEPS

    def flush(self) -> None:
        mlflow.flush_trace_async_logging()

    def count(self) -> int:
        found = mlflow.search_traces(
            locations=[self._experiment], return_type="list", max_results=500
        )
        return sum(len(one.data.spans) == 1 + STEPS for one in found)


obey(MLflow(sys.argv[1]).verbs())
