"""Whatever a record holds, it comes out as it went in."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.domain.executions import Attempt, Execution, Record, Step, Totals
from holdfast.domain.ids import new_id
from holdfast.domain.status import EXECUTION_ENDS, ExecutionStatus, StepStatus
from holdfast.store import Store
from holdfast.store.commands import Finish
from holdfast.store.queries import RecordOf

small = st.integers(0, 2**31 - 1)
big = st.integers(0, 2**63 - 1)
word = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
fields = st.dictionaries(st.text(max_size=5), json, max_size=3)
texts = st.lists(st.text(max_size=12), max_size=3)


def maybe(strategy: Any) -> Any:
    return st.none() | strategy


step_rows = st.fixed_dictionaries(
    {
        "parent": maybe(small),
        "seq": small,
        "end_seq": maybe(small),
        "kind": word,
        "operation": word,
        "operation_version": maybe(word),
        "status": st.sampled_from(StepStatus),
        "skip_reason": maybe(word),
        "input": maybe(small),
        "output": maybe(small),
        "error": maybe(fields),
        "error_phase": maybe(word),
        "started_at": big,
        "duration_us": maybe(big),
        "suspicious": maybe(texts),
    }
)
attempt_rows = st.fixed_dictionaries(
    {
        "call": maybe(small),
        "seq": small,
        "end_seq": maybe(small),
        "status": st.sampled_from(StepStatus),
        "provider": maybe(word),
        "model": maybe(word),
        "parameters": fields,
        "prompt_system": maybe(small),
        "prompt_user": maybe(small),
        "messages": maybe(small),
        "raw_response": maybe(small),
        "started_at": big,
        "duration_us": maybe(big),
        "first_token_us": maybe(big),
        "request_id": maybe(word),
        "finish_reason": maybe(word),
        "http_status": maybe(small),
        "validation": maybe(word),
        "validation_us": maybe(big),
        "validation_errors": maybe(texts),
        "tokens_input": maybe(big),
        "tokens_cached": maybe(big),
        "tokens_cache_write": maybe(big),
        "tokens_output": maybe(big),
        "tokens_reasoning": maybe(big),
        "usage": word,
        "cost_pico": maybe(big),
        "price_source": maybe(word),
        "credits": big,
        "error": maybe(fields),
        "error_class": maybe(word),
    }
)
run_rows = st.fixed_dictionaries(
    {
        "kind": word,
        "name": word,
        "graph_version": word,
        "code_version": word,
        "delivery": small,
        "parent_id": maybe(st.builds(new_id)),
        "session_id": maybe(word),
        "trace_id": maybe(word),
        "status": st.sampled_from(sorted(EXECUTION_ENDS - {ExecutionStatus.SUPERSEDED})),
        "input": maybe(small),
        "output": maybe(small),
        "error": maybe(fields),
        "started_at": big,
        "finished_at": maybe(big),
        "duration_us": maybe(big),
        "steps_total": small,
        "steps_succeeded": small,
        "steps_skipped": small,
        "steps_failed": small,
        "totals": st.builds(
            Totals,
            tokens_input=big,
            tokens_output=big,
            tokens_cached=big,
            tokens_reasoning=big,
            cost_pico=big,
            credits=big,
            usage_unknown=small,
            cost_unknown=small,
        ),
        "flags": fields,
        "seq": small,
    }
)


records = st.fixed_dictionaries(
    {
        "run": run_rows,
        "steps": st.lists(step_rows, max_size=9),
        "attempts": st.lists(attempt_rows, max_size=9),
        "values": st.lists(json, max_size=6),
    }
)


async def test_a_record_comes_out_as_it_went_in(store: Store, make: Any) -> None:
    cases: list[dict[str, Any]] = []

    @settings(max_examples=60, database=None, deadline=None)
    @given(records)
    def gather(case: dict[str, Any]) -> None:
        cases.append(case)

    gather()
    for n, case in enumerate(cases):
        await make.submitted(target=f"case-{n}")  # a crashed one before it may be queued again
        (claimed,) = await make.claimed(versions={f"case-{n}": ("g", "c")})
        record = Record(
            execution=Execution(
                id=claimed.execution_id, owner_id="local", event_id=claimed.event_id, **case["run"]
            ),
            steps=tuple(Step(step=n, **row) for n, row in enumerate(case["steps"], 1)),
            attempts=tuple(
                Attempt(step=1 + n // 2, n=1 + n % 2, **row)
                for n, row in enumerate(case["attempts"])
            ),
            entries=(["e"], *(["v", value] for value in case["values"])),
            blobs=(),
            lease_owner="boot-1",
            fence=claimed.fence,
        )
        await store.write(Finish(record))
        stored = await store.read(RecordOf(claimed.execution_id, "local"))
        assert stored.execution == record.execution
        assert stored.steps == record.steps
        assert stored.attempts == record.attempts
        assert stored.entries == record.entries
