"""Phoenix's side: its OpenTelemetry client to a server on loopback."""

from __future__ import annotations

import sys
import time
from collections import Counter

import httpx
from openinference.semconv.trace import SpanAttributes
from phoenix.client import Client
from phoenix.otel import register
from side import ANSWER, PROMPT, STEPS, Recording, obey

SETTLE_S = 8.0
"""How long the server gets to store what it has been sent."""


class Phoenix(Recording):
    """Tracing as documented: `register`, then spans as context managers."""

    def __init__(self, url: str, project: str, *, batch: bool) -> None:
        self._project = project
        self._provider = register(
            endpoint=f"{url}/v1/traces", project_name=project, batch=batch, verbose=False
        )
        self._tracer = self._provider.get_tracer("bench")
        self._client = Client(base_url=url)

    def trace(self, number: int, *, calls: bool) -> str:
        span_of = self._tracer.start_as_current_span
        with span_of("bench", openinference_span_kind="chain") as root:
            root.set_input({"number": number})
            for step in range(STEPS):
                prompt, answer = f"{step} {PROMPT}", f"{step} {ANSWER}"
                if not calls:
                    with span_of("work", openinference_span_kind="chain") as span:
                        span.set_input(prompt)
                        span.set_output(answer)
                    continue
                with span_of("judge", openinference_span_kind="llm") as span:
                    span.set_attribute(SpanAttributes.LLM_MODEL_NAME, "gpt-4o-mini")
                    for place, (role, text) in enumerate((("system", PROMPT), ("user", prompt))):
                        at = f"{SpanAttributes.LLM_INPUT_MESSAGES}.{place}.message"
                        span.set_attribute(f"{at}.role", role)
                        span.set_attribute(f"{at}.content", text)
                    span.set_output(answer)
                    span.set_attribute(SpanAttributes.LLM_TOKEN_COUNT_PROMPT, 500)
                    span.set_attribute(SpanAttributes.LLM_TOKEN_COUNT_COMPLETION, 500)
        return format(root.get_span_context().trace_id, "032x")

    def readable(self, trace_id: str) -> bool:
        return self._spans([trace_id])[trace_id] == 1 + STEPS

    def flush(self) -> None:
        self._provider.force_flush()

    def count(self) -> int:
        time.sleep(SETTLE_S)
        return sum(spans == 1 + STEPS for spans in self._spans(None).values())

    def _spans(self, trace_ids: list[str] | None) -> Counter[str]:
        try:
            found = self._client.spans.get_spans(
                project_identifier=self._project, trace_ids=trace_ids, limit=5000
            )
        except httpx.HTTPStatusError as error:
            if error.response.status_code != 404:  # a project begins with its first span
                raise
            return Counter()
        return Counter(span["context"]["trace_id"] for span in found)


obey(Phoenix(sys.argv[1], sys.argv[2], batch="batch" in sys.argv[3:]).verbs())
